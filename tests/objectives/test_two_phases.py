"""A step in two phases, in parts and on two processes is the step in one piece."""

import pytest
import torch
from torch.nn import functional as F

from uda.objectives.base import Context

EXACT = {"rtol": 0, "atol": 1e-10}


def dense_loss(rows, *, temperature, tempering, threshold, normalizer, coefficient, eta):
    """All rows through the student, each row's loss times its mask."""
    with torch.no_grad():
        target = F.softmax(rows.weak / (temperature if tempering == "target" else 1), dim=1)
        mask = (F.softmax(rows.weak, dim=1).max(dim=1).values > threshold).double()
    log_prediction = F.log_softmax(rows.strong / (temperature if tempering == "prediction" else 1), dim=1)
    divergence = F.kl_div(log_prediction, target, reduction="none").sum(dim=1)
    num_rows = len(mask) if normalizer == "all" else max(mask.sum().item(), 1)
    cross_entropy = F.cross_entropy(rows.labeled, rows.labels, reduction="none")
    stays = (torch.exp(-cross_entropy) <= eta).double().detach()
    supervised = (cross_entropy * stays).sum() / max(stays.sum().item(), 1)
    return supervised + coefficient * (divergence * mask).sum() / num_rows


@pytest.mark.parametrize("num_classes", [2, 5, 100])
@pytest.mark.parametrize("tempering", ["target", "prediction"])
@pytest.mark.parametrize("normalizer", ["all", "kept"])
@pytest.mark.parametrize("threshold", [-1, 0.8, 1])
def test_gradients_equal_those_of_a_dense_computation(
    make_rows, make_uda, take_step, num_classes, tempering, normalizer, threshold
) -> None:
    options = {"temperature": 0.4, "coefficient": 0.7}
    options |= {"tempering": tempering, "normalizer": normalizer, "threshold": threshold}
    two_phase, dense = make_rows(num_classes).with_gradient(), make_rows(num_classes).with_gradient()
    _, loss = take_step(make_uda(num_classes, tsa="linear", **options), two_phase, Context(0.5))
    loss.total.backward()
    expected = dense_loss(dense, eta=0.5 * (1 - 1 / num_classes) + 1 / num_classes, **options)
    expected.backward()
    torch.testing.assert_close(loss.total, expected, **EXACT)
    torch.testing.assert_close(two_phase.labeled.grad, dense.labeled.grad, **EXACT)
    torch.testing.assert_close(two_phase.strong.grad, dense.strong.grad, **EXACT)
    assert torch.any(two_phase.labeled.grad)
    assert torch.any(two_phase.strong.grad) == (threshold < 1)  # nothing kept: exactly zero


def totals(losses) -> dict[str, torch.Tensor]:
    """Totals and metrics, each added up over the losses."""
    sums: dict[str, torch.Tensor] = {}
    for loss in losses:
        for name, value in {"total": loss.total, **loss.metrics}.items():
            sums[name] = sums.get(name, 0) + value
    return sums


def assert_same_step(parts, whole, rows_of_parts, rows_of_whole) -> None:
    """The shares add up to the whole, in losses, metrics and gradients."""
    sums, expected = totals(parts), totals([whole])
    assert sums.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(sums[name], value, **EXACT, msg=name)
    sums["total"].backward()
    whole.total.backward()
    torch.testing.assert_close(rows_of_parts.labeled.grad, rows_of_whole.labeled.grad, **EXACT)
    torch.testing.assert_close(rows_of_parts.strong.grad, rows_of_whole.strong.grad, **EXACT)


def by_index(pseudo):
    """Rows in another order, kept and masked ones mixed; the last part is empty."""
    order = torch.randperm(len(pseudo.weight), generator=torch.Generator().manual_seed(0))
    return [*order.split(5), order[:0]]


def by_mask(pseudo):
    """A part of the masked rows, which the student never sees, and one of the kept rows."""
    return [pseudo.weight == 0, pseudo.weight > 0]


def as_the_engine_does(pseudo):
    """The kept rows alone; the first part has room for labelled rows only."""
    kept = torch.nonzero(pseudo.weight > 0).flatten()
    return [kept[:0], *kept.split(3)]


@pytest.mark.parametrize("split", [by_index, by_mask, as_the_engine_does])
@pytest.mark.parametrize("normalizer", ["all", "kept"])
@pytest.mark.parametrize("threshold", [-1, 0.8, 1])
def test_micro_batches_add_up_to_the_step(make_rows, make_uda, take_step, split, normalizer, threshold) -> None:
    objective, context = make_uda(5, normalizer=normalizer, threshold=threshold, tsa="linear"), Context(0.5)
    rows, in_parts = make_rows(5).with_gradient(), make_rows(5).with_gradient()
    pseudo, whole = take_step(objective, rows, context)
    losses = []
    for number, part in enumerate(split(pseudo)):
        mine = pseudo.select(part)
        num_labeled = len(rows.labels) if number == 0 else 0
        strong = in_parts.strong[part][mine.weight > 0]
        labeled, labels = in_parts.labeled[:num_labeled], rows.labels[:num_labeled]
        losses.append(objective.loss(labeled, labels, strong, mine, context))
    assert_same_step(losses, whole, in_parts, rows)


@pytest.mark.parametrize("normalizer", ["all", "kept"])
@pytest.mark.parametrize(
    ("threshold", "first", "kept"),
    # How many of the 16 unlabelled rows the first process has, and how many rows each process then keeps.
    [(-1, 8, (8, 8)), (0.8, 8, (3, 6)), (0.8, 3, (0, 9)), (1, 8, (0, 0))],
)
def test_two_processes_add_up_to_one(
    make_rows, make_uda, take_step, on_two_ranks, normalizer: str, threshold: float, first: int, kept: tuple[int, int]
) -> None:
    objective = make_uda(5, normalizer=normalizer, threshold=threshold, tsa="linear")
    rows, shared = make_rows(5).with_gradient(), make_rows(5).with_gradient()
    _, whole = take_step(objective, rows, Context(0.5))

    def share(rank: int, context: Context):
        own = [slice(None, 5), slice(5, None)][rank], [slice(None, first), slice(first, None)][rank]
        labeled, labels = shared.labeled[own[0]], shared.labels[own[0]]
        return take_step(objective, type(rows)(labeled, labels, shared.weak[own[1]], shared.strong[own[1]]), context)

    steps = on_two_ranks(share, progress=0.5)
    assert tuple(int((pseudo.weight > 0).sum()) for pseudo, _ in steps) == kept
    assert_same_step([loss for _, loss in steps], whole, shared, rows)
