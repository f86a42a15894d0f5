"""Settings and rows to the objects of a run; all that needs no step of training is checked here."""

import copy
import logging
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from uda import config, run_directory
from uda.augmenting import make_copies
from uda.checks import label_key
from uda.config import TrainConfig
from uda.data.batches import PairedRows, pad_rows
from uda.data.splits import Split
from uda.engine.attention import fastest_kernels
from uda.engine.locations import own_folder
from uda.engine.model import (
    compiled,
    enable_gradient_checkpointing,
    load_classifier,
    move,
    start_head_from_descriptions,
)
from uda.engine.process import Process
from uda.engine.settings import Calibration, Sharding
from uda.engine.sharding import shard
from uda.engine.step import Models
from uda.engine.tokenizer import fit_tokenizer
from uda.engine.training import EvaluationRows, Training, supervised_steps
from uda.errors import UserError, unlike
from uda.instances import COMMON_KEYS
from uda.objectives.base import Objective
from uda.views import make_views, tokens_of, tokens_of_rows

log = logging.getLogger(__name__)

_UNCHANGED = "uda.augmentation.none.NoAugmentation"
_UNBALANCED = 1.5  # rows of the largest class for one of the smallest


def check_launch(settings: TrainConfig, process: Process, command: str) -> None:
    """Refuse standard input that more than one is to read, and a sweep in a launch of several processes."""
    data = settings.data
    locations = [np.atleast_1d(where) for where in (data.labeled, data.unlabeled, data.test, data.dev)]
    if any("-" in where for where in locations) and (process.count > 1 or config.is_multirun()):
        raise UserError(
            "Expected files, which several processes and the jobs of a sweep can all read, found standard input (-). "
            "Write its rows to a file and name that."
        )
    if process.count > 1 and config.is_multirun():
        raise UserError(
            "Expected a sweep in a single process, found a launch of several. Loop over launches instead: "
            f"for seed in 0 1 2; do torchrun … -m uda.{command} seed=$seed; done"
        )


def check_shared(key: str, size: int | None, process: Process) -> None:
    """Refuse a number of rows that the processes cannot share equally."""
    if size is not None and size % process.count:
        raise UserError(
            f"{key}: expected a multiple of the number of processes ({process.count}), found {size}. "
            f"Set {key} to such a number."
        )


def check_processes(settings: TrainConfig, process: Process) -> None:
    """Refuse what cannot be spread over several processes, or repeated in one."""
    check_launch(settings, process, "train")
    size = settings.train.micro_batch_size
    for key in ("batch_size", "supervised_batch_size"):
        rows = -(-(getattr(settings.train, key) or 0) // process.count)
        if size is not None and size < rows:
            raise UserError(
                f"train.micro_batch_size: expected room for the labelled rows, which stay together ({rows} a process "
                f"by train.{key}), found {size}. Raise it, or lower train.{key}."
            )
    if process.count == 1 and settings.train.sharding is Sharding.full:
        log.warning("train.sharding=full has no effect: there is one process")
    for key in ("batch_size", "supervised_batch_size"):
        check_shared(f"train.{key}", getattr(settings.train, key), process)


def check_split(settings: TrainConfig, split: Split, objective: Objective) -> None:
    """Refuse what can be seen only when the rows are known."""
    if split.test is None:
        raise UserError(
            "Expected test rows, found none of data.test, data.num_test and data.test_share. Set one of them."
        )
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
            f"objective.supervised_steps={objective.supervised_steps:g}. Raise the former, lower the latter, or choose "
            "objective=supervised."
        )
    if 0 < (ramp := getattr(objective, "coefficient_ramp", 0)) * num_steps <= alone:
        log.warning(
            "objective.coefficient_ramp=%g has no effect: it counts from the first step, and %d of the %d steps are on "
            "labelled rows alone; raise it, or set 0",
            *(ramp, alone, num_steps),
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
    rows, memory = settings.train.batch_size * settings.train.unlabeled_ratio, getattr(objective, "memory", None)
    if memory is not None and memory.capacity < rows:
        raise UserError(
            f"objective.memory_rows: expected at least the {rows} unlabelled rows of a step (train.batch_size * "
            f"train.unlabeled_ratio), found {memory.capacity}. Raise it."
        )
    if (warning := objective.warning()) is not None:
        log.warning(warning)
    if (encoder := own_folder(settings.model)) is not None:
        run_directory.warn_of_seen_rows(encoder, list(split.test.raw_hash))
    _warn_of_alignment(settings, objective, split)
    calibration(settings, split)
    descriptions = settings.data.label_descriptions
    if descriptions is not None and set(descriptions) != set(split.label_names):
        raise UserError(
            f"data.label_descriptions: expected sentences for each of the {len(split.label_names)} labels, found "
            f"{unlike(split.label_names, list(descriptions))}. Give one or more for each label, or null."
        )


def calibration(settings: TrainConfig, split: Split) -> tuple[Calibration, int]:
    """The method of calibration and its folds: `auto` takes the dev rows, or else as many folds as the labelled rows
    bear; none where a class has one text alone. Raises UserError for a method for which there are no rows.
    """
    method, num_folds = settings.train.calibration, settings.train.calibration_folds
    if method is Calibration.dev and split.dev is None:
        raise UserError(
            "train.calibration=dev: expected dev rows, found none. Set data.dev, or train.calibration=folds, "
            "which holds out labelled rows."
        )
    rarest = int(split.labeled.groupby("label").folded.nunique().min())
    if method is Calibration.folds and rarest < num_folds:
        raise UserError(
            f"train.calibration=folds: expected at least train.calibration_folds={num_folds} labelled texts of each "
            f"class, found {rarest} of the rarest. Lower train.calibration_folds (2 or more), or set "
            "train.calibration=none."
        )
    if method is not Calibration.auto:
        return method, num_folds
    if split.dev is not None:
        return Calibration.dev, num_folds
    return (Calibration.folds, min(num_folds, rarest)) if rarest > 1 else (Calibration.none, num_folds)


def class_weights(settings: TrainConfig, split: Split) -> list[float] | None:
    """The weight of each class's labelled rows, in the order of the label names; None where all weigh the same.

    Balanced: rows / (classes * rows of the class), scikit-learn's.
    """
    wanted, names = settings.train.class_weights, split.label_names
    if wanted is None:
        return None
    if wanted == "balanced":
        counts = np.bincount(split.labeled.label, minlength=len(names))
        weights = (counts.sum() / (len(names) * counts)).tolist()
    else:
        by_name = {label_key(name): float(weight) for name, weight in wanted.items()}
        if set(by_name) != set(names):
            raise UserError(
                f"train.class_weights: expected a weight for each of the {len(names)} labels, found "
                f"{unlike(names, list(by_name))}. Give one for each, or balanced, or null."
            )
        weights = [by_name[name] for name in names]
    if len(set(weights)) == 1:
        log.warning("train.class_weights=%s has no effect: all classes weigh the same", wanted)
        return None
    log.info("class weights: %s", ", ".join(f"{name} {value:.3g}" for name, value in zip(names, weights, strict=True)))
    return weights


def _warn_of_alignment(settings: TrainConfig, objective: Objective, split: Split) -> None:
    """Equal class shares are the wrong aim where the labelled rows say that the classes are unbalanced."""
    counts = np.bincount(split.labeled.label, minlength=len(split.label_names))
    chosen = "alignment" in settings.objective  # SoftMatch always aligns
    least, most = int(counts.argmin()), int(counts.argmax())
    if getattr(objective, "alignment", None) == "uniform" and counts[most] >= _UNBALANCED * counts[least]:
        log.warning(
            "%s brings the teacher's answers to equal class shares, but %d of '%s' and %d of '%s' are labelled; where "
            "the unlabelled rows are as unbalanced, %s",
            "objective.alignment=uniform" if chosen else type(objective).__name__,
            *(counts[least], split.label_names[least], counts[most], split.label_names[most]),
            "set objective.alignment=none" if chosen else "choose one that need not, such as objective=freematch",
        )


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
    torch.manual_seed(settings.seed)
    student = load_classifier(location, settings.model, split.label_names)
    fit_tokenizer(tokenizer, student, data.max_length)
    unlabeled = split.unlabeled if objective.teacher_rows != "none" else split.unlabeled.head(0)
    lowercase = tokenizer.tokenize("A") == tokenizer.tokenize("a")
    augment = settings.augment
    if not objective.sees_augmented:
        common = {key: value for key, value in augment.items() if key in COMMON_KEYS}
        augment = {**common, "_target_": _UNCHANGED, "num_copies": 1}
        if objective.teacher_rows != "none":
            log.info("augmentation: none, as %s learns from the original texts", type(objective).__name__)
    copies = make_copies(augment, unlabeled, split.num_source_rows, lowercase)
    views = make_views(unlabeled, copies, tokenizer, data)
    labeled = tokens_of_rows(split.labeled, tokenizer, data)
    rows = PairedRows(labeled, split.labeled.label.to_numpy(), views.weak, views.strong, pad_id, settings.seed)
    role, chosen = ("test", split.test) if split.dev is None else ("dev", split.dev)
    assert chosen is not None
    evaluation = EvaluationRows(tokens_of_rows(chosen, tokenizer, data), chosen.label.to_numpy(), role)
    if data.label_descriptions is not None:
        _start_head(settings, split, student, tokenizer)
    sharded = settings.train.sharding is Sharding.full and process.count > 1
    if not sharded or process.device.type == "cpu":  # whole it may be more than a GPU holds
        move(student, process.device)
    teacher = copy.deepcopy(student).eval().requires_grad_(False) if objective.teacher_decay else None
    kernels = None
    if settings.model.attention is None:
        kernels = fastest_kernels(student, process.device, settings.train.gradient_checkpointing)
        student.set_attn_implementation(kernels.short)
        if teacher is not None:
            teacher.set_attn_implementation(kernels.inference)
        log.info("attention: %s", kernels)
    if settings.train.gradient_checkpointing:
        enable_gradient_checkpointing(student)
    process.meet()  # filling caches takes any time on one of them; from here on they answer each other
    if sharded:
        for model in (student, teacher):
            if model is not None:
                shard(model, process)
    learning = student if sharded else process.accelerator.prepare_model(student)
    teaching = teacher or student
    if (backend := settings.train.compile) is not None:
        learning, teaching = compiled(learning, backend), compiled(teaching, backend)
    models = Models(student, teacher, learning, teaching, pad_id, kernels, data.max_length if backend else None)
    return Training(
        models,
        objective.to(process.device),
        rows,
        views.samples,
        evaluation,
        split.label_names,
        settings.train,
        settings.seed,
        process,
        folder,
    )


def _start_head(settings: TrainConfig, split: Split, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    descriptions = settings.data.label_descriptions
    assert descriptions is not None
    # All at once: a token cache for each of many classes would be as many folders.
    store = tokens_of([text for texts in descriptions.values() for text in texts], tokenizer, settings.data)
    rows = map(store.__getitem__, range(len(store)))
    padding = tokenizer.pad_token_id
    sentences = {name: pad_rows(list(islice(rows, len(texts))), padding) for name, texts in descriptions.items()}
    start_head_from_descriptions(model, sentences, settings.model.description_scale, split.label_names)
