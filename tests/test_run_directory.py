"""The run directory: one process at a time, one config, nothing half removed."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from uda import files, locks, run_directory
from uda.config import compose, config_dir, resolved
from uda.errors import UserError
from uda.locks import locked
from uda.run_directory import prepare, refuse_other_config

HOLD = """
import sys
from pathlib import Path
from uda.errors import UserError
from uda.locks import locked

print("ready", flush=True)
sys.stdin.readline()
try:
    with locked(Path(sys.argv[1])):
        print("won", flush=True)
        sys.stdin.read()
except UserError as error:
    print(error, flush=True)
"""


@pytest.mark.slow
def test_of_processes_that_start_at_once_one_wins_and_its_death_frees_the_directory(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(config_dir().parent)}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    processes = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [process.stdout.readline().strip() for process in processes]
    (winner,) = [process for process, line in zip(processes, lines, strict=True) if line == "won"]
    refused = [line for line in lines if line != "won"]
    assert len(refused) == 3
    for line in refused:
        assert line.startswith(f"Expected a run directory that no other process uses, found {tmp_path}/run in use by ")
        assert f"process {winner.pid} on {platform.node()}, since " in line
        assert "Wait for its end or stop it" in line
    with pytest.raises(UserError, match=f"process {winner.pid} on"), locked(tmp_path / "run"):
        pass
    winner.send_signal(signal.SIGKILL)
    winner.wait()
    with locked(tmp_path / "run"):
        assert f"process {os.getpid()} on" in (tmp_path / "run/.lock").read_text()
    for process in processes:
        process.communicate()


def test_a_refused_job_leaves_no_folder_and_a_used_one_no_lock(tmp_path: Path) -> None:
    with suppress(UserError), locked(tmp_path / "a/b"):
        assert (tmp_path / "a/b/.lock").exists()
        raise UserError("refused")
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a/b"):
        (tmp_path / "a/b/config.yaml").touch()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["config.yaml"]


def test_a_lock_whose_owner_takes_it_away_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch) -> None:
    """Between our opening of the file and our lock its owner ends: we hold a file that nobody else will find."""
    calls = []
    flock = locks.fcntl.flock

    def after_the_owner(descriptor: int, how: int) -> None:
        if not calls:
            (tmp_path / "run/.lock").unlink()
            (tmp_path / "run").rmdir()
        calls.append(how)
        flock(descriptor, how)

    monkeypatch.setattr(locks.fcntl, "flock", after_the_owner)
    opened = locks._opened

    def without_folder(path: Path) -> int:
        if len(calls) == 1 and taken:  # another process takes it away again before it is opened
            taken.pop()
            (tmp_path / "run").rmdir()
        return opened(path)

    taken = [1]
    monkeypatch.setattr(locks, "_opened", without_folder)
    with locked(tmp_path / "run"):
        assert len(calls) == 2
        with pytest.raises(UserError, match="in use by process"), locked(tmp_path / "run"):
            pass


def test_without_locks_on_the_file_system_a_run_goes_on_with_a_warning(tmp_path: Path, monkeypatch, caplog) -> None:
    def unknown(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", unknown)
    with locked(tmp_path):
        assert "lies on a file system without locks: let no second process write there" in caplog.text


def test_a_directory_that_cannot_be_made_or_is_full_is_refused(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"can be made and written, found .*/file/run: .*Not a directory.*hydra\.run\.d"),
        locked(tmp_path / "file/run"),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"can be made and written, found .*/file: .*File exists"),
        locked(tmp_path / "file"),
    ):
        pass

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(locks.os, "write", full)
    with (
        pytest.raises(UserError, match=r"found .*: \[Errno 28\] No space left on device\. Make room"),
        locked(tmp_path / "run"),
    ):
        pass
    monkeypatch.undo()
    with locked(tmp_path / "run"):
        pass


@pytest.fixture
def config() -> dict:
    return resolved(compose("train", ["+experiment=imdb"]))


def test_runs_of_other_passes_have_directories_of_their_own() -> None:
    names = {compose("train", ["+experiment=imdb", f"train.micro_batch_size={size}"]).run_dir for size in (24, 48)}
    assert len(names) == 2


def test_what_enters_no_number_may_change_and_all_else_may_not(tmp_path: Path, config: dict) -> None:
    prepare(tmp_path, config, {}, overwrite=False)
    free = ["train.checkpoint_every=7", "train.keep_checkpoints=5", "train.log_every=3", "train.overwrite=true"]
    free += ["train.eval_batch_size=65", "train.micro_batch_size=4", "train.gradient_checkpointing=true"]
    refuse_other_config(tmp_path, resolved(compose("train", ["+experiment=imdb", *free])))
    for override, key in (
        ("seed=1", r"data\.seed \(0 there, 1 now\)"),
        ("train.eval_every=2", r"train\.eval_every \(106.0 there, 2.0 now\)"),
        ("train.precision=fp32", r"train\.precision \('auto' there, 'fp32' now\)"),
        ("train.select=best", r"train\.select \('final' there, 'best' now\)"),
        ("+objective.new=1", r"objective\.new \(None there, 1 now\)"),
        ("data.label_descriptions=null", r"data\.label_descriptions.* \(.* there, None now\)"),
    ):
        with pytest.raises(UserError, match=key):
            refuse_other_config(tmp_path, resolved(compose("train", ["+experiment=imdb", override])))
    with pytest.raises(UserError, match=r"seed \(0 there, 1 now\).* and \d+ more\. Give the old values, set train\.ov"):
        refuse_other_config(
            tmp_path, resolved(compose("train", ["+experiment=imdb", "seed=1", "objective=supervised"]))
        )


def test_a_new_start_removes_what_a_killed_one_left(tmp_path: Path, config: dict) -> None:
    for name in (
        ".writing-model/w",
        "checkpoints/.writing-step-4/w",
        "tensorboard/.writing-1-events.out.tfevents.end.picture",
        "evaluations/own/.writing-1-predictions.parquet",
        "checkpoints/.removing-step-2/w",
        "checkpoints/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (".writing-metrics.json", "not-finite-step-5-rank-0.json", "mine.txt"):
        (tmp_path / name).touch()
    prepare(tmp_path, config, {}, overwrite=False)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "config.yaml",
        "split.json",
        "checkpoints/x",
        "mine.txt",
    }


def test_a_mistake_is_not_noted_in_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.log").touch()
    with locked(tmp_path):
        with pytest.raises(UserError), run_directory.failure_noted(tmp_path, sweep=False):
            raise UserError("mistyped")
        assert not (tmp_path / "failed.json").exists()
        monkeypatch.setenv("RANK", "1")  # of a launch whose first process holds the directory
        with pytest.raises(ValueError, match="fault"), run_directory.failure_noted(tmp_path, sweep=False):
            raise ValueError("fault")
        assert (tmp_path / "failed.json").exists()
        (tmp_path / "failed.json").unlink()
    monkeypatch.delenv("RANK")
    with pytest.raises(UserError), run_directory.failure_noted(tmp_path, sweep=False):
        raise UserError("mistyped")
    assert (tmp_path / "failed.json").exists()


def test_a_folder_beside_an_encoder_may_be_no_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "model").mkdir()
    for content, told in (
        ('{"test": ["a.txt"]}', 0),
        ('{"test": null}', 0),
        ('{"test": [{"id": 1}]}', 0),
        ("[", 0),
        ('{"test": [{"sha256": "a"}], "dev": [{"sha256": "b"}]}', 1),
    ):
        (tmp_path / "split.json").write_text(content)
        caplog.clear()
        run_directory.warn_of_seen_rows(tmp_path / "model", ["a", "b", "c"])
        assert len(caplog.messages) == told
    assert caplog.messages[0].startswith("1 of the 3 test rows were not held back")


def test_overwriting_begins_with_what_says_that_the_run_is_finished(tmp_path: Path, config: dict, monkeypatch) -> None:
    """Killed while it removes, an overwritten run is neither finished nor half a checkpoint."""
    (tmp_path / "metrics.json").write_text('{"status": "finished"}')
    (tmp_path / "checkpoints/step-4").mkdir(parents=True)
    (tmp_path / "checkpoints/step-4/state.json").touch()

    class Killed(BaseException):
        pass

    def killed(path: Path, **options: object) -> None:
        raise Killed

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(Killed):
        prepare(tmp_path, config, {}, overwrite=True)
    monkeypatch.undo()
    assert run_directory.finished_metrics(tmp_path) is None
    assert not run_directory.has_checkpoint(tmp_path)
    prepare(tmp_path, config, {"labeled": []}, overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "split.json"]
    assert json.loads((tmp_path / "split.json").read_text()) == {"labeled": []}
