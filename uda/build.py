"""Settings and rows to the objects of a run; all that needs no step of training is checked here."""

import copy
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from uda import config
from uda.config import TrainConfig
from uda.data.batches import PairedRows, pad_rows
from uda.data.settings import DataSettings
from uda.data.splits import Split
from uda.data.tokens import TokenStore, cache_dir, tokenize
from uda.engine.model import load_classifier, move, position_limit, start_head_from_descriptions
from uda.engine.process import Process
from uda.engine.step import Models
from uda.engine.training import EvaluationRows, Training, supervised_steps
from uda.errors import UserError
from uda.objectives.base import Objective

log = logging.getLogger(__name__)


def check_processes(settings: TrainConfig, process: Process) -> None:
    """Refuse what cannot be spread over several processes."""
    size = settings.train.micro_batch_size
    for key in ("batch_size", "supervised_batch_size"):
        rows = -(-(getattr(settings.train, key) or 0) // process.count)
        if size is not None and size < rows:
            raise UserError(
                f"train.micro_batch_size: expected room for the labelled rows, which stay together ({rows} a process "
                f"by train.{key}), found {size}. Raise it, or lower train.{key}."
            )
    if process.count == 1:
        return
    if config.is_multirun():
        raise UserError(
            "Expected a sweep in a single process, found a launch of several. Loop over launches instead: "
            "for seed in 0 1 2; do torchrun … -m uda.train seed=$seed; done"
        )
    for key in ("batch_size", "supervised_batch_size"):
        size = getattr(settings.train, key)
        if size is not None and size % process.count:
            raise UserError(
                f"train.{key}: expected a multiple of the number of processes ({process.count}), found {size}. "
                f"Set train.{key} to such a number."
            )


def check_split(settings: TrainConfig, split: Split, objective: Objective) -> None:
    """Refuse what can be seen only when the rows are known."""
    if split.test is None:
        raise UserError("Expected test rows, found neither data.test nor data.num_test. Set one of them.")
    name = type(objective).__name__
    if objective.teacher_rows != "none" and not len(split.unlabeled):
        raise UserError(
            f"Expected unlabelled rows for {name}, found 0. Set data.unlabeled, lower data.num_labeled, or choose "
            "objective=supervised."
        )
    num_steps, alone = settings.train.num_steps, supervised_steps(objective, settings.train.num_steps)
    if objective.teacher_rows != "none" and 0 < num_steps <= alone:
        raise UserError(
            f"Expected steps with unlabelled rows after the supervised ones, found train.num_steps={num_steps} and "
            f"{alone} supervised steps. Raise train.num_steps, lower objective.supervised_steps, or choose "
            "objective=supervised."
        )
    for length in (alone, num_steps - alone):
        if length and settings.train.warmup >= max(length, 1):
            raise UserError(
                f"train.warmup: expected fewer steps than the {length} that it is part of, found "
                f"{settings.train.warmup:g}. Lower it, or give a share below 1."
            )
    if settings.train.micro_batch_size is not None and not objective.sums_over_rows:
        raise UserError(
            f"Expected an objective whose loss is a sum over rows, found {name} with "
            f"train.micro_batch_size={settings.train.micro_batch_size}. Set train.micro_batch_size=null."
        )
    descriptions = settings.data.label_descriptions
    if descriptions is not None and set(descriptions) != set(split.label_names):
        raise UserError(
            f"data.label_descriptions: expected sentences for each of the labels {split.label_names}, found "
            f"them for {list(descriptions)}. Give one or more for each label, or null."
        )


def tokens_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, data: DataSettings) -> TokenStore:
    """The token store of texts under the config's length and truncation."""
    return tokenize(texts, tokenizer, data.max_length, data.truncation, cache_dir())


def build_training(
    settings: TrainConfig,
    split: Split,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    location: str,
    process: Process,
    folder: Path,
) -> Training:
    """Rows and models, ready for the loop. The evaluation rows are the dev rows where there are any."""
    data, pad_id = settings.data, tokenizer.pad_token_id
    texts = list(split.unlabeled.text) if objective.teacher_rows != "none" else []
    weak = tokens_of(texts, tokenizer, data)
    strong = [tokens_of(copies, tokenizer, data) for copies in _augmented(settings, split, texts, tokenizer)]
    labeled = tokens_of(list(split.labeled.text), tokenizer, data)
    rows = PairedRows(labeled, split.labeled.label.to_numpy(), weak, strong, pad_id, settings.seed)
    role, chosen = ("test", split.test) if split.dev is None else ("dev", split.dev)
    assert chosen is not None
    evaluation = EvaluationRows(tokens_of(list(chosen.text), tokenizer, data), chosen.label.to_numpy(), role)
    torch.manual_seed(settings.seed)
    student = load_classifier(location, settings.model, split.label_names)
    limit = position_limit(student)
    if limit is not None and data.max_length > limit:
        raise UserError(
            f"data.max_length: expected at most the {limit} positions of the encoder, found {data.max_length}. "
            f"Set data.max_length={limit}."
        )
    if data.label_descriptions is not None:
        _start_head(settings, split, student, tokenizer)
    student = move(student, process.device)
    teacher = copy.deepcopy(student).eval().requires_grad_(False) if objective.teacher_decay else None
    models = Models(student, process.accelerator.prepare_model(student), teacher, pad_id)
    return Training(
        models,
        objective.to(process.device),
        rows,
        evaluation,
        split.label_names,
        settings.train,
        settings.seed,
        process,
        folder,
    )


def _augmented(
    settings: TrainConfig, split: Split, texts: list[str], tokenizer: PreTrainedTokenizerBase
) -> list[list[str]]:
    """The augmented copies of the unlabelled texts; one empty copy where there are none."""
    node = dict(settings.augment)
    num_copies = node.pop("num_copies")
    if node.get("lowercase", True) is None:
        node["lowercase"] = tokenizer.tokenize("A") == tokenizer.tokenize("a")
    augmenter = config.build(node, "augment")
    if not texts:
        return [[]]
    keys = list(split.unlabeled.key)
    started = time.monotonic()
    augmenter.prepare(texts, keys, split.num_source_rows)
    copies = [augmenter.augment(texts, keys, number) for number in range(num_copies)]
    log.info("augmented %d texts by %s in %.0f s", len(texts), type(augmenter).__name__, time.monotonic() - started)
    return copies


def _start_head(settings: TrainConfig, split: Split, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    sentences = {}
    assert settings.data.label_descriptions is not None
    for name, texts in settings.data.label_descriptions.items():
        store = tokens_of(texts, tokenizer, settings.data)
        sentences[name] = pad_rows([store[row] for row in range(len(store))], tokenizer.pad_token_id)
    start_head_from_descriptions(model, sentences, settings.model.description_scale, split.label_names)
