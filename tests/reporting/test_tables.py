import csv
import io

import pytest

from uda.reporting.tables import groups_csv, markdown, runs_csv, table


@pytest.fixture
def summary(make_run, summarised):
    for seed, accuracy in enumerate((0.70, 0.72, 0.74, 0.76, 0.78)):
        make_run(f"s{seed}", "objective=supervised", seed=seed, accuracy=accuracy)
        make_run(f"u{seed}", "objective=uda", seed=seed, accuracy=accuracy + 0.05)
    make_run("w0", "objective=uda_weak_start", accuracy=0.5)
    make_run("w1", "objective=uda_weak_start", accuracy=None, seed=1)
    (make_run("w2|", "objective=uda_weak_start", accuracy=None, seed=2) / "failed.json").write_text('{"error": "no"}')
    return summarised()


def test_the_table_is_readable_as_it_is(summary, tmp_path) -> None:
    # sd of 70, 72, … 78: √(40/4) = 3.1623; t(0.975, 4) = 2.77645, so ± 3.93; all five differences are 5
    lines = markdown(summary).splitlines()
    assert lines[0] == f"{tmp_path}/runs: 13 runs (11 finished, 1 failed, 1 unfinished) in 3 groups"
    heads = ["group", "n", "accuracy %, mean ± sd", "95 % (t)", "95 % (bootstrap)", "difference", "95 % (t)", "pairs"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [*heads, "seconds", "failed", "unfinished"]
    uda, supervised, weak = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:7])
    assert uda[:4] == ["objective=uda", "5", "79.00 ± 3.16", "75.07 – 82.93"]
    assert uda[5:] == ["+5.00", "+5.00 to +5.00", "5", "6", "0", "0"]
    assert supervised[5:8] == ["baseline", "–", "–"]
    low, high = map(float, uda[4].split(" – "))
    assert 75.8 <= low < 77 < 81 < high <= 82.2
    assert weak == ["objective=uda_weak_start", "1", "50.00", "–", "–", "−20.00", "–", "1", "6", "1", "1"]
    assert len({len(line) for line in lines[2:7]}) == 1  # one width
    assert lines[3].startswith("| :---")
    assert lines[3].endswith("---: |")
    assert lines[-5:] == ["failed:", "- w2|: no", "", "unfinished:", "- w1: no checkpoint"]


def test_cells_keep_to_themselves() -> None:
    assert table(["a", "b"], [["x|y\n\x1b[31m", "漢字"], ["longer", "1"]]) == [
        "| a          |    b |",
        "| :--------- | ---: |",
        "| x\\|y��[31m | 漢字 |",
        "| longer     |    1 |",
    ]


def test_many_failed_runs_are_cut_short(make_run, summarised) -> None:
    for seed in range(23):
        make_run(f"run{seed:02}", seed=seed, accuracy=None)
    lines = markdown(summarised()).splitlines()
    assert lines[-2:] == ["- run19: no checkpoint", "- … and 3 more, in report.html"]


def test_csv_has_a_line_a_run(summary) -> None:
    lines = {line["path"]: line for line in csv.DictReader(io.StringIO(runs_csv(summary)))}
    assert len(lines) == 13
    assert float(lines["u3"]["accuracy"]) == 0.76 + 0.05
    assert {
        key: lines["u3"][key] for key in ("status", "group", "counted", "seed", "seconds", "objective.temperature")
    } == {
        "status": "finished",
        "group": "objective=uda",
        "counted": "true",
        "seed": "3",
        "seconds": "6.0",
        "objective.temperature": "0.85",
    }
    assert (lines["w2|"]["status"], lines["w2|"]["message"], lines["w2|"]["accuracy"]) == ("failed", "no", "")
    assert "train.batch_size" not in lines["u3"]  # the same for all


def test_csv_has_a_line_a_group(summary) -> None:
    lines = {line["group"]: line for line in csv.DictReader(io.StringIO(groups_csv(summary)))}
    uda = lines["objective=uda"]
    assert (uda["metric"], uda["n"], uda["num_pairs"], uda["is_baseline"]) == ("accuracy", "5", "5", "false")
    assert float(uda["mean"]) == pytest.approx(0.79)
    assert float(uda["t_low"]) == pytest.approx(0.79 - 2.776445 * 0.0316228 / 5**0.5, abs=1e-6)
    assert float(uda["difference"]) == pytest.approx(0.05)
    assert (lines["objective=uda_weak_start"]["sd"], lines["objective=uda_weak_start"]["failed"]) == ("", "1")
    assert uda["objective"] == "uda"


def test_a_repeated_run_is_in_the_csv_but_does_not_count(make_run, summarised) -> None:
    make_run("a")
    make_run("b")
    lines = list(csv.DictReader(io.StringIO(runs_csv(summarised()))))
    assert [line["counted"] for line in lines] == ["true", "false"]
    assert lines[1]["group"] == "all runs"
