"""The augmented copies of the unlabelled rows: from the cache of augmented texts, what it lacks being made first."""

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uda.augmentation.base import Augmenter
from uda.augmentation.cache import Cache, cleared, configuration_folder, copy_keys, text_hashes
from uda.augmentation.filling import WHOLE, Filled, Shard, Texts, fill
from uda.data.rows import CHUNK_ROWS, Rows
from uda.data.tokens import CHUNK, Chunk
from uda.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CopySettings:
    """What decides about no text: how many copies there are, where they lie, and who makes them."""

    num_copies: int
    cache: Path
    num_processes: int
    shard: Shard = WHOLE


class Copies:
    """The augmented copies of rows, chunk by chunk. Each text of a pair is augmented by itself.

    The copies of the second texts count on from those of the first. method: what the augmenter was made of.
    """

    def __init__(
        self, rows: Rows, num_source_rows: int, augmenter: Augmenter, method: dict[str, Any], settings: CopySettings
    ) -> None:
        if rows.paired and augmenter.single_texts_only:
            raise UserError(
                f"augment: expected a method that makes its texts itself, as rows are pairs (data.text_pair_column), "
                f"found {type(augmenter).__name__}, which has one text a row. Choose another, for example "
                "augment=tfidf_mild."
            )
        if settings.shard.count > 1 and (augmenter.unchanged or augmenter.by_key):
            raise UserError(
                f"augment.num_shards: expected 1, as {type(augmenter).__name__} makes no texts that are kept, found "
                f"{settings.shard.count}. Leave it out; training needs no augmentation beforehand here."
            )
        most = augmenter.max_copies
        if most is not None and settings.num_copies > most:
            raise UserError(
                f"augment.num_copies: expected at most {most}, as {type(augmenter).__name__} with these settings makes "
                f"no more copies that differ, found {settings.num_copies}. Set augment.num_copies={most}, or name more "
                "languages in augment.pivot."
            )
        self.count = settings.num_copies
        self._rows = rows
        self._columns = ["text", "text_pair"][: 2 if rows.paired else 1]
        self._num_source_rows = num_source_rows
        self.augmenter = augmenter
        self._method = method
        self._settings = settings
        self._prepared = False
        self._cache: Cache | None = None
        if not (augmenter.unchanged or augmenter.by_key):
            self._cache = Cache(configuration_folder(settings.cache, augmenter, method, rows.content))

    def content(self, number: int) -> str:
        """Another string where the copy has other texts."""
        if self.augmenter.unchanged:
            return self._rows.content
        decided_by = [
            self._rows.content,
            self._num_source_rows,
            self._method,
            self.count if self._rows.paired else None,  # the second texts' copies count on from it
            self.augmenter.fingerprint(),
            "" if self._cache is None else cleared(self._cache.folder),
            number,
        ]
        return hashlib.sha256(json.dumps(decided_by, sort_keys=True, default=str).encode()).hexdigest()

    def fill(self) -> Filled:
        """Make what the cache lacks of the shard's texts; where the method's texts are in no cache, just count."""
        if self._cache is None:
            return Filled(self.count * len(self._columns) * len(self._rows), 0, 0, 0.0)
        numbers = itertools.product(range(self.count), range(len(self._columns)))
        wanted = [Texts(number + place * self.count, partial(self._chunks_of, place)) for number, place in numbers]
        settings = self._settings
        self._cache.describe(self._method)
        with self._told():
            return fill(self._cache, self.augmenter, wanted, self._prepare, settings.num_processes, settings.shard)

    def chunks(self, number: int) -> Iterator[Chunk]:
        """The texts of a copy, and the second ones of pairs."""
        for keys, *texts in self._rows.columns(["key", *self._columns], CHUNK_ROWS):
            copies = self._copies(texts, keys, number)
            for start in range(0, len(keys), CHUNK):
                first, *second = (column[start : start + CHUNK] for column in copies)
                yield first, second[0] if second else None

    def some(self, numbers: np.ndarray, number: int) -> Chunk:
        """A copy's texts of a few rows."""
        rows = self._rows.take(numbers)
        first, *second = self._copies([list(rows[name]) for name in self._columns], list(rows.key), number)
        return first, second[0] if second else None

    def pairs(self) -> Iterator[tuple[str, list[str]]]:
        """Each text of the shard with its copies; of rows that are pairs, each of their two texts."""
        for keys, *texts in self._rows.columns(["key", *self._columns], CHUNK_ROWS):
            for place, column in enumerate(texts):
                chosen = np.flatnonzero(self._settings.shard.of(text_hashes(column)))
                some, their_keys = [column[row] for row in chosen], [keys[row] for row in chosen]
                numbers = range(place * self.count, (place + 1) * self.count)
                copies = [self._copies_of(some, their_keys, number) for number in numbers]
                yield from zip(some, map(list, zip(*copies, strict=True)), strict=True)

    def close(self) -> None:
        """End what the method has started."""
        if self._prepared:
            self.augmenter.close()
            self._prepared = False

    def _copies(self, texts: list[list[str]], keys: list[str], number: int) -> list[list[str]]:
        numbers = (number + place * self.count for place in range(len(texts)))
        return [self._copies_of(column, keys, copy) for column, copy in zip(texts, numbers, strict=True)]

    def _copies_of(self, texts: list[str], keys: list[str], copy: int) -> list[str]:
        if self._cache is None:
            with self._told():
                if not self._prepared:
                    self._prepare(*self._corpus())
                    self._prepared = True
                return self.augmenter.augment(texts, keys, copy)
        digests = copy_keys(text_hashes(texts), copy)
        found = self._cache.texts(digests)
        if None in found:
            self.fill()
            found = self._cache.texts(digests)
        made = [text for text in found if text is not None]
        if (num_gone := len(found) - len(made)) > 0:
            raise UserError(
                f"Expected the texts that were just made in the cache {self._cache.folder}, found {num_gone} of them "
                "gone: something deletes files there. Let that end, and give the same command again."
            )
        return made

    def _prepare(self, texts: Iterable[str], keys: Iterable[str]) -> None:
        if self.augmenter.uses_corpus:
            texts, keys = self._corpus()
        self.augmenter.prepare(texts, keys, self._num_source_rows)

    def _corpus(self) -> tuple[Iterator[str], Iterator[str]]:
        rows, texts, keys = self._rows, self._rows.text, self._rows.key
        if rows.paired:
            texts, keys = itertools.chain(texts, rows.text_pair), itertools.chain(keys, rows.key)
        return texts, keys

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the system refuses a method is told as such, not as what the reader of its texts was about to do."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"augment: expected {type(self.augmenter).__name__} to make its texts, found: {error}. Those in the "
                "cache are kept: mend that and give the same command again."
            ) from error

    def _chunks_of(self, place: int) -> Iterator[tuple[list[str], list[str]]]:
        """The first texts of the rows, or the second ones, with their keys."""
        columns = self._rows.columns([self._columns[place], "key"], CHUNK_ROWS)
        return ((texts, keys) for texts, keys in columns)
