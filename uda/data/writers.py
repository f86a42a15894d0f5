"""Tables to one file or stream, chunk by chunk: CSV, TSV, JSONL, gzip and zstd of these, Parquet, Arrow."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from uda.data.formats import FORMATS
from uda.errors import UserError

Write = Callable[[pd.DataFrame], None]

WRITABLE = {suffix: kind for suffix, kind in FORMATS.items() if kind not in ("text", "orange")}


@contextmanager
def table_writer(file: BinaryIO, kind: str, compression: str | None) -> Iterator[Write]:
    """A function that appends a chunk of rows to an open file; the table is whole when the context ends.

    kind: csv, tsv, jsonl, parquet or arrow (the file format where the stream can seek, else the stream format).
    compression: gzip, zstd or None, for text. The first chunk says which columns there are, and of which types for
    Parquet and Arrow. The function raises UserError for a later chunk that does not fit.
    """
    if kind in ("parquet", "arrow"):
        with _arrow_writer(file, kind) as write:
            yield write
        return
    packed = None if compression is None else pa.CompressedOutputStream(file, compression)
    stream = file if packed is None else packed
    try:
        yield _jsonl_writer(stream) if kind == "jsonl" else _csv_writer(stream, "\t" if kind == "tsv" else ",")
    finally:
        if packed is not None:
            packed.close()


def _jsonl_writer(stream: Any) -> Write:
    def write(frame: pd.DataFrame) -> None:
        names = [str(name) for name in frame.columns]
        rows = zip(*(_plain(frame[name]) for name in frame.columns), strict=True)
        lines = (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, default=_text) for row in rows)
        stream.write("".join(f"{line}\n" for line in lines).encode())
        _flush(stream)

    return write


def _csv_writer(stream: Any, delimiter: str) -> Write:
    parts: list[str] = []
    # The module quotes a line break only if it is in its own line's end; with both in it, \r is safe too.
    line_end = "\r\n"
    sink = SimpleNamespace(write=lambda record: parts.append(record.removesuffix(line_end) + "\n"))
    writer = csv.writer(sink, delimiter=delimiter, lineterminator=line_end)
    columns: list[str] | None = None

    def write(frame: pd.DataFrame) -> None:
        nonlocal columns
        if columns is None:
            columns = list(frame.columns)
            writer.writerow(columns)
        frame = _fitting(frame, columns)
        writer.writerows(zip(*([_cell(value) for value in _plain(frame[name])] for name in columns), strict=True))
        stream.write("".join(parts).encode())
        parts.clear()
        _flush(stream)

    return write


@contextmanager
def _arrow_writer(file: BinaryIO, kind: str) -> Iterator[Write]:
    writer: Any = None
    schema: pa.Schema = None

    def write(frame: pd.DataFrame) -> None:
        nonlocal writer, schema
        if schema is None:
            schema = pa.schema([(name, _first_type(_array(frame[name], name).type)) for name in frame.columns])
            make = pq.ParquetWriter if kind == "parquet" else pa.ipc.new_file if file.seekable() else pa.ipc.new_stream
            writer = make(file, schema)
        frame = _fitting(frame, schema.names)
        arrays = [_cast(_array(frame[field.name], field.name), field) for field in schema]
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _fitting(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The columns of the first chunk, None where this one lacks them; one that it did not have is refused."""
    late = [str(name) for name in frame.columns if name not in columns]
    if late:
        raise UserError(
            f"Expected the columns of the first rows in all rows, found '{late[0]}' later on, for which the output "
            "has no place. Write JSONL, whose rows may differ, or give every row this key."
        )
    return frame.reindex(columns=columns)


def _array(column: pd.Series, name: str) -> Any:
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowException, OverflowError) as error:
        raise _mixed(name, str(error)) from error


def _first_type(found: pa.DataType) -> pa.DataType:
    """A column whose first rows are all null holds strings."""
    return pa.string() if pa.types.is_null(found) else found


def _cast(array: Any, field: pa.Field) -> Any:
    widened = pa.types.is_integer(array.type) and pa.types.is_floating(field.type)
    if array.type != field.type and not pa.types.is_null(array.type) and not widened:
        raise _mixed(field.name, f"{array.type} after {field.type}")
    try:
        return array.cast(field.type)
    except pa.ArrowException as error:
        raise _mixed(field.name, str(error)) from error


def _mixed(name: str, found: str) -> UserError:
    return UserError(
        f"Expected values of one type in column '{name}', as Parquet and Arrow need, found: {found}. Write JSONL or "
        "CSV, or make them one type."
    )


def _plain(column: pd.Series) -> list[Any]:
    """Python's own values, None for what is missing; a float32 is the shortest number that reads back as it."""
    if column.dtype == np.float32:
        return [None if np.isnan(value) else float(str(value)) for value in column.to_numpy()]
    missing = [value is None or value is pd.NA or value is pd.NaT or value != value for value in column.tolist()]
    return [None if gone else value for gone, value in zip(missing, column.tolist(), strict=True)]


def _cell(value: Any) -> str:
    """A value as a CSV has it: as JSON does, but text as it is."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return _text(value) if _is_text(value) else json.dumps(value, ensure_ascii=False, default=_text)


def _is_text(value: Any) -> bool:
    return isinstance(value, (date, time, Decimal, pd.Timedelta))


def _text(value: Any) -> str:
    """What JSON has no form for, as text."""
    if _is_text(value):
        return str(value)
    raise UserError(
        f"Expected values that can be written as text, found one of {type(value).__name__}. Write Parquet or Arrow."
    )


def _flush(stream: Any) -> None:
    """What a reader of standard output waits for; compression would suffer from it."""
    if not isinstance(stream, pa.NativeFile):
        stream.flush()
