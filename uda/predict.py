"""`python -m uda.predict`: the model of a run on every row of a file or of standard input."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from omegaconf import DictConfig, OmegaConf

from uda import cli
from uda.config import PredictConfig
from uda.data.settings import DataSettings
from uda.errors import UserError, did_you_mean, memory_told
from uda.places import Places, opened_input, write_tables
from uda.stored import read_stored

if TYPE_CHECKING:
    import pandas as pd

    from uda.engine.labelling import Labeller

log = logging.getLogger(__name__)

_CHUNK_ROWS = 2_048


@dataclass
class Summary:
    """Rows written; of these, rows without a text, rows below `min_confidence`, and rows by likeliest class."""

    rows: int = 0
    blank: int = 0
    unsure: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def run(cfg: DictConfig) -> Summary:
    """Label the rows of `cfg.input` with the exported model of the run `cfg.run`, into `cfg.output`.

    Raises UserError for what the user has to mend, and `cli.Interrupted` after a signal; then there is no output.
    """
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(PredictConfig), cfg))
    assert isinstance(settings, PredictConfig)
    settings.input, settings.output = (one and os.path.expanduser(one) for one in (settings.input, settings.output))
    _check(settings)
    assert settings.run is not None
    folder = Path(settings.run)
    trained = read_stored(folder)
    memory = memory_told(f"No output was completed. Lower batch_size ({settings.batch_size} rows a pass).")
    with cli.signals_interrupt("; no output was completed"), memory, opened_input(settings.input) as stream:
        places = _places(settings, trained.data, stream)
        return _predict(settings, trained.data, folder, places, stream)


def _check(settings: PredictConfig) -> None:
    """All that can be seen without a look at the run or the input."""
    for key, what in (("run", "a run directory"), ("input", "a file, or -"), ("output", "a file, or -")):
        if getattr(settings, key) is None:
            raise UserError(f"{key}: expected {what}, found none. Set {key}=….")
    if settings.min_confidence is not None and not 0 < settings.min_confidence <= 1:
        raise UserError(
            f"min_confidence: expected a number above 0 and at most 1, found {settings.min_confidence}. Correct it, or "
            "leave it out to have every prediction."
        )
    if settings.batch_size < 1:
        raise UserError(f"batch_size: expected at least 1, found {settings.batch_size}. Correct it.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"Expected one process, found {os.environ['WORLD_SIZE']}: the rows are written in their order. Start "
            "`python -m uda.predict` without a launcher, or once for each part of the input."
        )
    _check_output(settings)


def _check_output(settings: PredictConfig) -> None:
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


def _places(settings: PredictConfig, trained: DataSettings, stream: Any) -> Places:
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


def _text_columns(settings: PredictConfig, trained: DataSettings, kind: str) -> list[str]:
    text = settings.text_column or ("text" if kind == "text" else trained.text_column)
    if trained.text_pair_column is None:
        if settings.text_pair_column is not None:
            raise UserError(
                f"text_pair_column: expected none, as the run was trained on single texts, found "
                f"'{settings.text_pair_column}'. Leave it out."
            )
        return [text]
    return [text, settings.text_pair_column or trained.text_pair_column]


def _predict(settings: PredictConfig, trained: DataSettings, folder: Path, places: Places, stream: BinaryIO) -> Summary:
    from uda.data.formats import TableOptions, stream_tables
    from uda.engine.labelling import Labeller, added_columns
    from uda.engine.model import label_names, load_run_model, move, quiet_transformers
    from uda.engine.process import Process

    options = TableOptions(places.input_kind, settings.delimiter, settings.encoding, settings.header, prefix="")
    frames = (frame for frame in stream_tables(stream, options, _CHUNK_ROWS) if len(frame))
    first = next(frames, None)
    if first is None:
        raise UserError(f"input: expected rows in {places.input_name}, found none. Give a file with rows.")
    _check_columns(first, places)
    quiet_transformers()
    process = Process.start(settings.precision)
    model, tokenizer = load_run_model(folder / "model")
    labeller = Labeller(move(model, process.device), tokenizer, trained, settings.batch_size, process)
    names = label_names(model)
    _check_clash(first, added_columns(names), places)
    summary = Summary(classes=dict.fromkeys(names, 0))
    labelled = _labelled(first, frames, labeller, settings.min_confidence, places, stream, summary)
    started = time.monotonic()
    try:
        write_tables(labelled, places)
    finally:
        process.close()
    summary.seconds = time.monotonic() - started
    if summary.blank:
        log.warning(
            "%d of %d rows have no text in %s: they are kept, without a prediction",
            summary.blank,
            summary.rows,
            " and ".join(f"'{column}'" for column in places.columns),
        )
    return summary


def _check_columns(frame: "pd.DataFrame", places: Places) -> None:
    for key, column in zip(("text_column", "text_pair_column"), places.columns, strict=False):
        if column not in frame:
            options = [str(name) for name in frame.columns]
            raise UserError(
                f"{key}: expected a column '{column}' in {places.input_name}, found {', '.join(options)}."
                f"{did_you_mean(column, options)} Set {key} to the right column."
            )


def _check_clash(frame: "pd.DataFrame", added: list[str], places: Places) -> None:
    clash = [name for name in added if name in frame]
    if clash:
        raise UserError(
            f"input: expected no column of the names that predictions have, found '{clash[0]}' in "
            f"{places.input_name}. Rename or remove it."
        )


def _labelled(
    first: "pd.DataFrame",
    frames: Iterator["pd.DataFrame"],
    labeller: "Labeller",
    min_confidence: float | None,
    places: Places,
    stream: BinaryIO,
    summary: Summary,
) -> Iterator["pd.DataFrame"]:
    """Each chunk with its predictions; the summary counts along, and a bar shows the share of the bytes read."""
    from itertools import chain

    import numpy as np
    from tqdm import tqdm

    from uda.engine.labelling import added_columns, with_predictions

    names = list(summary.classes)
    total = places.input.stat().st_size if places.input is not None else None
    unit = {"unit": " rows"} if total is None else {"unit": "B", "unit_scale": True}
    with tqdm(total=total, desc="predicting", file=sys.stderr, disable=None, dynamic_ncols=True, **unit) as bar:
        for frame in chain([first], frames):
            _check_clash(frame, added_columns(names), places)
            texts = [frame[name].tolist() if name in frame else [None] * len(frame) for name in places.columns]
            probs = labeller.probabilities(texts)
            known = ~np.isnan(probs).any(axis=1)
            for index in probs[known].argmax(axis=1):
                summary.classes[names[index]] += 1
            summary.rows += len(frame)
            summary.blank += int((~known).sum())
            summary.unsure += int((probs[known].max(axis=1) < (min_confidence or 0)).sum())
            yield with_predictions(frame, probs, names, min_confidence)
            bar.set_postfix_str(f"{summary.rows} rows", refresh=False)
            bar.update(len(frame) if total is None else max(0, _position(stream, total) - bar.n))


def _position(stream: BinaryIO, total: int) -> int:
    """How many bytes were read; what undoes the compression closes the stream at its end."""
    return total if stream.closed else stream.tell()


def show(summary: Summary) -> None:
    """How many rows, how fast, and the share of each class, on standard error."""
    known = max(1, summary.rows - summary.blank)
    shares = ", ".join(f"{name} {100 * count / known:.1f} %" for name, count in summary.classes.items())
    rest = f"; {summary.unsure} of them left without a prediction, below min_confidence" if summary.unsure else ""
    rate = summary.rows / max(summary.seconds, 1e-9)
    print(f"{summary.rows} rows, {rate:.1f} rows/s: {shares}{rest}", file=sys.stderr)


def job(cfg: DictConfig) -> None:
    """One job of the command line."""
    show(run(cfg))


if __name__ == "__main__":
    cli.main("predict", PredictConfig, job)
