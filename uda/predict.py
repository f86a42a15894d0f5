"""`python -m uda.predict`: the model of a run on every row of a file or of standard input."""

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from omegaconf import DictConfig, OmegaConf

from uda import cli
from uda.config import PredictConfig
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

log = logging.getLogger(__name__)

_CHUNK_ROWS = 2_048


@dataclass
class Summary:
    """Rows written; of these, rows without a text, rows below `min_confidence`, and the others by predicted class."""

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
    expand_paths(settings)
    _check(settings)
    assert settings.run is not None
    folder = Path(settings.run)
    trained = read_stored(folder)
    memory = memory_told(f"No output was completed. Lower batch_size ({settings.batch_size} rows a pass).")
    stops = cli.signals_interrupt("; no output was completed")
    with stops, memory, held_output(settings), opened_input(settings.input) as stream:
        places = find_places(settings, trained.data, stream)
        return _predict(settings, trained.data, folder, places, stream)


def _check(settings: PredictConfig) -> None:
    """All that can be seen without a look at the run or the input."""
    check_rows(settings, "predict")
    if settings.min_confidence is not None and not 0 < settings.min_confidence <= 1:
        raise UserError(
            f"min_confidence: expected a number above 0 and at most 1, found {settings.min_confidence}. Correct it, or "
            "leave it out to have every prediction."
        )


def _predict(settings: PredictConfig, trained: DataSettings, folder: Path, places: Places, stream: BinaryIO) -> Summary:
    from uda.engine.labelling import added_columns
    from uda.engine.model import label_names

    first, frames = frames_of(settings, places, stream, _CHUNK_ROWS)
    labeller = load_labeller(settings, trained, folder)
    names = label_names(labeller.model)
    added = added_columns(names)
    check_clash(first, added, places)
    summary = Summary(classes=dict.fromkeys(names, 0))
    answers = answered(first, frames, labeller, added, places, stream)
    started = time.monotonic()
    write_tables(_labelled(answers, settings.min_confidence, summary), places)
    summary.seconds = time.monotonic() - started
    if summary.blank:
        log.warning(
            "%d of %d rows have no text in %s: they are kept, without a prediction",
            summary.blank,
            summary.rows,
            " and ".join(f"'{column}'" for column in places.columns),
        )
    return summary


def _labelled(
    answers: Iterator[tuple["pd.DataFrame", "np.ndarray"]], min_confidence: float | None, summary: Summary
) -> Iterator["pd.DataFrame"]:
    """Each chunk with its predictions; the summary counts along."""
    import numpy as np

    from uda.engine.labelling import with_predictions

    names = list(summary.classes)
    for frame, probs in answers:
        known = probs[~np.isnan(probs).any(axis=1)]
        sure = known[known.max(axis=1) >= (min_confidence or 0)]
        for index in sure.argmax(axis=1):
            summary.classes[names[index]] += 1
        summary.rows += len(frame)
        summary.blank += len(frame) - len(known)
        summary.unsure += len(known) - len(sure)
        yield with_predictions(frame, probs, names, min_confidence)


def show(summary: Summary) -> None:
    """How many rows, how fast, and each class's share of the predictions, on standard error."""
    predicted = sum(summary.classes.values())
    shares = ", ".join(f"{name} {100 * count / max(1, predicted):.1f} %" for name, count in summary.classes.items())
    unsure = f" of {predicted} predictions; {summary.unsure} rows left without one, below min_confidence"
    rest = unsure if summary.unsure else ""
    rate = summary.rows / max(summary.seconds, 1e-9)
    print(f"{summary.rows} rows, {rate:.1f} rows/s: {shares}{rest}", file=sys.stderr)


def job(cfg: DictConfig) -> None:
    """One job of the command line."""
    show(run(cfg))


if __name__ == "__main__":
    cli.main("predict", PredictConfig, job)
