"""The temperature of a trained run, from dev rows or from trainings without a part of the labelled rows."""

import copy
import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from uda import build, instances
from uda.config import TrainConfig
from uda.data.splits import Split
from uda.engine import export
from uda.engine.calibration import Temperature, fit_temperature, fold_of_rows
from uda.engine.evaluation import predict
from uda.engine.locations import model_location
from uda.engine.process import Process
from uda.engine.progress import Progress
from uda.engine.settings import Calibration, Select
from uda.engine.training import Training, train
from uda.errors import some_names

log = logging.getLogger(__name__)

_FEW_HELD_OUT = 100


def fit(
    settings: TrainConfig,
    split: Split,
    training: Training,
    progress: Progress,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Calibration, Temperature]:
    """The method of calibration that was meant, and its temperature for the student as it is."""
    method, num_folds = build.calibration(settings, split)
    if method is Calibration.none:
        if settings.train.calibration is not Calibration.none:
            log.info("confidence is not calibrated: dev rows (data.dev) or train.calibration=folds would do it")
        return method, Temperature(1.0, (1.0, 1.0), 0)
    if method is Calibration.dev:
        assert split.dev is not None
        store = training.evaluation.store
        probs = predict(
            training.models.student, store, training.models.pad_id, settings.train.eval_batch_size, training.process
        )
        labels = split.dev.label.to_numpy()
        fitted = fit_temperature(probs, labels)
        if missing := [name for label, name in enumerate(split.label_names) if label not in labels]:
            fitted = _noted(fitted, f"no dev row is of {some_names(missing)}")
        if settings.train.select is Select.best:
            fitted = _noted(fitted, "the same dev rows chose the weights, so it is slightly optimistic")
    else:
        fitted = fit_temperature(*_out_of_fold(num_folds, settings, split, training, progress, tokenizer))
        if settings.train.select is Select.best:
            fitted = _noted(fitted, "fitted to weights of the last step, not of the best one")
        if settings.data.keep_labeled:
            fitted = _noted(fitted, "the held-out texts were among the unlabelled ones")
    if fitted.num_rows < _FEW_HELD_OUT:
        count = "1 held-out row leaves" if fitted.num_rows == 1 else f"{fitted.num_rows} held-out rows leave"
        fitted = _noted(fitted, f"{count} the temperature uncertain")
    log.log(
        logging.WARNING if fitted.note else logging.INFO,
        "temperature %.3f (95 %%: %.2f to %.2f) from %d held-out rows%s",
        fitted.value,
        *fitted.interval,
        fitted.num_rows,
        f"; {fitted.note}" if fitted.note else "",
    )
    return method, fitted


def _noted(fitted: Temperature, note: str) -> Temperature:
    return dataclasses.replace(fitted, note="; ".join(part for part in (fitted.note, note) if part))


def _out_of_fold(
    num_folds: int,
    settings: TrainConfig,
    split: Split,
    training: Training,
    progress: Progress,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, K] and labels [N] of the labelled rows, each from the same recipe trained without its fold.

    A fold that is finished is stored, one that was interrupted goes on from its own checkpoint.
    """
    labels = split.labeled.label.to_numpy()
    folds = fold_of_rows(list(split.labeled.folded), labels, num_folds, settings.data.seed)
    log.info(
        "calibration: %d more trainings of about %.0f s, each without a part of the %d labelled rows; "
        "train.calibration=none goes without",
        num_folds,
        progress.seconds,
        len(labels),
    )
    probs = np.zeros((len(labels), len(split.label_names)), dtype=np.float32)
    for fold in range(num_folds):
        part = training.folder / "calibration" / f"fold-{fold + 1}"
        stored = part.with_suffix(".json")
        if not stored.exists():
            log.info("calibration: fold %d of %d", fold + 1, num_folds)
            rest, held_out = split.labeled[folds != fold], split.labeled[folds == fold]
            without = dataclasses.replace(split, labeled=rest, test=held_out, dev=None)
            answers = _trained_on(settings, without, tokenizer, training.process, part)
            if training.process.is_main:
                export.write_json(stored, {"probs": answers.tolist()})
                shutil.rmtree(part, ignore_errors=True)
            training.process.meet()
        probs[folds == fold] = np.array(json.loads(stored.read_text())["probs"], dtype=np.float32)
    return probs, labels


def _trained_on(
    settings: TrainConfig, split: Split, tokenizer: PreTrainedTokenizerBase, process: Process, folder: Path
) -> np.ndarray:
    """The probabilities of the split's test rows, by a model of its own."""
    settings = copy.deepcopy(settings)
    settings.train.eval_every = None
    settings.train.calibration = Calibration.none
    counts = {"num_classes": len(split.label_names), "num_unlabeled": len(split.unlabeled)}
    objective = instances.build(settings.objective, "objective", **counts)
    if (weights := build.class_weights(settings, split)) is not None:
        objective.weigh_classes(weights)
    location = model_location(settings.model)
    folder.mkdir(parents=True, exist_ok=True)
    training = build.build_training(settings, split, objective, tokenizer, location, process, folder)
    training.evaluation.role = "held-out"
    progress = train(training)
    training.models.learning = training.models.student
    process.accelerator.free_memory()  # it keeps every model that it prepared
    assert progress.last_probs is not None
    return progress.last_probs
