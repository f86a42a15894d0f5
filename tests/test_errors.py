"""Messages for people."""

import numpy as np
import pytest
import torch

from uda.errors import UserError, memory_told, unlike


@pytest.mark.parametrize("ask", [lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: np.empty(1 << 60, np.uint8)])
def test_memory_that_is_refused_is_told_with_the_remedy(ask) -> None:
    """Really asked for: torch raises a RuntimeError, numpy a MemoryError."""
    with (
        pytest.raises(UserError, match=r"Expected enough memory, found: .*allocate.* Take less\."),
        memory_told("Take less."),
    ):
        ask()


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)",
    ],
)
def test_other_words_of_torch_are_known(text: str) -> None:
    with pytest.raises(UserError, match="Expected enough memory, found: ") as caught, memory_told("Take less."):
        raise RuntimeError(text)
    assert str(caught.value) == f"Expected enough memory, found: {text.splitlines()[0]} Take less."


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_told("Take less."):
        raise RuntimeError("shapes do not match")


def test_of_thousands_of_classes_a_message_names_the_first_that_differ() -> None:
    names = [str(number) for number in range(2000)]
    assert unlike(names, names[1:]) == "none for '0'"
    assert unlike(names, [*names, "x"]) == "some for 'x', no label"
    assert unlike(names, ["7", "x", "y"]) == "none for '0', '1', '2', '3', '4', … and some for 'x', 'y', no label"
