"""Locations to tables: files, splits on the hub, files inside a pip package."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uda.data.formats import TableOptions, find_format, read_table
from uda.data.labels import as_text, read_labels
from uda.data.locations import STDIN, as_list, files_of, read_text_folder, spooled_standard_input
from uda.data.settings import DataSettings, Source
from uda.errors import UserError, did_you_mean
from uda.hub import hub_is_reachable
from uda.packages import package_path

log = logging.getLogger(__name__)


def read(settings: DataSettings, role: str) -> pd.DataFrame:
    """The rows of `data.<role>` as a frame with the columns text, label (None where there is none) and key.

    Rows keep their order. The index is the row's number in the source: all rows of the files count from 0, one
    file after the other, whatever index a file carries and whatever `where` leaves out. `key` is the id column's
    value, or else that number as a string; `frame.attrs["num_source_rows"]` is how many numbers there are. Raises
    UserError for a location that cannot be read or has no rows, a missing column, a `where` that matches nothing,
    a text that is null or blank, and a label that is no class.
    """
    frames, num_rows = [], 0
    for location in _locations(settings, role):
        raw = _read_one(settings, role, location)
        if not len(raw):
            raise UserError(f"Expected rows in data.{role} ({location}), found none. Add some, or name other files.")
        raw.index = pd.RangeIndex(num_rows, num_rows + len(raw))
        num_rows += len(raw)
        frames.append(_columns(_matching(raw, settings, location), settings, role, location))
    frame = pd.concat(frames)
    if not len(frame):
        raise UserError(
            f"Expected rows of data.{role} that match data.where ({settings.where}), found none among {num_rows}. "
            "Correct data.where."
        )
    if settings.id_column is None:
        frame["key"] = [str(row) for row in frame.index]
    frame.attrs["num_source_rows"] = num_rows
    return frame


def _locations(settings: DataSettings, role: str) -> list[str]:
    value = getattr(settings, role)
    if settings.source is not Source.files:
        return as_list(value, role)
    return [str(path) for path in files_of(value, role, _options(settings))]


def _options(settings: DataSettings) -> TableOptions:
    return TableOptions(settings.format, settings.delimiter, settings.encoding, settings.header)


def _read_one(settings: DataSettings, role: str, location: str) -> pd.DataFrame:
    if settings.source is Source.hub:
        return _read_hub(settings, location)
    if settings.source is Source.package:
        if settings.package is None:
            raise UserError("data.source=package: expected the name of a pip package, found none. Set data.package.")
        return read_file(package_path(settings.package, location, settings.sha256), _options(settings))
    path, options = Path(location), _options(settings)
    if path.is_dir():
        table = read_text_folder(path, role, settings.text_column, settings.label_column, settings.encoding)
        log.info("data.%s: %d texts below %s, one a file", role, len(table), path)
        return table
    if location == STDIN:
        path = spooled_standard_input(role, settings.text_column)
    table = read_file(path, options)
    if find_format(path, options) == "text":
        table = table.rename(columns={"text": settings.text_column})
    return table


def read_file(path: Path, options: TableOptions | None = None) -> pd.DataFrame:
    """The table in a file; see `formats.read_table`."""
    if not path.is_file():
        unset = " The variable in it is not set." if "$" in str(path) else ""
        raise UserError(f"Expected a file at {path}, found none.{unset} Check the path.")
    return read_table(path, options or TableOptions())


def _read_hub(settings: DataSettings, split: str) -> pd.DataFrame:
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
        rows = datasets.load_dataset(settings.repository, name=settings.subset, revision=settings.revision, split=split)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Expected the data set '{settings.repository}' (split '{split}') from the hub, found: {reason}. "
            "Check the name and the network; `+experiment=imdb` needs no network and no hub."
        ) from error
    frame = rows.to_pandas()
    names = getattr(rows.features.get(settings.label_column), "names", None)
    if names:
        frame[settings.label_column] = [
            names[int(label)] if label >= 0 else None  # a null is a NaN, no label may be -1
            for label in frame[settings.label_column]
        ]
    return frame


def _matching(raw: pd.DataFrame, settings: DataSettings, location: str) -> pd.DataFrame:
    """The rows that `data.where` keeps."""
    for column, value in (settings.where or {}).items():
        _check_column(raw, column, f"data.where.{column}", location)
        wanted = {as_text(value), str(value)}
        raw = raw[np.array([as_text(found) in wanted for found in raw[column]], dtype=bool)]
    return raw


def _columns(raw: pd.DataFrame, settings: DataSettings, role: str, location: str) -> pd.DataFrame:
    """The text, text_pair (of pairs), label and key columns of one location, under these names."""
    columns: dict[str, Any] = {"text": _texts(raw, settings.text_column, "data.text_column", role, location)}
    if settings.text_pair_column is not None:
        columns["text_pair"] = _texts(raw, settings.text_pair_column, "data.text_pair_column", role, location)
    columns["label"] = None
    if role != "unlabeled":
        _check_column(raw, settings.label_column, "data.label_column", location)
        where = f"data.{role} ({location}, data.label_column '{settings.label_column}')"
        columns["label"] = read_labels(raw[settings.label_column], where)
    elif settings.label_column in raw:
        columns["label"] = [as_text(label) for label in raw[settings.label_column]]
    if settings.id_column is not None:
        if settings.id_column not in raw and _is_text(settings, location):
            raw = raw.assign(**{settings.id_column: raw.index})  # lines have no columns: the row's number
        _check_column(raw, settings.id_column, "data.id_column", location)
        columns["key"] = [str(as_text(key)) for key in raw[settings.id_column]]
    return pd.DataFrame(columns, index=raw.index, dtype=object)


def _is_text(settings: DataSettings, location: str) -> bool:
    if settings.source is not Source.files or not Path(location).is_file():
        return False
    return find_format(Path(location), _options(settings)) == "text"


def _texts(raw: pd.DataFrame, column: str, key: str, role: str, location: str) -> list[str]:
    """A column that has a text in every row."""
    _check_column(raw, column, key, location)
    texts = list(raw[column])
    blank = [row for row, text in zip(raw.index, texts, strict=True) if not isinstance(text, str) or not text.strip()]
    if blank:
        raise UserError(
            f"Expected a text in every row of data.{role} ({location}), found {len(blank)} rows whose "
            f"'{column}' is null, blank or no text; first at row {', '.join(map(str, blank[:5]))} "
            "(counted from 0). Remove or fill these rows."
        )
    return texts


def _check_column(raw: pd.DataFrame, column: str, key: str, location: str) -> None:
    if column not in raw:
        options = [str(name) for name in raw.columns]
        raise UserError(
            f"Expected a column '{column}' ({key}) in {location}, found {', '.join(options)}."
            f"{did_you_mean(column, options)} Set {key} to the right column."
        )
