"""Where an augmented copy differs from its original, word by word."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby, pairwise

from rapidfuzz.distance import Levenshtein

from uda.augmentation.words import split_words, word_spans


class Kind(Enum):
    """What became of a piece of text."""

    same = "same"
    removed = "removed"
    added = "added"


@dataclass(frozen=True)
class Piece:
    """Some words in a row, with what stands between them and behind them."""

    kind: Kind
    text: str


def differences(original: str, augmented: str) -> list[Piece]:
    """The pieces of both texts in one row; those that are the same in the copy's spelling.

    Words are the same if they are so in lower case and without accents. A text without words gives no piece.
    """
    before, after = split_words(original), split_words(augmented)
    old, new = _spelled(original), _spelled(augmented)
    pieces = []
    for equal, steps in groupby(Levenshtein.opcodes(before, after), lambda step: step.tag == "equal"):
        run = list(steps)
        removed = "".join(old[run[0].src_start : run[-1].src_end])
        added = "".join(new[run[0].dest_start : run[-1].dest_end])
        if equal:
            pieces.append(Piece(Kind.same, added))
        else:
            pieces += [Piece(kind, text) for kind, text in ((Kind.removed, removed), (Kind.added, added)) if text]
    return pieces


def excerpt(pieces: Sequence[Piece], context: int, limit: int) -> list[Piece]:
    """The pieces from `context` characters before the first difference, about `limit` characters in all."""
    first, *others = pieces
    if others and first.kind is Kind.same and len(first.text) > context:
        first = Piece(Kind.same, f"…{first.text[-context:]}")
    return cut([first, *others], limit)


def cut(pieces: Iterable[Piece], limit: int) -> list[Piece]:
    """The first `limit` characters of the pieces, and a mark where more were."""
    kept: list[Piece] = []
    for piece in pieces:
        if limit < len(piece.text):
            return [*kept, Piece(piece.kind, piece.text[:limit]), Piece(Kind.same, "…")]
        kept.append(piece)
        limit -= len(piece.text)
    return kept


def _spelled(text: str) -> list[str]:
    """Each word as it is spelled, with all up to the next one; the first one with what is before it."""
    starts = [start for start, _ in word_spans(text)]
    edges = [0, *starts[1:], len(text)]
    return [text[start:end] for start, end in pairwise(edges)] if starts else []
