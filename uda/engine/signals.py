"""SIGTERM and SIGINT noted while training, acted on between steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from uda.engine.process import Process


class Stop(Exception):
    """Training stopped by a signal after a checkpoint was written. `exit_code`: 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def stop_together(process: "Process", number: int) -> NoReturn:
    """End the training of all processes, each of which has written its part of a checkpoint."""
    process.wait()
    process.stop_watching()  # one that finds another gone would send itself a second signal
    raise Stop(number)


class SignalNote:
    """The last signal received, 0 if none."""

    number = 0


@contextmanager
def noted_signals(once: bool) -> Iterator[SignalNote]:
    """Note SIGTERM and SIGINT instead of dying.

    once: a second one of the kind acts as it always did; otherwise it is noted too, since a launcher of several
    processes may pass one signal on more than once. Outside the main thread nothing is noted: Python allows no other.
    """
    note = SignalNote()
    if threading.current_thread() is not threading.main_thread():
        yield note
        return

    def handle(number: int, frame: FrameType | None) -> None:
        note.number = number
        if once:
            signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield note
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
