"""Temperature scaling: confidence that says how often an answer is right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp, softmax
from transformers import PreTrainedModel

from uda.data.cleaning import content_hash
from uda.engine.model import classifier_layer

LOWEST, HIGHEST = 0.05, 20.0  # temperatures looked at
_HALF_CHI_SQUARE = 1.92  # half the 95 % quantile of chi square with one degree of freedom


@dataclass(frozen=True)
class Temperature:
    """What was fitted: probabilities become softmax(logits / value).

    interval: the temperatures whose log-likelihood of the held-out rows is within 1.92 of the best (95 % by profile
    likelihood), cut to [0.05, 20]. num_rows: how many held-out rows there were. note: what to know about it.
    """

    value: float
    interval: tuple[float, float]
    num_rows: int
    note: str = ""


def fit_temperature(probs: np.ndarray, labels: np.ndarray) -> Temperature:
    """The temperature of least NLL for held-out rows: probabilities [N, K] before scaling, labels [N].

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Where there is none in
    [0.05, 20] (every row answered right: the NLL falls with the temperature for ever; or most answered wrong), or
    where `interval` reaches an end of that range, it is the one of `interval` nearest to 1. In float64.
    """
    logits, rows = _logits(probs), np.arange(len(labels))
    if not len(labels):
        return Temperature(1.0, (LOWEST, HIGHEST), 0, "there are no held-out rows")

    def loss(beta: float) -> float:
        return float(logsumexp(beta * logits, axis=1).sum() - beta * logits[rows, labels].sum())

    def slope(beta: float) -> float:  # rises with beta = 1 / T: the loss is convex in it
        return float(((softmax(beta * logits, axis=1) * logits).sum(axis=1) - logits[rows, labels]).sum())

    lowest, highest = 1 / HIGHEST, 1 / LOWEST
    if slope(lowest) >= 0:
        best, note = lowest, "no temperature suits the held-out answers, which say next to nothing about the labels"
    elif slope(highest) <= 0:
        found = "no held-out row was answered wrong" if (logits.argmax(axis=1) == labels).all() else "few were wrong"
        best, note = highest, f"{found}, so nothing says how sure the model may be"
    else:
        best, note = brentq(slope, lowest, highest, xtol=1e-12), ""

    def above(beta: float) -> float:
        return loss(beta) - loss(best) - _HALF_CHI_SQUARE

    low = brentq(above, lowest, best) if above(lowest) > 0 else lowest
    high = brentq(above, best, highest) if above(highest) > 0 else highest
    if not note and (low == lowest or high == highest):
        note = "the held-out rows are too few, or too much alike, to say how sure the model may be"
    value = 1 / best if not note else min(max(1.0, 1 / high), 1 / low)
    return Temperature(value, (1 / high, 1 / low), len(labels), note)


def scaled(probs: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / temperature) of the logits behind probabilities [N, K], float32."""
    return softmax(_logits(probs) / temperature, axis=1).astype(np.float32)


def _logits(probs: np.ndarray) -> np.ndarray:
    """Logits that give these probabilities, in float64; a probability that rounding made 0 is the smallest there is."""
    smallest = np.finfo(np.float32).tiny
    return log_softmax(np.log(np.maximum(probs.astype(np.float64), smallest)), axis=1)


@torch.no_grad()
def divide_logits(model: PreTrainedModel, temperature: float) -> None:
    """Fold a temperature into the last linear layer, so that whoever loads the model gets scaled probabilities."""
    layer = classifier_layer(model)
    layer.weight.div_(temperature)
    if layer.bias is not None:
        layer.bias.div_(temperature)


def fold_of_rows(hashes: Sequence[str], labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """The fold [N] of each row, stratified: the texts of a class are ranked by SHA-256 of (seed, text's hash [N]).

    Rows of a class that have the same text are in the same fold: a model trained without one would know the answer.
    """
    folds = np.empty(len(labels), dtype=np.int64)
    ranks = np.array([content_hash(sha, f"fold {seed}") for sha in hashes])
    num_texts = 0
    for label in np.unique(labels):
        texts, number = np.unique(ranks[labels == label], return_inverse=True)
        folds[labels == label] = (num_texts + number) % num_folds  # goes on where the last class ended: even folds
        num_texts += len(texts)
    return folds
