"""Draws of rows by the rank of a hash: no generator, so they depend on the texts and a salt alone."""

import math
from collections.abc import Sequence

import pandas as pd

from uda.data.cleaning import content_hash
from uda.errors import UserError


def draw(
    pool: pd.DataFrame, num_rows: int, salt: str, names: list[str], key: str, *, balanced: bool = True
) -> pd.DataFrame:
    """The rows of the lowest rank of each class; equal texts are drawn once, texts of two labels never.

    Equally many rows a class or, not `balanced`, in proportion to the rows that can be drawn, see
    `proportional_counts`. A row's rank is the SHA-256 of the salt, a NUL and the SHA-256 of the raw text, the inner one
    as hexadecimal digits, all in UTF-8. No generator takes part, so the draw depends on the texts and the salt alone,
    not on their order.
    """
    if num_rows < len(names) or (balanced and num_rows % len(names)):
        wanted = "a multiple of the number of classes" if balanced else "at least one row for each of the classes"
        raise UserError(
            f"{key}: expected {wanted} ({len(names)}), found {num_rows}. "
            f"Set {key} to such a number, for example {max(num_rows // len(names), 1) * len(names)}."
        )
    ranked = _ranked(pool, salt)
    found = [int((ranked.label == label).sum()) for label in range(len(names))]
    per_class = [num_rows // len(names)] * len(names)
    wanted_rows = per_class if balanced else proportional_counts(num_rows, [max(count, 1) for count in found])
    for name, count, available in zip(names, wanted_rows, found, strict=True):
        if available < count:
            expected = f"{count} rows of each class" if balanced else f"{count} rows of the class '{name}'"
            raise UserError(f"{key}: expected {expected}, found {available} of '{name}'. Lower {key} or add rows.")
    parts = [ranked[ranked.label == label].head(count) for label, count in enumerate(wanted_rows)]
    return pd.concat(parts).drop(columns="rank")


def hold_out(pool: pd.DataFrame, share: float, salt: str, names: list[str]) -> pd.DataFrame:
    """About `share` of the rows of each class, those of the lowest rank as in `draw`; a class keeps at least one row.

    Of a class's n rows that can be drawn, n * share are held out, rounded to the nearest (halves up), at most n - 1.
    """
    ranked = _ranked(pool, salt)
    parts = []
    for label in range(len(names)):
        rows = ranked[ranked.label == label]
        parts.append(rows.head(max(min(math.floor(len(rows) * share + 0.5), len(rows) - 1), 0)))
    held_out = pd.concat(parts).drop(columns="rank")
    if not len(held_out):
        raise UserError(
            f"data.test_share: expected enough labelled rows to hold some out as test rows, found {len(pool)} rows of "
            f"{len(names)} classes and data.test_share={share:g}. Set data.test to other labelled rows, or raise "
            "data.test_share."
        )
    return held_out


def _ranked(pool: pd.DataFrame, salt: str) -> pd.DataFrame:
    """The rows that can be drawn, by rank: equal texts once, texts of two labels never."""
    pool = pool[~contradictory(pool)]
    ranked = pool.assign(rank=[content_hash(sha, salt) for sha in pool.raw_hash]).sort_values("rank", kind="stable")
    return ranked.drop_duplicates("folded")


def proportional_counts(num_rows: int, frequencies: Sequence[int]) -> list[int]:
    """Shares num_rows * frequency / sum in whole rows by the largest remainder, ties to the first; at least 1 each.

    Classes whose share is below one row get one, and the others share the rest in the same way. `num_rows` is at least
    the number of classes.
    """
    counts = [0] * len(frequencies)
    free = list(range(len(frequencies)))
    rows, total = num_rows, sum(frequencies)
    while small := [one for one in free if rows * frequencies[one] < total]:
        for one in small:
            counts[one] = 1
        free = [one for one in free if one not in small]
        rows, total = rows - len(small), sum(frequencies[one] for one in free)
    for one in free:
        counts[one] = rows * frequencies[one] // total
    by_remainder = sorted(free, key=lambda one: -(rows * frequencies[one] % total))
    for one in by_remainder[: num_rows - sum(counts)]:
        counts[one] += 1
    return counts


def contradictory(pool: pd.DataFrame) -> pd.Series:
    """Which rows have a text, white space folded, that stands there with several labels."""
    return pool.groupby("folded").label.transform("nunique") > 1
