"""Texts to token ids, once: a memory-mapped cache keyed by content, tokenizer and settings."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uda.data.settings import Truncation

log = logging.getLogger(__name__)

_CHUNK = 2_000


@dataclass(frozen=True)
class TokenStore:
    """The token ids of N texts, special tokens included: row i is ids[offsets[i]:offsets[i + 1]]."""

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each row, [N]."""
        return np.diff(self.offsets)


def cache_dir() -> Path:
    """Where caches live: $UDA_CACHE, else ~/.cache/uda."""
    return Path(os.environ.get("UDA_CACHE") or "~/.cache/uda").expanduser()


def tokenize(texts: Sequence[str], tokenizer: Any, max_length: int, truncation: Truncation, cache: Path) -> TokenStore:
    """The token store of the texts, from the cache or made now; at most `max_length` tokens a row.

    Safe with several processes: each writes aside and renames, and any of the equal results may win.
    """
    folder = cache / "tokens" / _key(texts, tokenizer, max_length, truncation)
    if not folder.exists():
        log.info("tokenizing %d texts into %s", len(texts), folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        try:
            _write(texts, tokenizer, max_length, truncation, aside)
            aside.rename(folder)
        except OSError:
            if not folder.exists():  # another process was faster
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return TokenStore(_mapped(folder / "ids.npy"), np.load(folder / "offsets.npy"))


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r") if os.path.getsize(path) > 128 else np.load(path)


def _key(texts: Sequence[str], tokenizer: Any, max_length: int, truncation: Truncation) -> str:
    digest = hashlib.sha256(f"1 {max_length} {truncation.value} {_fingerprint(tokenizer)}".encode())
    for text in texts:
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


def _write(texts: Sequence[str], tokenizer: Any, max_length: int, truncation: Truncation, folder: Path) -> None:
    prefix, suffix = _special_tokens(tokenizer)
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), _CHUNK):
        encoded = tokenizer(list(texts[start : start + _CHUNK]), truncation=False, padding=False, verbose=False)
        rows.extend(_cut(ids, prefix, suffix, max_length, truncation) for ids in encoded["input_ids"])
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    np.save(folder / "ids.npy", np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32))
    np.save(folder / "offsets.npy", offsets)


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
