"""Files of texts, each under a key: sorted by key, memory-mapped, searched where they lie, merged piece by piece."""

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from uda.errors import UserError
from uda.files import map_file, sync

SUFFIX = ".arrow"
_KEY_BYTES = 32  # of SHA-256
_KEYS = np.dtype(f"S{_KEY_BYTES}")
_BATCH_ROWS = 2_048
_HELD_BATCHES = 64  # that stay in memory while keys are looked up
_SCHEMA = pa.schema([("key", pa.binary(_KEY_BYTES)), ("text", pa.large_string())])


class TextFile:
    """A file that `write_texts` made, memory-mapped: N texts, their keys ascending. What is asked for is read.

    Raises UserError where the file is damaged and FileNotFoundError where it is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # The rows stay when another process deletes the file.
            self._mapping = map_file(path)
            self._table = pa.ipc.open_file(pa.py_buffer(self._mapping)).read_all()
        except ValueError as error:  # pyarrow's too
            raise UserError(
                f"Expected augmented texts in {path}, found the file damaged: {error}. Delete it: its texts will be "
                "made again."
            ) from error
        self._batches = self._table.to_batches()
        self._keys = [_keys_of(batch["key"]) for batch in self._batches]
        self._starts = np.array([keys[0] for keys in self._keys], dtype=_KEYS)
        self._offsets = np.cumsum([0, *map(len, self._keys)])
        self.release()

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Which of the keys the file has."""
        found = np.zeros(len(keys), dtype=bool)
        for asked, _, _ in self._hits(keys):
            found[asked] = True
        return found

    def read_into(self, texts: list[str | None], keys: np.ndarray) -> None:
        """Put the text of each key that the file has into `texts`, at the key's place."""
        for asked, batch, rows in self._hits(keys):
            for place, text in zip(asked.tolist(), batch["text"].take(pa.array(rows)).to_pylist(), strict=True):
                texts[place] = text

    def release(self) -> None:
        """Let go of the memory that holds what was looked at; it is there again when it is needed."""
        self._mapping.madvise(mmap.MADV_DONTNEED)

    def between(self, low: bytes, high: bytes | None) -> pa.Table:
        """The rows whose keys are at least `low`, and below `high` where that is not None."""
        start = self._position(low)
        return self._table.slice(start, (len(self) if high is None else self._position(high)) - start)

    def _hits(self, keys: np.ndarray) -> Iterator[tuple[np.ndarray, pa.RecordBatch, np.ndarray]]:
        """Batch by batch the places in `keys` of those that it has, the batch, and their rows in it."""
        numbers = np.searchsorted(self._starts, keys, side="right") - 1
        for count, number in enumerate(np.unique(numbers[numbers >= 0]), start=1):
            asked = np.flatnonzero(numbers == number)
            stored = self._keys[number]
            rows = np.minimum(np.searchsorted(stored, keys[asked]), len(stored) - 1)
            found = stored[rows] == keys[asked]
            if found.any():
                yield asked[found], self._batches[number], rows[found]
            if count % _HELD_BATCHES == 0:
                self.release()
        self.release()

    def _position(self, key: bytes) -> int:
        wanted = np.array([key], dtype=_KEYS)
        number = max(int(np.searchsorted(self._starts, wanted, side="right")[0]) - 1, 0)
        return int(self._offsets[number] + np.searchsorted(self._keys[number], wanted)[0])


def as_keys(digests: Sequence[bytes]) -> np.ndarray:
    """SHA-256 digests as an array that can be searched for."""
    return np.frombuffer(b"".join(digests), dtype=_KEYS)


def write_texts(folder: Path, aside: Path, pieces: Iterable[pa.RecordBatch]) -> Path:
    """Write pieces of `sorted_piece` or `merged`, which follow each other by key, into one file of `folder`.

    The file is written as `aside`, synced and renamed; its name is a hash of its keys, its bytes depend on its keys and
    texts alone.
    """
    digest = hashlib.sha256()
    try:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            for batch in _of_equal_size(pieces):
                digest.update(_keys_of(batch["key"]).data)
                writer.write_batch(batch)
        sync(aside)
        path = folder / f"{digest.hexdigest()[:32]}{SUFFIX}"
        aside.rename(path)
        sync(folder)
    finally:
        aside.unlink(missing_ok=True)
    return path


def sorted_piece(keys: np.ndarray, texts: pa.Array) -> pa.RecordBatch:
    """Texts by their keys [N]; of equal keys the first one's text."""
    keys, rows = np.unique(keys, return_index=True)
    raw = pa.py_buffer(keys.tobytes())
    column = pa.FixedSizeBinaryArray.from_buffers(_SCHEMA.field("key").type, len(keys), [None, raw])
    return pa.record_batch([column, texts.cast(_SCHEMA.field("text").type).take(pa.array(rows))], schema=_SCHEMA)


def merged(files: Sequence[TextFile]) -> Iterator[pa.RecordBatch]:
    """The rows of all files by their keys; of equal keys the text in the first file. In memory are a few thousand."""
    bits = max(sum(map(len, files)) // _BATCH_ROWS, 1).bit_length()  # keys are hashes, so their ranges are equally full
    starts = [(number << (64 - bits)).to_bytes(8, "big") for number in range(1 << bits)]
    for low, high in zip(starts, [*starts[1:], None], strict=True):
        table = pa.concat_tables([file.between(low, high) for file in files]).combine_chunks()
        for batch in table.to_batches():
            yield sorted_piece(_keys_of(batch["key"]), batch["text"])
        for file in files:
            file.release()


def _of_equal_size(pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, _BATCH_ROWS at a time."""
    kept: list[pa.RecordBatch] = []
    for piece in pieces:
        kept.append(piece)
        while (num_rows := sum(batch.num_rows for batch in kept)) >= _BATCH_ROWS:
            whole = pa.concat_batches(kept)
            yield whole.slice(0, _BATCH_ROWS)
            kept = [whole.slice(_BATCH_ROWS)] if num_rows > _BATCH_ROWS else []
    if kept:
        yield pa.concat_batches(kept)


def _keys_of(column: pa.FixedSizeBinaryArray) -> np.ndarray:
    raw = np.frombuffer(column.buffers()[1], dtype=_KEYS, count=column.offset + len(column))
    return raw[column.offset :]
