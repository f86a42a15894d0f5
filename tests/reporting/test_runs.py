import json
import logging
import os

import pytest

from uda.reporting.runs import Status, read_runs, shown


@pytest.fixture
def found(tmp_path):
    return lambda: {run.path: run for run in read_runs(tmp_path / "runs")}


def test_runs_are_found_at_any_depth_and_told_apart(make_run, found, tmp_path) -> None:
    make_run("a/b/finished", accuracy=0.75)
    (make_run("a/stopped", accuracy=None) / "checkpoints/step-100").mkdir(parents=True)
    (tmp_path / "runs/a/stopped/checkpoints/step-20").mkdir()
    make_run("fresh", accuracy=None)
    failed = make_run("failed", accuracy=None)
    (failed / "failed.json").write_text(json.dumps({"error": "out of\n memory", "type": "OutOfMemoryError"}))
    refused = tmp_path / "runs/refused"
    refused.mkdir()
    (refused / "failed.json").write_text(json.dumps({"error": "data.test: expected a file", "type": "UserError"}))
    (make_run("diverged", accuracy=None) / "not-finite-step-3-rank-0.json").write_text("{}")
    runs = found()
    assert {path: (run.status.value, run.message) for path, run in runs.items()} == {
        "a/b/finished": ("finished", ""),
        "a/stopped": ("unfinished", "checkpoint at step 100 of 212"),
        "diverged": ("failed", "loss or gradient not finite: not-finite-step-3-rank-0.json"),
        "failed": ("failed", "OutOfMemoryError: out of memory"),
        "fresh": ("unfinished", "no checkpoint"),
        "refused": ("failed", "data.test: expected a file"),
    }
    assert list(runs) == sorted(runs)
    assert runs["a/b/finished"].scores == {
        "accuracy": 0.75,
        "error": 0.25,
        "macro_f1": 0.375,
        "nll": 1.25,
        "ece": 0.25,
    }


def test_a_run_that_finished_later_is_finished(make_run, found) -> None:
    (make_run("run") / "failed.json").write_text(json.dumps({"error": "x", "type": "OSError"}))
    assert found()["run"].status is Status.finished


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", '{"status": "fini', "metrics.json cannot be read: Unterminated string"),
        ("metrics.json", "[]", "metrics.json cannot be read: it holds no keys and values"),
        ("metrics.json", '{"status": "finished"}', "metrics.json cannot be read: it lacks scores"),
        (
            "metrics.json",
            '{"status": "finished", "selected": {"step": 1}, "seconds": 1}',
            "metrics.json cannot be read: it lacks seconds or num_labeled",
        ),
        ("metrics.json", b"\xff\xfe", "metrics.json cannot be read: 'utf-8'"),
        ("split.json", '{"labeled": []}', "split.json cannot be read: it lacks rows"),
        ("config.yaml", "a: [", "config.yaml cannot be read: while parsing"),
        ("config.yaml", None, "config.yaml is missing"),
        ("failed.json", "{", "failed.json cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_and_the_rest_goes_on(make_run, found, name, content, message) -> None:
    make_run("good")
    path = make_run("bad", accuracy=None if name == "failed.json" else 0.5) / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    runs = found()
    assert runs["good"].status is Status.finished
    assert runs["bad"].status is Status.failed
    assert runs["bad"].message.startswith(message)
    assert runs["bad"].scores == {}


def test_what_is_no_run_of_train_is_passed_by(make_run, found, tmp_path) -> None:
    make_run("sweep/run")
    other = tmp_path / "runs/sweep"
    (other / "config.yaml").write_text("lr: 1")  # of another program, above a run
    (other / "run/evaluations/own").mkdir(parents=True)
    (other / "run/evaluations/own/metrics.json").write_text('{"accuracy": 1}')
    (tmp_path / "runs/augment-seed0").mkdir()
    (tmp_path / "runs/augment-seed0/metrics.json").write_text('{"computed": 1}')
    (tmp_path / "runs/.trash").mkdir()
    (other / "run").rename(other / "kept")
    os.symlink(other, tmp_path / "runs/loop")
    assert list(found()) == ["loop/kept"]  # once, under the first of its names


def test_a_folder_that_cannot_be_read_is_named(make_run, found, tmp_path, caplog, monkeypatch) -> None:
    make_run("a")
    make_run("b")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with caplog.at_level(logging.WARNING):
        assert list(found()) == ["a"]
    assert "left out: [Errno 13] Permission denied" in caplog.text


def test_links_that_lead_nowhere_are_passed_by(make_run, found, tmp_path, caplog) -> None:
    make_run("one")
    (tmp_path / "runs/circle").symlink_to(tmp_path / "runs/circle")
    (tmp_path / "runs/gone").symlink_to(tmp_path / "nowhere")
    assert list(found()) == ["one"]
    assert "circle" in caplog.text


def test_a_run_without_evaluations_has_none(make_run, found) -> None:
    make_run("one", evaluations=None)
    run = found()["one"]
    assert (run.status, run.evaluations) == (Status.finished, [])


def test_the_split_is_known_by_its_rows(make_run, found) -> None:
    rows = [{"index": 0, "sha256": "a"}, {"index": 1, "sha256": "b"}]
    test, other = [{"index": 5, "sha256": "t"}], [{"index": 6, "sha256": "u"}]
    make_run("one", split={"labeled": rows, "test": test, "dropped": {}})
    make_run("reversed", split={"labeled": rows[::-1], "test": test, "dropped": {"x": 1}})
    make_run("fewer", split={"labeled": rows[:1], "test": test})
    make_run("elsewhere", split={"labeled": rows, "test": other})
    splits = {path: run.split for path, run in found().items()}
    assert splits["one"] == splits["reversed"]
    assert splits["one"].rows != splits["fewer"].rows
    assert splits["one"].test == splits["fewer"].test
    assert splits["one"].rows != splits["elsewhere"].rows


def test_what_a_run_chose_for_itself_is_null_again(make_run, found) -> None:
    log = "2026-01-01 INFO uda.choices: chose data.max_length=96: 95 %\n… chose train.num_steps=80: no fewer\n"
    (make_run("chosen", "data.max_length=96") / "train.log").write_text(log)
    make_run("set", "data.max_length=96")
    runs = found()
    assert runs["chosen"].settings["data.max_length"] == runs["chosen"].settings["train.num_steps"] == "null"
    assert runs["set"].settings["data.max_length"] == "96"


def test_scores_that_are_no_finite_number_are_none(make_run, found) -> None:
    folder = make_run("run")
    text = (folder / "metrics.json").read_text().replace('"ece": 0.25', '"ece": NaN')
    (folder / "metrics.json").write_text(text)
    assert set(found()["run"].scores) == {"accuracy", "error", "macro_f1", "nll"}


def test_values_are_shown_as_on_a_command_line() -> None:
    assert shown({"a": [None, True, "x"], "b": {"c": 1e-5}}) == "{a: [null, true, x], b: {c: 1e-05}}"
