"""The judgement's classifier: whether the model of a run labels texts and their augmented copies alike."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from uda.data.settings import Cleaning, DataSettings
from uda.engine.settings import Precision
from uda.errors import UserError
from uda.stored import read_stored

if TYPE_CHECKING:
    from uda.augmentation.agreement import LabelAgreement

log = logging.getLogger(__name__)


def read_run(run: str) -> DataSettings:
    """The data settings of the run whose model is to label texts; to be called before any work.

    Raises UserError where the directory holds no finished run, or one of pairs of texts.
    """
    folder = Path(run).expanduser()
    trained = read_stored(folder)
    if not (folder / "model" / "config.json").is_file():
        raise UserError(
            f"run: expected a finished run with an exported model, found none in {folder / 'model'}. Give another run, "
            "or leave run out to judge the texts alone."
        )
    if trained.data.text_pair_column is not None:
        raise UserError(
            f"run: expected a run trained on single texts, found one on pairs ({trained.data.text_pair_column}): each "
            "text of a pair is judged by itself. Leave run out to judge the texts alone."
        )
    return trained.data


def classifier_agreement(
    run: str,
    pairs: Iterable[tuple[str, Sequence[str]]],
    num_texts: int,
    num_copies: int,
    sample_seed: int,
    precision: Precision,
    batch_size: int,
) -> "LabelAgreement":
    """What the exported model of the run says of originals and copies; of many texts it labels a drawn part.

    pairs: each of `num_texts` cleaned texts with its `num_copies` copies.
    """
    from uda.augmentation.agreement import label_agreement
    from uda.engine.labelling import Labeller
    from uda.engine.model import label_names, load_run_model, move, quiet_transformers
    from uda.engine.process import Process

    trained = replace(read_run(run), cleaning=Cleaning.none)  # as in training, where copies are not cleaned again
    quiet_transformers()
    process = Process.start(precision)
    try:
        model, tokenizer = load_run_model(Path(run).expanduser() / "model")
        labeller = Labeller(move(model, process.device), tokenizer, trained, batch_size, process)
        names = label_names(model)
        log.info("labelling texts and their copies with the model of %s", run)
        return label_agreement(
            pairs, num_texts, num_copies, sample_seed, lambda texts: labeller.probabilities([texts]), names
        )
    finally:
        process.close()
