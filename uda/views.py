"""The two views of the unlabelled rows: their texts as they are, and their augmented copies, as tokens."""

import hashlib
import itertools
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from uda.augmentation.base import Augmenter
from uda.data.cache import cache_dir, cached_folder
from uda.data.rows import Rows
from uda.data.settings import DataSettings, Truncation
from uda.data.tokens import CHUNK, Chunk, TokenStore, tokenize_chunks
from uda.engine.tracking import SamplePair
from uda.errors import UserError

log = logging.getLogger(__name__)

_NUM_SAMPLES, _MAX_EXCERPT = 4, 400  # rows and characters to look at in TensorBoard


@dataclass(frozen=True)
class Views:
    """The original rows, their augmented copies, one store a copy, and a few rows to look at in both views."""

    weak: TokenStore
    strong: list[TokenStore]
    samples: list[SamplePair]


class Copies:
    """The augmented copies of rows, chunk by chunk. Each text of a pair is augmented by itself.

    The copies of the second texts count on from those of the first. settings: what the augmenter was made of.
    """

    def __init__(self, rows: Rows, num_source_rows: int, augmenter: Augmenter, settings: dict[str, Any]) -> None:
        if rows.paired and augmenter.single_texts_only:
            raise UserError(
                f"augment: expected a method that makes its texts itself, as rows are pairs (data.text_pair_column), "
                f"found {type(augmenter).__name__}, which has one text a row. Choose another, for example "
                "augment=tfidf_mild."
            )
        self.count = settings["num_copies"]
        self._rows = rows
        self._num_source_rows = num_source_rows
        self._augmenter = augmenter
        self._settings = settings
        self._seconds = 0.0
        self._prepared = False

    def content(self, number: int) -> str:
        """Another string where the copy has other texts."""
        if self._augmenter.unchanged:
            return self._rows.content
        decided_by = [self._rows.content, self._num_source_rows, self._settings, self._augmenter.fingerprint(), number]
        return hashlib.sha256(json.dumps(decided_by, sort_keys=True, default=str).encode()).hexdigest()

    def chunks(self, number: int) -> Iterator[Chunk]:
        """The texts of a copy, and the second ones of pairs."""
        names = ["key", "text", "text_pair"][: 3 if self._rows.paired else 2]
        for keys, *texts in self._rows.columns(names, CHUNK):
            yield self._augment(texts, keys, number)
        name = type(self._augmenter).__name__
        log.info("augmented %d texts by %s in %.0f s", len(self._rows), name, self._seconds)
        self._seconds = 0.0

    def some(self, numbers: np.ndarray, number: int) -> Chunk:
        """A copy's texts of a few rows."""
        rows = self._rows.take(numbers)
        texts = [list(rows[name]) for name in ("text", "text_pair") if name in rows]
        return self._augment(texts, list(rows.key), number)

    def _augment(self, texts: list[list[str]], keys: list[str], number: int) -> Chunk:
        started = time.monotonic()
        if not self._prepared:
            self._prepare()
        first, *second = (
            self._augmenter.augment(column, keys, number + place * self.count) for place, column in enumerate(texts)
        )
        self._seconds += time.monotonic() - started
        return first, second[0] if second else None

    def _prepare(self) -> None:
        rows, texts, keys = self._rows, self._rows.text, self._rows.key
        if rows.paired:
            texts, keys = itertools.chain(texts, rows.text_pair), itertools.chain(keys, rows.key)
        self._augmenter.prepare(texts, keys, self._num_source_rows)
        self._prepared = True


def make_views(rows: Rows, copies: Copies, tokenizer: PreTrainedTokenizerBase, data: DataSettings) -> Views:
    """Tokens of both views, from the cache or made now: the texts are read, and augmented, only where it has none.

    There is one empty store of copies where there are no rows.
    """

    def tokens(chunks: Iterator[Chunk], content: str) -> TokenStore:
        parts = [b"rows ", content.encode()]
        return tokenize_chunks(chunks, rows.paired, parts, tokenizer, data.max_length, data.truncation, cache_dir())

    names = ["text", "text_pair"][: 2 if rows.paired else 1]
    originals = ((texts, pairs[0] if pairs else None) for texts, *pairs in rows.columns(names, CHUNK))
    weak = tokens(originals, rows.content)
    if not len(rows):
        return Views(weak, [weak], [])
    strong = [tokens(copies.chunks(number), copies.content(number)) for number in range(copies.count)]
    return Views(weak, strong, _samples(rows, copies, data.truncation))


def _samples(rows: Rows, copies: Copies, truncation: Truncation) -> list[SamplePair]:
    """A few unlabelled rows, from all over their source, with the first of their augmented copies."""
    numbers = np.unique(np.linspace(0, len(rows) - 1, min(_NUM_SAMPLES, len(rows)), dtype=int))
    folder = cache_dir() / "samples" / copies.content(0)[:32]

    def write(aside: Path) -> None:
        (aside / "texts.json").write_text(json.dumps(copies.some(numbers, 0)))

    first, second = json.loads((cached_folder(folder, "sample texts", write) / "texts.json").read_text())
    found = rows.take(numbers)
    originals = zip(found.text, found.text_pair if rows.paired else [None] * len(found), strict=True)
    augmented = zip(first, second or [None] * len(first), strict=True)

    def shown(texts: tuple[str | None, ...]) -> str:
        return " ⏎ ".join(excerpt(text, truncation) for text in texts if text is not None)

    return [
        SamplePair(int(number), shown(original), shown(copy))
        for number, original, copy in zip(numbers, originals, augmented, strict=True)
    ]


def excerpt(text: str, truncation: Truncation) -> str:
    """The end of a long text that the encoder sees."""
    if len(text) <= _MAX_EXCERPT:
        return text
    return f"…{text[-_MAX_EXCERPT:]}" if truncation is Truncation.tail else f"{text[:_MAX_EXCERPT]}…"
