"""Where `uda.predict` reads and writes: files that are whole or not there, standard input and output, signals."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from uda import cli
from uda.errors import UserError
from uda.files import put_in_place

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Places:
    """Where rows come from and go to, and in which formats."""

    input: Path | None  # None: standard input
    output: Path | None  # None: standard output
    input_kind: str
    output_kind: str
    columns: list[str]  # the text's, and for pairs the second text's

    @property
    def input_name(self) -> str:
        """The input as messages name it."""
        return "standard input" if self.input is None else str(self.input)


@contextmanager
def opened_input(name: str | None) -> Iterator[BinaryIO]:
    """The bytes of a file, or of standard input for `-`."""
    if name == "-":
        yield sys.stdin.buffer
        return
    path = Path(str(name))
    if not path.is_file():
        raise UserError(f"input: expected a file at {path}, found none. Check the path.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"input: expected a file that can be read, found: {error}. Check its permissions.") from error
    with file:
        yield file


def aside_of(output: Path) -> Path:
    """Where the output is written until it is whole."""
    return output.with_name(f".writing-{output.name}")


def write_tables(frames: Iterator["pd.DataFrame"], places: Places) -> None:
    """Every chunk to the output, which is held: a file that is whole or not there, or standard output as they come."""
    from uda.data.formats import find_compression
    from uda.data.writers import table_writer

    def write_to(file: BinaryIO, compression: str | None) -> None:
        with table_writer(file, places.output_kind, compression) as write:
            for frame in frames:
                write(frame)

    def write_file(aside: Path) -> None:
        assert places.output is not None
        with aside.open("wb") as file:
            write_to(file, find_compression(places.output))

    try:
        if places.output is None:
            write_to(sys.stdout.buffer, None)
        else:
            put_in_place(places.output, aside_of(places.output), write_file)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        raise cli.Interrupted("nobody reads standard output any more", 128 + signal.SIGPIPE) from None
    except OSError as error:
        raise unwritten(places.output or "standard output", error) from error


def unwritten(where: Path | str, error: OSError) -> UserError:
    """What to say where the output cannot be written."""
    return UserError(f"output: expected to write {where}, found: {error}. Make room, or write elsewhere.")
