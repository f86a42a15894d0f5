"""Errors that are the user's to mend, and the words that help to mend them."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

# In torch's words: of CUDA, cuBLAS, Linux, others.
_NO_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory", "cannot allocate memory", "not enough memory")

_NAMED = 5  # classes that a message names


class UserError(Exception):
    """A mistake in what the user gave: the message says what was expected, what was found, what to do."""


class TakenError(UserError):
    """What is to be written is another process's or another run's: nothing of this one is to be noted there."""


def some_names(names: Sequence[str]) -> str:
    """The first of some classes, as a message names them: there may be thousands."""
    return ", ".join(map(repr, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")


def unlike(expected: Sequence[str], found: Sequence[str]) -> str:
    """How the classes that something was found for differ from all of them."""
    missing, more = (
        [name for name in one if name not in set(other)] for one, other in ((expected, found), (found, expected))
    )
    parts = [
        f"none for {some_names(missing)}" if missing else "",
        f"some for {some_names(more)}, no label" if more else "",
    ]
    return " and ".join(filter(None, parts))


def in_one_line(error: Exception) -> str:
    """The message of a user's mistake, folded; the first line of any other error's."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    return next(iter(str(error).splitlines()), "")


@contextmanager
def memory_told(remedy: str) -> Iterator[None]:
    """Memory that is refused, of a GPU or the machine's, becomes a message with the settings that help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, MemoryError) and not any(words in text.lower() for words in _NO_MEMORY):
            raise
        reason = (text.strip() or "no more").splitlines()[0]
        raise UserError(f"Expected enough memory, found: {reason} {remedy}") from error


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the option nearest to `name`, or an empty string where none is near."""
    near = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
