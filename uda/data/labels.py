"""Labels as they are found, and the classes that they stand for."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uda.errors import UserError

_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d+(e[+-]?\d+)?)?")  # up to what a float holds exactly
_INTEGER = re.compile(r"[+-]?\d+")
_BOOLEANS = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false"}  # as JSON writes them


def as_text(value: Any) -> str | None:
    """A table's value as the string that all formats give: 1.0 (an integer beside a null) is '1', blank is None."""
    if not pd.api.types.is_list_like(value) and pd.isna(value):
        return None
    if isinstance(value, (float, np.floating)) and value.is_integer():
        value = int(value)
    return str(value) if str(value).strip() else None


def _as_label(value: Any) -> str | None:
    """As text, with booleans, or the words that pandas and spreadsheets write for them, as true and false."""
    text = as_text(value)
    return None if text is None else _BOOLEANS.get(text, text)


def read_labels(column: pd.Series, where: str) -> list[str | None]:
    """The labels of a table's column; `where` names it in the UserError for numbers with a fraction and lists."""
    found = column[[as_text(value) is not None for value in column]]
    words = [value for value in found if isinstance(value, str)]
    if len(words) == len(found) and all(map(_NUMBER.fullmatch, words)) and any("." in word for word in words):
        column = column.astype(float)  # a CSV's numbers are strings: "1" beside "1.0", and "0.5" is seen
    for value in column:
        label = as_text(value)
        fraction = isinstance(value, (float, np.floating)) and label is not None and not _INTEGER.fullmatch(label)
        if fraction or pd.api.types.is_list_like(value):
            raise UserError(
                f"Expected one class in every row of {where}, found {value}: neither regression nor multi-label "
                "classification is supported. Give every row one class, as a string or an integer."
            )
    return [_as_label(value) for value in column]


def given_names(names: Any) -> list[str] | None:
    """The classes of `data.label_names`: a list, a file of one class a line, or a JSON file of a list.

    Raises UserError where they are no classes, one stands there twice, or the file cannot be read.
    """
    if names is None:
        return None
    found = _names_in_file(names) if isinstance(names, str) else names
    words = [_as_label(name) for name in found] if isinstance(found, list | tuple) else []
    if len(words) < 2 or None in words or len(set(words)) < len(words):
        shown = found if isinstance(names, str) else names
        raise UserError(
            f"data.label_names: expected at least 2 classes, none of them twice, found {shown!r}. Correct it, or set "
            "data.label_names=null to take the labels of data.labeled."
        )
    return [word for word in words if word is not None]


def _names_in_file(location: str) -> Any:
    path = Path(os.path.expandvars(location)).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text) if path.suffix.lower() == ".json" else [line for line in text.splitlines() if line]
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.label_names: expected a list, or the path of a file with one label a line (.json: a list), found "
            f"'{location}': {error}. Correct the path or the file, or give a list like '[neg, pos]'."
        ) from error


def found_names(labels: pd.Series, label_column: str) -> list[str]:
    """The classes of the labels: sorted, integers as numbers. Refused where some differ only by case or blanks."""
    names = {label for label in labels if label is not None}
    if len(names) < 2:
        raise UserError(
            f"Expected at least 2 classes in data.labeled, found {sorted(names)}. Check data.label_column "
            f"('{label_column}')."
        )
    if alike := _alike(names):
        counts = labels.value_counts()
        shown = "; ".join(" and ".join(f"{name!r} ({counts[name]} rows)" for name in group) for group in alike[:5])
        raise UserError(
            f"Expected labels of data.labeled that differ in more than case and surrounding blanks, found {shown}. "
            "Write each class in one way in the files, or name them all in data.label_names where they are meant."
        )
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ only by case or blanks."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_folded(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def with_names(frame: pd.DataFrame, names: list[str] | None, role: str) -> pd.DataFrame:
    """Labels as names: where none but the numbers 0 to K - 1 are found, they stand for the K names in order.

    Labels that are all names are taken as such. Raises UserError where some of the names can be read either way.
    """
    if names is None:
        return frame
    by_number = {str(number): name for number, name in enumerate(names)}
    found = {label for label in frame.label if label is not None}
    if not found <= set(by_number):
        return frame
    if found <= set(names):
        if found != set(names) and any(by_number[label] != label for label in found):
            raise UserError(
                f"Expected labels of data.{role} that are either names of data.label_names ({names}) or numbers that "
                f"count into them, found {sorted(found)}, which may be both. Rename the classes in data.label_names, "
                "or set it to null where the labels are the names."
            )
        return frame
    labels = [None if label is None else by_number[label] for label in frame.label]
    return frame.assign(label=pd.Series(labels, index=frame.index, dtype=object))


def label_indices(frame: pd.DataFrame, names: list[str], role: str) -> pd.Series:
    """The labels of a frame with names as indices into `names`."""
    missing = frame.index[frame.label.isna()]
    if len(missing):
        raise UserError(
            f"Expected a label in every row of data.{role}, found none in row {missing[0]} (counted from 0). "
            "Label the row, or move it to data.unlabeled."
        )
    unknown = sorted(set(frame.label) - set(names))
    if unknown:
        by_form = {_folded(name): name for name in names}
        alike = [(word, by_form[_folded(word)]) for word in unknown if _folded(word) in by_form]
        hint = f" {alike[0][0]!r} differs from {alike[0][1]!r} only by case or blanks." if alike else ""
        raise UserError(
            f"Expected the labels of data.{role} to be among {_some(names)}, found also {unknown[:5]}.{hint} "
            f"Correct them, or give all classes in data.label_names."
        )
    return frame.label.map({name: index for index, name in enumerate(names)}).astype(int)


def _some(names: list[str], most: int = 20) -> str:
    """The names, or the first of very many."""
    return str(names) if len(names) <= most else f"{names[:most]} and {len(names) - most} more"
