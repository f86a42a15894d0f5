"""Locations to tables: files, splits on the hub, files inside a pip package."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uda.data.formats import TableOptions, find_format, read_table, read_tables
from uda.data.labels import as_text, read_labels
from uda.data.locations import STDIN, as_list, files_below, files_of, read_text_folder, spooled_standard_input
from uda.data.settings import DataSettings, Source
from uda.errors import UserError, did_you_mean
from uda.hub import hub_is_reachable
from uda.packages import file_sha256, package_path

log = logging.getLogger(__name__)

_OWN = "For a file of your own choose +experiment=files, or add data=files."


@dataclass(frozen=True)
class Table:
    """One location of `data.<role>`.

    name: as messages call it. identity: what tells its content from any other, in values that JSON knows. chunks: its
    rows as they stand there, at most so many at a time; None: all at once. lines: they are lines of text, which have no
    column but that: their id is their number.
    """

    name: str
    identity: Callable[[], list[Any]]
    chunks: Callable[[int | None], Iterator[pd.DataFrame]]
    lines: bool = False


def read(settings: DataSettings, role: str, found: list[Table] | None = None) -> pd.DataFrame:
    """The rows of `data.<role>` as a frame with the columns text, label (None where there is none) and key.

    Rows keep their order. The index is the row's number in the source: all rows of the files count from 0, one
    file after the other, whatever index a file carries and whatever `where` leaves out. `key` is the id column's
    value, or else that number as a string; `frame.attrs["num_source_rows"]` is how many numbers there are. Raises
    UserError for a location that cannot be read or has no rows, a missing column, a `where` that matches nothing,
    a text that is null or blank, and a label that is no class. found: the tables, where they are known already.
    """
    frames = list(read_chunks(settings, role, tables(settings, role) if found is None else found, None))
    frame = pd.concat(frames)
    frame.attrs["num_source_rows"] = frames[-1].attrs["num_source_rows"]
    return frame


def read_chunks(
    settings: DataSettings, role: str, tables: list[Table], chunk_rows: int | None
) -> Iterator[pd.DataFrame]:
    """The frame of `read`, at most `chunk_rows` at a time; its attribute counts the source's rows so far."""
    num_rows, num_matching = 0, 0
    for table in tables:
        blank = BlankRows()
        before = num_rows
        for raw in table.chunks(chunk_rows):
            if not len(raw):
                continue
            raw.index = pd.RangeIndex(num_rows, num_rows + len(raw))
            num_rows += len(raw)
            if table.lines and settings.id_column is not None:
                raw[settings.id_column] = raw.index
            frame = _columns(_matching(raw, settings, table.name), settings, role, table.name, blank)
            num_matching += len(frame)
            frame.attrs["num_source_rows"] = num_rows
            if not blank.count:
                yield frame
        if num_rows == before:
            raise UserError(f"Expected rows in data.{role} ({table.name}), found none. Add some, or name other files.")
        if blank.count:
            raise UserError(
                f"Expected a text in every row of data.{role} ({table.name}), found {blank.count} rows whose "
                f"'{blank.column}' is null, blank or no text; first at row {', '.join(map(str, blank.first))} "
                "(counted from 0). Remove or fill these rows."
            )
    if not num_matching:
        raise UserError(
            f"Expected rows of data.{role} that match data.where ({settings.where}), found none among {num_rows}. "
            "Correct data.where."
        )


@dataclass
class BlankRows:
    """Rows without a text in one column: how many, and the numbers of the first five."""

    column: str = ""
    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, column: str, rows: list[int]) -> None:
        """Count rows, unless those of another column are counted."""
        self.column = self.column or (column if rows else "")
        if column == self.column:
            self.count += len(rows)
            self.first = [*self.first, *rows][:5]


def tables(settings: DataSettings, role: str) -> list[Table]:
    """The locations of `data.<role>`; raises UserError for one that is not there."""
    value = getattr(settings, role)
    if settings.source is Source.hub:
        return [_hub_table(settings, split) for split in as_list(value, role)]
    if settings.source is Source.package:
        if settings.package is None:
            raise UserError("data.source=package: expected the name of a pip package, found none. Set data.package.")
        names = as_list(value, role)
        paths = [package_path(settings.package, name, settings.sha256, _OWN) for name in names]
        return [_file_table(settings, path, name) for path, name in zip(paths, names, strict=True)]
    return [
        _folder_table(settings, role, path) if path.is_dir() else _one_file(settings, role, path)
        for path in files_of(value, role, _options(settings))
    ]


def _one_file(settings: DataSettings, role: str, path: Path) -> Table:
    if str(path) != STDIN:
        return _file_table(settings, path, str(path))
    table = _file_table(settings, spooled := spooled_standard_input(role, settings.text_column), STDIN)
    return replace(table, identity=lambda: [STDIN, spooled.suffixes, file_sha256(spooled)])


def _file_table(settings: DataSettings, path: Path, name: str) -> Table:
    options = _options(settings)
    _check_file(path)
    lines = find_format(path, options) == "text"

    def chunks(chunk_rows: int | None) -> Iterator[pd.DataFrame]:
        wanted = {settings.text_column, settings.text_pair_column, settings.id_column, *(settings.where or {})} - {None}
        if chunk_rows is None:
            found = iter([read_table(path, options)])
        else:
            found = read_tables(path, options, chunk_rows, wanted)
        for table in found:
            yield table.rename(columns={"text": settings.text_column}) if lines else table

    return Table(name, lambda: _identity(path), chunks, lines)


def _folder_table(settings: DataSettings, role: str, folder: Path) -> Table:
    def chunks(chunk_rows: int | None) -> Iterator[pd.DataFrame]:
        table = read_text_folder(folder, role, settings.text_column, settings.label_column, settings.encoding)
        log.info("data.%s: %d texts below %s, one a file", role, len(table), folder)
        yield table

    return Table(str(folder), lambda: [_identity(path) for path in files_below(folder)], chunks)


def _identity(path: Path) -> list[Any]:
    """What is other for another content: the times to the nanosecond in which a file was last written, which a program
    may set back, and last changed in any way, which none may; and more.
    """
    found = path.stat()
    return [str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _hub_table(settings: DataSettings, split: str) -> Table:
    rows = _load_hub(settings, split)
    names = getattr(rows.features.get(settings.label_column), "names", None)

    def chunks(chunk_rows: int | None) -> Iterator[pd.DataFrame]:
        for frame in rows.to_pandas(batch_size=chunk_rows or max(len(rows), 1), batched=True):
            if names:
                frame[settings.label_column] = [
                    names[int(label)] if label >= 0 else None  # a null is a NaN, no label may be -1
                    for label in frame[settings.label_column]
                ]
            yield frame

    # The fingerprint is of the files that the data set was made of and of their revision.
    identity = [settings.repository, settings.subset, settings.revision, split, rows._fingerprint]
    return Table(split, lambda: identity, chunks)


def _options(settings: DataSettings) -> TableOptions:
    return TableOptions(settings.format, settings.delimiter, settings.encoding, settings.header)


def read_file(path: Path, options: TableOptions | None = None) -> pd.DataFrame:
    """The table in a file; see `formats.read_table`."""
    _check_file(path)
    return read_table(path, options or TableOptions())


def _check_file(path: Path) -> None:
    if not path.is_file():
        unset = " The variable in it is not set." if "$" in str(path) else ""
        raise UserError(f"Expected a file at {path}, found none.{unset} Check the path.")


def _load_hub(settings: DataSettings, split: str) -> Any:
    import datasets
    import huggingface_hub

    if settings.repository is None:
        raise UserError("data.source=hub: expected the name of a data set on the hub, found none. Set data.repository.")
    offline = huggingface_hub.constants.HF_HUB_OFFLINE  # then the data set's copy in the cache serves
    if not offline and not Path(settings.repository).exists() and not hub_is_reachable():
        raise UserError(
            f"Expected the data set '{settings.repository}' from the hub, found the hub out of reach. Check the "
            "network, set HF_HUB_OFFLINE=1 to use what was downloaded before, or choose +experiment=imdb, which needs "
            "none."
        )
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(settings.repository, name=settings.subset, revision=settings.revision, split=split)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"Expected the data set '{settings.repository}' (split '{split}') from the hub, found: {reason}. "
            "Check data.repository, data.subset, data.revision and the network; `+experiment=imdb` needs no network "
            "and no hub."
        ) from error


def _matching(raw: pd.DataFrame, settings: DataSettings, location: str) -> pd.DataFrame:
    """The rows that `data.where` keeps."""
    for column, value in (settings.where or {}).items():
        _check_column(raw, column, f"data.where.{column}", location)
        wanted = {as_text(value), str(value)}
        raw = raw[np.array([as_text(found) in wanted for found in raw[column]], dtype=bool)]
    return raw


def _columns(raw: pd.DataFrame, settings: DataSettings, role: str, location: str, blank: BlankRows) -> pd.DataFrame:
    """The text, text_pair (of pairs), label and key columns of one location, under these names."""
    columns: dict[str, Any] = {"text": _texts(raw, settings.text_column, "data.text_column", location, blank)}
    if settings.text_pair_column is not None:
        columns["text_pair"] = _texts(raw, settings.text_pair_column, "data.text_pair_column", location, blank)
    columns["label"] = None
    if role != "unlabeled":
        _check_column(raw, settings.label_column, "data.label_column", location)
        where = f"data.{role} ({location}, data.label_column '{settings.label_column}')"
        columns["label"] = read_labels(raw[settings.label_column], where)
    elif settings.label_column in raw:
        columns["label"] = [as_text(label) for label in raw[settings.label_column]]
    if settings.id_column is not None:
        _check_column(raw, settings.id_column, "data.id_column", location)
        columns["key"] = [str(as_text(key)) for key in raw[settings.id_column]]
    else:
        columns["key"] = [str(row) for row in raw.index]
    return pd.DataFrame(columns, index=raw.index, dtype=object)


def _texts(raw: pd.DataFrame, column: str, key: str, location: str, blank: BlankRows) -> list[str]:
    """A column whose rows without a text are counted."""
    _check_column(raw, column, key, location)
    texts = list(raw[column])
    rows = [row for row, text in zip(raw.index, texts, strict=True) if not isinstance(text, str) or not text.strip()]
    blank.add(column, rows)
    return texts


def _check_column(raw: pd.DataFrame, column: str, key: str, location: str) -> None:
    if column not in raw:
        options = [str(name) for name in raw.columns]
        raise UserError(
            f"Expected a column '{column}' ({key}) in {location}, found {', '.join(options)}."
            f"{did_you_mean(column, options)} Set {key} to the right column."
        )
