"""Fills the cache: finds which texts it lacks, has them made, and writes them every few seconds."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from uda.augmentation.base import Augmenter
from uda.augmentation.cache import Cache, copy_keys, text_hashes
from uda.augmentation.progress import Progress
from uda.augmentation.workers import Batch, Made, augmented

log = logging.getLogger(__name__)

_FILE_SECONDS = 10.0  # of work that one file of the cache holds, and that a kill loses
_FILE_CHARACTERS = 2**22  # which is what is kept in memory until it is written
_BATCH_SECONDS = 1.0  # of work that a process gets at a time
_FIRST_BATCH, _MAX_BATCH = 16, 4_096  # texts
_TEXTS_A_PROCESS = 256  # fewer are sooner made than a process is started


@dataclass(frozen=True)
class Shard:
    """The part of the texts whose hash, modulo `count`, is `number`: the same for all copies of a text."""

    number: int
    count: int

    def of(self, hashes: Sequence[bytes]) -> np.ndarray:
        """Which of the texts, by their hashes, are in it, [N]."""
        return np.array([int.from_bytes(each[:8], "big") % self.count == self.number for each in hashes], dtype=bool)


WHOLE = Shard(0, 1)


@dataclass(frozen=True)
class Texts:
    """Texts of which copies of one number are wanted. `chunks` gives them with their keys, anew at each call."""

    copy: int
    chunks: Callable[[], Iterator[tuple[list[str], list[str]]]]


@dataclass(frozen=True)
class Filled:
    """What a filling did: copies wanted, those made now, those of them that are the original, and the seconds."""

    wanted: int
    computed: int
    kept: int
    seconds: float


@dataclass(frozen=True)
class _Missing:
    """A text that the cache lacks a copy of."""

    digest: bytes
    text: str
    key: str


def fill(
    cache: Cache,
    augmenter: Augmenter,
    wanted: Sequence[Texts],
    prepare: Callable[[Iterable[str], Iterable[str]], None],
    num_processes: int,
    shard: Shard,
) -> Filled:
    """See to it that the cache has a copy of all wanted texts of the shard.

    prepare: called with the texts that are to be made, and their keys, if there are any. Equal texts are made once.
    What is made is written also where this is interrupted.
    """
    started = time.monotonic()
    filling = _Filling(cache, augmenter, wanted, shard)
    filling.count()
    if filling.num_missing or not (cache.is_tidy or cache.is_read_only):
        with cache.filling(f"{shard.number}-of-{shard.count}"):
            filling.count()  # another process may have been at it
            if filling.num_missing:
                filling.run(prepare, num_processes)
            cache.tidy()
    return Filled(filling.num_wanted, filling.computed, filling.kept, time.monotonic() - started)


class _Filling:
    """One call of `fill`."""

    def __init__(self, cache: Cache, augmenter: Augmenter, wanted: Sequence[Texts], shard: Shard) -> None:
        self._cache = cache
        self._augmenter = augmenter
        self._wanted = wanted
        self._shard = shard
        self.num_wanted = self.num_missing = self.computed = self.kept = 0
        self._batch_seconds = _FILE_SECONDS if augmenter.own_workers else _BATCH_SECONDS
        self._max_batch = augmenter.max_texts or _MAX_BATCH
        self._batch_size = min(_FIRST_BATCH, self._max_batch)
        self._asked: deque[list[_Missing]] = deque()  # batches that are being made
        self._made: list[tuple[bytes, str]] = []  # and are not written yet
        self._written: list[bytes] = []
        self._written_at = time.monotonic()
        self._pending: set[bytes] = set()  # asked for, made, or written since the cache was last asked

    def count(self) -> None:
        """How many copies are wanted, and missing; equal texts count each."""
        self.num_wanted = self.num_missing = 0
        for texts in self._wanted:
            for num_wanted, missing in self._missing(texts):
                self.num_wanted += num_wanted
                self.num_missing += len(missing)

    def run(self, prepare: Callable[[Iterable[str], Iterable[str]], None], num_processes: int) -> None:
        """Make what is missing."""
        name = type(self._augmenter).__name__
        log.info("augmenting %d of %d texts by %s into %s", self.num_missing, self.num_wanted, name, self._cache.folder)
        needed = 1 if self._augmenter.own_workers else math.ceil(self.num_missing / _TEXTS_A_PROCESS)
        self._written_at = time.monotonic()
        try:
            prepare((each.text for each in self._all_missing()), (each.key for each in self._all_missing()))
            with (
                Progress(self.num_wanted, self.num_wanted - self.num_missing, name) as self._progress,
                closing(augmented(self._augmenter, self._batches(), min(num_processes, needed))) as made,
            ):
                for each in made:
                    self._take(each)
                self._progress.finish()
        finally:
            self._write()
            self._augmenter.close()
        log.info("augmented %s", self._progress.line())

    def _all_missing(self) -> Iterator[_Missing]:
        for texts in self._wanted:
            for _, missing in self._missing(texts):
                yield from missing

    def _missing(self, texts: Texts) -> Iterator[tuple[int, list[_Missing]]]:
        """Chunk by chunk how many texts are wanted, and those that the cache lacks."""
        for chunk, keys in texts.chunks():
            hashes = text_hashes(chunk)
            digests = copy_keys(hashes, texts.copy)
            wanted = self._shard.of(hashes)
            missing = np.flatnonzero(wanted & ~self._cache.has(digests))
            yield int(wanted.sum()), [_Missing(digests[row], chunk[row], keys[row]) for row in missing]

    def _batches(self) -> Iterator[Batch]:
        for texts in self._wanted:
            batch: list[_Missing] = []
            for _, missing in self._missing(texts):
                for each in missing:
                    if each.digest in self._pending:
                        self._progress.add(1, computed=0, kept=0)
                        continue
                    self._pending.add(each.digest)
                    batch.append(each)
                    if len(batch) >= self._batch_size:
                        yield self._ask(batch, texts.copy)
                        batch = []
                self._pending.difference_update(self._written)  # the cache knows them when the next chunk is looked up
                self._written.clear()
            if batch:
                yield self._ask(batch, texts.copy)

    def _ask(self, batch: list[_Missing], copy: int) -> Batch:
        self._asked.append(batch)
        return Batch([each.text for each in batch], [each.key for each in batch], copy)

    def _take(self, made: Made) -> None:
        """Keep what became of the batch that was asked for first; write when it is time."""
        batch = self._asked.popleft()
        wanted = len(batch) * self._batch_seconds / max(made.seconds, 1e-3)
        self._batch_size = int(min(max(wanted, 1), 4 * self._batch_size, self._max_batch))
        self._made += [(each.digest, text) for each, text in zip(batch, made.texts, strict=True)]
        kept = sum(each.text == text for each, text in zip(batch, made.texts, strict=True))
        self.computed += len(batch)
        self.kept += kept
        self._progress.add(len(batch), len(batch), kept)
        characters = sum(len(text) for _, text in self._made)
        if time.monotonic() - self._written_at >= _FILE_SECONDS or characters >= _FILE_CHARACTERS:
            self._write()

    def _write(self) -> None:
        if self._made:
            digests, texts = zip(*self._made, strict=True)
            self._cache.add(digests, texts)
            self._written += digests
            self._made.clear()
        self._written_at = time.monotonic()
