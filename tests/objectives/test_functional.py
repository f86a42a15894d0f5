"""Training signal annealing and the supervised loss."""

import math

import numpy as np
import pytest
import torch

from uda.objectives.base import Context, PseudoLabels
from uda.objectives.functional import annealed_cross_entropy, forget, global_mean, ramp, tsa_threshold
from uda.objectives.supervised import Supervised

E_MINUS_5 = 0.006737946999085467  # exp(-5)
E_MINUS_2_5 = 0.0820849986238988  # exp(-2.5)


@pytest.mark.parametrize(
    ("schedule", "progress", "num_classes", "eta"),
    [
        ("linear", 0, 5, 0.2),
        ("linear", 0.5, 5, 0.5 * 0.8 + 0.2),
        ("linear", 1, 5, 1),
        ("log", 0, 5, 0.2),
        ("log", 0.5, 5, (1 - E_MINUS_2_5) * 0.8 + 0.2),
        ("log", 1, 5, (1 - E_MINUS_5) * 0.8 + 0.2),
        ("exp", 0, 5, E_MINUS_5 * 0.8 + 0.2),
        ("exp", 0.5, 5, E_MINUS_2_5 * 0.8 + 0.2),
        ("exp", 1, 5, 1),
        ("none", 0, 5, 1),
        ("none", 0.5, 5, 1),
        ("none", 1, 5, 1),
        ("linear", 0, 2, 0.5),
        ("linear", 0.5, 2, 0.75),
        ("log", 0.5, 2, (1 - E_MINUS_2_5) * 0.5 + 0.5),
        ("exp", 0.5, 100, E_MINUS_2_5 * 0.99 + 0.01),
    ],
)
def test_tsa_threshold_by_hand(schedule: str, progress: float, num_classes: int, eta: float) -> None:
    assert tsa_threshold(progress, schedule, num_classes) == pytest.approx(eta, rel=1e-12)


@pytest.mark.parametrize("num_classes", [2, 5, 100])
@pytest.mark.parametrize("progress", [0, 0.5, 1])
@pytest.mark.parametrize("schedule", ["none", "linear", "log", "exp"])
def test_supervised_against_numpy(make_rows, take_step, schedule: str, progress: float, num_classes: int) -> None:
    rows = make_rows(num_classes, num_labeled=32)
    alpha = {
        "none": 1,
        "linear": progress,
        "log": 1 - math.exp(-5 * progress),
        "exp": math.exp(5 * (progress - 1)),
    }[schedule]
    eta = alpha * (1 - 1 / num_classes) + 1 / num_classes
    odds = np.exp(rows.labeled.numpy())
    true_class = odds[range(32), rows.labels] / odds.sum(axis=1)
    stays = true_class <= eta
    assert stays.any()

    objective = Supervised(num_classes, 0, tsa=schedule).double()
    pseudo, loss = take_step(objective, rows._replace(weak=rows.weak[:0], strong=rows.strong[:0]), Context(progress))

    assert pseudo.probs.shape == (0, num_classes)
    expected = -np.log(true_class[stays]).sum() / stays.sum()
    assert loss.total.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert {name: value.item() for name, value in loss.metrics.items()} == pytest.approx(
        {"loss/supervised": expected, "tsa/threshold": eta, "tsa/kept_share": stays.mean()}, rel=1e-6, abs=1e-6
    )


def test_tsa_looks_at_the_true_class_not_at_the_maximum() -> None:
    # One answer, two labels. eta = 1/2 · 2/3 + 1/3 = 2/3. Label 0: 0.7 > 2/3, dropped. Label 1: 0.2, stays, though the
    # maximum is above eta. The sum is divided by the one row that stays.
    logits = torch.tensor([[0.7, 0.2, 0.1]] * 2, dtype=torch.float64).log()
    objective = Supervised(3, 0, tsa="linear")
    pseudo = PseudoLabels.none(3, logits)
    loss = objective.loss(logits, torch.tensor([0, 1]), logits[:0], pseudo, Context(0.5))
    assert loss.total.item() == pytest.approx(-math.log(0.2), rel=1e-12)
    assert loss.metrics["tsa/kept_share"].item() == 0.5


def test_a_true_class_probability_exactly_on_eta_stays() -> None:
    # exp(-1000) is 0 in float64, so that the first two classes have exactly 1/2 each.
    logits = torch.tensor([[0.0, 0.0, -1000.0, -1000.0]], dtype=torch.float64)
    for eta, kept_share in [(0.5, 1), (math.nextafter(0.5, 0), 0)]:
        loss, metrics = annealed_cross_entropy(logits, torch.tensor([0]), eta, Context(0))
        assert metrics["tsa/kept_share"].item() == kept_share
        assert loss.item() == pytest.approx(kept_share * math.log(2), rel=1e-12)


@pytest.mark.parametrize("tsa", ["linear", "exp", "none"])
def test_at_the_end_a_certain_row_stays(tsa: str) -> None:
    # Probability exactly 1 is not above eta = 1: the row adds no loss but counts in the mean, (0 + ln 2) / 2.
    logits = torch.tensor([[1000.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    objective = Supervised(2, 0, tsa=tsa)
    loss = objective.loss(logits, torch.tensor([0, 0]), logits[:0], PseudoLabels.none(2, logits), Context(1))
    assert loss.total.item() == pytest.approx(math.log(2) / 2, rel=1e-12)


def test_no_row_left_gives_a_zero_loss_and_gradient() -> None:
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]], dtype=torch.float64, requires_grad=True)
    loss, metrics = annealed_cross_entropy(logits, torch.tensor([0, 1]), 0.9, Context(0))
    loss.backward()
    assert loss.item() == 0
    assert metrics["tsa/kept_share"].item() == 0
    assert logits.grad.abs().sum() == 0  # not NaN


def test_a_part_without_labelled_rows_asks_no_other_process() -> None:
    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the other processes are not asking")

    logits = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    loss, metrics = annealed_cross_entropy(logits, torch.zeros(0, dtype=torch.long), 0.5, Context(0, sum=refuse))
    assert loss.item() == 0
    assert metrics == {}


@pytest.mark.parametrize(
    ("shape", "progress", "expected"),
    [
        ("linear", 0.1, 0.25),
        ("linear", 0.9, 1),
        ("cosine", 0.1, (1 - math.cos(math.pi / 4)) / 2),
        ("cosine", 0.4, 1),
        ("sigmoid", 0.0, math.exp(-5)),
        ("sigmoid", 0.2, math.exp(-1.25)),
        ("sigmoid", 1.0, 1),
    ],
)
def test_a_ramp_over_the_first_two_fifths(shape: str, progress: float, expected: float) -> None:
    assert ramp(progress, 0.4, shape) == pytest.approx(expected)
    assert ramp(progress, 0, shape) == 1


def test_forgetting_is_an_average_over_the_horizon() -> None:
    """A horizon of 2 % of 200 steps is 4 steps: each value counts a quarter; below one step the last value is left."""
    state = torch.tensor([1.0, 0.0])
    forget(state, torch.tensor([0.0, 1.0]), 0.02, Context(0, num_steps=200))
    assert state.tolist() == [0.75, 0.25]
    forget(state, torch.tensor([0.5, 0.5]), 0.02, Context(0, num_steps=10))
    assert state.tolist() == [0.5, 0.5]


def test_a_global_mean_of_no_rows_is_zero() -> None:
    assert global_mean(torch.zeros(0, 3), Context(0)).tolist() == [0, 0, 0]
    assert global_mean(torch.tensor([[1.0, 2], [3, 4]]), Context(0)).tolist() == [2, 3]
