"""What the two word replacement methods share: which words go is theirs to say, how they go is said here."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from uda.augmentation import word_arrays, word_exchange, words
from uda.augmentation.base import Augmenter, code_hash, text_generator
from uda.augmentation.word_arrays import Integers, WordArrays
from uda.errors import UserError

Floats = NDArray[np.float64]


class WordReplacement(Augmenter):
    """Exchanges words of a text for words of the corpus.

    `probability` is the share of a text's words to replace, in [0, 1]. With `lowercase` the result is the
    words joined by blanks, lower-cased, as the official code leaves them for an uncased encoder; without it
    the text stays as it is but for the replaced words. Texts without words come back unchanged. The corpus's
    distinct words stay in memory, a few hundred bytes each.
    """

    uses_corpus = True

    def __init__(self, probability: float, lowercase: bool, seed: int) -> None:
        if not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise UserError(
                f"augment.probability: expected a number from 0 to 1, the share of words to replace; found "
                f"{probability!r}. Set augment.probability to such a number, for example 0.5."
            )
        if not isinstance(lowercase, bool):
            raise UserError(
                f"augment.lowercase: expected true, false or null, found {lowercase!r}. Set augment.lowercase to one "
                "of them."
            )
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise UserError(f"augment.seed: expected a whole number, found {seed!r}. Set augment.seed=0.")
        self.probability = probability
        self.lowercase = lowercase
        self.seed = seed

    def prepare(self, texts: Iterable[str], keys: Iterable[str], num_source_rows: int) -> None:
        vocabulary, distribution = self._fit(texts)
        self._vocabulary = np.array(vocabulary, dtype=object)
        # Rounding leaves the last sum near 1; exactly 1 keeps every draw from [0, 1) below it.
        sums = distribution.cumsum()
        self._cumulative = sums / sums[-1] if distribution.any() else None

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        return [text for chunk in word_arrays.in_chunks(texts) for text in self._replaced(chunk, copy)]

    def fingerprint(self) -> str:
        return super().fingerprint() + code_hash(words, word_arrays, word_exchange)

    @abstractmethod
    def _fit(self, texts: Iterable[str]) -> tuple[list[str], Floats]:
        """The corpus's V distinct words, sorted, and each one's probability [V] to be drawn, or all 0."""

    @abstractmethod
    def _position_probabilities(self, words: WordArrays) -> Floats:
        """For each word the probability [W] that it is replaced."""

    def _replaced(self, texts: list[str], copy: int) -> list[str]:
        found = word_arrays.word_arrays(texts)
        positions, new_words = self._draw(texts, found, copy)
        if self.lowercase:
            result = np.array(found.words, dtype=object)[found.ids]
            result[positions] = new_words
            all_words, first = result.tolist(), found.first.tolist()
            lines = [" ".join(all_words[start:end]) for start, end in pairwise(first)]
            return [line or text for line, text in zip(lines, texts, strict=True)]
        return word_exchange.exchange_in_all(texts, found, positions, new_words)

    def _draw(self, texts: list[str], found: WordArrays, copy: int) -> tuple[Integers, NDArray[np.object_]]:
        """Which of the W words to exchange, ascending, and for what."""
        if self._cumulative is None:
            return np.zeros(0, dtype=np.int64), self._vocabulary[:0]
        probabilities = self._position_probabilities(found)
        positions, numbers = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for text, (start, end) in zip(texts, pairwise(found.first.tolist()), strict=True):
            generator = text_generator(self.seed, copy, text)
            chosen = (generator.random(end - start) < probabilities[start:end]).nonzero()[0]
            numbers.append(generator.random(len(chosen)))
            positions.append(chosen + start)
        drawn = self._cumulative.searchsorted(np.concatenate(numbers), side="right")
        return np.concatenate(positions), self._vocabulary[drawn]
