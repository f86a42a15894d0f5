"""Cheap dropout keeps what dropout is: shares, scale, gradient, seeds; normalisation is rounded under autocast."""

import copy

import pytest
import torch
from torch import nn

from uda.engine.cpu_layers import CheapDropout, NarrowLayerNorm, use_cpu_layers

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_and_the_scale(p: float, dtype: torch.dtype) -> None:
    """Of n elements np are zero, with a standard deviation of sqrt(np (1 - p)); the others are x / (1 - p)."""
    torch.manual_seed(0)
    values = torch.full((1000, 403), 3.0, dtype=dtype)
    dropped = CheapDropout(p)(values)
    number = values.numel()
    zeros = int((dropped == 0).sum())
    assert abs(zeros - number * p) < 4 * (number * p * (1 - p)) ** 0.5
    assert dropped[dropped != 0].unique().tolist() == [pytest.approx(3 / (1 - p), rel=8e-3)]
    assert dropped.dtype == dtype


def test_neighbours_are_independent() -> None:
    """Rows, columns and elements of one 64-bit word: both kept with probability (1 - p)^2."""
    torch.manual_seed(1)
    kept = CheapDropout(0.3)(torch.ones(2000, 256)) != 0
    for first, second in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1]), (kept[:, 4:], kept[:, :-4])):
        share = (first & second).double().mean().item()
        assert abs(share - 0.49) < 4 * (0.49 * 0.51 / first.numel()) ** 0.5 * 1.5  # pairs overlap


def test_the_gradient_is_that_of_the_same_mask() -> None:
    torch.manual_seed(2)
    values = torch.randn(64, 33, requires_grad=True)
    weights = torch.randn(64, 33)
    dropped = CheapDropout(0.25)(values)
    (dropped * weights).sum().backward()
    factor = (dropped / values).detach()
    torch.testing.assert_close(values.grad, factor * weights)
    torch.testing.assert_close(factor[factor != 0], torch.full_like(factor[factor != 0], 4 / 3))


def test_the_seed_decides_and_calls_differ() -> None:
    values = torch.ones(500)
    layer = CheapDropout(0.5)
    torch.manual_seed(3)
    first, second = layer(values), layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0, 1e-6])
def test_at_the_edges_it_is_torchs(p: float) -> None:
    torch.manual_seed(4)
    ours = CheapDropout(p)(torch.ones(100))
    torch.manual_seed(4)
    assert torch.equal(ours, nn.Dropout(p)(torch.ones(100)))


def test_evaluation_drops_nothing_and_any_layout_will_do() -> None:
    values = torch.randn(8, 6).t()
    assert torch.equal(CheapDropout(0.5).eval()(values), values)
    torch.manual_seed(5)
    dropped = CheapDropout(0.5)(values)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * values[kept])
    assert CheapDropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_a_models_layers_are_exchanged_in_place() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.1)))
    before = copy.deepcopy(model.state_dict())
    use_cpu_layers(model)
    assert [type(model[1]), type(model[2][0])] == [CheapDropout, CheapDropout]
    assert (model[1].p, model[2][0].p) == (0.2, 0.1)
    assert model.state_dict().keys() == before.keys()


def test_normalisation_is_torchs_rounded_under_autocast() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(nn.LayerNorm(16))
    exact = nn.LayerNorm(16)
    use_cpu_layers(model)
    assert type(model[0]) is NarrowLayerNorm
    values = torch.randn(5, 16, requires_grad=True)
    assert torch.equal(model(values), exact(values))
    with torch.autocast("cpu", torch.bfloat16):
        narrow = model(values)
        assert exact(values).dtype == torch.float32
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, exact(values).bfloat16())
    narrow.float().pow(3).sum().backward()
    found = values.grad.clone()
    values.grad = None
    exact(values).pow(3).sum().backward()
    torch.testing.assert_close(found, values.grad, rtol=0.05, atol=0.05)  # of gradients rounded to 8 bits
