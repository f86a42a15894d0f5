"""What the two word replacement methods share: which words go is theirs to say, how they go is said here."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from uda.augmentation import words
from uda.augmentation.base import Augmenter, code_hash, text_generator
from uda.augmentation.words import exchange_words, split_words
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
        self._vocabulary, distribution = self._fit(texts)
        # Rounding leaves the last sum near 1; exactly 1 keeps every draw from [0, 1) below it.
        sums = distribution.cumsum()
        self._cumulative = sums / sums[-1] if distribution.any() else None

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        return [self._replace(text, text_generator(self.seed, copy, text)) for text in texts]

    def fingerprint(self) -> str:
        return super().fingerprint() + code_hash(words)

    @abstractmethod
    def _fit(self, texts: Iterable[str]) -> tuple[list[str], Floats]:
        """The corpus's V distinct words, sorted, and each one's probability [V] to be drawn, or all 0."""

    @abstractmethod
    def _position_probabilities(self, words: list[str]) -> Floats:
        """For each of a text's L words the probability [L] that it is replaced."""

    def _replace(self, text: str, generator: np.random.Generator) -> str:
        words = split_words(text)
        if not words:
            return text
        exchanges = self._draw_exchanges(words, generator)
        if self.lowercase:
            return " ".join([exchanges.get(i, word) for i, word in enumerate(words)])
        return exchange_words(text, exchanges)

    def _draw_exchanges(self, words: list[str], generator: np.random.Generator) -> dict[int, str]:
        """Which of the words to exchange, by position, and for what."""
        if self._cumulative is None:
            return {}
        positions = np.flatnonzero(generator.random(len(words)) < self._position_probabilities(words))
        drawn = self._cumulative.searchsorted(generator.random(len(positions)), side="right")
        new_words = [self._vocabulary[index] for index in drawn.tolist()]
        return dict(zip(positions.tolist(), new_words, strict=True))
