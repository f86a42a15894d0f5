"""Messages for people."""

import numpy as np
import pytest
import torch

from uda.errors import UserError, memory_told


@pytest.mark.parametrize("ask", [lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: np.empty(1 << 60, np.uint8)])
def test_memory_that_is_refused_is_told_with_the_remedy(ask) -> None:
    """Really asked for: torch raises a RuntimeError, numpy a MemoryError."""
    with (
        pytest.raises(UserError, match=r"Expected enough memory, found: .*allocate.* Take less\."),
        memory_told("Take less."),
    ):
        ask()


def test_the_message_of_a_gpu_is_known() -> None:
    with pytest.raises(UserError, match="found: CUDA out of memory"), memory_told("Take less."):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines")


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_told("Take less."):
        raise RuntimeError("shapes do not match")
