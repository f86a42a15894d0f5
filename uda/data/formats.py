"""One file or stream of bytes as a table: CSV, TSV, Orange, JSONL, text, gzip and zstd of these, Parquet, Arrow."""

import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from uda.data.decoding import WrongEncoding, decoded_lines, decompressed
from uda.data.records import check_columns, csv_tables, jsonl_tables, orange_tables, text_tables
from uda.errors import UserError, did_you_mean

TEXT_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "orange",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
}
FORMATS = {**TEXT_FORMATS, ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}

_ARROW_FILE = b"ARROW1"  # what Arrow's file format starts with; its stream format starts otherwise
_CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class TableOptions:
    """What the user says of a file; None: found.

    format: csv, tsv, orange, jsonl, parquet, arrow or text; else the ending of the name tells. delimiter: of a CSV, one
    character or `tab`; else found by `records.find_delimiter`. encoding: of the text formats; else that of the byte
    order mark, or else UTF-8. header: False for a CSV whose first line is a row; its columns are column_0, column_1, …
    A header is never guessed: without False there is one.
    prefix: what stands before these names where the user types them, for messages.
    """

    format: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None
    prefix: str = "data."


# Of Parquet files: else all that was read stays in memory until the last row is.
_FLAT: dict[str, Any] = {"pre_buffer": False, "buffer_size": 1 << 20}


def read_table(path: Path, options: TableOptions) -> pd.DataFrame:
    """All rows of a file.

    Values of CSV, TSV, Orange and text are strings, an empty cell of a table is None; those of JSONL are what JSON
    says, None where an object lacks a key; integers of Parquet and Arrow stay integers beside a null. Raises UserError
    for what cannot be read: another format, bytes that are not of the encoding, a row with more or fewer cells than the
    header, two columns of one name, a quote that does not end, a file that is cut off.
    """
    kind = find_format(path, options)
    with _errors(path, options), path.open("rb") as file:
        if kind in TEXT_FORMATS.values():
            return next(_text_tables(file, path, kind, options, sys.maxsize), pd.DataFrame())
        schema, batches = _record_batches(file, kind, _CHUNK_ROWS)
        # No index that pandas has stored, and no integers made floats by a null beside them.
        return pa.Table.from_batches(batches, schema).to_pandas(ignore_metadata=True, integer_object_nulls=True)


def read_tables(path: Path, options: TableOptions, chunk_rows: int, wanted: Collection[str]) -> Iterator[pd.DataFrame]:
    """The rows that `read_table` gives, at most `chunk_rows` at a time, in memory that does not grow with the file.

    A key that JSONL has in some objects is a column of every chunk if it is among `wanted`.
    """
    kind = find_format(path, options)
    keys: list[str] | None = None
    with _errors(path, options), path.open("rb") as file:
        if kind not in TEXT_FORMATS.values():
            for batch in _record_batches(file, kind, chunk_rows)[1]:
                yield batch.to_pandas(ignore_metadata=True, integer_object_nulls=True)
            return
        for chunk in _text_tables(file, path, kind, options, chunk_rows):
            if kind == "jsonl" and not set(wanted) <= set(chunk.columns):
                keys = keys or _keys(path, options, chunk_rows)
                chunk = chunk.reindex(columns=keys)
            yield chunk


def _keys(path: Path, options: TableOptions, chunk_rows: int) -> list[str]:
    """The keys of all objects of a JSONL, each where it comes first."""
    with path.open("rb") as file:
        tables = _text_tables(file, path, "jsonl", options, chunk_rows)
        return list(dict.fromkeys(name for table in tables for name in table.columns))


def stream_tables(source: Path | BinaryIO, options: TableOptions, chunk_rows: int) -> Iterator[pd.DataFrame]:
    """The rows of a file or an open stream, at most `chunk_rows` at a time, in memory that does not grow with it.

    The same rows and errors as `read_table`, but the columns of Parquet and Arrow keep their Arrow types, and a key
    that JSONL has only later on is a column from that chunk on. The `name` of an open stream tells what it holds as a
    path does. Parquet and Arrow's file format need one that can seek.
    """
    name = source if isinstance(source, Path) else _stream_name(source)
    kind = find_format(name, options)
    with ExitStack() as stack, _errors(name, options):
        file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        if kind in TEXT_FORMATS.values():
            yield from _text_tables(file, name, kind, options, chunk_rows)
            return
        _, batches = _record_batches(file, kind, chunk_rows)
        for batch in batches:
            yield batch.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)


def _stream_name(stream: BinaryIO) -> Path:
    name = getattr(stream, "name", None)
    return Path(name) if isinstance(name, str) and not name.startswith("<") else Path("standard input")


def find_format(path: Path, options: TableOptions) -> str:
    """csv, tsv, orange, jsonl, text, parquet or arrow: `options.format`, or else what the ending of the name says."""
    if options.format is not None:
        if options.format not in FORMATS.values():
            kinds = list(dict.fromkeys(FORMATS.values()))
            raise UserError(
                f"{options.prefix}format: expected one of {', '.join(kinds)}, found '{options.format}'."
                f"{did_you_mean(options.format, kinds)} Correct it, or leave it to the file's ending."
            )
        return options.format
    packed = find_compression(path) is not None
    known = TEXT_FORMATS if packed else FORMATS
    suffix = (path.with_suffix("") if packed else path).suffix.lower()
    if suffix not in known:
        raise UserError(
            f"Expected a file ending in {', '.join(FORMATS)}, or one of text with {' or '.join(COMPRESSIONS)} after "
            f"that, found {path}. Convert or rename the file, or set {options.prefix}format."
        )
    return known[suffix]


def find_compression(path: Path) -> str | None:
    """gzip, zstd or None, as the ending of the name says."""
    return COMPRESSIONS.get(path.suffix.lower())


@contextmanager
def _errors(path: Path, options: TableOptions) -> Iterator[None]:
    """Whatever is wrong with the content of a file as one UserError."""
    try:
        yield
    except WrongEncoding as error:
        raise UserError(
            f"Expected {path} to be text that can be read, found {error}. Set {options.prefix}encoding to what it was "
            f"written in, such as {options.prefix}encoding=cp1252, or convert it to UTF-8."
        ) from error
    except (ValueError, OSError, EOFError, pa.ArrowException) as error:
        kind = "".join(path.suffixes[-2:] if find_compression(path) else path.suffixes[-1:]) or options.format
        raise UserError(f"Expected {path} to be a readable {kind} file, found: {error}. Check the file.") from error


def _text_tables(
    file: BinaryIO, path: Path, kind: str, options: TableOptions, chunk_rows: int
) -> Iterator[pd.DataFrame]:
    _check_options(options)
    lines = decoded_lines(decompressed(file, find_compression(path)), options.encoding)
    if kind == "jsonl":
        return jsonl_tables(lines, chunk_rows)
    if kind == "text":
        return text_tables(lines, chunk_rows)
    if kind == "orange":
        return orange_tables(lines, chunk_rows)
    delimiter = "\t" if options.delimiter == "tab" else options.delimiter
    if delimiter is None and kind == "tsv":
        delimiter = "\t"
    return csv_tables(lines, delimiter, options.header is not False, chunk_rows)


def _check_options(options: TableOptions) -> None:
    delimiter = options.delimiter
    if delimiter not in (None, "tab") and (len(delimiter) != 1 or delimiter in '"\r\n '):
        raise UserError(
            f"{options.prefix}delimiter: expected one character or tab, found {delimiter!r}. Set it to what stands "
            "between two cells, or leave it to be found."
        )
    if options.encoding is not None:
        try:
            "".encode(options.encoding)
        except LookupError:
            raise UserError(
                f"{options.prefix}encoding: expected an encoding of text that Python knows, found "
                f"'{options.encoding}'. Set one such as utf-8, cp1252 or utf-16."
            ) from None


def _record_batches(file: BinaryIO, kind: str, chunk_rows: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema, and the rows of Parquet or Arrow, at most `chunk_rows` a batch; dictionaries become their values."""
    if kind == "parquet":
        parquet = pq.ParquetFile(file, **_FLAT)
        schema, batches = parquet.schema_arrow, parquet.iter_batches(batch_size=chunk_rows)
    else:
        schema, batches = _arrow_batches(file)
    check_columns(schema.names)
    plain = pa.schema([_plain_field(field) for field in schema])
    cut = (
        batch.slice(start, chunk_rows).cast(plain)
        for batch in batches
        for start in range(0, batch.num_rows, chunk_rows)
    )
    return plain, cut


def _arrow_batches(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    start = b""
    if file.seekable():
        start = file.read(len(_ARROW_FILE))
        file.seek(0)
    if start != _ARROW_FILE:
        stream = pa.ipc.open_stream(file)
        return stream.schema, iter(stream)
    reader = pa.ipc.open_file(file)
    return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


def _plain_field(field: pa.Field) -> pa.Field:
    """The field without a dictionary: its batches may each bring another one, which not every file can hold."""
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
