"""The languages that texts are translated into and back from."""

from collections.abc import Iterable
from typing import Any

from uda.augmentation.base import text_generator
from uda.errors import UserError


def pivot_names(pivot: Any) -> list[str]:
    """The pivots that `augment.pivot`, one name or a list of different ones, gives."""
    names = [pivot] if isinstance(pivot, str) or not isinstance(pivot, Iterable) else list(pivot)
    if not names or len({*names}) < len(names) or not all(isinstance(name, str) and name.strip() for name in names):
        raise UserError(
            f"augment.pivot: expected a language or a list of different ones, found {pivot!r}. Name at least one. "
            "YAML takes the bare word no for false: quote it."
        )
    return names


def draw_pivot(pivots: list[str], seed: int, copy: int, text: str) -> str:
    """The pivot of one copy of a text: drawn for its first copy, and the next in turn for every further one.

    So the copies of a text are as different as the number of pivots allows.
    """
    first = int(text_generator(seed, 0, text).integers(len(pivots)))
    return pivots[(first + copy) % len(pivots)]
