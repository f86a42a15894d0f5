"""What `uda.predict` and `uda.filter` share: a file's rows, chunk by chunk, with the answers of a run's model."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from uda.config import RowsConfig
from uda.data.settings import DataSettings
from uda.errors import UserError, did_you_mean
from uda.locks import alone_at
from uda.places import Places, aside_of, unwritten

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from uda.engine.labelling import Labeller


def expand_paths(settings: RowsConfig) -> None:
    """`~` in the paths of input and output becomes the user's folder."""
    settings.input, settings.output = (one and os.path.expanduser(one) for one in (settings.input, settings.output))


def check_rows(settings: RowsConfig, command: str) -> None:
    """All that can be seen without a look at the run or the input."""
    for key, what in (("run", "a run directory"), ("input", "a file, or -"), ("output", "a file, or -")):
        if getattr(settings, key) is None:
            raise UserError(f"{key}: expected {what}, found none. Set {key}=….")
    if settings.batch_size < 1:
        raise UserError(f"batch_size: expected at least 1, found {settings.batch_size}. Correct it.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"Expected one process, found {os.environ['WORLD_SIZE']}: the rows are written in their order. Start "
            f"`python -m uda.{command}` without a launcher, or once for each part of the input."
        )
    _check_output(settings)


def _check_output(settings: RowsConfig) -> None:
    assert settings.input is not None
    assert settings.output is not None
    output = Path(settings.output)
    if settings.output == "-":
        return
    if settings.input != "-" and Path(settings.input).resolve() == output.resolve():
        raise UserError(f"output: expected another file than the input, found {output} for both. Name another output.")
    if output.exists() and not (settings.overwrite and output.is_file()):
        raise UserError(
            f"output: expected a file that is not there yet, found {output}. Name another one, or set overwrite=true "
            "to replace a file."
        )
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise UserError(
            f"output: expected a folder that can be written to, found {output.parent}, which cannot. Make the folder, "
            "or write elsewhere."
        )


@contextmanager
def held_output(settings: RowsConfig) -> Iterator[None]:
    """Let no second command write the output meanwhile; what a killed one left of it is written over."""
    if settings.output == "-":
        yield
        return
    output = Path(str(settings.output))
    taken = (
        f"output: expected a file that no other command writes, found {output} being written. Wait for its end, or "
        "name another one."
    )
    with ExitStack() as held:
        try:
            held.enter_context(alone_at(aside_of(output), taken))
        except OSError as error:
            raise unwritten(output, error) from error
        _check_output(settings)  # once more: another command may just have completed it
        yield


def find_places(settings: RowsConfig, trained: DataSettings, stream: Any) -> Places:
    """Where the rows come from and go to, in which formats, and the columns of their texts."""
    from uda.data.formats import TableOptions, find_compression, find_format
    from uda.data.writers import WRITABLE

    options = TableOptions(format=settings.format, prefix="")
    if settings.input == "-" and settings.format is None:
        options = TableOptions(format="jsonl" if stream.peek(1)[:1] == b"{" else "text", prefix="")
    kind = find_format(Path(str(settings.input)), options)
    if settings.output == "-":
        output_kind = {"text": "jsonl", "orange": "tsv"}.get(kind, kind)
    else:
        output = Path(str(settings.output))
        packed = find_compression(output) is not None
        suffix = (output.with_suffix("") if packed else output).suffix.lower()
        output_kind = WRITABLE.get(suffix, "")
        if not output_kind or (packed and output_kind in ("parquet", "arrow")):
            raise UserError(
                f"output: expected a file ending in {', '.join(WRITABLE)}, or one of text with .gz or .zst after that, "
                f"found {output}. Name such a file."
            )
    return Places(
        None if settings.input == "-" else Path(str(settings.input)),
        None if settings.output == "-" else Path(str(settings.output)),
        kind,
        output_kind,
        _text_columns(settings, trained, kind),
    )


def _text_columns(settings: RowsConfig, trained: DataSettings, kind: str) -> list[str]:
    text = settings.text_column or ("text" if kind == "text" else trained.text_column)
    if trained.text_pair_column is None:
        if settings.text_pair_column is not None:
            raise UserError(
                f"text_pair_column: expected none, as the run was trained on single texts, found "
                f"'{settings.text_pair_column}'. Leave it out."
            )
        return [text]
    return [text, settings.text_pair_column or trained.text_pair_column]


def check_columns(frame: "pd.DataFrame", places: Places) -> None:
    """Refuse an input without the columns of the texts."""
    for key, column in zip(("text_column", "text_pair_column"), places.columns, strict=False):
        if column not in frame:
            options = [str(name) for name in frame.columns]
            raise UserError(
                f"{key}: expected a column '{column}' in {places.input_name}, found {', '.join(options)}."
                f"{did_you_mean(column, options)} Set {key} to the right column."
            )


def check_clash(frame: "pd.DataFrame", added: Sequence[str], places: Places) -> None:
    """Refuse an input that has columns of the names that are added."""
    clash = [name for name in added if name in frame]
    if clash:
        raise UserError(
            f"input: expected no column of the names that predictions have, found '{clash[0]}' in "
            f"{places.input_name}. Rename or remove it."
        )


def frames_of(
    settings: RowsConfig, places: Places, stream: BinaryIO, chunk_rows: int
) -> tuple["pd.DataFrame", Iterator["pd.DataFrame"]]:
    """The first chunk of rows, and those after it. Raises UserError where there is none, or no column of the texts."""
    from uda.data.formats import TableOptions, stream_tables

    options = TableOptions(places.input_kind, settings.delimiter, settings.encoding, settings.header, prefix="")
    frames = (frame for frame in stream_tables(stream, options, chunk_rows) if len(frame))
    first = next(frames, None)
    if first is None:
        raise UserError(f"input: expected rows in {places.input_name}, found none. Give a file with rows.")
    check_columns(first, places)
    return first, frames


def load_labeller(settings: RowsConfig, trained: DataSettings, folder: Path) -> "Labeller":
    """The exported model of a run, on this process's device."""
    from uda.engine.labelling import Labeller
    from uda.engine.model import load_run_model, move, quiet_transformers
    from uda.engine.process import Process

    quiet_transformers()
    process = Process.start(settings.precision)
    model, tokenizer = load_run_model(folder / "model")
    return Labeller(move(model, process.device), tokenizer, trained, settings.batch_size, process)


def answered(
    first: "pd.DataFrame",
    frames: Iterator["pd.DataFrame"],
    labeller: "Labeller",
    added: Sequence[str],
    places: Places,
    stream: BinaryIO,
) -> Iterator[tuple["pd.DataFrame", "np.ndarray"]]:
    """Each chunk with its probabilities [N, K], NaN where a row has no text; a bar shows the share of the bytes read.

    added: the columns that the chunks are to get, which they may not have.
    """
    from itertools import chain

    from tqdm import tqdm

    total = places.input.stat().st_size if places.input is not None else None
    unit = {"unit": " rows"} if total is None else {"unit": "B", "unit_scale": True}
    rows = 0
    with tqdm(total=total, desc="predicting", file=sys.stderr, disable=None, dynamic_ncols=True, **unit) as bar:
        for frame in chain([first], frames):
            check_clash(frame, added, places)
            texts = [frame[name].tolist() if name in frame else [None] * len(frame) for name in places.columns]
            yield frame, labeller.probabilities(texts)
            rows += len(frame)
            bar.set_postfix_str(f"{rows} rows", refresh=False)
            bar.update(len(frame) if total is None else max(0, _position(stream, total) - bar.n))


def _position(stream: BinaryIO, total: int) -> int:
    """How many bytes were read; what undoes the compression closes the stream at its end."""
    return total if stream.closed else stream.tell()
