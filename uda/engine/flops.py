"""How many floating point operations passes take, and how many a second the hardware can do."""

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from uda.engine.settings import Precision

_ROWS, _INNER, _COLUMNS = 4096, 1024, 2048  # of the products that the limit is measured by


@dataclass(frozen=True)
class PassCost:
    """FLOP of a forward pass: `per_token` for each token, and `per_square` times each row's squared length."""

    per_token: float
    per_square: float

    def flops(self, tokens: float, squares: float) -> float:
        """Of so many tokens and such a sum of squared lengths; 2 for each multiplication with its addition."""
        return self.per_token * tokens + self.per_square * squares


def pass_cost(model: PreTrainedModel) -> PassCost:
    """Of the encoder's linear layers and of its attention (scores and weighted sums).

    Padding, element-wise operations and embeddings count nothing, and the head, which sees one feature a row, neither:
    that is the model's work, not the hardware's. Relative positions (DeBERTa) are left out.
    """
    encoder: Any = model.base_model
    weights = sum(layer.weight.numel() for layer in encoder.modules() if isinstance(layer, nn.Linear))
    return PassCost(2.0 * weights, 4.0 * encoder.config.hidden_size * encoder.config.num_hidden_layers)


@cache
def product_limit(device: torch.device, precision: Precision) -> float:
    """What `measured_limit` finds, measured once a process."""
    return measured_limit(device, precision, repeats=3)


def measured_limit(device: torch.device, precision: Precision, repeats: int) -> float:
    """FLOP/s of a large matrix product in this precision: the best of `repeats` after a first one."""
    dtype = torch.bfloat16 if precision is Precision.bf16 else torch.float32
    first = torch.ones(_ROWS, _INNER, dtype=dtype, device=device)
    second = torch.ones(_INNER, _COLUMNS, dtype=dtype, device=device)
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        product = first @ second
        if product.is_cuda:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return 2 * _ROWS * _INNER * _COLUMNS / min(times[1:])
