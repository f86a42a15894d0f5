"""Which errors say that another process is gone; real processes: `tests/integration/test_process_faults.py`."""

import pytest
import torch

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
