"""Texts to token ids, once: a memory-mapped cache keyed by content, tokenizer and settings."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from uda.data.cache import ArrayWriter, cached_folder, mapped
from uda.data.settings import Truncation

log = logging.getLogger(__name__)

Chunk = tuple[Sequence[str], Sequence[str] | None]  # texts and, of pairs, the second ones

CHUNK = 250  # texts; what a tokenizer makes of more stays in memory as holes


class RowLengths:
    """The number of tokens of each of N rows, looked up: `lengths[rows]` for an array of row numbers."""

    def __init__(self, offsets: np.ndarray) -> None:
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.offsets[rows + 1] - self.offsets[rows])


@dataclass(frozen=True)
class TokenStore:
    """The token ids of N texts or pairs, special tokens included: row i is ids[offsets[i]:offsets[i + 1]].

    types: 0 for the first and 1 for the second text of a pair, laid out like `ids`; None for single texts, and where
    the encoder has no token types.
    """

    ids: np.ndarray
    offsets: np.ndarray
    types: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def types_of(self, row: int) -> np.ndarray | None:
        """The token types of a row."""
        return None if self.types is None else self.types[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each row, [N], in memory."""
        return np.diff(self.offsets)

    @property
    def row_lengths(self) -> RowLengths:
        """The same, but read from where the offsets lie when it is asked for."""
        return RowLengths(self.offsets)


def tokenize(
    texts: Sequence[str],
    tokenizer: Any,
    max_length: int,
    truncation: Truncation,
    cache: Path,
    pairs: Sequence[str] | None = None,
) -> TokenStore:
    """What `tokenize_in_memory` gives, memory-mapped, from the cache or made now."""
    content = _contents(texts if pairs is None else [*texts, *pairs])
    chunks = _chunks(texts, pairs)
    return tokenize_chunks(chunks, pairs is not None, content, tokenizer, max_length, truncation, cache)


def tokenize_chunks(
    chunks: Iterable[Chunk],
    paired: bool,
    content: Iterable[bytes],
    tokenizer: Any,
    max_length: int,
    truncation: Truncation,
    cache: Path,
) -> TokenStore:
    """The token store of texts that need not fit into memory, memory-mapped.

    `content` names the texts: other bytes for other ones. The chunks are looked at only where the cache has no tokens
    of this content, this tokenizer and these settings.
    """
    names = f" pairs {sorted(tokenizer.model_input_names)}" if paired else ""
    digest = hashlib.sha256(f"1 {max_length} {truncation.value} {_fingerprint(tokenizer)}{names}".encode())
    for part in content:
        digest.update(part)
    folder = cache / "tokens" / digest.hexdigest()[:32]

    def write(aside: Path) -> None:
        log.info("tokenizing into %s", folder)
        _write(_encoded(chunks, paired, tokenizer, max_length, truncation), aside)

    cached_folder(folder, "tokens", write)
    types = mapped(folder / "types.npy") if (folder / "types.npy").exists() else None
    return TokenStore(mapped(folder / "ids.npy"), mapped(folder / "offsets.npy"), types)


def tokenize_in_memory(
    texts: Sequence[str],
    tokenizer: Any,
    max_length: int,
    truncation: Truncation,
    pairs: Sequence[str] | None = None,
) -> TokenStore:
    """The token store of the texts, or of each text with the one of `pairs`; at most `max_length` tokens a row.

    A pair goes into the tokenizer's own template; where it is too long, the longer of its texts loses tokens until
    both are equally long, then both do, at the end (truncation=head) or at the start (truncation=tail).
    """
    rows: list[np.ndarray] = []
    types: list[np.ndarray] = []
    for some, their_types in _encoded(_chunks(texts, pairs), pairs is not None, tokenizer, max_length, truncation):
        rows += some
        types += their_types
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)
    return TokenStore(ids, offsets, np.concatenate(types) if types else None)


def _chunks(texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[Chunk]:
    for start in range(0, len(texts), CHUNK):
        yield texts[start : start + CHUNK], None if pairs is None else pairs[start : start + CHUNK]


def _encoded(
    chunks: Iterable[Chunk], paired: bool, tokenizer: Any, max_length: int, truncation: Truncation
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """The ids of each row of a chunk, and the token types of each or none; chunk by chunk."""
    prefix, suffix = (0, 0) if paired else _special_tokens(tokenizer)
    for texts, pairs in chunks:
        if pairs is None:
            encoded = tokenizer(list(texts), truncation=False, padding=False, verbose=False)
            yield [_cut(ids, prefix, suffix, max_length, truncation) for ids in encoded["input_ids"]], []
        else:
            encoded = _encode_pairs(list(texts), list(pairs), tokenizer, max_length, truncation)
            types = [np.asarray(each, dtype=np.int8) for each in encoded.get("token_type_ids", [])]
            yield [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]], types


def truncation_side(truncation: Truncation) -> str:
    """The end at which a tokenizer of transformers has to cut; it cannot keep both ends."""
    return "right" if truncation is Truncation.head else "left"


def _contents(texts: Iterable[str]) -> Iterator[bytes]:
    for text in texts:
        raw = text.encode()
        yield len(raw).to_bytes(8, "little")
        yield raw


def _fingerprint(tokenizer: Any) -> str:
    """Other for tokenizers that give other ids; truncation and padding, which any call may set, take no part."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return _hash_without_padding(backend.to_str())
    options = sorted((key, repr(value)) for key, value in tokenizer.init_kwargs.items())
    state = (type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), options)
    return hashlib.sha256(repr(state).encode()).hexdigest()


@lru_cache(maxsize=8)  # parsing the vocabulary takes longer than all else of a look into the cache
def _hash_without_padding(backend: str) -> str:
    state = json.loads(backend)
    state = {key: value for key, value in state.items() if key not in ("truncation", "padding")}
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _write(encoded: Iterator[tuple[list[np.ndarray], list[np.ndarray]]], folder: Path) -> None:
    with (
        ArrayWriter(folder / "ids.npy", np.int32) as ids,
        ArrayWriter(folder / "offsets.npy", np.int64) as offsets,
        ArrayWriter(folder / "types.npy", np.int8) as types,
    ):
        offsets.append(np.zeros(1))
        for rows, their_types in encoded:
            offsets.append(ids.length + np.cumsum([len(row) for row in rows]))
            ids.append(np.concatenate(rows))
            if their_types:
                types.append(np.concatenate(their_types))
    if not types.length:
        (folder / "types.npy").unlink()


def _encode_pairs(
    texts: list[str], pairs: list[str], tokenizer: Any, max_length: int, truncation: Truncation
) -> Mapping[str, list[list[int]]]:
    tokenizer.truncation_side = truncation_side(truncation)
    options = {"truncation": "longest_first", "max_length": max_length, "padding": False, "verbose": False}
    encoded: Mapping[str, list[list[int]]] = tokenizer(texts, pairs, **options)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()  # it would be saved with the tokenizer
    return encoded


def _special_tokens(tokenizer: Any) -> tuple[int, int]:
    """How many special tokens the tokenizer puts before and after one text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    starts = [start for start in range(len(full)) if full[start : start + len(plain)] == plain]
    return starts[0], len(full) - starts[0] - len(plain)


def _cut(ids: list[int], prefix: int, suffix: int, max_length: int, truncation: Truncation) -> np.ndarray:
    """At most `max_length` ids: the special tokens at both ends, and what `truncation` keeps between them."""
    row = np.asarray(ids, dtype=np.int32)
    if len(row) <= max_length:
        return row
    room = max_length - prefix - suffix
    head = {Truncation.head: room, Truncation.tail: 0, Truncation.head_tail: room // 4}[truncation]
    tail = room - head
    end = len(row) - suffix
    return np.concatenate([row[: prefix + head], row[end - tail : end], row[end:]])
