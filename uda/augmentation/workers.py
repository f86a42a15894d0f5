"""Batches of texts through an augmentation method: in this process, or split among processes of their own.

The processes are plain Pythons that talk over pipes, so that the main module is not run again in them, as it is by
`multiprocessing`, and they end with this process, however it ends: their input is closed then.
"""

import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue

from uda.augmentation.base import Augmenter
from uda.errors import UserError

_SERVE = "from uda.augmentation.workers import serve; serve()"
_WAITING = 2  # batches for each process, so that none is ever idle


@dataclass(frozen=True)
class Batch:
    """Texts of which copies of one number are wanted; `keys` are those of `Augmenter`."""

    texts: list[str]
    keys: list[str]
    copy: int


@dataclass(frozen=True)
class Made:
    """What became of a batch's texts, in their order, and how long it took."""

    texts: list[str]
    seconds: float


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def augmented(augmenter: Augmenter, batches: Iterator[Batch], num_processes: int) -> Generator[Made]:
    """The batches through a method that is prepared, in their order; by this process alone where the number is 1.

    `batches` is asked for the next one when there is room for it. Raises what the method raises.
    """
    if num_processes == 1:
        yield from (_made(augmenter, batch) for batch in batches)
        return
    with _started(augmenter, num_processes) as processes, ThreadPoolExecutor(num_processes) as threads:
        idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in processes:
            idle.put(process)
        waiting: deque[Future[Made]] = deque()
        try:
            for batch in batches:
                waiting.append(threads.submit(_ask, idle, batch))
                if len(waiting) == _WAITING * num_processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            for process in processes:
                process.kill()


def serve() -> None:
    """What each process does: a method from standard input, then batch after batch, and what became of it back."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the one that started it hears them too, and ends it
        signal.signal(number, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a method prints is no reply
    sys.stdout = sys.stderr  # and is written at once: the process ends by being killed
    with suppress(EOFError, BrokenPipeError):  # there is nobody any more
        augmenter = pickle.load(sys.stdin.buffer)
        while True:
            batch = pickle.load(sys.stdin.buffer)
            pickle.dump(_reply(augmenter, batch), replies)
            replies.flush()


def _reply(augmenter: Augmenter, batch: Batch) -> Made | Exception:
    try:
        return _made(augmenter, batch)
    except (UserError, OSError) as error:
        return error
    except Exception:
        return RuntimeError(traceback.format_exc())


def _made(augmenter: Augmenter, batch: Batch) -> Made:
    started = time.monotonic()
    texts = augmenter.augment(batch.texts, batch.keys, batch.copy)
    if len(texts) != len(batch.texts):
        raise RuntimeError(f"{type(augmenter).__name__} gave {len(texts)} texts for {len(batch.texts)}")
    return Made(texts, time.monotonic() - started)


@contextmanager
def _started(augmenter: Augmenter, num_processes: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    command = [sys.executable, "-c", _SERVE]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    method = pickle.dumps(augmenter)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(num_processes):
            process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            processes.append(process)
        for process in processes:
            _send(process, method)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _ask(idle: "SimpleQueue[subprocess.Popen[bytes]]", batch: Batch) -> Made:
    process = idle.get()
    try:
        _send(process, pickle.dumps(batch))
        assert process.stdout is not None
        reply: Made | Exception = pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        raise _died() from error
    finally:
        idle.put(process)
    if isinstance(reply, Exception):
        raise reply
    return reply


def _send(process: "subprocess.Popen[bytes]", content: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(content)
        process.stdin.flush()
    except BrokenPipeError as error:
        raise _died() from error


def _died() -> UserError:
    return UserError(
        "augment.num_workers: expected processes that live as long as there is work, found that one died, as it does "
        "when the memory is full. What was written before is whole: lower augment.num_workers and give the same "
        "command again; with augment.num_workers=1 there is none."
    )
