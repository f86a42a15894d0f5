"""The weighted labelled loss, against float64 numpy, torch's own mean, and arithmetic written out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from uda.config import compose, config_dir
from uda.objectives.base import Context, Loss, Objective, PseudoLabels
from uda.objectives.functional import annealed_cross_entropy
from uda.objectives.supervised import Supervised

LN2 = math.log(2)
WEIGHTS = {2: [0.25, 3.0], 5: [0.5, 1.0, 2.5, 0.125, 4.0]}  # exact in float32
OBJECTIVES = sorted(path.stem for path in (config_dir() / "objective").glob("*.yaml"))


def labelled_loss(objective: Objective, rows: Any, context: Context, part: slice = slice(None)) -> Loss:
    """The loss of a step, or of one process's part of it, without unlabelled rows."""
    none = PseudoLabels.none(objective.num_classes, rows.labeled)
    return objective.loss(rows.labeled[part], rows.labels[part], rows.strong[:0], none, context)


def reference(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, eta: float) -> tuple[float, float]:
    """(sum of w * loss / sum of w over the kept rows, or 0; share of rows kept)"""
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    true_class = (exp / exp.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels]
    kept = true_class <= eta
    row_weights = weights[labels] * kept
    loss = -(row_weights * np.log(true_class)).sum() / row_weights.sum() if kept.any() else 0.0
    return float(loss), float(kept.mean())


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("num_labeled", [1, 3, 32])
@pytest.mark.parametrize(
    ("tsa", "progress", "alpha"),
    [("none", 0, 1), ("linear", 0, 0), ("linear", 0.5, 0.5), ("linear", 1, 1), ("exp", 0.5, math.exp(-2.5))],
)
def test_against_numpy(make_rows, make_uda, num_classes, num_labeled, tsa, progress, alpha) -> None:
    rows = make_rows(num_classes, num_labeled)
    eta = alpha * (1 - 1 / num_classes) + 1 / num_classes
    weights = np.array(WEIGHTS[num_classes])
    expected, share = reference(rows.labeled.numpy(), rows.labels.numpy(), weights, eta)
    objectives = [Supervised(num_classes, 0, tsa=tsa), make_uda(num_classes, tsa=tsa)]
    for objective in objectives:
        objective.weigh_classes(WEIGHTS[num_classes])
        loss = labelled_loss(objective, rows, Context(progress))
        assert loss.total.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert loss.metrics["loss/supervised"].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert loss.metrics["tsa/kept_share"].item() == pytest.approx(share)
    if num_labeled == 32 and tsa != "none":
        assert 0 < share < 1 or progress == 1  # some rows are annealed away


def test_without_annealing_it_is_the_mean_of_torch(make_rows) -> None:
    rows, ours = make_rows(5, 16), make_rows(5, 16).with_gradient()
    weights = torch.tensor(WEIGHTS[5], dtype=torch.float64)
    theirs = rows.with_gradient()
    loss, _ = annealed_cross_entropy(ours.labeled, ours.labels, 1.0, Context(0), weights)
    expected = F.cross_entropy(theirs.labeled, theirs.labels, weight=weights)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.labeled.grad, theirs.labeled.grad, rtol=0, atol=1e-12)


def test_by_hand() -> None:
    # Losses ln 2, ln 2 and ln 4 = 2 ln 2 under weights 3, 3 and 1: (3 + 3 + 2) ln 2 / 7.
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    weights = torch.tensor([3.0, 1.0], dtype=torch.float64)
    loss, metrics = annealed_cross_entropy(logits, torch.tensor([0, 0, 1]), 1.0, Context(0), weights)
    assert loss.item() == pytest.approx(8 / 7 * LN2, rel=1e-12)
    # A sum of weights below 1 divides as it is: 1/4 ln 2 / (1/4). One row weighs what the mean is over: no effect.
    quarter = torch.tensor([0.25, 1.0], dtype=torch.float64)
    loss, _ = annealed_cross_entropy(logits[:1], torch.tensor([0]), 1.0, Context(0), quarter)
    assert loss.item() == pytest.approx(LN2, rel=1e-12)
    # eta = 0.6 drops a row of probability 3/4: its weight leaves the sum too.
    loss, metrics = annealed_cross_entropy(logits[1:], torch.tensor([1, 0]), 0.6, Context(0), weights)
    assert loss.item() == pytest.approx(LN2, rel=1e-12)
    assert metrics["tsa/kept_share"].item() == 0.5


def test_no_row_left_gives_a_zero_loss_and_gradient() -> None:
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([0.25, 3.0], dtype=torch.float64)
    loss, _ = annealed_cross_entropy(logits, torch.tensor([0, 1]), 0.9, Context(0), weights)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0  # not NaN


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_equal_weights_are_none_at_all(make_rows, make_uda, scale: float) -> None:
    plain, weighted = make_uda(5), make_uda(5)
    weighted.weigh_classes([scale] * 5)
    expected = labelled_loss(plain, make_rows(5), Context(0.5))
    loss = labelled_loss(weighted, make_rows(5), Context(0.5))
    assert loss.total.item() == pytest.approx(expected.total.item(), rel=1e-12)


@pytest.mark.parametrize("progress", [0, 0.5, 1])
def test_two_processes_divide_by_the_weights_of_both(make_rows, make_uda, on_two_ranks, progress: float) -> None:
    """The shares add up to the loss of all rows, though the processes' own sums of weights differ."""
    rows = make_rows(5, 8)
    objective = make_uda(5)
    objective.weigh_classes(WEIGHTS[5])

    def share(rank: int, context: Context) -> Loss:
        return labelled_loss(objective, rows, context, slice(0, 3) if rank == 0 else slice(3, 8))

    parts = on_two_ranks(share, progress)
    eta = progress * 4 / 5 + 1 / 5
    expected, share_kept = reference(rows.labeled.numpy(), rows.labels.numpy(), np.array(WEIGHTS[5]), eta)
    assert sum(part.total.item() for part in parts) == pytest.approx(expected, rel=1e-9)
    assert sum(part.metrics["tsa/kept_share"].item() for part in parts) == pytest.approx(share_kept)


def test_a_part_without_labelled_rows_asks_no_other_process() -> None:
    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the other processes are not asking")

    logits, labels = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
    loss, metrics = annealed_cross_entropy(logits, labels, 0.5, Context(0, sum=refuse), torch.tensor([1.0, 2.0]))
    assert loss.item() == 0
    assert metrics == {}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_weighs_its_labelled_rows(make_rows, name: str) -> None:
    """And keeps the weights out of its state: a resumed run has them from its config."""
    node = compose("train", ["+experiment=imdb", f"objective={name}"]).objective
    plain, weighted = (instantiate(node, num_classes=2, num_unlabeled=16) for _ in range(2))
    weighted.weigh_classes([1.0, 8.0])
    losses = [labelled_loss(objective, make_rows(2), Context(1)) for objective in (plain, weighted)]
    assert losses[0].metrics["loss/supervised"] != losses[1].metrics["loss/supervised"]
    assert plain.state_dict().keys() == weighted.state_dict().keys()
