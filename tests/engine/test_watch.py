"""What a process finds out of the others; real processes: `tests/integration/test_process_faults.py`."""

from unittest.mock import Mock, call

import pytest
import torch

from uda.engine.signals import Stop, stop_together
from uda.engine.watch import lost_another

GLOO = "[/src/third_party/gloo/gloo/transport/tcp/pair.cc:537] "
ADVICE = ". This is typically caused by a remote worker hanging or bugs in the application."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError(f"{GLOO}Connection closed by peer [127.0.0.1]:5{ADVICE}"),
            "Connection closed by peer [127.0.0.1]:5",
        ),
        (
            RuntimeError(f"{GLOO}Read error [::1]:7: Connection reset by peer"),
            "Read error [::1]:7: Connection reset by peer",
        ),
        (RuntimeError("Timed out waiting 8001ms for recv"), "Timed out waiting 8001ms for recv"),
        (torch.distributed.DistBackendError("NCCL communicator was aborted\nmore"), "NCCL communicator was aborted"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (torch.OutOfMemoryError("CUDA out of memory"), None),
    ],
)
def test_a_lost_process_is_told_from_a_fault_of_ours(error: RuntimeError, reason: str | None) -> None:
    assert lost_another(error) == reason


def test_who_stops_with_the_others_watches_them_no_longer() -> None:
    """A watch that saw them end would send a second signal, into the message of the first."""
    process = Mock()
    with pytest.raises(Stop, match="stopped by SIGTERM"):
        stop_together(process, 15)
    assert process.mock_calls == [call.wait(), call.stop_watching()]
