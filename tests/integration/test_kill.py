"""`kill -9` at any moment: the same command, given again, ends with the numbers of a run that was never stopped."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TIMES = ("seconds", "training_seconds", "tokens_per_second")
SETTINGS = ["train.num_steps=80", "train.checkpoint_every=4"]  # an evaluation every 8 steps


def numbers(folder: Path) -> dict[str, Any]:
    """Everything of a finished run that must not depend on when it was stopped."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        "weights": (folder / "model/model.safetensors").read_bytes(),
        "predictions": (folder / "predictions.parquet").read_bytes(),
        "metrics": {key: value for key, value in metrics.items() if key not in TIMES},
        "scalars": {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags},
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any], note: str) -> None:
    for tag, points in expected["scalars"].items():
        assert found["scalars"][tag] == points, f"{tag}; {note}"
    for key in ("metrics", "weights", "predictions"):
        assert found[key] == expected[key], f"{key}; {note}"
    assert found["scalars"].keys() == expected["scalars"].keys(), note


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.startswith((".writing", ".removing", ".lock"))]


def kill_at(process: Any, moment: Callable[[], bool], delay: float) -> bool:
    """Kill the process `delay` seconds after `moment` is true; whether it was still there."""
    while not moment() and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(delay)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_five_kills_leave_no_trace(tiny: list[str], tmp_path: Path, zygote: Any) -> None:
    """Real processes, killed at start-up, twice while they train, within a checkpoint and within the export."""
    seed = time.time_ns() % 1_000_000
    rng = random.Random(seed)

    def start(folder: Path) -> Any:
        arguments = [*tiny, *SETTINGS, f"hydra.run.dir={folder}"]
        return zygote.start("-m", "uda.train", *arguments, cwd=tmp_path, log=tmp_path / "log")

    folder, checkpoints = tmp_path / "killed", tmp_path / "killed/checkpoints"
    known: set[str] = set()

    def new_checkpoint() -> bool:
        return checkpoints.is_dir() and any(path.name not in known for path in checkpoints.glob("step-*"))

    moments: list[tuple[str, Callable[[], bool], float]] = [
        ("start-up", lambda: True, rng.uniform(0, 1)),
        ("training", new_checkpoint, rng.uniform(0, 0.4)),
        ("checkpoint", lambda: any(checkpoints.glob(".writing-*")), rng.uniform(0, 0.005)),
        ("training again", new_checkpoint, rng.uniform(0, 0.4)),
        ("export", lambda: any(folder.glob(".writing-*-model")) or (folder / "model").exists(), rng.uniform(0, 0.01)),
    ]
    note = f"seed {seed}: {[(name, round(delay, 4)) for name, _, delay in moments]}"
    for name, moment, delay in moments:
        known = {path.name for path in checkpoints.glob("step-*")}
        assert kill_at(start(folder), moment, delay), f"{name} was over; {note}"
    if not (folder / "metrics.json").is_file():  # else the last one came when all was written
        assert start(folder).wait() == 0, (tmp_path / "log").read_text()
    assert start(tmp_path / "whole").wait() == 0, (tmp_path / "log").read_text()
    assert_same(numbers(folder), numbers(tmp_path / "whole"), note)
    assert not left_over(folder)


# A training that dies before its n-th operation on a file of the run directory, and counts them: `counts n override…`.
COUNTED = """
import os, signal, sys, threading
import uda.train
from uda.config import compose

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock")
counts, number, *overrides = sys.argv[1:]
folder = counts.removesuffix(".counts")
pipe, count, lock = os.open(counts, os.O_RDWR | os.O_CREAT), 0, threading.Lock()

def hook(event, arguments):
    global count
    if event not in EVENTS:
        return
    path = arguments[0]  # TensorBoard's are bytes
    if isinstance(path, int):  # of flock and of some opens: only the first run waits for locks of the caches
        path = os.readlink(f"/proc/self/fd/{path}")
    if os.fsdecode(path).startswith(f"{folder}/"):
        with lock:  # TensorBoard's thread counts too, and each number is one thread's
            count += 1
            os.pwrite(pipe, str(count).encode().rjust(9), 0)
            if count == int(number):
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}"]))
"""


@pytest.mark.slow
def test_a_kill_before_any_operation_on_a_file_leaves_no_trace(tiny: list[str], tmp_path: Path, zygote: Any) -> None:
    """Each in a run directory of its own, at moments drawn from all that a whole run has."""
    script, log = tmp_path / "counted.py", tmp_path / "log"
    script.write_text(COUNTED)
    overrides = [*tiny, "train.num_steps=16", "train.checkpoint_every=5"]

    def job(folder: Path, number: int) -> tuple[int, int]:
        """The exit code of a run that is killed before so many operations, and how many it began."""
        counts = Path(f"{folder}.counts")
        counts.unlink(missing_ok=True)
        code = zygote.start(str(script), str(counts), str(number), *overrides, cwd=tmp_path, log=log).wait()
        return code, int(counts.read_text() or 0)

    code, total = job(tmp_path / "whole", 0)
    assert code == 0, log.read_text()
    expected = numbers(tmp_path / "whole")
    seed = time.time_ns() % 1_000_000
    for number in sorted(random.Random(seed).sample(range(1, total + 1), 6)):
        folder = tmp_path / f"killed-{number}"
        code, count = job(folder, number)
        # TensorBoard's thread opens its file whenever time has come to write: a run has a few operations more or less.
        assert code == -signal.SIGKILL or (code == 0 and count < number), log.read_text()
        if not (folder / "metrics.json").is_file():
            time.sleep(1.01)  # event files are read in the order of the second that they were begun in
            assert job(folder, 0)[0] == 0, log.read_text()
            assert not left_over(folder)
        assert_same(numbers(folder), expected, f"seed {seed}: killed before operation {number} of {total}")
