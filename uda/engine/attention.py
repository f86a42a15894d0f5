"""Which attention kernel makes which passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

_LONG = 300  # tokens beyond which the fused kernel's backward pass is the faster one on a CPU (docs/performance.md)


@dataclass(frozen=True)
class Kernels:
    """The names of a model's attention kernels, as transformers calls them.

    short, long: of passes with a gradient, over rows of at most and of more than 300 tokens. inference: of passes
    without.
    """

    short: str
    long: str
    inference: str

    def of(self, longest: int) -> str:
        """The kernel of a pass over rows of at most so many tokens, with a gradient where torch computes one now."""
        if not torch.is_grad_enabled():
            return self.inference
        return self.long if longest > _LONG else self.short

    def __str__(self) -> str:
        training = self.short if self.short == self.long else f"{self.short} ({self.long} beyond {_LONG} tokens)"
        return f"{training}, without a gradient {self.inference}"


def fastest_kernels(model: PreTrainedModel, device: torch.device, layers_twice: bool) -> Kernels:
    """The kernels that are the faster ones on the device, of those that the encoder has.

    On a CPU the plain kernel is, for passes with a backward pass over short rows, and the fused one (SDPA) for all
    others; on a GPU transformers' own choice is taken. layers_twice: layers are computed again in the backward pass
    (gradient checkpointing), when a kernel for the forward pass alone would be forgotten.
    """
    encoder: Any = model.base_model
    own = str(encoder.config._attn_implementation)
    if device.type != "cpu" or not encoder._can_set_attn_implementation():
        return Kernels(own, own, own)
    fused = "sdpa" if encoder._supports_sdpa else own
    return Kernels("eager", "eager" if layers_twice else fused, fused)


@contextmanager
def attention(model: PreTrainedModel, kernel: str) -> Iterator[None]:
    """Passes of the model use this kernel until the block ends."""
    encoder: Any = model.base_model
    before = encoder.config._attn_implementation
    if before == kernel:
        yield
        return
    model.set_attn_implementation(kernel)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
