import pytest

from uda.errors import UserError
from uda.reporting.summary import Metric

SCORES = {  # accuracy by seed
    "supervised": {0: 0.70, 1: 0.74, 2: 0.78, 7: 0.10},
    "uda": {0: 0.80, 1: 0.78, 2: 0.88, 9: 0.95},
}


@pytest.fixture
def two_objectives(make_run):
    for objective, scores in SCORES.items():
        for seed, accuracy in scores.items():
            make_run(f"{objective}-{seed}", f"objective={objective}", seed=seed, accuracy=accuracy, seconds=10.0 + seed)


def rows_of(summary):
    return {row.group.name: row for row in summary.rows}


def test_differences_are_of_runs_on_the_same_rows(two_objectives, make_run, summarised) -> None:
    make_run("fail", "objective=uda", seed=4, accuracy=None)
    summary = summarised()
    assert [row.group.name for row in summary.rows] == ["objective=uda", "objective=supervised"]  # the best first
    uda, supervised = summary.rows
    assert supervised.is_baseline
    assert supervised.difference is None
    assert (uda.estimate.n, uda.estimate.mean) == (4, pytest.approx((0.80 + 0.78 + 0.88 + 0.95) / 4))
    assert uda.seconds == 11.5  # of 10, 11, 12, 19
    # seeds 0, 1, 2 are on the same rows: 0.10, 0.04, 0.10; mean 0.08, sd 0.034641, t(0.975, 2) = 4.302653
    assert uda.difference.num_pairs == 3
    assert uda.difference.mean == pytest.approx(0.08)
    assert uda.difference.t == pytest.approx((0.08 - 0.086053, 0.08 + 0.086053), abs=1e-5)
    assert summary.headline == "9 runs (8 finished, 1 unfinished) in 2 groups"


def test_another_split_of_the_same_seed_is_no_pair(make_run, summarised) -> None:
    make_run("a", "objective=supervised", accuracy=0.5)
    make_run("b", "objective=uda", accuracy=0.7, split={"labeled": [{"sha256": "x"}], "test": [{"sha256": "t900"}]})
    assert rows_of(summarised())["objective=uda"].difference is None


def test_each_number_of_labels_has_its_own_baseline(make_run, summarised) -> None:
    for labels, base in ((20, 0.6), (100, 0.8)):
        for objective, gain in (("supervised", 0.0), ("uda", 0.05)):
            overrides = (f"objective={objective}", f"data.num_labeled={labels}")
            for seed in (0, 1):
                make_run(f"{objective}{labels}-{seed}", *overrides, seed=seed, accuracy=base + gain)
    for baseline in (None, "objective=supervised"):
        rows = rows_of(summarised(baseline=baseline))
        for labels in (20, 100):
            difference = rows[f"objective=uda data.num_labeled={labels}"].difference
            assert (difference.num_pairs, difference.mean) == (2, pytest.approx(0.05))
            assert rows[f"objective=supervised data.num_labeled={labels}"].is_baseline


def test_the_baseline_can_be_chosen(two_objectives, make_run, summarised) -> None:
    make_run("weak", "objective=uda_weak_start")
    for text in ("objective=uda", "train.batch_size=4 objective=uda", "objective=uda objective.temperature=0.85"):
        rows = rows_of(summarised(baseline=text))
        assert rows["objective=uda"].is_baseline
        assert rows["objective=supervised"].difference.mean == pytest.approx(-0.08)
    for text in ("objective=adu", "objective=uda train.batch_size=5", " "):
        message = f"found '{text}', which is in none of 'objective=supervised', 'objective=uda', 'objective=uda_weak_"
        with pytest.raises(UserError, match=message):
            summarised(baseline=text)


def test_a_baseline_of_several_groups_on_the_same_rows_is_refused(two_objectives, summarised) -> None:
    with pytest.raises(
        UserError, match=r"found 'objective=' in several: 'objective=supervised', 'objective=uda'\. Give more"
    ):
        summarised(baseline="objective=")


def test_without_a_supervised_group_the_first_is_the_baseline(make_run, summarised) -> None:
    make_run("a", "objective=uda", "objective.temperature=0.5", accuracy=0.6)
    make_run("b", "objective=uda", "objective.temperature=0.9", accuracy=0.7)
    assert [row.is_baseline for row in summarised().rows] == [False, True]


def test_of_two_supervised_groups_on_the_same_rows_the_first_is_the_baseline(make_run, summarised) -> None:
    make_run("a", "objective=supervised", "train.num_steps=12", accuracy=0.6)
    make_run("b", "objective=supervised", "train.num_steps=40", accuracy=0.7)
    rows = rows_of(summarised())
    assert rows["train.num_steps=12"].is_baseline
    assert rows["train.num_steps=40"].difference.mean == pytest.approx(0.1)


def test_a_metric_of_which_less_is_better(two_objectives, summarised) -> None:
    assert [row.group.name for row in summarised(metric="nll").rows] == ["objective=uda", "objective=supervised"]
    assert summarised(metric="macro_f1").rows[0].group.name == "objective=uda"
    message = (
        r"metric: expected one of accuracy, ece, error, macro_f1, nll, found 'acuracy'\. Did you mean 'accuracy'\?"
    )
    with pytest.raises(UserError, match=message):
        summarised(metric="acuracy")


def test_runs_that_did_not_finish_are_counted(make_run, summarised) -> None:
    make_run("a", "objective=uda", accuracy=None)
    (make_run("b", "objective=uda", seed=1, accuracy=None) / "failed.json").write_text('{"error": "x", "type": "E"}')
    [row] = summarised().rows
    assert (row.estimate.n, row.estimate.mean, row.seconds) == (0, None, None)
    assert summarised(metric="unheard of").count(row.group.runs[0].status) == 1  # no scores, no metric to check


def test_notes_say_what_a_reader_must_know(make_run, summarised, tmp_path) -> None:
    other = {"labeled": [{"sha256": "x"}], "test": [{"sha256": "elsewhere"}]}
    make_run("a", "objective=uda", label_descriptions=True)
    make_run("b", "objective=supervised", split=other, select="best", device_name="EPYC")
    make_run("c", "objective=supervised", split=other)
    make_run("d", "objective=supervised", seed=3, accuracy=float("nan"), split=other)
    (tmp_path / "runs/e").mkdir()
    (tmp_path / "runs/e/failed.json").write_text("{}")
    notes = summarised().notes
    assert notes == [
        "Differences are to 'objective=supervised', on the same rows and seed.",
        "Some groups were scored on other test rows than others: their means are not comparable.",
        "1 of 3 runs had label descriptions, which are supervision beyond the labels.",
        "Weights chosen on test rows, so optimistic: 'b'.",
        "No finite accuracy, so left out of its mean: 'd'.",
        "Settings and seed of an earlier run, so left out: 'c'.",
        "Runs were made in different places: fp32 on x86_64 (2), fp32 on EPYC (1).",
        "In no group, since their config was not written (they were refused before) or cannot be read: 1 failed.",
    ]


def test_metrics_are_shown_in_their_units() -> None:
    assert (Metric("accuracy").title, Metric("macro_f1").title, Metric("nll").title) == (
        "accuracy %",
        "macro-F1 %",
        "NLL",
    )
    assert Metric("accuracy").text(0.81234) == "81.23"
    assert Metric("error").text(-0.012, sign=True) == "−1.20"
    assert Metric("ece").text(0.0123, sign=True) == "+0.012"
    assert Metric("ece").text(None) == "–"
