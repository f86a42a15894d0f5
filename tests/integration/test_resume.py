"""Going on after damage, on a full disk, under other conditions, with another config, beside another process."""

import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import uda.train
from uda import cli, config, locks, run_directory
from uda.config import compose
from uda.engine import checkpoints, progress, training
from uda.errors import UserError

EVERY_4 = ["train.checkpoint_every=4", "train.keep_checkpoints=2"]


def run(overrides: list[str], folder: Path) -> uda.train.Result:
    return uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}"]))


def weights(folder: Path) -> bytes:
    return (folder / "model/model.safetensors").read_bytes()


@pytest.fixture
def stopped(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run stopped by SIGTERM after step 10, with checkpoints of steps 8 and 10."""
    original = training.Tracker.step

    def step(self: Any, completed: int, *rest: Any) -> None:
        original(self, completed, *rest)
        if completed == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(training.Tracker, "step", step)
        with pytest.raises(cli.Interrupted):
            run([*tiny, *EVERY_4], tmp_path / "run")
    assert checkpoints.checkpoint_steps(tmp_path / "run/checkpoints") == [8, 10]
    return tmp_path / "run"


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_steps_but_no_exactness(
    tiny: list[str], stopped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = stopped / "checkpoints/step-10/optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    run([*tiny, *EVERY_4], stopped)
    assert "step-10 is damaged (missing or altered: optimizer.safetensors) and left out" in caplog.text
    assert "resuming after step 8" in caplog.text
    assert "not to the bit" not in caplog.text
    assert weights(stopped) == weights(run(tiny, tmp_path / "whole").run_dir)
    assert checkpoints.checkpoint_steps(stopped / "checkpoints") == [16, 20]


@pytest.mark.slow
def test_where_every_checkpoint_is_damaged_the_run_is_refused_and_without_them_it_starts_anew(
    tiny: list[str], stopped: Path
) -> None:
    for step in (8, 10):
        (stopped / f"checkpoints/step-{step}/state.json").write_text("{")
    with pytest.raises(UserError, match=r"found all damaged: step-8, step-10 .*Restore one .*delete the folder"):
        run([*tiny, *EVERY_4], stopped)
    shutil.rmtree(stopped / "checkpoints")
    run([*tiny, *EVERY_4], stopped)
    assert json.loads((stopped / "metrics.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_a_preempted_job_goes_on_though_it_was_started_to_overwrite(
    tiny: list[str], stopped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A scheduler repeats the very command; what it overwrites is a finished run, or one of another config."""
    again = [*tiny, *EVERY_4, "train.overwrite=true"]
    run(again, stopped)
    assert "resuming after step 10" in caplog.text
    assert weights(stopped) == weights(run(tiny, tmp_path / "whole").run_dir)
    caplog.clear()
    run(again, stopped)  # finished now
    assert "resuming" not in caplog.text
    run([*again, "seed=1"], _unfinished(stopped))
    assert "resuming" not in caplog.text


@pytest.mark.slow
def test_number_neutral_keys_may_change_on_the_way(tiny: list[str], stopped: Path, tmp_path: Path) -> None:
    others = ["train.checkpoint_every=5", "train.keep_checkpoints=9", "train.log_every=2"]
    run([*[item for item in tiny if "_every=1" not in item], *others], stopped)
    assert checkpoints.checkpoint_steps(stopped / "checkpoints") == [8, 10, 15, 20]
    assert run_directory.read_config(stopped)["train"]["checkpoint_every"] == 5
    assert weights(stopped) == weights(run(tiny, tmp_path / "whole").run_dir)
    with pytest.raises(UserError, match=r"train\.weight_decay \(0\.01 there, 0\.02 now\)"):
        run([*tiny, "train.weight_decay=0.02", "train.overwrite=false"], _unfinished(stopped))


@pytest.mark.slow
def test_after_the_memory_was_full_a_run_goes_on_in_smaller_passes(
    tiny: list[str], stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run([*tiny, "train.micro_batch_size=4", "train.gradient_checkpointing=true", "train.eval_batch_size=7"], stopped)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for change in ("micro_batch_size was None, is 4", "gradient_checkpointing was False, is True", "was 64, is 7"):
        assert change in warning


def _unfinished(folder: Path) -> Path:
    (folder / "metrics.json").unlink()
    return folder


@pytest.mark.slow
def test_another_precision_goes_on_with_a_warning(
    tiny: list[str], stopped: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As train.precision=auto does on other hardware, here with the conditions alone changed."""
    now = checkpoints.conditions
    monkeypatch.setattr(
        progress, "conditions", lambda process: {**now(process), "precision": "bf16", "num_processes": 2}
    )
    run([*tiny, *EVERY_4], stopped)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "precision was fp32, is bf16, num_processes was 1, is 2" in warning
    assert warning in (stopped / "train.log").read_text()


@pytest.mark.slow
def test_a_resumed_run_tells_its_log_and_keeps_what_was_there(tiny: list[str], stopped: Path) -> None:
    before = (stopped / "train.log").read_text()
    run([*tiny, *EVERY_4], stopped)
    after = (stopped / "train.log").read_text()
    assert after.startswith(before)
    assert "resuming after step 10" in after[len(before) :]


def test_a_directory_in_use_is_refused_before_any_work_and_left_alone(
    tiny: list[str], stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uda.train, "_train", lambda *arguments: pytest.fail("work was begun"))
    with locks.locked(stopped):
        before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
        for overwrite in ([], ["train.overwrite=true"]):
            with pytest.raises(UserError, match=rf"found {stopped} in use by process {os.getpid()} on .*, since "):
                run([*tiny, *EVERY_4, *overwrite], stopped)
        assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_finished_run_needs_no_lock(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as finished, or in a sweep returns its score, whoever holds the directory."""
    result = run([*tiny, "train.num_steps=4"], tmp_path / "run")
    assert not (tmp_path / "run/.lock").exists()
    with locks.locked(tmp_path / "run"):
        with pytest.raises(UserError, match="without a finished run"):
            run([*tiny, "train.num_steps=4"], tmp_path / "run")
        monkeypatch.setattr(config, "is_multirun", lambda: True)
        again = run([*tiny, "train.num_steps=4", "train.log_every=7"], tmp_path / "run")
        assert again.selected == result.selected
        with pytest.raises(UserError, match=r"train\.num_steps \(4 there, 5 now\)"):
            run([*tiny, "train.num_steps=5"], tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_finishes_while_we_wait_at_the_door_is_not_taken_up(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not finished when we looked, and is when we hold the lock."""
    run([*tiny, "train.num_steps=4"], tmp_path / "run")
    found = run_directory.finished_metrics
    answers = [lambda folder: None, found]
    monkeypatch.setattr(run_directory, "finished_metrics", lambda folder: answers.pop(0)(folder))
    with pytest.raises(UserError, match="without a finished run"):
        run([*tiny, "train.num_steps=4"], tmp_path / "run")
    assert not answers


@pytest.mark.slow
@pytest.mark.parametrize("place", ["step", "flush"])
def test_a_disk_that_fills_up_under_tensorboard_is_told_as_such(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training.Tracker, place, full)
        with pytest.raises(
            UserError, match=r"write .*/run, found: \[Errno 28\] No space left on device\. What was writ"
        ):
            run([*tiny, *EVERY_4], tmp_path / "run")
    run([*tiny, *EVERY_4], tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Sets the size of a disk of its own, and names its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")

    def resize(size: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
        return folder

    yield resize
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_real_disk_that_is_full(tiny: list[str], tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    """Room for the first checkpoints only; once there is more, the same command ends as if nothing had been."""
    overrides = [*tiny, "train.checkpoint_every=2", "train.keep_checkpoints=20"]
    folder = small_disk("1500k") / "run"
    with pytest.raises(UserError, match=r"Expected to be able to write .*, found: .*No space left") as caught:
        run(overrides, folder)
    full_at = int(re.findall(r"step-(\d+)", str(caught.value))[0])
    steps = checkpoints.checkpoint_steps(folder / "checkpoints")
    assert steps == list(range(2, full_at, 2))
    assert steps
    assert not list(folder.rglob(".writing-*"))
    small_disk("50m")
    run(overrides, folder)
    assert weights(folder) == weights(run(tiny, tmp_path / "whole").run_dir)


@pytest.mark.slow
def test_a_disk_that_is_full_or_read_only_from_the_start(
    tiny: list[str], small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uda.train, "_train", lambda *arguments: pytest.fail("work was begun"))
    disk = small_disk("16k")
    with (disk / "filler").open("wb") as file, pytest.raises(OSError, match="No space left"):
        file.write(bytes(100_000))
    with pytest.raises(
        UserError, match=r"can be made and written, found .*/run: .*No space left on device.*hydra\.run"
    ):
        run(tiny, disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(UserError, match=r"can be made and written, found .*/run: .*Read-only file system"):
        run(tiny, disk / "run")
    assert [path.name for path in disk.iterdir()] == ["filler"]


@pytest.mark.slow
def test_scalars_reach_the_disk_before_the_checkpoint_that_counts_them(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill right after a checkpoint must not lose what no later start will show again."""
    done: list[str] = []
    flush, save = training.Tracker.flush, progress.save_checkpoint
    monkeypatch.setattr(training.Tracker, "flush", lambda self: (done.append("flush"), flush(self)))
    monkeypatch.setattr(progress, "save_checkpoint", lambda *arguments: (done.append("save"), save(*arguments)))
    run([*tiny, *EVERY_4, "train.num_steps=8"], tmp_path / "run")
    assert done == ["flush", "save"] * 2
