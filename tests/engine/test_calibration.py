"""Temperature scaling against arithmetic and a grid search; the reliability bins; folds."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from uda.data.cleaning import content_hash
from uda.engine.calibration import HIGHEST, LOWEST, fit_temperature, fold_of_rows, scaled
from uda.engine.evaluation import expected_calibration_error, reliability_bins


def _drawn(num_rows: int, num_classes: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of logits that are `scale` times too large for the labels that were drawn."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_rows, num_classes)) * 1.5
    labels = np.array([rng.choice(num_classes, p=row) for row in softmax(logits, axis=1)])
    return softmax(scale * logits, axis=1).astype(np.float32), labels


def _loss(probs: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    logs = np.log(np.maximum(probs.astype(np.float64), 1e-300))
    return float(-log_softmax(logs / temperature, axis=1)[np.arange(len(labels)), labels].sum())


@pytest.mark.parametrize(
    ("num_classes", "scale"), [(2, 3.0), (5, 3.0), (5, 0.5), pytest.param(100, 2.0, marks=pytest.mark.slow)]
)
def test_the_temperature_of_data_that_has_one(num_classes: int, scale: float) -> None:
    probs, labels = _drawn(2000, num_classes, scale)
    fitted = fit_temperature(probs, labels)
    assert fitted.interval[0] < scale < fitted.interval[1]
    assert fitted.num_rows == 2000
    assert fitted.note == ""
    grid = np.linspace(fitted.value * 0.8, fitted.value * 1.25, 901)
    losses = [_loss(probs, labels, temperature) for temperature in grid]
    assert fitted.value == pytest.approx(grid[int(np.argmin(losses))], abs=grid[1] - grid[0])


def test_the_interval_is_where_the_likelihood_has_fallen_by_1_92() -> None:
    probs, labels = _drawn(300, 3, 2.0)
    fitted = fit_temperature(probs, labels)
    least = _loss(probs, labels, fitted.value)
    for end in fitted.interval:
        assert _loss(probs, labels, end) - least == pytest.approx(1.92, abs=1e-6)


def test_two_rows_by_hand() -> None:
    """Logits (2, 0) right and (1, 0) wrong: d/dβ of the NLL is -2 (1 - s(2β)) + s(β), 0 at e^2β = 2 + ... by bisection.

    With x = e^β: s(β) = x / (1 + x), 1 - s(2β) = 1 / (1 + x²); x (1 + x²) = 2 (1 + x), so x³ - x - 2 = 0: x = 1.52138.
    """
    probs = np.array([[np.exp(2), 1], [np.e, 1]])
    probs /= probs.sum(axis=1, keepdims=True)
    fitted = fit_temperature(np.repeat(probs, 50, axis=0), np.repeat([0, 1], 50))
    assert fitted.value == pytest.approx(1 / np.log(1.5213797068045676), rel=1e-6)
    assert fitted.note == ""
    few = fit_temperature(probs, np.array([0, 1]))  # all is possible, so nothing is changed
    assert few.value == 1
    assert few.interval[0] < 1
    assert few.interval[1] == pytest.approx(HIGHEST)
    assert "too few" in few.note


def test_where_the_interval_is_open_to_one_side_its_end_nearest_to_1_is_taken() -> None:
    """Timid answers (0.55), 58 of 60 right: the NLL is least at log(0.55 / 0.45) / log(58 / 2) = 0.0596, and 0.05 is
    no worse than the rows allow.
    """
    probs, labels = np.tile([0.55, 0.45], (60, 1)), np.array([0] * 58 + [1] * 2)
    fitted = fit_temperature(probs, labels)
    best = np.log(0.55 / 0.45) / np.log(58 / 2)
    assert fitted.interval[0] == pytest.approx(LOWEST)
    assert fitted.value == fitted.interval[1] > best
    assert _loss(probs, labels, fitted.value) - _loss(probs, labels, best) == pytest.approx(1.92, abs=1e-6)
    assert "too few" in fitted.note


def test_where_every_row_is_right_it_is_1_as_long_as_the_rows_allow_it() -> None:
    """Of two rows the NLL, log(1 + e^-βl) for logit gaps l = log 9 and log 4, is 1.92 above 0 only where T > 1."""
    probs, labels = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])
    fitted = fit_temperature(probs, labels)
    assert fitted.value == 1
    assert fitted.interval == (pytest.approx(LOWEST), pytest.approx(HIGHEST))  # log 2 twice is below 1.92
    assert "no held-out row was answered wrong" in fitted.note
    fitted = fit_temperature(np.repeat(probs, 50, axis=0), np.repeat(labels, 50))
    assert fitted.value == fitted.interval[1] < 1
    gaps = np.log([9, 4]) / fitted.value
    assert 50 * np.log1p(np.exp(-gaps)).sum() == pytest.approx(1.92, abs=1e-3)


def test_without_rows_nothing_is_changed() -> None:
    fitted = fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int))
    assert (fitted.value, fitted.num_rows) == (1, 0)
    assert "there are no held-out rows" in fitted.note


def test_answers_that_are_always_wrong_become_as_flat_as_the_rows_demand() -> None:
    """One row changes nothing: -log 0.1 is less than 1.92 above log 2. Two demand T = 1.2 or more: -log 0.02 is not."""
    fitted = fit_temperature(np.array([[0.9, 0.1]]), np.array([1]))
    assert (fitted.value, fitted.interval[1]) == (1, pytest.approx(HIGHEST))
    probs, labels = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([1, 0])
    fitted = fit_temperature(probs, labels)
    assert fitted.value == fitted.interval[0] > 1
    assert _loss(probs, labels, fitted.value) - _loss(probs, labels, HIGHEST) == pytest.approx(1.92, abs=1e-6)
    assert "next to nothing" in fitted.note


def test_answers_much_too_timid_stop_at_the_lowest() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(1000) < 0.99
    first = np.where(right, 0.5005, 0.4999)
    fitted = fit_temperature(np.stack([first, 1 - first], axis=1), np.zeros(1000, dtype=int))
    assert fitted.interval[0] == pytest.approx(LOWEST)
    assert fitted.value == fitted.interval[1] < 0.1
    assert "few were wrong" in fitted.note


def test_scaling_probabilities_is_scaling_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 5
    probs = softmax(logits, axis=1)
    np.testing.assert_allclose(scaled(probs, 2.5), softmax(logits / 2.5, axis=1), atol=1e-6)
    np.testing.assert_allclose(scaled(np.array([[1.0, 0.0]]), 1.0), [[1.0, 0.0]], atol=1e-30)


def test_reliability_bins_by_hand() -> None:
    """Confidences 0.6 (right), 0.6 (wrong), 0.95 (right): in 10 bins (0.5, 0.6] has two rows, (0.9, 1] one."""
    probs = np.array([[0.6, 0.4], [0.4, 0.6], [0.05, 0.95]])
    rows, right, sums = reliability_bins(probs, np.array([0, 0, 1]), num_bins=10)
    assert rows.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    assert right.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert sums[[5, 9]] == pytest.approx([1.2, 0.95])
    # (|1 - 1.2| + |1 - 0.95|) / 3
    assert expected_calibration_error(probs, np.array([0, 0, 1]), num_bins=10) == pytest.approx(0.25 / 3)


def test_folds_hold_out_every_row_once_and_each_class_evenly() -> None:
    labels = np.array([0] * 11 + [1] * 6 + [2] * 3)
    hashes = [content_hash(str(row)) for row in range(20)]
    folds = fold_of_rows(hashes, labels, 3, seed=0)
    for label, counts in ((0, [4, 4, 3]), (1, [2, 2, 2]), (2, [1, 1, 1])):
        assert np.bincount(folds[labels == label], minlength=3).tolist() == counts
    order = np.random.default_rng(0).permutation(20)
    assert fold_of_rows([hashes[row] for row in order], labels[order], 3, seed=0).tolist() == folds[order].tolist()
    assert fold_of_rows(hashes, labels, 3, seed=1).tolist() != folds.tolist()


def test_a_text_that_stands_there_twice_is_in_one_fold_and_folds_are_even() -> None:
    labels = np.repeat([0, 1, 2], 10)
    hashes = [content_hash(f"{label}-{row // 2}") for label in range(3) for row in range(10)]  # each text twice
    folds = fold_of_rows(hashes, labels, 3, seed=0)
    assert (folds[0::2] == folds[1::2]).all()
    assert np.bincount(folds).tolist() == [10, 10, 10]  # 15 texts: 5 a fold
