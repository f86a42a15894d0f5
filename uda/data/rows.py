"""Unlabelled rows, of which there may be millions: written once, memory-mapped, looked at in chunks."""

import hashlib
import json
import logging
import mmap
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from uda.data.cache import cached_folder
from uda.files import map_file

log = logging.getLogger(__name__)

VERSION = 1  # another one for other content of what is stored from the same sources by the same settings
CHUNK_ROWS = 4_096  # read and written at a time

_HASH = pa.binary(32)
_TYPES = {"text": pa.string(), "text_pair": pa.string(), "key": pa.string(), "raw_hash": _HASH, "folded": _HASH}


class Rows:
    """N rows of a table with the columns text (cleaned), text_pair (of pairs), key, raw_hash and folded.

    The columns are those of `splits.Split`, in its order; the hashes are stored as 32 bytes. What is asked for is read
    from the table, which lies on the disk or in memory. content: another string for other texts or keys.
    """

    def __init__(
        self, table: pa.Table, digest: str, chosen: np.ndarray | None = None, mapping: mmap.mmap | None = None
    ) -> None:
        self._table = table
        self._mapping = mapping  # of the file that the table lies in
        self._digest = digest
        self._chosen = chosen  # the numbers of the rows in the table, ascending; None: all

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Rows":
        """The rows of a frame, in memory; raw_hash and folded are hexadecimal digits there."""
        digest = _Digest()
        starts = range(0, len(frame), CHUNK_ROWS)
        batches = [digest.added(_batch(frame.iloc[start : start + CHUNK_ROWS])) for start in starts]
        return cls(pa.Table.from_batches(batches, _schema("text_pair" in frame)), digest.value())

    def __len__(self) -> int:
        return self._table.num_rows if self._chosen is None else len(self._chosen)

    @property
    def paired(self) -> bool:
        """Whether the rows are pairs of texts."""
        return "text_pair" in self._table.column_names

    @property
    def text(self) -> Iterator[str]:
        """Each row's text."""
        return self._values("text")

    @property
    def text_pair(self) -> Iterator[str]:
        """Each row's second text."""
        return self._values("text_pair")

    @property
    def key(self) -> Iterator[str]:
        """Each row's key."""
        return self._values("key")

    @cached_property
    def content(self) -> str:
        """Another string for other texts, keys, or order."""
        if self._chosen is None:
            return self._digest
        digest = hashlib.sha256(self._digest.encode())
        digest.update(self._chosen.data)
        return digest.hexdigest()

    def columns(self, names: list[str], size: int) -> Iterator[tuple[list[str], ...]]:
        """Some columns of text, at most `size` rows at a time."""
        for batch in self._batches(names):
            for start in range(0, batch.num_rows, size):
                part = batch.slice(start, size)
                yield tuple(part.column(name).to_pylist() for name in names)

    def take(self, numbers: Iterable[int]) -> pd.DataFrame:
        """A few rows as a frame, hashes in hexadecimal digits, the numbers as its index."""
        numbers = [int(number) for number in numbers]
        places = numbers if self._chosen is None else self._chosen[numbers].tolist()
        tables = [self._table.slice(place, 1) for place in places]
        columns = pa.concat_tables([self._table.slice(0, 0), *tables]).to_pydict()
        for name in ("raw_hash", "folded"):
            columns[name] = [value.hex() for value in columns[name]]
        return pd.DataFrame(columns, index=pd.Index(numbers, dtype=int), dtype=object)

    def head(self, count: int) -> "Rows":
        """The first rows."""
        chosen = np.arange(min(count, len(self)), dtype=np.int32) if self._chosen is None else self._chosen[:count]
        return Rows(self._table, self._digest, chosen, self._mapping)

    def without(self, folded: Iterable[str]) -> "Rows":
        """The rows with none of these hashes of texts, white space folded."""
        kept = self._is_without(folded)
        if self._chosen is not None:
            return Rows(self._table, self._digest, self._chosen[kept[self._chosen]], self._mapping)
        if kept.all():
            return self
        smallest = np.int32 if len(kept) <= np.iinfo(np.int32).max else np.int64
        return Rows(self._table, self._digest, np.arange(len(kept), dtype=smallest)[kept], self._mapping)

    def numbers_without(self, folded: Iterable[str]) -> np.ndarray:
        """The numbers of the rows that `without` keeps, ascending: four bytes each."""
        kept = self._is_without(folded)
        return np.flatnonzero(kept if self._chosen is None else kept[self._chosen]).astype(np.int32)

    def _is_without(self, folded: Iterable[str]) -> np.ndarray:
        """Whether each row of the table has none of these hashes."""
        hashes = pa.array([bytes.fromhex(value) for value in folded], _HASH)
        gone = pc.is_in(self._table["folded"], value_set=hashes)
        return np.concatenate([~chunk.to_numpy(zero_copy_only=False) for chunk in gone.chunks] or [np.zeros(0, bool)])

    def raw_sha256(self) -> str:
        """SHA-256 over the hashes of the raw texts, each in hexadecimal digits, in order."""
        digest = hashlib.sha256()
        for batch in self._batches(["raw_hash"]):
            digest.update(_bytes(batch.column("raw_hash")).tobytes().hex().encode())
        return digest.hexdigest()

    def lowest(self, count: int) -> pd.DataFrame:
        """The `count` rows with the lowest hashes of the raw text, by that hash; equal ones in their order."""
        hashes, numbers, start = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), 0
        for batch in self._batches(["raw_hash"]):
            found = _bytes(batch.column("raw_hash"))[:, :8].copy().view(">u8").ravel().astype(np.uint64)
            low = np.flatnonzero(found < hashes[-1]) if len(hashes) == count else np.arange(len(found))
            hashes, numbers = np.append(hashes, found[low]), np.append(numbers, start + low)
            order = np.argsort(hashes, kind="stable")[:count]
            hashes, numbers = hashes[order], numbers[order]
            start += batch.num_rows
        return self.take(numbers)

    def _values(self, name: str) -> Iterator[str]:
        for (values,) in self.columns([name], CHUNK_ROWS):
            yield from values

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows, batch by batch, as they lie in the table."""
        start = 0
        for batch in self._table.select(names).to_batches():
            end = start + batch.num_rows
            if self._chosen is not None:
                first, last = np.searchsorted(self._chosen, [start, end])
                if last - first < batch.num_rows:
                    batch = batch.take(pa.array(self._chosen[first:last] - start))
            start = end
            yield batch
            if self._mapping is not None:
                self._mapping.madvise(mmap.MADV_DONTNEED)  # what was looked at need not stay in memory


class RowsWriter:
    """Takes the frames that `Rows.of` takes, one after the other, and writes them to the disk."""

    def __init__(self, path: Path, paired: bool) -> None:
        self.digest = _Digest()
        self._writer = pa.ipc.new_file(str(path), _schema(paired))

    def append(self, frame: pd.DataFrame) -> None:
        """Write more rows."""
        self._writer.write_batch(self.digest.added(_batch(frame)))

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()


def stored_rows(
    cache: Path, made_of: Any, paired: bool, write: Callable[[RowsWriter], dict[str, int]]
) -> tuple[Rows, dict[str, int]]:
    """Rows on the disk with some facts about them, from the cache or made now.

    made_of: all that decides what they are, in values that JSON knows. write: gives the rows to the writer and
    returns the facts.
    """
    key = hashlib.sha256(json.dumps([VERSION, made_of], sort_keys=True, default=str).encode()).hexdigest()[:32]

    def fill(aside: Path) -> None:
        log.info("reading the unlabelled rows into %s", cache / "rows" / key)
        writer = RowsWriter(aside / "rows.arrow", paired)
        try:
            facts = write(writer)
        finally:
            writer.close()
        (aside / "facts.json").write_text(json.dumps({"digest": writer.digest.value(), **facts}))

    folder = cached_folder(cache / "rows" / key, "rows", fill)
    facts = json.loads((folder / "facts.json").read_text())
    mapping = map_file(folder / "rows.arrow")
    table = pa.ipc.open_file(pa.py_buffer(mapping)).read_all()
    return Rows(table, facts.pop("digest"), mapping=mapping), facts


class _Digest:
    """SHA-256 over texts and keys, whatever the batches."""

    def __init__(self) -> None:
        self._columns = {name: hashlib.sha256() for name in ("text", "text_pair", "key")}

    def added(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for name in set(batch.schema.names) & set(self._columns):
            for value in batch.column(name).to_pylist():
                raw = value.encode()
                self._columns[name].update(len(raw).to_bytes(8, "little"))
                self._columns[name].update(raw)
        return batch

    def value(self) -> str:
        return hashlib.sha256("".join(one.hexdigest() for one in self._columns.values()).encode()).hexdigest()


def _schema(paired: bool) -> pa.Schema:
    return pa.schema([(name, kind) for name, kind in _TYPES.items() if paired or name != "text_pair"])


def _batch(frame: pd.DataFrame) -> pa.RecordBatch:
    schema = _schema("text_pair" in frame)
    columns = {name: list(frame[name]) for name in schema.names}
    for name in ("raw_hash", "folded"):
        columns[name] = [bytes.fromhex(value) for value in columns[name]]
    arrays = [pa.array(values, schema.field(name).type) for name, values in columns.items()]
    return pa.record_batch(arrays, schema)


def _bytes(hashes: pa.FixedSizeBinaryArray) -> np.ndarray:
    """Hashes as their bytes, [N, 32]."""
    width = _HASH.byte_width
    raw = np.frombuffer(hashes.buffers()[1], dtype=np.uint8, count=(hashes.offset + len(hashes)) * width)
    return raw[hashes.offset * width :].reshape(-1, width)
