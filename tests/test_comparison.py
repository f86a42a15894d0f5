"""What the comparisons of `scripts/` count as done, and the numbers of their tables."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType

import pytest

from uda.config import config_dir


@pytest.fixture(scope="module")
def comparison(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("comparison")


@pytest.fixture(scope="module")
def objectives(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("compare_objectives")


def test_no_more_runs_are_begun_than_go_on_at_once(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a comparison that is stopped leaves none that waits; one that fails is told apart, the others go on."""
    monkeypatch.setattr(comparison, "train", lambda job, outputs: 6 // job.seed)
    jobs = [comparison.Job("a", seed, ()) for seed in (3, 0, 2, 1, 6)]
    with ThreadPoolExecutor() as pool:
        given = []
        submit = pool.submit
        monkeypatch.setattr(pool, "submit", lambda run, job, outputs: given.append(job) or submit(run, job, outputs))
        runs = comparison._as_completed(pool, jobs, tmp_path, 2)
        first = next(runs)
        assert given == jobs[:2]
        ended = [first, *runs]
    assert given == jobs
    assert {job.seed: run.result() for job, run in ended if run.exception() is None} == {3: 2, 2: 3, 1: 6, 6: 1}
    assert [job.seed for job, run in ended if run.exception() is not None] == [0]


def test_a_killed_process_is_told_whenever_it_is_noticed(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool(ThreadPoolExecutor):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()

        def submit(self, *_: object) -> Future:
            raise BrokenProcessPool("killed")

    monkeypatch.setattr(comparison, "ProcessPoolExecutor", Pool)
    results = comparison.Results(tmp_path / "results.json")
    with pytest.raises(SystemExit, match=r"A process was killed, perhaps for want of memory: killed. Start again"):
        comparison.train_all([comparison.Job("a", 0, ())], tmp_path, results, 1)


def test_two_comparisons_at_once_keep_each_others_results(comparison: ModuleType, tmp_path: Path) -> None:
    first, second = (comparison.Results(tmp_path / "results.json") for _ in range(2))
    jobs = [comparison.Job(name, 0, ("x=1",)) for name in "ab"]
    first.add("runs", "a, seed=0", {"accuracy": 0.5, "overrides": jobs[0].all_overrides})
    second.add("runs", "b, seed=0", {"accuracy": 0.6, "overrides": jobs[1].all_overrides})
    found = comparison.Results(tmp_path / "results.json")
    assert set(found.found["runs"]) == {"a, seed=0", "b, seed=0"}
    assert found.scores([*jobs, comparison.Job("a", 1, ("x=1",))]) == [0.5, 0.6, None]


def test_a_run_of_other_overrides_is_not_there(comparison: ModuleType, tmp_path: Path) -> None:
    results = comparison.Results(tmp_path / "results.json")
    job, other = (comparison.Job("a", 0, ("+experiment=imdb", f"train.num_steps={steps}")) for steps in (3, 4))
    results.add("runs", job.key, {"overrides": job.all_overrides, "accuracy": 0.5})
    assert results.has(job)
    assert not results.has(other)
    assert results.scores([job, other]) == [0.5, None]


def test_names_of_no_run_are_refused(comparison: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    parser = comparison.arguments(None, ["one", "two"], [0], "outputs")
    runs = {"one": ["fixmatch", "uda"], "two": ["softmatch"]}
    assert comparison.chosen(parser.parse_args(["one", "--only", "uda"]), parser, runs) == ["one"]
    for typed, message in ((["one", "--only", "uda", "softmatch"], "found softmatch"), (["three"], "found three")):
        with pytest.raises(SystemExit):
            comparison.chosen(parser.parse_args(typed), parser, runs)
        assert message in capsys.readouterr().err


def test_the_tables_are_those_of_the_results(objectives: ModuleType) -> None:
    """`docs/results.md` was written after the last run."""
    root = config_dir().parent
    results = objectives.Results(root / objectives.RESULTS)
    page = (root / "docs/results.md").read_text()
    for part in objectives.PARTS:
        rows = objectives.rows_of(part, [0, 1, 2, 3, 4], results)
        for name, cells in rows.items():
            assert f"| {name} | {' | '.join(map(str, cells))} |" in page, f"{part}: write the tables anew"


def test_means_and_spreads_by_hand(comparison: ModuleType) -> None:
    """Of 80, 81 and 85: the mean is 82, the squared deviations add up to 14, so the deviation is the root of 7."""
    assert comparison.mean_and_spread([0.80, 0.81, 0.85]) == "82.00 ± 2.65"
    assert comparison.mean_and_spread([0.80, None]) == "80.00 (1)"
    assert comparison.mean_and_spread([None]) == ""


def test_paired_differences_by_hand(objectives: ModuleType) -> None:
    """Differences of 1, 2 and -1 points: mean 2 / 3, sd 1.5275; 4.3027 (t, two degrees) * 1.5275 / root of 3 = 3.79."""
    values, others = [0.80, 0.82, 0.81, None], [0.79, 0.80, 0.82, 0.5]
    assert objectives.paired_difference(values, others) == "+0.67 (-3.13 to +4.46)"
    assert objectives.paired_difference(values[:2], others[:2]) == "+1.50"  # two draws give no interval
    assert objectives.paired_difference([None], [0.5]) == ""


def test_errors_over_labels_are_drawn_once_there_is_more_than_one_number(
    comparison: ModuleType, objectives: ModuleType, tmp_path: Path
) -> None:
    results, image = comparison.Results(tmp_path / "results.json"), tmp_path / "labels.png"
    base, *_ = objectives.jobs_of("imdb", [0], ["supervised"])
    results.add("runs", base.key, {"accuracy": 0.7, "overrides": base.all_overrides})
    assert not objectives.plot_labels("imdb", [0, 1], results, image)
    assert not image.exists()
    for job in objectives.jobs_of("imdb-labels", [0, 1], ["supervised, 100 labels"]):
        results.add("runs", job.key, {"accuracy": 0.8, "overrides": job.all_overrides})
    assert objectives.plot_labels("imdb", [0, 1], results, image)
    assert image.read_bytes().startswith(b"\x89PNG")


def test_the_label_counts_include_the_runs_that_other_parts_have(objectives: ModuleType) -> None:
    base = {job.key: job for job in objectives.jobs_of("imdb", [0], [])}
    labels = {job.key: job for job in objectives.jobs_of("imdb-labels", [0], [])}
    assert len(labels) == 4 * 3  # counts; supervised, uda_weak_start (which is the default), freematch + start
    assert {key for key in labels if key in base} == {
        f"imdb: {name}, seed=0" for name in ("supervised", "uda_weak_start", "freematch + start")
    }
    assert all(labels[key] == base[key] for key in labels if key in base)


def test_runs_by_label_count_are_compared_at_the_same_count(
    comparison: ModuleType, objectives: ModuleType, tmp_path: Path
) -> None:
    results = comparison.Results(tmp_path / "results.json")
    scores = {"uda_weak_start": 0.8, "supervised, 100 labels": 0.75, "uda_weak_start, 100 labels": 0.85}
    for job in objectives.jobs_of("imdb-labels", [0], list(scores)):
        others = {"macro_f1": 0.5, "seconds": 1, "machine": "2 x a processor"}
        accuracy = scores[job.name.partition(": ")[2]]
        results.add("runs", job.key, {**others, "accuracy": accuracy, "overrides": job.all_overrides})
    found = {name: cells[3] for name, cells in objectives.rows_of("imdb-labels", [0], results).items()}
    assert found == {"uda_weak_start": "", "supervised, 100 labels": "-10.00", "uda_weak_start, 100 labels": ""}


def test_each_run_of_the_comparisons_has_a_name_of_its_own(objectives: ModuleType) -> None:
    jobs = {job for part in objectives.PARTS for job in objectives.jobs_of(part, [0], [])}
    assert len({job.key for job in jobs}) == len(jobs)


def added(objectives: ModuleType, results: object, name: str, accuracies: list[float], part: str = "imdb") -> None:
    """Scores of a run, one a seed."""
    overrides = {**objectives.PARTS[part][1], **{name: [] for name in objectives.BASELINES}}[name]
    experiment = objectives.PARTS[part][0]
    for job, accuracy in zip(objectives.jobs_named(experiment, name, overrides, range(9)), accuracies, strict=False):
        results.add("runs", job.key, {"overrides": job.all_overrides, "accuracy": accuracy})  # type: ignore[attr-defined]


def test_what_is_below_the_frozen_encoder_on_a_draw_failed(
    comparison: ModuleType, objectives: ModuleType, tmp_path: Path
) -> None:
    results = comparison.Results(tmp_path / "results.json")
    added(objectives, results, "logistic regression + descriptions", [0.7, 0.6, 0.8])
    added(objectives, results, "logistic regression", [0.5])  # the same without descriptions is no failure
    added(objectives, results, "pseudo_label", [0.55, 0.61, 0.79, 0.1])  # the last draw has nothing to compare with
    added(objectives, results, "softmatch", [0.7, 0.6, 0.8])
    added(objectives, results, "SetFit", [0.65])
    rows = objectives.failures(objectives.PARTS, [0, 1, 2, 3, 4], results)
    assert [(name, *cells[:2]) for name, cells in rows.items()] == [
        ("imdb: pseudo_label", "2 of 3", "55.00"),
        ("imdb: SetFit", "1 of 1", "65.00"),
    ]
    assert "mostly of one class" in rows["imdb: pseudo_label"][2]
    assert objectives.failures(["newsgroups", "imdb-labels"], [0, 1, 2, 3, 4], results) == {}


def test_every_failure_of_the_results_is_explained(objectives: ModuleType) -> None:
    results = objectives.Results(config_dir().parent / objectives.RESULTS)
    rows = objectives.failures(objectives.PARTS, [0, 1, 2, 3, 4], results)
    assert rows
    assert [name for name, cells in rows.items() if not cells[2]] == []


def test_seconds_of_cpus_and_of_gpus_stand_apart(
    comparison: ModuleType, objectives: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU runs of 100 and 300 s have the mean 200; the one on a GPU took 30."""
    results = comparison.Results(tmp_path / "results.json")
    jobs = objectives.jobs_of("imdb", [0, 1, 2, 3], ["uda"])
    for job, seconds, machine in zip(jobs, (100, 300, 30), ("2 x One", "4 x Other", "NVIDIA X"), strict=False):
        monkeypatch.setattr(comparison, "machine", lambda machine=machine: machine)
        scores = {"accuracy": 0.8, "macro_f1": 0.8, "seconds": seconds}
        results.add("runs", job.key, {"overrides": job.all_overrides, **scores})
    assert objectives.rows_of("imdb", [0, 1, 2, 3], results)["uda"][-2:] == ["200", "30"]
    assert objectives.rows_of("imdb", [2, 3], results)["uda"][-2:] == ["", "30"]
