"""UDA against numpy, in float64: both dialects, piece by piece."""

import math

import numpy as np
import pytest
import torch

from uda.objectives.base import Context, PseudoLabels

LN2, LN3, LN5 = math.log(2), math.log(3), math.log(5)
CERTAIN = 1000.0  # exp(-1000) is 0 in float64: a logit this far ahead has probability exactly 1


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def reference(rows, *, temperature, tempering, threshold, normalizer, coefficient, eta) -> dict[str, float]:
    """The recipe's table, top to bottom."""
    labeled, labels, weak, strong = (values.numpy() for values in rows)
    t = temperature if temperature is not None and temperature > 0 else 1
    log_target = log_softmax(weak / t if tempering == "target" else weak)
    log_prediction = log_softmax(strong / t if tempering == "prediction" else strong)
    kept = np.exp(log_softmax(weak)).max(axis=1) > threshold
    divergence = (np.exp(log_target) * (log_target - log_prediction)).sum(axis=1)
    consistency = divergence[kept].sum() / (len(weak) if normalizer == "all" else max(kept.sum(), 1))
    true_class = np.exp(log_softmax(labeled))[np.arange(len(labels)), labels]
    stays = true_class <= eta
    supervised = -np.log(true_class[stays]).sum() / max(stays.sum(), 1)
    return {
        "total": supervised + coefficient * consistency,
        "loss/supervised": supervised,
        "loss/consistency": consistency,
        "tsa/threshold": eta,
        "tsa/kept_share": stays.mean() if len(labels) else math.nan,
        "num_kept": kept.sum(),
    }


def ours(objective, rows, context, take_step) -> dict[str, float]:
    pseudo, loss = take_step(objective, rows, context)
    values = {"total": loss.total, "num_kept": (pseudo.weight > 0).sum(), **loss.metrics}
    return {name: value.item() for name, value in values.items()}


def close(expected):
    return pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("tempering", ["target", "prediction"])
@pytest.mark.parametrize("normalizer", ["all", "kept"])
@pytest.mark.parametrize("threshold", [-1, 0.45, 0.8, 1])
@pytest.mark.parametrize("temperature", [None, -1, 0, 0.4, 0.85, 1])
@pytest.mark.parametrize("num_classes", [2, 5, 100])
def test_against_numpy(
    make_rows, make_uda, take_step, num_classes, temperature, threshold, normalizer, tempering
) -> None:
    options = {"temperature": temperature, "tempering": tempering, "threshold": threshold, "normalizer": normalizer}
    rows = make_rows(num_classes)
    expected = reference(rows, coefficient=0.7, eta=0.5 * (1 - 1 / num_classes) + 1 / num_classes, **options)
    objective = make_uda(num_classes, coefficient=0.7, tsa="linear", **options)
    assert ours(objective, rows, Context(0.5), take_step) == close(expected)
    # The rows are such that every kind of mask occurs; 0.45 masks no row of two classes.
    kinds = {-1: "all", 0.45: "all" if num_classes == 2 else "some", 0.8: "some", 1: "none"}
    assert {0: "none", len(rows.weak): "all"}.get(expected["num_kept"], "some") == kinds[threshold]


@pytest.mark.parametrize("num_classes", [2, 5, 100])
@pytest.mark.parametrize(
    ("tsa", "progress", "alpha"),
    [
        ("none", 0, 1),
        *(("linear", 0, 0), ("linear", 0.5, 0.5), ("linear", 1, 1)),
        *(("log", 0, 0), ("log", 0.5, 1 - math.exp(-2.5)), ("log", 1, 1 - math.exp(-5))),
        *(("exp", 0, math.exp(-5)), ("exp", 0.5, math.exp(-2.5)), ("exp", 1, 1)),
    ],
)
def test_annealing_against_numpy(make_rows, make_uda, take_step, tsa, progress, alpha, num_classes) -> None:
    rows = make_rows(num_classes, num_labeled=32)
    options = {"temperature": 0.85, "tempering": "target", "threshold": -1, "normalizer": "all"}
    expected = reference(rows, coefficient=1, eta=alpha * (1 - 1 / num_classes) + 1 / num_classes, **options)
    assert ours(make_uda(num_classes, tsa=tsa, **options), rows, Context(progress), take_step) == close(expected)


@pytest.mark.parametrize("normalizer", ["all", "kept"])
@pytest.mark.parametrize("coefficient", [0, 1, 2.5])
@pytest.mark.parametrize(("num_labeled", "num_unlabeled"), [(1, 1), (0, 1), (0, 16), (8, 1)])
def test_few_rows_against_numpy(
    make_rows, make_uda, take_step, num_labeled: int, num_unlabeled: int, coefficient: float, normalizer: str
) -> None:
    rows = make_rows(5, num_labeled, num_unlabeled, seed=1)
    options = {"temperature": 0.4, "tempering": "target", "threshold": 0.21, "normalizer": normalizer}
    expected = reference(rows, coefficient=coefficient, eta=1, **options)
    assert expected["num_kept"] > 0
    if not num_labeled:  # no labelled row, nothing to report about them
        expected = {name: expected[name] for name in ("total", "num_kept", "loss/consistency")}
    objective = make_uda(5, coefficient=coefficient, tsa="none", **options)
    assert ours(objective, rows, Context(0), take_step) == close(expected)


def test_without_unlabelled_rows_the_supervised_loss_is_left(make_rows, make_uda) -> None:
    rows = make_rows(5)
    none = PseudoLabels.none(5, rows.weak)
    loss = make_uda(5, tsa="none").loss(rows.labeled, rows.labels, rows.strong[:0], none, Context(0))
    expected = -log_softmax(rows.labeled.numpy())[np.arange(8), rows.labels].mean()
    assert loss.total.item() == close(expected)
    assert loss.metrics["loss/consistency"].item() == 0


@pytest.mark.parametrize(
    ("logits", "confidence"),
    [([0, 0], 0.5), ([0, 0, 0, 0], 0.25), ([0, 0, -CERTAIN, -CERTAIN], 0.5), ([CERTAIN, 0], 1)],
)
def test_a_confidence_exactly_on_the_threshold_is_masked(make_uda, logits: list[float], confidence: float) -> None:
    # Powers of two, which every order of the operations gives exactly.
    weak = torch.tensor([logits], dtype=torch.float64)
    for threshold, weight in [(confidence, 0), (math.nextafter(confidence, 0), 1)]:
        objective = make_uda(len(logits), threshold=threshold)
        assert objective.pseudo_label(weak, torch.arange(1), Context(0)).weight.tolist() == [weight]


@pytest.mark.parametrize(("tempering", "temperature"), [("target", 0.1), ("prediction", 0.1), ("target", 10.0)])
def test_temperature_never_enters_the_mask(make_uda, tempering: str, temperature: float) -> None:
    # Confidences 3/4 and 9/10 around a threshold of 0.8. T = 0.1 would lift both over it, T = 10 lower both under it.
    weak = torch.tensor([[LN3, 0], [2 * LN3, 0]], dtype=torch.float64)
    objective = make_uda(2, temperature=temperature, tempering=tempering, threshold=0.8)
    assert objective.pseudo_label(weak, torch.arange(2), Context(0)).weight.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("tempering", "target", "log_prediction"),
    [
        # Odds of 3 : 1 at T = 1/2 are 9 : 1. The target is sharpened, the prediction is not,
        ("target", [0.9, 0.1], [math.log(0.25), math.log(0.75)]),
        # or the other way round.
        ("prediction", [0.75, 0.25], [math.log(0.1), math.log(0.9)]),
    ],
)
def test_what_the_temperature_sharpens(make_uda, take_step, make_rows, tempering, target, log_prediction) -> None:
    weak, strong = torch.tensor([[LN3, 0]], dtype=torch.float64), torch.tensor([[0, LN3]], dtype=torch.float64)
    rows = make_rows(2, num_labeled=0)._replace(weak=weak, strong=strong)
    pseudo, loss = take_step(make_uda(2, temperature=0.5, tempering=tempering), rows, Context(0))
    assert pseudo.probs[0].tolist() == pytest.approx(target, rel=1e-12)
    expected = sum(q * (math.log(q) - log_p) for q, log_p in zip(target, log_prediction, strict=True))
    assert loss.total.item() == pytest.approx(expected, rel=1e-12)


def test_the_confidence_of_the_augmented_text_decides_nothing(make_uda, take_step, make_rows) -> None:
    # Teacher sure, student not; teacher unsure, student sure. The first row alone counts: KL([1, 0] ‖ [½, ½]) = ln 2.
    weak = torch.tensor([[CERTAIN, 0], [0, 0]], dtype=torch.float64)
    strong = torch.tensor([[0, 0], [CERTAIN, 0]], dtype=torch.float64)
    rows = make_rows(2, num_labeled=0)._replace(weak=weak, strong=strong)
    pseudo, loss = take_step(make_uda(2, threshold=0.8, normalizer="kept"), rows, Context(0))
    assert pseudo.weight.tolist() == [1, 0]
    assert loss.total.item() == pytest.approx(LN2, rel=1e-12)


def test_divergence_is_averaged_over_rows_not_over_rows_times_classes(make_uda, take_step, make_rows) -> None:
    # KL(one-hot ‖ uniform over 5) = ln 5 for each of 3 rows, the zeros of the target adding nothing: the mean is ln 5.
    weak = CERTAIN * torch.eye(5, dtype=torch.float64)[:3]
    rows = make_rows(5, num_labeled=0)._replace(weak=weak, strong=torch.zeros(3, 5, dtype=torch.float64))
    _, loss = take_step(make_uda(5), rows, Context(0))
    assert loss.total.item() == pytest.approx(LN5, rel=1e-12)


@pytest.mark.parametrize("tempering", ["target", "prediction"])
def test_half_precision_logits_give_a_loss_in_float32(make_rows, make_uda, take_step, tempering: str) -> None:
    options = {"temperature": 0.4, "tempering": tempering, "threshold": 0.8, "normalizer": "kept"}
    rows = make_rows(5)
    halves = [logits.bfloat16() for logits in (rows.labeled, rows.weak, rows.strong)]
    half = rows._replace(labeled=halves[0], weak=halves[1], strong=halves[2])
    exact = rows._replace(labeled=halves[0].double(), weak=halves[1].double(), strong=halves[2].double())
    pseudo, loss = take_step(make_uda(5, tsa="none", **options), half, Context(0))
    assert pseudo.probs.dtype == loss.total.dtype == torch.float32
    assert loss.total.item() == pytest.approx(reference(exact, coefficient=1, eta=1, **options)["total"], rel=1e-5)
