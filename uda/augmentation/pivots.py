"""The languages that texts are translated into and back from."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from uda.augmentation.base import text_generator
from uda.augmentation.lengths import keeps_length
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


def drawn_pivots(pivots: Sequence[str], seed: int, copy: int, texts: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Each pivot with the places of the texts whose copy of this number goes through it.

    A text's pivot is drawn for its first copy and the next in turn for every further one, so that its copies are as
    different as the number of pivots allows. Texts that would stay as they are whatever came back have none.
    """
    places: dict[str, list[int]] = {pivot: [] for pivot in pivots}
    for place, text in enumerate(texts):
        if keeps_length(text, text):
            first = int(text_generator(seed, 0, text).integers(len(pivots)))
            places[pivots[(first + copy) % len(pivots)]].append(place)
    yield from places.items()
