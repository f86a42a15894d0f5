"""Probabilities of a model on rows of tokens, and the scores of probabilities."""

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from uda.data.batches import Tokens, pad_stored
from uda.data.tokens import TokenStore
from uda.engine.model import logits_of
from uda.engine.process import Process
from uda.engine.sharding import is_sharded

NUM_ECE_BINS = 15


@torch.no_grad()  # a model in shards cannot learn from what it gathered in inference mode
def probabilities(model: nn.Module, tokens: Tokens, process: Process) -> np.ndarray:
    """The probabilities [N, K], float32, of one padded block: dropout off."""
    was_training = model.training
    model.eval()
    with process.accelerator.autocast():
        probs = torch.softmax(logits_of(model, tokens.to(process.device)).float(), dim=-1)
    model.train(was_training)
    return probs.cpu().numpy()


def predict(model: PreTrainedModel, store: TokenStore, pad_id: int, batch_size: int, process: Process) -> np.ndarray:
    """The probabilities [N, K], float32, in the order of the store: dropout off, rows batched by length.

    Each process takes every n-th batch; all get the whole.
    """
    order = np.argsort(store.lengths, kind="stable")[::-1]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine = batches[process.rank :: process.count]
    parts = [probabilities(model, pad_stored([(store, row) for row in rows], pad_id), process) for rows in mine]
    if is_sharded(model) and len(mine) < len(batches[:: process.count]):  # the others' last pass needs this one
        probabilities(model, pad_stored([(store, order[-1])], pad_id), process)
    num_classes = int(model.config.num_labels or 0)
    probs = np.concatenate(parts) if parts else np.zeros((0, num_classes), dtype=np.float32)
    rows = np.concatenate(mine) if mine else np.zeros(0, dtype=np.int64)
    result = np.empty((len(store), num_classes), dtype=np.float32)
    result[process.gather_rows(rows)] = process.gather_rows(probs)
    return result


def score(probs: np.ndarray, labels: np.ndarray, label_names: list[str]) -> dict[str, Any]:
    """Accuracy with its 95 % interval (Wilson's, from the number of rows alone), error, macro-F1, per class, NLL (nats)
    and ECE of probabilities [N, K] against labels [N].
    """
    from scipy.stats import binomtest
    from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support

    classes = np.arange(len(label_names))
    predicted = probs.argmax(axis=1)
    accuracy = float(accuracy_score(labels, predicted))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0.0
    )
    interval = binomtest(int((predicted == labels).sum()), len(labels)).proportion_ci(method="wilson")
    double = probs.astype(np.float64)
    return {
        "accuracy": accuracy,
        "accuracy_interval": [float(interval.low), float(interval.high)],
        "error": 1 - accuracy,
        "macro_f1": float(f1.mean()),
        "nll": float(log_loss(labels, double / double.sum(axis=1, keepdims=True), labels=classes)),
        "ece": expected_calibration_error(probs, labels),
        "num_rows": len(labels),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, name in enumerate(label_names)
        },
    }


def reliability_bins(
    probs: np.ndarray, labels: np.ndarray, num_bins: int = NUM_ECE_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of equal-width bins (low, high] of confidence: rows, right answers and summed confidence, [bins] each."""
    confidence = probs.max(axis=1).astype(np.float64)
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    rows, right, sums = np.zeros(num_bins), np.zeros(num_bins), np.zeros(num_bins)
    np.add.at(rows, bins, 1)
    np.add.at(right, bins, probs.argmax(axis=1) == labels)
    np.add.at(sums, bins, confidence)
    return rows, right, sums


def expected_calibration_error(probs: np.ndarray, labels: np.ndarray, num_bins: int = NUM_ECE_BINS) -> float:
    """Mean |accuracy - confidence| over the `reliability_bins`, weighted by rows.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    _, right, sums = reliability_bins(probs, labels, num_bins)
    return float(np.abs(right - sums).sum() / len(labels))
