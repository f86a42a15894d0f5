"""Whether a classifier gives a text and its augmented copy the same label."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from uda.augmentation.measures import Measure, Pair, Tally, draw

MAX_PAIRS = 2_000  # that a classifier labels: the standard error of a share is 1.1 points at most
_CHUNK = 256


@dataclass(frozen=True)
class LabelAgreement:
    """What a classifier of K classes says of originals and of their copies.

    `counts` [K, K] are pairs by the label of the original (down) and of the copy (across); `blank` pairs, of which a
    text got no label, are not among them. `change` is half the sum of the absolute differences of a pair's
    probabilities, from 0 to 1: with two classes the change of either's.
    `answers`: of the pairs in `change.worst`, what was said of the original and of the copy.
    """

    label_names: tuple[str, ...]
    counts: np.ndarray
    blank: int
    change: Measure
    answers: tuple[str, ...]

    @property
    def num_pairs(self) -> int:
        """Pairs with two labels."""
        return int(self.counts.sum())

    @property
    def disagreement(self) -> float | None:
        """The share of pairs of two different labels; None without pairs."""
        return float(self.num_pairs - np.trace(self.counts)) / self.num_pairs if self.num_pairs else None

    def by_class(self) -> Iterator[tuple[str, int, float | None]]:
        """For each label: its name, pairs whose original has it, and the share of these whose copy has another."""
        for index, name in enumerate(self.label_names):
            rows = int(self.counts[index].sum())
            yield name, rows, float(rows - self.counts[index, index]) / rows if rows else None


def label_agreement(
    pairs: Iterable[tuple[str, Sequence[str]]],
    num_texts: int,
    num_copies: int,
    sample_seed: int,
    probabilities: Callable[[list[str]], np.ndarray],
    label_names: Sequence[str],
) -> LabelAgreement:
    """Label texts and their copies, at most MAX_PAIRS of them, drawn by the seed, chunk by chunk.

    pairs: each of `num_texts` texts with its `num_copies` copies, gone through once.
    probabilities: of N texts [N, K], NaN for a text without a label.
    """
    drawn = draw(num_texts, max(MAX_PAIRS // num_copies, 1), np.random.default_rng(sample_seed))
    chosen = ((row, original, copies) for row, (original, copies) in enumerate(pairs) if row in drawn)
    counts = np.zeros((len(label_names), len(label_names)), dtype=np.int64)
    tally, answers, blank = Tally(1, float), dict[tuple[int, int], str](), 0
    while chunk := list(itertools.islice(chosen, _CHUNK)):
        of_originals = probabilities([original for _, original, _ in chunk])
        of_copies = iter(probabilities([copy for _, _, copies in chunk for copy in copies]))
        for (row, original, copies), before in zip(chunk, of_originals, strict=True):
            for number, copy in enumerate(copies):
                after = next(of_copies)
                if np.isnan(before).any() or np.isnan(after).any():
                    blank += 1
                    continue
                counts[before.argmax(), after.argmax()] += 1
                tally.add(float(np.abs(before - after).sum()) / 2, Pair(row, number, original, copy))
                answers[row, number] = f"{_answer(before, label_names)} → {_answer(after, label_names)}"
    change = tally.measure()
    said = tuple(answers[pair.row, pair.copy] for pair in change.worst)
    return LabelAgreement(tuple(label_names), counts, blank, change, said)


def _answer(probs: np.ndarray, label_names: Sequence[str]) -> str:
    return f"{label_names[int(probs.argmax())]} {probs.max():.2f}"
