"""Labels as they are found, and the classes that they stand for."""

import re
from typing import Any

import numpy as np
import pandas as pd

from uda.errors import UserError

_FLOAT = re.compile(r"[+-]?\d+\.\d+(e[+-]?\d+)?")
_INTEGER = re.compile(r"[+-]?\d+")


def as_text(value: Any) -> str | None:
    """A table's value as the string that all formats give: 1.0 (an integer beside a null) is '1', blank is None."""
    if not pd.api.types.is_list_like(value) and pd.isna(value):
        return None
    if isinstance(value, (float, np.floating)) and value.is_integer():
        value = int(value)
    return str(value) if str(value).strip() else None


def read_labels(column: pd.Series, where: str) -> list[str | None]:
    """The labels of a table's column; `where` names it in the UserError for numbers with a fraction and lists."""
    found = column[[as_text(value) is not None for value in column]]
    if len(found) and all(isinstance(value, str) and _FLOAT.fullmatch(value) for value in found):
        column = column.astype(float)  # a CSV's numbers are strings
    for value in column:
        label = as_text(value)
        fraction = isinstance(value, (float, np.floating)) and label is not None and not _INTEGER.fullmatch(label)
        if fraction or pd.api.types.is_list_like(value):
            raise UserError(
                f"Expected one class in every row of {where}, found {value}: neither regression nor multi-label "
                "classification is supported. Give every row one class, as a string or an integer."
            )
    return [as_text(value) for value in column]


def check_names(names: list[str] | None) -> None:
    """Raises UserError where `data.label_names` are given and are no classes."""
    if names is not None and (len(names) < 2 or len(set(names)) < len(names)):
        raise UserError(
            f"data.label_names: expected at least 2 classes, none of them twice, found {names}. Correct it, or set "
            "data.label_names=null to take the labels of data.labeled."
        )


def found_names(labels: pd.Series, label_column: str) -> list[str]:
    """The classes of the labels: sorted, integers as numbers."""
    names = {label for label in labels if label is not None}
    if len(names) < 2:
        raise UserError(
            f"Expected at least 2 classes in data.labeled, found {sorted(names)}. Check data.label_column "
            f"('{label_column}')."
        )
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


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
        raise UserError(
            f"Expected the labels of data.{role} to be among {names}, found also {unknown[:5]}. "
            f"Correct them, or give all classes in data.label_names."
        )
    return frame.label.map({name: index for index, name in enumerate(names)}).astype(int)
