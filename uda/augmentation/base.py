"""What every augmentation method looks like from outside."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class Augmenter(ABC):
    """Turns texts into texts that should keep their label.

    `keys` holds one string a text: the row's id if the data has an id column, otherwise the row's number in
    the unlabelled source, counted from 0 before any row was dropped. A result depends on the method's
    settings, what `prepare` learnt, the text (or its key) and `copy` only: never on the order of the texts or
    on their batches. The second texts of pairs are augmented under the same keys and other numbers of copies, so
    that a pair of equal texts gets independent ones.
    """

    single_texts_only = False  # True: a key stands for one text, so that pairs are refused

    def prepare(self, texts: Sequence[str], keys: Sequence[str], num_source_rows: int) -> None:  # noqa: B027
        """Called once, before `augment`, with the whole unlabelled set: for corpus statistics and checks.

        `num_source_rows` is how many rows the source had before any was dropped. Raises UserError where the
        method cannot serve these rows.
        """

    @abstractmethod
    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        """One new text for each of `texts`, in their order; `copy` counts a text's copies from 0."""


def text_generator(seed: int, copy: int, text: str) -> np.random.Generator:
    """The random numbers of one copy of one text, the same wherever and whenever it is augmented."""
    digest = hashlib.sha256(f"{seed}\0{copy}\0{text}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
