"""Layers that do on a CPU what torch's do, in less time: dropout, and layer normalisation under autocast."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_BITS = 15  # of randomness an element: kept with a probability within 2^-16 of 1 - p
_VALUES = 1 << _BITS
_AS_INTEGERS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


class CheapDropout(nn.Dropout):
    """`nn.Dropout` with 15 random bits an element by SFC64, which is seeded out of torch's generator at each call.

    torch draws one Bernoulli number an element with a serial generator, which takes longer than the products around it.
    """

    def forward(self, input: Tensor) -> Tensor:
        keep = round((1 - self.p) * _VALUES)
        if not self.training or keep == _VALUES or keep == 0 or input.dtype not in _AS_INTEGERS:
            return super().forward(input)
        dropped: Tensor = _Dropout.apply(input, keep)
        return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, keep: int) -> Tensor:
        mask = _mask(values.shape, keep)
        ctx.save_for_backward(mask)
        ctx.scale = _VALUES / keep
        return _masked(values, mask, ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return _masked(gradient, mask, ctx.scale), None


@torch.compiler.disable
def _mask(shape: torch.Size, keep: int) -> Tensor:
    """All bits set where an element is kept, none where it is dropped: int16."""
    seed = int(torch.empty((), dtype=torch.int64).random_())
    count = shape.numel()
    words = np.random.Generator(np.random.SFC64(seed)).integers(0, 2**64, -(-count // 4), dtype=np.uint64)
    numbers = torch.from_numpy(words.view(np.int16))[:count].view(shape)
    return numbers.bitwise_and_(_VALUES - 1).sub_(keep).bitwise_right_shift_(_BITS)  # the sign of number - keep


def _masked(values: Tensor, mask: Tensor, scale: float) -> Tensor:
    integers = _AS_INTEGERS[values.dtype]
    return (values.view(integers) & mask.to(integers)).view(values.dtype).mul_(scale)


class NarrowLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` whose result has autocast's type, where that is on: it is computed as ever and rounded once.

    Autocast leaves it in fp32: each of the products that read it casts it again, and the sums around it are in fp32.
    """

    def forward(self, input: Tensor) -> Tensor:
        result = super().forward(input)
        return result.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else result


def use_cpu_layers(model: nn.Module) -> None:
    """Exchange the classes of a model's dropout and normalisation layers; its weights and their names stay."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = CheapDropout
        elif type(module) is nn.LayerNorm:
            module.__class__ = NarrowLayerNorm
