"""Measures of a text and its augmented copy: their mean, their histogram, and the pairs that stand out."""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from uda.augmentation.words import split_words

BINS = 20  # of a histogram, from 0 to 1 and as many for each 1 beyond
NUM_WORST = 10


@dataclass(frozen=True)
class Pair:
    """A text and one of its copies; both are counted from 0."""

    row: int
    copy: int
    original: str
    augmented: str


@dataclass(frozen=True)
class Measure:
    """One measure over all pairs.

    `mean` is None where there was no pair. `counts` are those of equal bins from 0 to `top`; the last one has all
    beyond, too. `unbounded` pairs, of an infinite value, are in neither. `worst`: the changed pairs that stand out
    most, the worst first.
    """

    mean: float | None
    counts: tuple[int, ...]
    top: int
    unbounded: int
    worst: tuple[Pair, ...]


class Tally:
    """Takes the values of a measure one by one; memory does not grow with them.

    badness: of a value; the pairs with the largest are kept, the first ones where they are equal.
    """

    def __init__(self, top: int, badness: Callable[[float], float]) -> None:
        self._badness = badness
        self._top = top
        self._counts = [0] * (BINS * top)
        self._sum = 0.0
        self._unbounded = 0
        self._heap: list[tuple[float, int, int, Pair]] = []

    def add(self, value: float, pair: Pair) -> None:
        """Take the value of one pair."""
        if math.isinf(value):
            self._unbounded += 1
        else:
            self._sum += value
            # Values such as 3 / 20 lie on an edge, or a rounding error below it.
            self._counts[min(int(value * BINS + 1e-9), len(self._counts) - 1)] += 1
        if pair.original == pair.augmented:
            return
        entry = (self._badness(value), -pair.row, -pair.copy, pair)
        if len(self._heap) < NUM_WORST:
            heapq.heappush(self._heap, entry)
        elif entry[:3] > self._heap[0][:3]:
            heapq.heapreplace(self._heap, entry)

    def measure(self) -> Measure:
        """What the values come to."""
        count = sum(self._counts)
        mean = self._sum / count if count else None
        worst = tuple(entry[3] for entry in sorted(self._heap, reverse=True))
        return Measure(mean, tuple(self._counts), self._top, self._unbounded, worst)


def length_ratio(original: str, augmented: str) -> float:
    """Characters of the copy for each of the original's: infinite where only the original has none, 1 where both."""
    if not original:
        return math.inf if augmented else 1.0
    return len(augmented) / len(original)


def extremeness(ratio: float) -> float:
    """How far a ratio lies from 1: the same for half and for double."""
    return max(ratio, 1 / ratio) if ratio else math.inf


def word_overlap(original: set[str], augmented: set[str]) -> float:
    """Jaccard similarity of two sets of words: common ones over all, from 0 to 1; 1 where both are empty."""
    union = len(original | augmented)
    return len(original & augmented) / union if union else 1.0


def word_distance(original: Sequence[str], augmented: Sequence[str]) -> float:
    """Words to insert, delete or exchange, over the number of words of the longer text, from 0 to 1; 0 without words.

    Source: Levenshtein 1966, "Binary codes capable of correcting deletions, insertions, and reversals".
    """
    return Levenshtein.distance(original, augmented) / max(len(original), len(augmented), 1)


def describe(pair: Pair) -> str:
    """The measures of one pair in words."""
    original, augmented = split_words(pair.original), split_words(pair.augmented)
    ratio = length_ratio(pair.original, pair.augmented)
    length = "original empty" if math.isinf(ratio) else f"length × {ratio:.2f}"
    overlap, distance = word_overlap(set(original), set(augmented)), word_distance(original, augmented)
    return f"overlap {overlap:.2f} · edit distance {distance:.2f} · {length}"


def draw(num_texts: int, limit: int, generator: np.random.Generator) -> set[int]:
    """At most `limit` of the numbers below `num_texts`, each equally likely."""
    if num_texts <= limit:
        return set(range(num_texts))
    return set(generator.choice(num_texts, limit, replace=False).tolist())
