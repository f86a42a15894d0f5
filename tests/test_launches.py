"""What is said of a launch that does not come about."""

import socket

import pytest
import torch.distributed as dist

from uda import cli
from uda.errors import UserError
from uda.launches import losses_told


def test_a_port_that_is_taken_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's own error."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(UserError) as error, losses_told(9, "train.process_timeout", "try again"):
            dist.TCPStore("127.0.0.1", port, 2, is_master=True, wait_for_workers=False)
    assert str(error.value) == (
        f"Expected a free port for the first process to listen on, found {port} (MASTER_PORT) in use by another "
        "program, such as another launch. Give a free one: MASTER_PORT=… for processes started by hand, torchrun "
        "--master_port …, accelerate launch --main_process_port …"
    )


def test_a_lost_process_is_told_with_what_to_do_next() -> None:
    with pytest.raises(cli.Interrupted) as error, losses_told(9, "process_timeout", "start the same command again"):
        raise RuntimeError("Timed out waiting 9000ms for recv")
    assert str(error.value) == (
        "another process is gone, or has not answered within process_timeout=9 seconds (Timed out waiting 9000ms for "
        "recv); start the same command again"
    )
    with pytest.raises(RuntimeError, match="mat1"), losses_told(9, "process_timeout", ""):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
