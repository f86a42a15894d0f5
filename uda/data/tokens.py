"""Texts to token ids, once: a memory-mapped cache keyed by content, tokenizer and settings."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uda.data.settings import Truncation
from uda.errors import UserError

log = logging.getLogger(__name__)

_CHUNK = 250  # texts; what a tokenizer makes of more stays in memory as holes
_WRITING = ".writing-"
_LEFT_SECONDS = 7 * 24 * 3600  # far beyond what tokenizing takes


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
        """The number of tokens of each row, [N]."""
        return np.diff(self.offsets)


def cache_dir() -> Path:
    """Where caches live: $UDA_CACHE, else ~/.cache/uda."""
    return Path(os.environ.get("UDA_CACHE") or "~/.cache/uda").expanduser()


def tokenize(
    texts: Sequence[str],
    tokenizer: Any,
    max_length: int,
    truncation: Truncation,
    cache: Path,
    pairs: Sequence[str] | None = None,
) -> TokenStore:
    """What `tokenize_in_memory` gives, memory-mapped, from the cache or made now.

    Safe with several processes: each writes aside and renames, and any of the equal results may win.
    """
    folder = cache / "tokens" / _key(texts, tokenizer, max_length, truncation, pairs)
    if not folder.exists():
        log.info("tokenizing %d texts into %s", len(texts), folder)
        aside = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder.parent)
            aside = Path(tempfile.mkdtemp(prefix=_WRITING, dir=folder.parent))
            _write(tokenize_in_memory(texts, tokenizer, max_length, truncation, pairs), aside)
            aside.rename(folder)
        except OSError as error:
            if not folder.exists():  # no other process was faster
                raise UserError(
                    f"Expected room and permission for tokens in the cache {cache}, found: {error}. Mend that, or set "
                    "the environment variable UDA_CACHE to another folder."
                ) from error
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)
    types = _mapped(folder / "types.npy") if (folder / "types.npy").exists() else None
    return TokenStore(_mapped(folder / "ids.npy"), np.load(folder / "offsets.npy"), types)


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
    prefix, suffix = _special_tokens(tokenizer) if pairs is None else (0, 0)
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        if pairs is None:
            encoded = tokenizer(chunk, truncation=False, padding=False, verbose=False)
            rows.extend(_cut(ids, prefix, suffix, max_length, truncation) for ids in encoded["input_ids"])
        else:
            encoded = _encode_pairs(chunk, list(pairs[start : start + _CHUNK]), tokenizer, max_length, truncation)
            rows.extend(np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"])
            types.extend(np.asarray(each, dtype=np.int8) for each in encoded.get("token_type_ids", []))
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)
    return TokenStore(ids, offsets, np.concatenate(types) if types else None)


def truncation_side(truncation: Truncation) -> str:
    """The end at which a tokenizer of transformers has to cut; it cannot keep both ends."""
    return "right" if truncation is Truncation.head else "left"


def _remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left half written, once nobody can be at it any more."""
    for path in folder.glob(f"{_WRITING}*"):
        with suppress(FileNotFoundError):  # another process deleted it
            if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r") if os.path.getsize(path) > 128 else np.load(path)


def _key(
    texts: Sequence[str], tokenizer: Any, max_length: int, truncation: Truncation, pairs: Sequence[str] | None
) -> str:
    names = "" if pairs is None else f" pairs {sorted(tokenizer.model_input_names)}"
    digest = hashlib.sha256(f"1 {max_length} {truncation.value} {_fingerprint(tokenizer)}{names}".encode())
    for column in [texts] if pairs is None else [texts, pairs]:
        for text in column:
            raw = text.encode()
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
    return digest.hexdigest()[:32]


def _fingerprint(tokenizer: Any) -> str:
    """Other for tokenizers that give other ids; truncation and padding, which any call may set, take no part."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        state = {key: value for key, value in state.items() if key not in ("truncation", "padding")}
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()
    options = sorted((key, repr(value)) for key, value in tokenizer.init_kwargs.items())
    state = (type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), options)
    return hashlib.sha256(repr(state).encode()).hexdigest()


def _write(store: TokenStore, folder: Path) -> None:
    for name in ("ids", "offsets", "types"):
        array = getattr(store, name)
        if array is None:
            continue
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())  # the folder's name must not reach the disk before its content


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
