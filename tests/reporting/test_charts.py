import re

import pytest

from uda.reporting.charts import chart, nice_step
from uda.reporting.curves import Line, Point, label_efficiency, learning_curves
from uda.reporting.summary import Metric

ACCURACY, ERROR = Metric("accuracy"), Metric("error")


def test_learning_curves_are_means_over_the_steps_that_all_runs_have(make_run, summarised) -> None:
    make_run("a", seed=0, curve=[(10, 0.5), (20, 0.7), (25, 0.1)])
    make_run("b", seed=1, curve=[(10, 0.7), (20, 0.9)])
    [line] = learning_curves(summarised().rows, ACCURACY)
    assert line.name == "all runs"
    assert [point.x for point in line.points] == [10, 20]
    assert [point.y for point in line.points] == pytest.approx([0.6, 0.8])
    assert line.points[0].high - line.points[0].y == pytest.approx(0.1414214, abs=1e-6)  # sd of two values 0.2 apart
    assert line.points[1].note == "step 20: 80.00 ± 14.14, n = 2"


def test_label_efficiency_is_a_line_a_series(make_run, summarised) -> None:
    for objective, gain in (("supervised", 0.0), ("uda", 0.1)):
        for labels, accuracy in ((100, 0.8), (20, 0.6)):
            for seed in (0, 1):
                overrides = (f"objective={objective}", f"data.num_labeled={labels}")
                make_run(f"{objective}{labels}-{seed}", *overrides, seed=seed, accuracy=accuracy + gain + seed / 50)
    lines = {line.name: line.points for line in label_efficiency(summarised().rows, ERROR)}
    assert set(lines) == {"objective=supervised", "objective=uda"}
    points = lines["objective=uda"]
    assert [point.x for point in points] == [20, 100]
    assert [point.y for point in points] == pytest.approx([0.29, 0.09])
    # two values 0.02 apart: t(0.975, 1) · sd / √2 = 12.7062 · 0.01
    assert points[0].high - points[0].y == pytest.approx(0.127062, abs=1e-5)


def test_one_number_of_labels_makes_no_line(make_run, summarised) -> None:
    make_run("a", "objective=supervised")
    make_run("b", "objective=uda")
    assert label_efficiency(summarised().rows, ERROR) == []


def test_a_chart_puts_points_where_their_numbers_say() -> None:
    line = Line("<b>", [Point(0, 0.5, 0.5, 0.5, "start & go"), Point(100, 1.0, 0.9, 1.0, "end")])
    picture = chart([line], "a 'title'", "step", percent=True, bars=False, logarithmic=False)
    dots = re.findall(r"cx='([\d.]+)' cy='([\d.]+)'", picture)
    assert dots == [("44.0", "220.0"), ("406.0", "10.0")]  # corners of the field: 50 % and 100 % are ticks
    assert ">50</text>" in picture
    assert ">100</text>" in picture
    assert "<title>start &amp; go</title>" in picture
    assert "&lt;b&gt;" in picture
    assert "a &#x27;title&#x27;" in picture
    assert picture.count("class='band c0'") == 1


def test_bars_stand_beside_each_other_and_labels_on_a_logarithmic_axis() -> None:
    lines = [Line(name, [Point(x, 0.5, 0.4, 0.6, "") for x in (10, 100, 1000)]) for name in "ab"]
    picture = chart(lines, "t", "labelled rows", percent=False, bars=True, logarithmic=True)
    centers = [float(x) for x in re.findall(r"cx='([\d.]+)'", picture)][:3]
    assert centers[1] - centers[0] == pytest.approx(centers[2] - centers[1], abs=0.2)
    first, second = (re.findall(rf"class='bar c{number}' d='M([\d.]+) ", picture) for number in (0, 1))
    assert float(second[0]) - float(first[0]) == 4
    assert all(f">{count}</text>" in picture for count in (10, 100, 1000))


def test_one_point_and_equal_points_are_drawn() -> None:
    for points in ([Point(0, 0.5, 0.5, 0.5, "")], [Point(0, 0, 0, 0, ""), Point(5, 0, 0, 0, "")]):
        picture = chart([Line("a", points)], "t", "step", percent=True, bars=False, logarithmic=False)
        assert picture.count("<circle") == len(points)
        assert "nan" not in picture


@pytest.mark.parametrize(("span", "most", "step"), [(100, 5, 20), (0.31, 6, 0.1), (212, 5, 50), (7, 6, 2), (6, 6, 1)])
def test_ticks_are_round(span, most, step) -> None:
    assert nice_step(span, most) == pytest.approx(step)
