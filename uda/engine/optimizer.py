"""AdamW with the recipe's parameter groups, and the learning rate as a function of the step."""

import math

import torch
from torch import nn

from uda.engine.settings import Schedule, TrainSettings


def make_optimizer(model: nn.Module, settings: TrainSettings, learning_rate: float) -> torch.optim.AdamW:
    """AdamW (0.9, 0.999, 1e-6); weight decay on everything but biases and normalisation weights.

    The official code has no bias correction; torch's AdamW has it, which matters in the first steps only.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim < 2 else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-6, fused=True)


def steps_of(amount: float, num_steps: int) -> int:
    """A number of steps, or below 1 a share of `num_steps`, rounded up."""
    return math.ceil(round(amount * num_steps, 9)) if amount < 1 else int(amount)


def learning_rate_factor(step: int, num_steps: int, warmup: float, schedule: Schedule) -> float:
    """The factor on the peak rate for the update number `step` (from 0) of `num_steps`.

    Rises linearly from 1/n over the n warm-up steps (`warmup` below 1: a share of the steps), then falls to zero
    (linear, cosine) or stays. As in transformers, the decay counts from the end of the warm-up; the official code's
    counts from step 0, so that its rate drops to 0.9 of the peak when a warm-up over 10 % ends.
    """
    warmup_steps = steps_of(warmup, num_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    if schedule is Schedule.linear:
        return 1 - progress
    if schedule is Schedule.cosine:
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0
