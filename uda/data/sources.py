"""Locations to tables: files, splits on the hub, files inside a pip package."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from uda.data.settings import DataSettings, Source
from uda.errors import UserError, did_you_mean
from uda.packages import package_path

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""]),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
    ".parquet": pd.read_parquet,
}


def read(settings: DataSettings, role: str) -> pd.DataFrame:
    """The rows of `data.<role>` as a frame with the columns text, label (None where there is none) and key.

    Rows keep their order; the index is the row's number in the source. `key` is the id column's value, or the
    row's number as a string. Raises UserError for a location that cannot be read, a missing column, and a text
    that is null or blank.
    """
    locations = getattr(settings, role)
    locations = [locations] if isinstance(locations, str) else list(locations)
    frames = [_columns(_read_one(settings, location), settings, role, location) for location in locations]
    frame = pd.concat(frames, ignore_index=True)
    if settings.id_column is None:
        frame["key"] = [str(row) for row in range(len(frame))]
    return frame


def _read_one(settings: DataSettings, location: str) -> pd.DataFrame:
    if settings.source is Source.hub:
        return _read_hub(settings, location)
    if settings.source is Source.package:
        if settings.package is None:
            raise UserError("data.source=package: expected the name of a pip package, found none. Set data.package.")
        return read_file(package_path(settings.package, location, settings.sha256))
    return read_file(Path(os.path.expandvars(location)).expanduser())


def read_file(path: Path) -> pd.DataFrame:
    """A CSV, JSONL or Parquet file as a frame; CSV values stay strings."""
    if not path.is_file():
        unset = " The variable in it is not set." if "$" in str(path) else ""
        raise UserError(f"Expected a file at {path}, found none.{unset} Check the path.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"Expected a file ending in {', '.join(READERS)}, found {path}. Convert the file or rename it.")
    try:
        return reader(path)
    except (ValueError, OSError) as error:
        raise UserError(
            f"Expected {path} to be a readable {path.suffix} file, found: {error}. Check the file."
        ) from error


def _read_hub(settings: DataSettings, split: str) -> pd.DataFrame:
    import datasets

    if settings.repository is None:
        raise UserError("data.source=hub: expected the name of a data set on the hub, found none. Set data.repository.")
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(settings.repository, name=settings.subset, revision=settings.revision, split=split)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Expected the data set '{settings.repository}' (split '{split}') from the hub, found: {reason}. "
            "Check the name and the network; `+experiment=imdb` needs no network and no hub."
        ) from error
    frame = rows.to_pandas()
    names = getattr(rows.features.get(settings.label_column), "names", None)
    if names:
        frame[settings.label_column] = [names[label] if label >= 0 else None for label in frame[settings.label_column]]
    return frame


def _columns(raw: pd.DataFrame, settings: DataSettings, role: str, location: str) -> pd.DataFrame:
    """The text, label and key columns of one location, under these names."""
    for column, value in (settings.where or {}).items():
        _check_column(raw, column, f"data.where.{column}", location)
        raw = raw[raw[column].astype(str) == str(value)]
    _check_column(raw, settings.text_column, "data.text_column", location)
    texts = raw[settings.text_column]
    blank = texts.isna() | ~texts.map(lambda text: isinstance(text, str) and bool(text.strip()))
    if blank.any():
        rows = [int(row) for row in raw.index[blank][:5]]
        raise UserError(
            f"Expected a text in every row of data.{role} ({location}), found {int(blank.sum())} rows whose "
            f"'{settings.text_column}' is null, blank or no text; first at row {', '.join(map(str, rows))} "
            "(counted from 0). Remove or fill these rows."
        )
    columns: dict[str, Any] = {"text": list(texts)}
    if role != "unlabeled":
        _check_column(raw, settings.label_column, "data.label_column", location)
    if settings.label_column in raw:
        labels = raw[settings.label_column]
        columns["label"] = [None if missing else label for label, missing in zip(labels, labels.isna(), strict=True)]
    else:
        columns["label"] = [None] * len(raw)
    if settings.id_column is not None:
        _check_column(raw, settings.id_column, "data.id_column", location)
        columns["key"] = [str(key) for key in raw[settings.id_column]]
    return pd.DataFrame(columns, dtype=object)


def _check_column(raw: pd.DataFrame, column: str, key: str, location: str) -> None:
    if column not in raw:
        options = [str(name) for name in raw.columns]
        raise UserError(
            f"Expected a column '{column}' ({key}) in {location}, found {', '.join(options)}."
            f"{did_you_mean(column, options)} Set {key} to the right column."
        )
