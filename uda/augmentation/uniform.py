"""Uniform word replacement, the paper's plain alternative to TF-IDF."""

from collections.abc import Iterable

import numpy as np

from uda.augmentation.word_arrays import WordArrays, in_chunks, word_arrays
from uda.augmentation.word_replacement import Floats, WordReplacement


class UniformReplacement(WordReplacement):
    """Replaces each word, independently, by a word drawn uniformly from the distinct words of the corpus.

    Source: "Unsupervised Data Augmentation for Consistency Training", arXiv 1904.12848, and its official
    code.
    """

    def _fit(self, texts: Iterable[str]) -> tuple[list[str], Floats]:
        vocabulary: set[str] = set()
        for chunk in in_chunks(texts):
            vocabulary.update(word_arrays(chunk).words)
        return sorted(vocabulary), np.full(len(vocabulary), 1 / max(len(vocabulary), 1))

    def _position_probabilities(self, words: WordArrays) -> Floats:
        return np.full(len(words.ids), self.probability, dtype=float)
