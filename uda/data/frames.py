"""Frames of rows: cleaned and hashed, and those of labelled rows in the cache, so that this is done once."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from uda.data.cache import cached_folder
from uda.data.cleaning import clean, content_hash, folded_hash, row_hash
from uda.data.rows import VERSION
from uda.data.settings import DataSettings
from uda.errors import UserError

_NUMBERS = ("index", "num_characters")
MIN_CHARACTERS = 1_000_000  # of all texts: less is read anew sooner than it is kept


def stored_frame(cache: Path, made_of: Any, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The frame that `make` gives, from the cache or made now: strings, None, and the columns of `_NUMBERS`.

    A small one is made each time. made_of: all that decides what it is, in values that JSON knows.
    """
    key = hashlib.sha256(json.dumps(["frame", VERSION, made_of], sort_keys=True, default=str).encode()).hexdigest()[:32]

    folder = cache / "frames" / key
    if not folder.exists():
        frame = make()
        if frame.num_characters.sum() < MIN_CHARACTERS:
            return frame
        cached_folder(folder, "rows", partial(_write, frame))
    return _read(folder)


def _write(frame: pd.DataFrame, aside: Path) -> None:
    columns = {"index": list(frame.index), **{str(name): list(frame[name]) for name in frame}}
    fields = [(name, pa.int64() if name in _NUMBERS else pa.large_string()) for name in columns]
    facts = {b"facts": json.dumps(frame.attrs).encode()}
    table = pa.table(columns, schema=pa.schema(fields)).replace_schema_metadata(facts)
    with pa.OSFile(str(aside / "frame.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _read(folder: Path) -> pd.DataFrame:
    with pa.memory_map(str(folder / "frame.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
        columns = {
            name: pd.Series(table[name].to_pylist(), dtype="int64" if name in _NUMBERS else object)
            for name in table.column_names
        }
        facts = json.loads(table.schema.metadata[b"facts"])
    frame = pd.DataFrame(columns).set_index("index")
    frame.index.name = None
    frame.attrs.update(facts)
    return frame


def prepare(frame: pd.DataFrame, settings: DataSettings) -> list[int]:
    """Clean the texts of a frame and add the other columns; the rows that have no text after that."""
    columns = [column for column in ("text", "text_pair") if column in frame]
    raw = list(zip(*(frame[column] for column in columns), strict=True))
    frame["num_characters"] = [sum(map(len, texts)) for texts in raw]
    frame["raw_hash"] = [row_hash(texts, content_hash) for texts in raw]
    blank: list[int] = []
    for column in columns:
        frame[column] = [clean(text, settings.cleaning) for text in frame[column]]
        found = [row for row, text in zip(frame.index, frame[column], strict=True) if not text.strip()]
        blank = blank or found
    cleaned = zip(*(frame[column] for column in columns), strict=True)
    frame["folded"] = [row_hash(texts, folded_hash) for texts in cleaned]
    return blank


def blank_after_cleaning(role: str, first: int, count: int) -> UserError:
    """What to say where rows have no text once cleaned: how many, and the number of the first."""
    return UserError(
        f"Expected some text in every row of data.{role} after cleaning, found none in {count} rows, first at row "
        f"{first} (counted from 0). Remove these rows or set data.cleaning=none."
    )
