"""`python -m uda.filter`: of a foreign corpus the rows that a run's model is surest of, equally many a class."""

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from uda import cli
from uda.config import FilterConfig
from uda.data.settings import DataSettings
from uda.errors import UserError, memory_told
from uda.places import Places, opened_input, write_tables
from uda.row_files import (
    answered,
    check_clash,
    check_rows,
    expand_paths,
    find_places,
    frames_of,
    held_output,
    load_labeller,
)
from uda.stored import read_stored

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

log = logging.getLogger("uda.filter")  # under `python -m` this module is called __main__

_CHUNK_ROWS = 2_048
_ADDED = ["prediction", "confidence"]


@dataclass(frozen=True)
class Kept:
    """Of one class: rows answered so, rows kept of them, and the lowest and highest confidence of these."""

    label: str
    answered: int
    kept: int
    lowest: float
    highest: float


@dataclass(frozen=True)
class Summary:
    """What was kept of each class, the rows of the corpus, and how many of them have no text."""

    classes: list[Kept]
    rows: int
    blank: int
    seconds: float


def run(cfg: DictConfig) -> Summary:
    """Keep so many rows of each class of `cfg.input`, by the model of the run `cfg.run`, in `cfg.output`.

    The input is read twice: for the answers, of which eight bytes a row are kept, and for the rows. Raises UserError
    for what the user has to mend, and `cli.Interrupted` after a signal; then there is no output.
    """
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FilterConfig), cfg))
    assert isinstance(settings, FilterConfig)
    expand_paths(settings)
    _check(settings)
    assert settings.run is not None
    folder = Path(settings.run)
    trained = read_stored(folder)
    memory = memory_told(f"No output was completed. Lower batch_size ({settings.batch_size} rows a pass).")
    with cli.signals_interrupt("; no output was completed"), memory, held_output(settings):
        return _filter(settings, trained.data, folder)


def _check(settings: FilterConfig) -> None:
    """All that can be seen without a look at the run or the input."""
    check_rows(settings, "filter")
    count = settings.filter.num_per_class
    if count is None:
        raise UserError(
            "filter.num_per_class: expected how many rows of each class are kept, found none. Set "
            "filter.num_per_class=…."
        )
    if count < 1:
        raise UserError(f"filter.num_per_class: expected at least 1, found {count}. Correct it.")
    if settings.input == "-":
        raise UserError("input: expected a file, since it is read twice, found standard input (-). Name a file.")


def _filter(settings: FilterConfig, trained: DataSettings, folder: Path) -> Summary:
    from uda.engine.model import label_names
    from uda.engine.relevance import Answers, most_confident

    started = time.monotonic()
    answers = Answers()
    with opened_input(settings.input) as stream:
        places = find_places(settings, trained, stream)
        first, frames = frames_of(settings, places, stream, _CHUNK_ROWS)
        check_clash(first, _ADDED, places)
        labeller = load_labeller(settings, trained, folder)
        names = label_names(labeller.model)
        for _, probs in answered(first, frames, labeller, _ADDED, places, stream):
            answers.append(probs)
    classes, confidence = answers.classes, answers.confidence
    blank, columns = int((classes < 0).sum()), " and ".join(f"'{column}'" for column in places.columns)
    if blank:
        log.warning("%d of %d rows have no text in %s: they are left out", blank, len(classes), columns)
    count = settings.filter.num_per_class
    assert count is not None
    chosen = most_confident(classes, confidence, [count] * len(names))
    kept = _kept(names, classes, confidence, chosen)
    if blank == len(classes):
        raise UserError(
            f"Expected texts in {columns} of {places.input_name}, found none in {len(classes)} "
            "rows. Set text_column to the column of the texts."
        )
    _check_kept(kept, count)
    rows = _chosen_rows(settings, places, names, classes, confidence, chosen)
    write_tables(rows, places)
    return Summary(kept, len(classes), blank, time.monotonic() - started)


def _kept(names: list[str], classes: "np.ndarray", confidence: "np.ndarray", chosen: "np.ndarray") -> list[Kept]:
    found = []
    for label, name in enumerate(names):
        mine = confidence[chosen[classes[chosen] == label]]
        ends = (float(mine.min()), float(mine.max())) if len(mine) else (0.0, 0.0)
        found.append(Kept(name, int((classes == label).sum()), len(mine), *ends))
    return found


def _check_kept(kept: list[Kept], wanted: int) -> None:
    """Refuse a class with fewer rows than asked; warn where most of a class's rows are kept, which filters little."""
    fewest = min(kept, key=lambda one: one.answered)
    if fewest.answered < wanted:
        lower = f"Lower filter.num_per_class to at most {fewest.answered}, or give" if fewest.answered else "Give"
        raise UserError(
            f"filter.num_per_class: expected at least {wanted} rows that are answered by each class, found "
            f"{fewest.answered} answered '{fewest.label}'. {lower} a corpus that has more of it."
        )
    for one in kept:
        if 2 * one.kept > one.answered:
            log.warning(
                "%d of the %d rows answered '%s' are kept, down to a confidence of %.2f: that filters little. A lower "
                "filter.num_per_class or a larger corpus would",
                one.kept,
                one.answered,
                one.label,
                one.lowest,
            )


def _chosen_rows(
    settings: FilterConfig,
    places: Places,
    names: list[str],
    classes: "np.ndarray",
    confidence: "np.ndarray",
    chosen: "np.ndarray",
) -> Iterator["pd.DataFrame"]:
    """The chosen rows in the order of the input, with their answers."""
    import itertools

    import numpy as np

    start = 0
    with opened_input(settings.input) as stream:
        first, frames = frames_of(settings, places, stream, _CHUNK_ROWS)
        for frame in itertools.chain([first], frames):
            low, high = np.searchsorted(chosen, [start, start + len(frame)])
            mine = chosen[low:high]
            start += len(frame)
            if len(mine):
                answers = [[names[label] for label in classes[mine]], confidence[mine]]
                rows = frame.iloc[mine - (start - len(frame))]
                yield rows.assign(**dict(zip(_ADDED, answers, strict=True)))
    if start != len(classes):
        raise UserError(
            f"input: expected the {len(classes)} rows that were answered, found {start} when they were read again: "
            f"{places.input_name} has changed. Give the command again when nothing writes there."
        )


def show(summary: Summary) -> None:
    """What was kept, class by class, on standard error."""
    lines = [
        f"{one.label}: {one.kept} of {one.answered} rows kept, confidence {one.lowest:.3f} – {one.highest:.3f}"
        for one in summary.classes
    ]
    rate = summary.rows / max(summary.seconds, 1e-9)
    print(*lines, f"{summary.rows} rows, {rate:.1f} rows/s", sep="\n", file=sys.stderr)


def job(cfg: DictConfig) -> None:
    """One job of the command line."""
    show(run(cfg))


if __name__ == "__main__":
    cli.main("filter", FilterConfig, job)
