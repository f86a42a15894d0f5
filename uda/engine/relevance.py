"""Which rows of a foreign corpus are most like what a classifier was trained on."""

from collections.abc import Sequence

import numpy as np


class Answers:
    """The class and the confidence of each of N rows, of which there may be millions: eight bytes a row."""

    def __init__(self) -> None:
        self._classes: list[np.ndarray] = []
        self._confidence: list[np.ndarray] = []

    def append(self, probs: np.ndarray) -> None:
        """Take more rows: probabilities [N, K], NaN where a row has no text."""
        known = ~np.isnan(probs).any(axis=1)
        best = np.where(known[:, None], probs, 0).argmax(axis=1)
        self._classes.append(np.where(known, best, -1).astype(np.int32))
        self._confidence.append(probs.max(axis=1).astype(np.float32))

    @property
    def classes(self) -> np.ndarray:
        """The likeliest class of each row, -1 where it has no text, [N]."""
        return np.concatenate(self._classes)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of that class, [N]."""
        return np.concatenate(self._confidence)


def most_confident(classes: np.ndarray, confidence: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """The numbers of `counts[k]` rows of each class k whose confidence is highest, ascending; of equals the earlier.

    classes [N], confidence [N]: see `Answers`. Source: Xie et al. 2020, "Unsupervised Data Augmentation for Consistency
    Training", domain-relevance data filtering; there a class may take rows that another one is likelier for.
    """
    chosen = []
    for label, count in enumerate(counts):
        rows = np.flatnonzero(classes == label)
        chosen.append(rows[np.argsort(-confidence[rows], kind="stable")[:count]])
    return np.sort(np.concatenate(chosen))
