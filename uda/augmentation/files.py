"""Paraphrases that somebody already has, read from a file."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from uda.augmentation.base import Augmenter
from uda.augmentation.on_disk import map_from_disk
from uda.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

_SUFFIXES = (".csv", ".jsonl", ".parquet")
_CHUNK_ROWS = 10_000
_BUFFER = 1 << 20  # bytes; without it, and with pre_buffer, all that was read would stay in memory
_NAMED = 5  # how many ids a message names


class Paraphrases(Augmenter):
    """One paraphrase for each unlabelled row, from the column `column` of a CSV, JSONL or Parquet file.

    Without `id_column` the file's n-th row belongs to the n-th row of the unlabelled source; with it a row
    belongs to the one of the same id. The texts lie in a memory-mapped temporary file; with ids a few
    hundred bytes a row stay in memory. Raises UserError where file, columns or rows are not as announced.
    """

    single_texts_only = True
    by_key = True

    def __init__(self, path: str, column: str, id_column: str | None) -> None:
        self.path = Path(str(path)).expanduser()  # a name like 2024 reaches us as a number
        self.column = str(column)
        self.id_column = None if id_column is None else str(id_column)
        _check_file(self.path)
        _check_column(self.path, "augment.column", self.column)
        if self.id_column is not None:
            _check_column(self.path, "augment.id_column", self.id_column)

    def prepare(self, texts: Iterable[str], keys: Iterable[str], num_source_rows: int) -> None:
        ids: list[str | None] = []
        self._paraphrases = map_from_disk(self._read(ids))
        if self.id_column is None:
            self._row_of: dict[str, int] | None = None
            self._check_rows(keys, num_source_rows)
        else:
            self._row_of = {key: row for row, key in enumerate(ids) if key is not None}
            self._check_ids(keys, [key for key in ids if key is not None])

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        if copy > 0:
            raise UserError(
                f"augment.num_copies: expected 1, because {self.path} holds one paraphrase a text; copy "
                f"{copy + 1} was asked for. Set augment.num_copies=1."
            )
        rows = [int(key) if self._row_of is None else self._row_of[key] for key in keys]
        return [self._paraphrases[row].as_py() for row in rows]

    def fingerprint(self) -> str:
        found = self.path.stat()
        return f"{super().fingerprint()} {self.path.resolve()} {found.st_size} {found.st_mtime_ns}"

    def _read(self, ids: list[str | None]) -> Iterator[list[str]]:
        """Yields the paraphrases chunk by chunk and appends the ids, if there are any, to `ids`."""
        columns = [self.column] if self.id_column is None else [self.column, self.id_column]
        row = 0
        for frame in _read_chunks(self.path, columns):
            paraphrases = frame[self.column].tolist()
            for number, text in enumerate(paraphrases, start=row):
                if not isinstance(text, str) or not text.strip():
                    raise UserError(
                        f"{self.path}: expected a text in column '{self.column}' (augment.column) of every "
                        f"row, found {text!r} in row {number} (the first row of data is row 0). Fill it in, "
                        "with the original text if there is no paraphrase."
                    )
            if self.id_column is not None:
                ids += [_as_id(key) for key in frame[self.id_column].tolist()]
            row += len(paraphrases)
            yield paraphrases

    def _check_rows(self, keys: Iterable[str], num_source_rows: int) -> None:
        num_rows = len(self._paraphrases)
        if num_rows != num_source_rows:
            raise UserError(
                f"{self.path}: expected {num_source_rows} rows, one for each row of the unlabelled source in "
                f"its order, found {num_rows}. Give augment.path such a file, or match rows by id with "
                "augment.id_column and data.id_column."
            )
        for key in keys:
            if not key.isdecimal() or int(key) >= num_rows:
                raise UserError(
                    f"augment.id_column: expected the name of the id column in {self.path}, because the "
                    f"unlabelled rows go by ids (data.id_column) such as '{key}', found none. Set "
                    "augment.id_column, or data.id_column=null to match by row."
                )

    def _check_ids(self, keys: Iterable[str], ids: list[str]) -> None:
        assert self._row_of is not None
        if len(self._row_of) < len(ids):
            repeated = [key for key, count in Counter(ids).items() if count > 1]
            raise UserError(
                f"{self.path}: expected unique ids in column '{self.id_column}' (augment.id_column), found "
                f"{_first(repeated)} more than once. Keep one row for each id, or name another column."
            )
        wanted = list(keys)
        missing = [key for key in wanted if key not in self._row_of]
        if missing:
            raise UserError(
                f"{self.path}: expected a row for the id of every unlabelled row, found none for "
                f"{_first(missing)}. Add these rows, or make augment.id_column (now '{self.id_column}') and "
                "data.id_column name columns of the same ids."
            )
        if len(wanted) < len(ids):  # often those of the labelled and the test rows
            unused = set(ids) - set(wanted)
            few = [key for key in ids if key in unused]
            log.info("%s: paraphrases of no unlabelled row are left out, of the ids %s", self.path, _first(few))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(
            f"augment.path: expected a file of paraphrases, found none at {path.absolute()}. Set augment.path "
            "to an existing CSV, JSONL or Parquet file."
        )
    if path.suffix not in _SUFFIXES:
        raise UserError(
            f"augment.path: expected a file whose name ends in {', '.join(_SUFFIXES)}, found '{path.name}'. "
            "Convert or rename the file."
        )


def _check_column(path: Path, setting: str, column: str) -> None:
    columns = _column_names(path)
    if column not in columns:
        found = ", ".join(f"'{name}'" for name in columns)
        raise UserError(
            f"{setting}: expected a column '{column}' in {path}, found {found}."
            f"{did_you_mean(column, columns)} Set {setting} to one of them."
        )


def _column_names(path: Path) -> list[str]:
    try:
        if path.suffix == ".parquet":
            return list(pq.read_schema(path).names)
        if path.suffix == ".csv":
            return list(pd.read_csv(path, nrows=0).columns)
        return list(pd.read_json(path, lines=True, nrows=1).columns)
    except ValueError as error:
        raise _unreadable(path, error) from error


def _read_chunks(path: Path, columns: list[str]) -> Iterator[pd.DataFrame]:
    """The file's rows in chunks, values as they stand: a CSV's '007' and 'NA' are strings like any other."""
    try:
        if path.suffix == ".parquet":
            for batch in pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER).iter_batches(
                _CHUNK_ROWS, columns=columns
            ):
                yield batch.to_pandas()
        elif path.suffix == ".csv":
            yield from _read_csv(path)
        else:
            for frame in pd.read_json(path, lines=True, dtype=False, chunksize=_CHUNK_ROWS):
                yield frame.reindex(columns=columns)  # a chunk may lack a key in all its rows
    except ValueError as error:
        raise _unreadable(path, error) from error


def _read_csv(path: Path) -> Iterator[pd.DataFrame]:
    frames = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False, chunksize=_CHUNK_ROWS)
    for frame in frames:
        # pandas would take the first of one cell too many, such as half a text with an unquoted comma, for an index.
        if not isinstance(frame.index, pd.RangeIndex):
            raise ValueError("its rows have more cells than its header")
        yield frame


def _as_id(value: Any) -> str | None:
    """An id as the data's rows go by it: 12.0, an integer beside a null, is '12'; a null or a blank is None."""
    if not pd.api.types.is_list_like(value) and pd.isna(value):
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return text if text.strip() else None


def _unreadable(path: Path, error: ValueError) -> UserError:
    return UserError(
        f"{path}: expected a readable {path.suffix[1:].upper()} file, found: {error}. Mend the file, or give "
        "augment.path another."
    )


def _first(names: list[str]) -> str:
    """The first few names and how many there are: "'a', 'b' (2 in all)"."""
    more = ", …" if len(names) > _NAMED else ""
    return f"{', '.join(repr(name) for name in names[:_NAMED])}{more} ({len(names)} in all)"
