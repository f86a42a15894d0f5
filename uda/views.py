"""Texts as tokens: a split's rows, and the two views of the unlabelled ones, as they are and as augmented copies."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from uda.copies import Copies
from uda.data.cache import cache_dir, cached_folder
from uda.data.rows import Rows
from uda.data.settings import DataSettings, Truncation
from uda.data.tokens import CHUNK, Chunk, TokenStore, tokenize, tokenize_chunks
from uda.engine.tracking import SamplePair

_NUM_SAMPLES, _MAX_EXCERPT = 4, 400  # rows and characters to look at in TensorBoard


@dataclass(frozen=True)
class Views:
    """The original rows, their augmented copies, one store a copy, and a few rows to look at in both views."""

    weak: TokenStore
    strong: list[TokenStore]
    samples: list[SamplePair]


def make_views(rows: Rows, copies: Copies, tokenizer: PreTrainedTokenizerBase, data: DataSettings) -> Views:
    """Tokens of both views, from the cache or made now: the texts are read, and augmented, only where it has none.

    There is one empty store of copies where there are no rows.
    """
    weak = original_tokens(rows, tokenizer, data)
    if not len(rows):
        return Views(weak, [weak], [])
    strong = [
        _tokens(copies.chunks(number), rows.paired, copies.content(number), tokenizer, data)
        for number in range(copies.count)
    ]
    samples = _samples(rows, copies, data.truncation)
    copies.close()
    return Views(weak, strong, samples)


def original_tokens(rows: Rows, tokenizer: PreTrainedTokenizerBase, data: DataSettings) -> TokenStore:
    """Tokens of the rows as they are, from the cache or made now."""
    names = ["text", "text_pair"][: 2 if rows.paired else 1]
    originals = ((texts, pairs[0] if pairs else None) for texts, *pairs in rows.columns(names, CHUNK))
    return _tokens(originals, rows.paired, rows.content, tokenizer, data)


def tokens_of(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, data: DataSettings, pairs: Sequence[str] | None = None
) -> TokenStore:
    """The token store of texts, or of pairs of texts, under the config's length and truncation."""
    return tokenize(texts, tokenizer, data.max_length, data.truncation, cache_dir(), pairs)


def tokens_of_rows(rows: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, data: DataSettings) -> TokenStore:
    """The token store of a split's rows."""
    return tokens_of(list(rows.text), tokenizer, data, list(rows.text_pair) if "text_pair" in rows else None)


def _tokens(
    chunks: Iterator[Chunk], paired: bool, content: str, tokenizer: PreTrainedTokenizerBase, data: DataSettings
) -> TokenStore:
    parts = [b"rows ", content.encode()]
    return tokenize_chunks(chunks, paired, parts, tokenizer, data.max_length, data.truncation, cache_dir())


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
