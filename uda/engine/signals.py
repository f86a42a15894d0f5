"""SIGTERM and SIGINT noted while training, acted on between steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop(Exception):
    """Training stopped by a signal after a checkpoint was written. `exit_code`: 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class SignalNote:
    """The last signal received, 0 if none."""

    number = 0


@contextmanager
def noted_signals() -> Iterator[SignalNote]:
    """Note SIGTERM and SIGINT instead of dying; a second one of the kind acts as it always did."""
    note = SignalNote()

    def handle(number: int, frame: FrameType | None) -> None:
        note.number = number
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield note
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
