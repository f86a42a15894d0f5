"""What a config leaves open (null) and the data, the settings and the machine decide: text length and steps."""

import logging
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from uda.config import TrainConfig
from uda.data.splits import Split
from uda.objectives.base import Objective

log = logging.getLogger(__name__)

_SAMPLE = 2_000  # texts whose tokens are counted
_COVERED = 95  # per cent of them that no cut shortens
_LONGEST = {"cpu": 128, "cuda": 256}  # tokens, where more was not asked for
_SHORTEST = 16
_FEWEST_STEPS = 80
_STEP_UNIT = 20  # so that shares such as a quarter are whole
_EPOCHS = 12  # over the labelled rows
_CPU_TOKENS = 12_800  # steps * max_length for a core
_CORES = 16  # beyond which a CPU run gets no faster
_CUDA_STEPS = 3_000
_UNKNOWN_SHARE = 0.05  # of tokens; above it the tokenizer is not made for the language
_PIECES = 1.8  # tokens a word; above it the words are in pieces, as those of another language are
_WORD_LENGTH = 12  # characters; above it white space does not part words, as in Chinese


@dataclass(frozen=True)
class TextLengths:
    """Tokens of a sample of the texts: their numbers, special tokens included, the share that is unknown, and how many
    a word has; 0 where white space does not part words.
    """

    counts: np.ndarray
    unknown_share: float
    tokens_per_word: float


def choose(
    settings: TrainConfig,
    resolved: dict[str, Any],
    split: Split,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    positions: int | None,
    device: str,
) -> None:
    """Put numbers in the place of null, in `settings` and in `resolved`, and log them with their reasons.

    They depend on the rows, the settings, the kind of device ("cpu", "cuda") and its cores alone, so a repeated
    command chooses the same. positions: the longest input that the encoder takes, or None.
    """
    log.info(
        "encoder %s, augmentation %s, objective %s: other options of model=, augment= and objective= replace them",
        settings.model.name_or_path,
        str(settings.augment["_target_"]).rsplit(".", 1)[-1] if objective.sees_augmented else "none",
        type(objective).__name__,
    )
    choose_length(settings, resolved, split, tokenizer, positions, device)
    if settings.train.num_steps is None:
        rows = {"labeled": len(split.labeled), "unlabeled": len(split.unlabeled)}
        if objective.teacher_rows == "none":
            rows["unlabeled"] = 0
        train = settings.train
        steps, reason = num_steps(
            rows["labeled"],
            rows["unlabeled"],
            train.batch_size,
            train.batch_size * train.unlabeled_ratio,
            settings.data.max_length,
            device,
        )
        settings.train.num_steps = resolved["train"]["num_steps"] = steps
        log.info("chose train.num_steps=%d: %s", steps, reason)


def choose_length(
    settings: TrainConfig,
    resolved: dict[str, Any],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    positions: int | None,
    device: str,
) -> None:
    """The same of the text length alone; warns of a tokenizer that is not made for the texts."""
    lengths = text_lengths(_sample(split), tokenizer)
    if lengths.unknown_share > _UNKNOWN_SHARE:
        log.warning(
            "%.0f %% of the tokens of a sample of the texts are unknown to the tokenizer of %s: it is not made for "
            "them; choose an encoder of their language with model=local model.name_or_path=…",
            100 * lengths.unknown_share,
            settings.model.name_or_path,
        )
    elif lengths.tokens_per_word > _PIECES:
        log.warning(
            "the tokenizer of %s cuts a word of the texts into %.1f pieces on average: if they are not in its "
            "language, choose an encoder of theirs with model=local model.name_or_path=…",
            settings.model.name_or_path,
            lengths.tokens_per_word,
        )
    if settings.data.max_length is None:
        length, reason = max_length(lengths.counts, positions, device)
        settings.data.max_length = resolved["data"]["max_length"] = length
        log.info("chose data.max_length=%d: %s", length, reason)


def _sample(split: Split) -> list[str]:
    """Labelled and unlabelled texts, single or paired, those of the lowest hashes: no order of the rows matters."""
    rows = (
        pd.concat([split.labeled, split.unlabeled.lowest(_SAMPLE)]).sort_values("raw_hash", kind="stable").head(_SAMPLE)
    )
    if "text_pair" in rows:
        return [f"{text} {pair}" for text, pair in zip(rows.text, rows.text_pair, strict=True)]
    return list(rows.text)


def text_lengths(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> TextLengths:
    """Count the tokens of texts."""
    rows = tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
    counts = np.array([len(row) for row in rows])
    unknown = sum(row.count(tokenizer.unk_token_id) for row in rows) if tokenizer.unk_token_id is not None else 0
    words = [len(text.split()) for text in texts]
    parted = sum(map(len, texts)) <= _WORD_LENGTH * max(sum(words), 1)
    special = tokenizer.num_special_tokens_to_add()
    pieces = (counts.sum() - special * len(texts)) / max(sum(words), 1) if parted else 0.0
    return TextLengths(counts, unknown / counts.sum(), pieces)


def max_length(counts: np.ndarray, positions: int | None, device: str) -> tuple[int, str]:
    """Tokens that hold 95 % of the texts whole, in eights, within what the encoder takes and the device bears; why."""
    covering = int(np.percentile(counts, _COVERED, method="higher"))
    longest = min(_LONGEST[device], positions or _LONGEST[device])
    length = min(max(8 * math.ceil(covering / 8), min(_SHORTEST, longest)), longest)
    reason = f"{100 * np.mean(counts <= length):.0f} % of a sample of the texts have no more tokens"
    if covering > longest:
        bound = "the encoder takes" if positions == longest else f"is chosen on a {device}"
        reason += f", and that is the most that {bound}; texts are cut as data.truncation says"
    return length, reason


def num_steps(
    num_labeled: int, num_unlabeled: int, batch_size: int, unlabeled_batch: int, length: int, device: str
) -> tuple[int, str]:
    """Steps for 12 passes over the labelled rows and one over the unlabelled ones, as many as the device bears; why."""
    cores = min(os.cpu_count() or 1, _CORES)
    most = _CUDA_STEPS if device == "cuda" else max(_CPU_TOKENS * cores // length, _FEWEST_STEPS)
    wanted = max(math.ceil(_EPOCHS * num_labeled / batch_size), math.ceil(num_unlabeled / unlabeled_batch))
    steps = _STEP_UNIT * math.ceil(min(max(wanted, _FEWEST_STEPS), most) / _STEP_UNIT)
    where = f"{cores} cores and {length} tokens a text" if device == "cpu" else f"a {device}"
    if wanted > most:
        return steps, f"the most for {where}; all passes over the rows would take {wanted}"
    if wanted < _FEWEST_STEPS:
        return steps, "no fewer are chosen, for any data"
    rows = f"{_EPOCHS} passes over {num_labeled} labelled rows"
    return steps, rows + (f" or one over {num_unlabeled} unlabelled ones, whichever is longer" if num_unlabeled else "")
