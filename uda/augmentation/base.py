"""What every augmentation method looks like from outside."""

import hashlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from types import ModuleType

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
    unchanged = False  # True: every text comes back as it is
    uses_corpus = False  # True: what it learns from the whole unlabelled set decides results
    by_key = False  # True: results depend on keys, not on texts, and are never cached
    free_settings: tuple[str, ...] = ()  # keys of its yaml that change no result, so that no cache's key has them
    max_copies: int | None = None  # of a text that differ; None: any number
    max_texts: int | None = None  # that `augment` gets at a time; None: as many as take some seconds
    own_workers = False  # True: keeps cores, GPU or an endpoint busy by itself; False: texts are split among processes

    def prepare(self, texts: Iterable[str], keys: Iterable[str], num_source_rows: int) -> None:  # noqa: B027
        """Called once, before `augment`: for corpus statistics and checks.

        With `uses_corpus` it gets the whole unlabelled set, otherwise the texts that are to be made now.

        Texts and keys come from the disk and can be gone through once each. `num_source_rows` is how many rows the
        source had before any was dropped. Raises UserError where the method cannot serve these rows.
        """

    @abstractmethod
    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        """One new text for each of `texts`, in their order; `copy` counts a text's copies from 0."""

    def close(self) -> None:  # noqa: B027
        """Ends processes and connections, where there are any."""

    def fingerprint(self) -> str:
        """Another string where the same settings, texts and keys may give other results: then no cached one is taken.

        By default where the code of the method's class, or of a class that it is made of, was changed.
        """
        names = {cls.__module__ for cls in type(self).__mro__} - {"abc", "builtins"}
        return code_hash(*(sys.modules[name] for name in names))


def code_hash(*modules: ModuleType) -> str:
    """SHA-256 over the code of modules, in the order of their names."""
    code = [inspect.getsource(module) for module in sorted(modules, key=lambda module: module.__name__)]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def text_generator(seed: int, copy: int, text: str) -> np.random.Generator:
    """The random numbers of one copy of one text, the same wherever and whenever it is augmented."""
    digest = hashlib.sha256(f"{seed}\0{copy}\0{text}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
