"""Lines of text to tables: CSV, Orange's tables, JSONL and plain text, a number of rows at a time."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import pandas as pd

DELIMITERS = (",", ";", "\t", "|")
# What the second line of an Orange table says of a column, but for a list of its values.
ORANGE_TYPES = {
    *("c", "continuous", "numeric", "n"),
    *("d", "discrete", "categorical"),
    *("s", "string", "text"),
    *("t", "time"),
}
_SAMPLE_CHARACTERS = 65_536  # what the delimiter is found in


def csv_tables(lines: Iterator[str], delimiter: str | None, header: bool, chunk_rows: int) -> Iterator[pd.DataFrame]:
    """The rows of a CSV; values are strings, None where the cell is empty; delimiter None: found.

    A table with a header and no rows gives one frame of no rows. A blank line is an empty cell where there is but one
    column, and allowed at the end elsewhere. Raises ValueError for what is no such table.
    """
    csv.field_size_limit(sys.maxsize)  # by default a text has at most 131,072 characters
    if delimiter is None:
        sample = list(_sample(lines))
        delimiter = find_delimiter(sample)
        lines = chain(sample, lines)
    records = _records(csv.reader(lines, delimiter=delimiter, strict=True))
    first = next(records, None)
    if not first:
        raise ValueError("no columns to read" if first is None else "a blank line in place of its first row")
    columns = first if header else [f"column_{number}" for number in range(len(first))]
    check_columns(columns)
    rows = _checked(records if header else chain([first], records), columns, "its header" if header else "the first")
    yield from _frames(rows, columns, chunk_rows)


def orange_tables(lines: Iterator[str], chunk_rows: int) -> Iterator[pd.DataFrame]:
    """The rows of a table of the suite Orange: names, types and flags in three lines, then rows, cells parted by tabs.

    Values are strings whatever the types say, None where the cell is empty; blank lines are passed over. Raises
    ValueError for what is no such table, a plain TSV named `.tab` among it.
    """
    csv.field_size_limit(sys.maxsize)
    records = (record for record in _records(csv.reader(lines, delimiter="\t", strict=True)) if record)
    columns, types, flags = (next(records, []) for _ in range(3))
    known = bool(types) and all(cell in ORANGE_TYPES or " " in cell for cell in types)
    if not known or not len(columns) == len(types) == len(flags):
        raise ValueError(
            "no lines of names, types (such as d, c, string) and flags at its start. Set the format to tsv where the "
            "first line alone has names"
        )
    check_columns(columns)
    yield from _frames(_checked(records, columns, "its header"), columns, chunk_rows)


def jsonl_tables(lines: Iterator[str], chunk_rows: int) -> Iterator[pd.DataFrame]:
    """The objects of a JSONL, one a line, blank lines skipped; None where an object lacks a key.

    Raises ValueError for what is no such table.
    """
    rows = _objects(lines)
    while chunk := list(islice(rows, chunk_rows)):
        columns = list(dict.fromkeys(chain.from_iterable(chunk)))
        yield _frame([[row.get(name) for name in columns] for row in chunk], columns)


def text_tables(lines: Iterator[str], chunk_rows: int) -> Iterator[pd.DataFrame]:
    """A text a line, in the column `text`; a blank line is a blank text."""
    while chunk := [[line.rstrip("\r\n")] for line in islice(lines, chunk_rows)]:
        yield _frame(chunk, ["text"])


def find_delimiter(sample: Sequence[str]) -> str:
    """The delimiter of a CSV that starts with these lines.

    It is the one of , ; tab | that parts every record into the same number of cells, more than one, quotes heeded.
    Where none does, the only one that occurs in the first record, so that the rows that do not fit can be named; or
    else the comma. Raises ValueError where two of them part every record.
    """
    counts = {delimiter: _cell_counts(sample, delimiter) for delimiter in DELIMITERS}
    fitting = [delimiter for delimiter, found in counts.items() if len(set(found)) == 1 and found[0] > 1]
    if len(fitting) > 1:
        raise ValueError(f"a table that {' and '.join(map(repr, fitting))} part alike. Set the delimiter")
    if not fitting:
        fitting = [delimiter for delimiter, found in counts.items() if found and found[0] > 1]
    return fitting[0] if len(fitting) == 1 else ","


def check_columns(columns: Sequence[str]) -> None:
    """Raises ValueError where two columns have one name."""
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(f"two columns of the name '{twice[0]}'")


def _sample(lines: Iterator[str]) -> Iterator[str]:
    size = 0
    while size < _SAMPLE_CHARACTERS and (line := next(lines, None)) is not None:
        size += len(line)
        yield line


def _cell_counts(sample: Sequence[str], delimiter: str) -> list[int]:
    """The number of cells of each record that is not blank; without the last one, which the sample may cut."""
    counts = [len(record) for record in csv.reader(sample, delimiter=delimiter) if record]
    whole = sum(map(len, sample)) < _SAMPLE_CHARACTERS
    return counts if whole or len(counts) == 1 else counts[:-1]


def _records(reader: Any) -> Iterator[list[str]]:
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{error} in the record that starts in line {line}") from error
        if record is None:
            return
        yield record


def _checked(records: Iterable[list[str]], columns: Sequence[str], model: str) -> Iterator[list[str | None]]:
    """Each record as a row: as many cells as columns, None for an empty one."""
    width = len(columns)
    blank: int | None = None  # the first of the blank lines that may be at the end
    for number, record in enumerate(records):
        if not record and width > 1:
            blank = number if blank is None else blank
            continue
        if blank is not None:
            raise ValueError(f"a blank line in place of row {blank} (counted from 0)")
        cells = record or [""]
        if len(cells) != width:
            more = "more" if len(cells) > width else "fewer"
            raise ValueError(f"row {number} (counted from 0) has {more} cells than {model}: {len(cells)} for {width}")
        yield [cell or None for cell in cells]


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_unique)
            json.dumps(value, ensure_ascii=False).encode() if "\\u" in line else None
        except (ValueError, RecursionError) as error:  # UnicodeEncodeError, for half a surrogate pair, is a ValueError
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(f"line {number}, which is no JSON object")
        yield value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        check_columns([name for name, _ in pairs])
    return value


def _frames(rows: Iterator[list[str | None]], columns: Sequence[str], chunk_rows: int) -> Iterator[pd.DataFrame]:
    """The rows in chunks; one frame of none where there are none."""
    yield _frame(list(islice(rows, chunk_rows)), columns)
    while chunk := list(islice(rows, chunk_rows)):
        yield _frame(chunk, columns)


def _frame(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    cells = {name: [row[place] for row in rows] for place, name in enumerate(columns)}
    return pd.DataFrame(cells, index=pd.RangeIndex(len(rows)), columns=list(columns), dtype=object)
