"""Two processes, and what can happen to them: each ends in bounded time, says so, and the same command goes on."""

import json
import os
import pty
import re
import signal
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import uda.train
from uda import cli, locks
from uda.config import compose
from uda.engine import training

pytestmark = pytest.mark.slow

TIMEOUT = 40  # seconds: train.process_timeout
LAUNCHER = 30  # seconds that torchrun gives its processes to end after SIGTERM
SLACK = 60  # seconds, for a busy machine
LONG = ["train.num_steps=160", "train.checkpoint_every=10", f"train.process_timeout={TIMEOUT}", "train.eval_every=80"]

# `uda.train` with steps that take a while, so that something can happen in between; it leaves its exit status.
SLOW = """
import os, runpy, sys, time
from pathlib import Path
from uda.engine import training

run_step = training.run_step
training.run_step = lambda *arguments: (time.sleep(0.1), run_step(*arguments))[1]
status = Path(sys.argv.pop(1)) / f"status-{os.environ['RANK']}"
try:
    runpy.run_module("uda.train", run_name="__main__", alter_sys=True)
except SystemExit as end:
    status.write_text(str(end.code))
    raise
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/model.safetensors")


@pytest.fixture(scope="module")
def command(tiny_files: list[str]) -> list[str]:
    small = ["train.batch_size=2", "objective.supervised_steps=3", "objective.prefill_rows=16"]
    return [*tiny_files, *LONG, *small, "train.log_every=40"]


@pytest.fixture(scope="module")
def whole(command: list[str], launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of an undisturbed run of two processes, and what stood on the terminal that it had."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 150))
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                shown.append(os.read(ours, 10_000))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    started = launch(2, "-m", "uda.train", *command, f"hydra.run.dir={folder}", stderr=theirs)
    os.close(theirs)
    code = started.launcher.wait(900)
    reader.join(10)
    text = b"".join(shown).decode(errors="replace")
    assert code == 0, text
    return folder, text


def test_one_bar_one_log_one_writer_one_directory(whole: tuple[Path, str]) -> None:
    folder, shown = whole
    files = {path.name for path in folder.iterdir()}
    expected = {"config.yaml", "split.json", "metrics.json", "tensorboard", "checkpoints", "model", "train.log"}
    assert files == expected | {"predictions.parquet", "reliability.png"}
    kinds = sorted(path.suffix for path in (folder / "tensorboard").iterdir())
    assert kinds[-2:] == [".hparams", ".picture"]
    assert len(kinds) == 3
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/total")] == [40, 80, 120, 160]
    assert len(re.findall(r"training:\s+0%\|", shown)) == 1
    log = (folder / "train.log").read_text()
    for line in ("UDA with 8 labelled and 60 unlabelled rows", "step 80/160: test accuracy"):
        assert log.count(line) == shown.count(line) == 1
    assert shown.count("run directory: ") == 1
    assert "Warning" not in shown


def test_any_fault_ends_all_processes_and_leaves_no_trace(
    command: list[str], whole: tuple[Path, str], launch: Callable[..., Any], tmp_path: Path
) -> None:
    """One run, into which everything comes: a killed process, a process that hangs, a killed launcher, signals."""
    folder = tmp_path / "run"
    (tmp_path / "slow.py").write_text(SLOW)

    def start() -> tuple[Any, dict[int, Any]]:
        """A launch that has just written a checkpoint."""
        known = steps(folder)
        started = launch(2, str(tmp_path / "slow.py"), str(tmp_path), *command, f"hydra.run.dir={folder}")
        for path in tmp_path.glob("status-*"):
            path.unlink()
        wait_until(lambda: steps(folder) - known or started.launcher.poll() is not None)
        assert started.launcher.poll() is None, started.text()
        return started, started.ranks()

    started, ranks = start()
    ranks[1].kill()
    assert started.ended(ranks, LAUNCHER + SLACK) == [0, 1]
    assert started.launcher.wait(SLACK) == 1
    assert re.search(r"^uda: (another process is gone|stopped by SIGTERM)", started.text(), re.MULTILINE)

    started, ranks = start()
    before = max(steps(folder))
    os.killpg(started.launcher.pid, signal.SIGINT)  # as Ctrl-C does
    assert started.ended(ranks, SLACK) == [0, 1]
    assert statuses(tmp_path) == ["130", "130"]
    assert_stopped(started.text(), "SIGINT", folder)
    assert max(steps(folder)) > before

    started, ranks = start()
    ranks[1].suspend()
    assert started.ended(ranks, TIMEOUT + LAUNCHER + SLACK) == [0, 1]
    assert started.launcher.wait(SLACK) == 1
    messages = r"process 1 has given no sign for \d+ s|^uda: another process is gone"
    assert re.search(messages, started.text(), re.MULTILINE)

    started, ranks = start()
    before = max(steps(folder))
    started.launcher.terminate()  # as Slurm does
    assert started.ended(ranks, SLACK) == [0, 1]
    assert statuses(tmp_path) == ["143", "143"]
    assert_stopped(started.text(), "SIGTERM", folder)
    assert max(steps(folder)) > before

    started, ranks = start()
    before = max(steps(folder))
    started.launcher.kill()
    assert started.ended(ranks, TIMEOUT + SLACK) == [0, 1]
    assert statuses(tmp_path) == ["143", "143"]
    # The first that notices, of the launcher or of the store that it kept, has both stop at the same step.
    assert re.search(r"process [01] of 2: the launcher('s store)? is gone.*; this one ends too", started.text())
    assert_stopped(started.text(), "SIGTERM", folder)
    assert max(steps(folder)) > before

    newest = max(steps(folder))
    text = launch(2, "-m", "uda.train", *command, f"hydra.run.dir={folder}").finish()
    assert f"resuming after step {newest}" in text
    assert "not to the bit" not in (folder / "train.log").read_text()
    found, expected = weights(folder), weights(whole[0])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def steps(folder: Path) -> set[int]:
    return {int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*")}


def statuses(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("status-*"))]


def assert_stopped(log: str, name: str, folder: Path) -> None:
    """Both processes say so, each once."""
    for head in ("uda: ", "uda, process 1: "):
        line = f"{head}stopped by {name}; the same command goes on from the checkpoint in {folder}/checkpoints\n"
        assert log.count(line) == 1, log


def wait_until(true: Callable[[], Any], seconds: float = 900) -> None:
    """Until it is true; fails where that takes too long."""
    done = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if true():
            return
        done.wait(0.05)
    pytest.fail(f"waited {seconds} s")


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_another_number_of_processes_goes_on_with_the_same_global_batch(
    command: list[str],
    whole: tuple[Path, str],
    launch: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    then: int,
) -> None:
    """Without dropout the weights are those of an undisturbed run but for rounding: the batches were the same."""
    folder = tmp_path / "run"
    arguments = [*command, f"hydra.run.dir={folder}"]
    original = training.Tracker.step

    def step(self: Any, completed: int, *rest: Any) -> None:
        original(self, completed, *rest)
        if completed == 25:
            os.kill(os.getpid(), signal.SIGTERM)

    if first == 1:
        with monkeypatch.context() as patch:
            patch.setattr(training.Tracker, "step", step)
            with pytest.raises(cli.Interrupted):
                uda.train.run(compose("train", arguments))
        launch(2, "-m", "uda.train", *arguments).finish()
    else:
        (tmp_path / "slow.py").write_text(SLOW)
        started = launch(2, str(tmp_path / "slow.py"), str(tmp_path), *arguments)
        wait_until(lambda: steps(folder))
        started.launcher.terminate()
        started.launcher.wait(SLACK)
        uda.train.run(compose("train", arguments))
    log = (folder / "train.log").read_text()
    warning = f"not to the bit as if it had never stopped: num_processes was {first}, is {then}\n"
    assert log.count(warning) == 1
    found, expected = weights(folder), weights(whole[0])
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-3)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["num_processes"] == then
    speeds = [json.loads((run / "metrics.json").read_text()) for run in (folder, whole[0])]
    tokens = [round(each["tokens_per_second"] * each["training_seconds"]) for each in speeds]
    assert tokens[0] == tokens[1]


# One process works for longer than the others would be waited for, before it answers.
LATE = """
import time
from uda.engine.process import Process
from uda.engine.settings import Precision

process = Process.start(Precision.fp32, timeout=20)
if process.is_main:
    time.sleep(30)
process.meet()
assert process.highest(process.rank) == 1
process.close()
"""


def test_work_of_any_length_before_the_first_step_is_waited_for(launch: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    launch(2, str(tmp_path / "late.py")).finish()


def test_what_the_first_process_alone_is_refused_ends_the_other(
    command: list[str], launch: Callable[..., Any], tmp_path: Path
) -> None:
    """The run directory is in use, which only the first process looks at."""
    folder = tmp_path / "run"
    with locks.locked(folder):
        started = launch(2, "-m", "uda.train", *command, f"hydra.run.dir={folder}")
        wait_until(lambda: "uda: " in started.text())
        assert started.launcher.wait(LAUNCHER + SLACK) == 1
    assert len(re.findall("^uda: Expected a run directory that no other process uses", started.text(), re.M)) == 1
    assert re.search("^uda, process 1: (another process is gone|stopped by SIGTERM)", started.text(), re.M)
    assert 'File "' not in started.text().split("torch/distributed")[0]  # no traceback of ours
    assert not folder.exists()


# `uda.train` with a fault of the second process at its fourth step.
FAULT = """
import os, runpy
from uda.engine import training

run_step, count = training.run_step, iter(range(1000))

def faulty(*arguments):
    if next(count) == 3 and os.environ["RANK"] == "1":
        raise ValueError("a fault of rank 1")
    return run_step(*arguments)

training.run_step = faulty
runpy.run_module("uda.train", run_name="__main__", alter_sys=True)
"""


def test_a_fault_of_any_process_is_noted(command: list[str], launch: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "fault.py").write_text(FAULT)
    folder = tmp_path / "run"
    started = launch(2, str(tmp_path / "fault.py"), *command, f"hydra.run.dir={folder}")
    assert started.launcher.wait(TIMEOUT + LAUNCHER + SLACK) == 1
    assert json.loads((folder / "failed.json").read_text())["error"] == "a fault of rank 1"
