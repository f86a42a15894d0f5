"""Processes that augment: the same texts by any number of them, their faults, their end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uda.augmentation import workers
from uda.augmentation.workers import Batch, augmented, usable_cores
from uda.errors import UserError

# The methods lie in a module of their own, since each process imports them.
METHODS = """
import os, time
from uda.augmentation.base import Augmenter
from uda.errors import UserError

class Upper(Augmenter):
    def prepare(self, texts, keys, num_source_rows):
        self.learnt = " ".join(texts)

    def augment(self, texts, keys, copy):
        print("to standard output")
        if "refused" in texts:
            raise UserError("augment.x: refused")
        if "fault" in texts:
            raise ZeroDivisionError("ours")
        if "death" in texts:
            os._exit(1)
        if "long" in texts:
            time.sleep(60)
        return [f"{text.upper()} {key} {copy} {self.learnt} {os.getpid()}" for text, key in zip(texts, keys)]
"""


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A method that has learnt "ab" and says in which process it works."""
    (tmp_path / "uda_test_methods.py").write_text(METHODS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import uda_test_methods  # type: ignore[import-not-found]

    upper = uda_test_methods.Upper()
    upper.prepare(iter(["a", "b"]), iter(["0", "1"]), 2)
    yield upper
    del sys.modules["uda_test_methods"]


def batches(*batch_texts: list[str]) -> Iterator[Batch]:
    return (Batch(texts, [f"k{text}" for text in texts], 3) for texts in batch_texts)


def test_two_processes_give_what_one_gives_in_the_same_order(method: Any, capfd: pytest.CaptureFixture[str]) -> None:
    asked = [[f"{row}x{n}" for n in range(row % 3 + 1)] for row in range(20)]
    alone = list(augmented(method, batches(*asked), 1))
    both = list(augmented(method, batches(*asked), 2))
    assert all(made.seconds >= 0 for made in both)
    assert "to standard output" in capfd.readouterr().err  # of the processes: where logs go
    found = [[text.rpartition(" ") for text in made.texts] for made in both]
    expected = [[text.rpartition(" ")[0] for text in made.texts] for made in alone]
    assert expected[1] == ["1X0 k1x0 3 a b", "1X1 k1x1 3 a b"]
    assert [[text[0] for text in texts] for texts in found] == expected
    pids = {int(text[2]) for texts in found for text in texts}
    assert len(pids) == 2
    assert os.getpid() not in pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_batches_are_asked_for_when_there_is_room(method: Any) -> None:
    asked = []

    def one_by_one() -> Iterator[Batch]:
        for number in range(30):
            asked.append(number)
            yield from batches([str(number)])

    made = augmented(method, one_by_one(), 2)
    next(made)
    assert len(asked) == 4
    made.close()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("refused", UserError, "^augment.x: refused$"),
        ("fault", RuntimeError, "ZeroDivisionError: ours"),
        ("death", UserError, r"^augment.num_workers: expected processes that live.* lower augment.num_workers"),
    ],
)
def test_what_goes_wrong_in_a_process_ends_the_work(
    method: Any, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(augmented(method, batches(["a"], [text], ["long"]), 2))


def test_a_method_that_cannot_be_loaded_there_is_one_message(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uda_test_methods.py").unlink()
    with pytest.raises(UserError, match=r"augment.num_workers: expected processes that live"):
        list(augmented(method, batches(["a"]), 2))


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from uda_test_methods import Upper
from uda.augmentation.workers import Batch, augmented
method = Upper()
method.prepare([], [], 0)
numbers = iter(range(10**9))
for made in augmented(method, (Batch(["a"], ["a"], 0) for _ in numbers), 2):
    print(made.texts[0].split()[-1], flush=True)
"""


def runs(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.usefixtures("method")
def test_the_processes_end_with_the_one_that_was_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(workers.__file__).parents[2])}
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with (tmp_path / "log").open("w") as log:
        parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert parent.stdout is not None
    pids: set[int] = set()
    while len(pids) < 2:
        pids.add(int(parent.stdout.readline()))
    parent.kill()
    assert parent.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while any(map(runs, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.stdout.close()


def test_the_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 7})
    assert usable_cores() == 3
