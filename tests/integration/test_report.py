"""`uda.report` over real runs and over a thousand."""

import csv
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import uda.report
import uda.train
from uda.config import compose, config_dir, resolved
from uda.errors import UserError


def report(*overrides: str) -> uda.report.Report:
    return uda.report.run(compose("report", list(overrides)))


def command(*overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uda.report", *overrides],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(config_dir().parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_real_runs(tiny: list[str], tmp_path: Path) -> None:
    plain = [override for override in tiny if not override.startswith("objective.")]
    for objective, overrides in (("supervised", plain), ("uda_weak_start", tiny)):
        for seed in (0, 1):
            where = f"hydra.run.dir={tmp_path}/runs/{objective}/{seed}"
            uda.train.run(compose("train", [*overrides, f"objective={objective}", f"seed={seed}", where]))
    done = command("runs=runs", "baseline=objective=supervised", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("runs: 4 runs (4 finished) in 2 groups\n\n| group ")
    assert "written: runs/report.html, runs/report.csv, runs/report-groups.csv" in done.stderr
    assert sorted(path.name for path in (tmp_path / "runs").iterdir() if path.is_file()) == [
        "report-groups.csv",
        "report.csv",
        "report.html",
    ]
    scores = {
        (folder.parent.name, folder.name): json.loads((folder / "metrics.json").read_text())["selected"]["accuracy"]
        for folder in (tmp_path / "runs").glob("*/*")
        if folder.is_dir()
    }
    found = report(f"runs={tmp_path}/runs").summary
    rows = {row.group.name: row for row in found.rows}
    gains = [scores["uda_weak_start", seed] - scores["supervised", seed] for seed in ("0", "1")]
    assert rows["objective=uda_weak_start"].difference.mean == pytest.approx(sum(gains) / 2)
    assert rows["objective=uda_weak_start"].difference.num_pairs == 2
    assert rows["objective=supervised"].is_baseline


def write_runs(root: Path, num_groups: int, num_seeds: int, num_test: int) -> None:
    """Runs of uda.train with splits of their own, failed ones among them, as fast as files can be written."""
    config = resolved(compose("train", ["+experiment=imdb"]))
    config["seed"] = config["data"]["seed"] = "SEED"
    config["objective"]["temperature"] = "TEMPERATURE"
    template = yaml.safe_dump({"defaults": ["train_schema", "common", "_self_"], **config}, sort_keys=False)
    rows = json.dumps([{"index": row, "sha256": f"{row:064x}"} for row in range(num_test)], indent=2)
    for group, seed in itertools.product(range(num_groups), range(num_seeds)):
        folder = root / f"group{group}" / f"run-seed{seed}"
        folder.mkdir(parents=True)
        text = template.replace("SEED", str(seed)).replace("TEMPERATURE", f"0.{group + 1:03}")
        (folder / "config.yaml").write_text(text)
        labeled = json.dumps([{"index": row, "sha256": f"{seed:032x}{row:032x}"} for row in range(20)])
        (folder / "split.json").write_text(f'{{"dropped": {{"x": {group}}}, "labeled": {labeled}, "test": {rows}}}')
        if (group + seed) % 50 == 0:
            (folder / "failed.json").write_text('{"error": "no room", "type": "UserError"}')
            continue
        accuracy = 0.7 + group / 1_000 + (37 * seed + 11 * group) % 17 / 500
        scores = {"set": "test", "accuracy": accuracy, "error": 1 - accuracy, "macro_f1": accuracy, "nll": 0.5}
        evaluations = [{**scores, "step": step, "per_class": {}} for step in range(10, 220, 10)]
        metrics = {"status": "finished", "selected": {**scores, "step": 212}, "evaluations": evaluations}
        metrics |= {"seconds": 300.0, "num_labeled": 20, "num_unlabeled": 20_000}
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))


@pytest.mark.slow
def test_a_thousand_runs_in_twenty_seconds(tmp_path: Path) -> None:
    """Each with a split.json of its own of 1,000 test rows."""
    write_runs(tmp_path / "runs", num_groups=100, num_seeds=10, num_test=1_000)
    started = time.process_time()
    found = report(f"runs={tmp_path}/runs")
    assert time.process_time() - started < 20  # of this process alone: the machine may have other work
    assert found.summary.headline == "1000 runs (980 finished, 20 failed) in 100 groups"
    assert all(row.estimate.bootstrap is not None for row in found.summary.rows)
    assert len(list(csv.reader((tmp_path / "runs/report.csv").open()))) == 1_001
    assert (tmp_path / "runs/report.html").stat().st_size < 300_000


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", num_groups=2, num_seeds=2, num_test=2)
    (tmp_path / "empty").mkdir()
    for overrides, message in (
        ([], r"runs: expected a folder with run directories, found none\. Set runs="),
        (["runs=nowhere"], r"runs: expected a folder with run directories, found none at nowhere\. Check the path\."),
        ([f"runs={tmp_path}/empty"], r"runs: expected .* found none in .*/empty\. Give another folder"),
        ([f"runs={tmp_path}/runs", "metric=f1"], r"metric: expected one of accuracy, error, .* found 'f1'"),
        ([f"runs={tmp_path}/runs", "baseline=objective\\=nothing"], r"found 'objective=nothing', which is in none of"),
        (
            [f"runs={tmp_path}/runs", f"output={tmp_path}/runs/group0/run-seed1/config.yaml"],
            r"output: expected a folder",
        ),
    ):
        with pytest.raises(UserError, match=message):
            report(*overrides)
    assert not list((tmp_path / "runs").glob("report*"))


def test_the_report_can_go_elsewhere(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", num_groups=1, num_seeds=2, num_test=2)
    found = report(f"runs={tmp_path}/runs", f"output={tmp_path}/new/folder", "metric=nll")
    assert [path.name for path in found.files] == ["report.html", "report.csv", "report-groups.csv"]
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == sorted(
        path.name for path in found.files
    )
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["group0"]
    assert "NLL, mean ± sd" in found.markdown


@pytest.mark.slow
def test_the_command_by_its_name(tmp_path: Path) -> None:
    write_runs(tmp_path / "a=b", num_groups=2, num_seeds=2, num_test=2)
    done = command("runs=a=b", "metric=macro_f1", "baseline=objective.temperature=0.002", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "a=b: 4 runs (3 finished, 1 failed) in 2 groups"
    cells = [cell.strip() for cell in lines[4].split("|")]
    assert cells[1:4] == ["objective.temperature=0.002", "2", "72.60 ± 0.42"]  # of 0.701 + 0.022 and 0.701 + 0.028
    assert "written: a=b/report.html" in done.stderr
    done = command("runs=nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("uda: ")) == (2, "", 1)
    done = command("--help", cwd=tmp_path)
    assert "python -m uda.report runs=outputs/imdb metric=macro_f1 baseline=objective=supervised" in done.stdout
    done = command("run=x", cwd=tmp_path)
    assert (done.returncode, "Did you mean 'runs'?" in done.stderr) == (2, True)
