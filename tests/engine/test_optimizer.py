"""The recipe's groups, and learning rates by hand."""

import math

import pytest
import torch
from torch import nn

from uda.engine.optimizer import learning_rate_factor, make_optimizer
from uda.engine.settings import Schedule


class Settings:
    weight_decay = 0.01


def test_biases_and_norms_do_not_decay() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    optimizer = make_optimizer(model, Settings(), 2e-5)  # type: ignore[arg-type]
    decayed, plain = optimizer.param_groups
    assert decayed["weight_decay"] == 0.01
    assert plain["weight_decay"] == 0.0
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(5, 4), (3, 4)]
    assert [tuple(parameter.shape) for parameter in plain["params"]] == [(3,), (3,), (3,)]
    assert (decayed["betas"], decayed["eps"], decayed["lr"]) == ((0.9, 0.999), 1e-6, 2e-5)


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    groups = make_optimizer(model, Settings(), 1.0).param_groups  # type: ignore[arg-type]
    assert [len(group["params"]) for group in groups] == [1, 0]


def test_one_update_against_the_formula() -> None:
    """AdamW's first update: lr * (decay * w + g / (|g| + eps)), since both moments are bias-corrected."""
    model = nn.Linear(1, 1).double()
    weight, bias = model.weight.item(), model.bias.item()
    optimizer = make_optimizer(model, Settings(), 0.1)  # type: ignore[arg-type]
    model.weight.grad = torch.full_like(model.weight, 0.5)
    model.bias.grad = torch.full_like(model.bias, -2.0)
    optimizer.step()
    assert model.weight.item() == pytest.approx(weight - 0.1 * (0.01 * weight + 0.5 / (0.5 + 1e-6)), rel=1e-9)
    assert model.bias.item() == pytest.approx(bias + 0.1 * 2.0 / (2.0 + 1e-6), rel=1e-9)


def test_linear_schedule_by_hand() -> None:
    """Ten steps, a warm-up of 20 %: two steps up (1/2, 1), then eight down from 1 by eighths."""
    factors = [learning_rate_factor(step, 10, 0.2, Schedule.linear) for step in range(10)]
    assert factors == pytest.approx([1 / 2, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_cosine_constant_and_warmup_in_steps() -> None:
    cosine = [learning_rate_factor(step, 4, 0, Schedule.cosine) for step in range(4)]
    assert cosine == pytest.approx([0.5 * (1 + math.cos(math.pi * part)) for part in (0, 0.25, 0.5, 0.75)])
    constant = [learning_rate_factor(step, 6, 3, Schedule.constant) for step in range(6)]
    assert constant == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])


def test_a_warmup_as_long_as_the_run() -> None:
    assert [learning_rate_factor(step, 2, 2, Schedule.linear) for step in range(2)] == [0.5, 1.0]
