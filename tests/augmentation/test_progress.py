import logging

import pytest

from uda.augmentation import progress
from uda.augmentation.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day, to be set."""
    now = [1_000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_line_is_of_what_was_done_since_the_start(clock: list[float]) -> None:
    with Progress(total=1_000, found=400, name="Method") as counted:
        assert counted.line() == "400 of 1000 texts, 0.0 a second, unknown time left, 0.0 % kept as original"
        clock[0] += 10
        counted.add(200, computed=160, kept=40)
        assert counted.line() == "600 of 1000 texts, 20.0 a second, 0:00:20 left, 25.0 % kept as original"
        counted.finish()
        assert counted.line() == "1000 of 1000 texts, 60.0 a second, 0:00:00 left, 25.0 % kept as original"


def test_a_line_a_minute_where_there_is_no_terminal(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "uda"), Progress(total=10_000, found=0, name="Method") as counted:
        for _ in range(25):
            clock[0] += 10
            counted.add(10, computed=10, kept=1)
    assert [line.split(" of ")[0] for line in caplog.messages] == ["60", "120", "180", "240"]
