"""A trained run to what it leaves behind: scores, calibration, model, predictions; metrics.json comes last."""

import copy
import dataclasses
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from uda import build, config
from uda.config import TrainConfig
from uda.data.settings import DataSettings
from uda.data.splits import Split
from uda.engine import export
from uda.engine.calibration import Temperature, divide_logits, fit_temperature, fold_of_rows, scaled
from uda.engine.card import CardFacts, model_card
from uda.engine.evaluation import predict, score
from uda.engine.model import model_location
from uda.engine.plots import reliability_figure, to_image
from uda.engine.process import Process
from uda.engine.settings import Calibration, Pooling, Select
from uda.engine.tracking import write_hparams, write_image
from uda.engine.training import Progress, Training, supervised_steps, train
from uda.files import write_aside
from uda.objectives.base import Objective

log = logging.getLogger(__name__)

_FEW_HELD_OUT = 100
_NAMED = 5  # classes that a note names


def finish(
    settings: TrainConfig,
    split: Split,
    training: Training,
    progress: Progress,
    tokenizer: PreTrainedTokenizerBase,
    setup_seconds: float,
) -> dict[str, Any]:
    """Select, score on the test rows, calibrate, export; what metrics.json holds.

    `final` and `best` are scores before calibration, `selected` those of the exported model.
    """
    started = time.monotonic()
    process, folder, names = training.process, training.folder, split.label_names
    assert split.test is not None
    final, best, probs = _select(settings, split, training, progress, tokenizer)
    chosen = best if settings.train.select is Select.best else final
    method, temperature = _fitted(settings, split, training, progress, tokenizer)
    divide_logits(training.models.student, temperature.value)
    labels = split.test.label.to_numpy()
    calibrated = scaled(probs, temperature.value) if temperature.value != 1 else probs
    selected = {**chosen, **score(calibrated, labels, names)}
    calibration = {
        "method": method.value,
        "temperature": temperature.value,
        "interval": None if method is Calibration.none else list(temperature.interval),
        "num_rows": temperature.num_rows,
        "note": temperature.note,
        "before": {key: chosen[key] for key in ("nll", "ece")},
        "after": {key: selected[key] for key in ("nll", "ece")},
    }
    if unseen := [name for index, name in enumerate(names) if index not in calibrated.argmax(axis=1)]:
        log.warning("no test row is answered %s: the model has not learnt these classes", _some(unseen))
    _log_gain(progress, supervised_steps(training.objective, settings.train.num_steps))
    num_tokens = int(process.gather_rows(np.array([progress.num_tokens])).sum())
    metrics = {
        "status": "finished",
        "select": settings.train.select.value,
        "final": final,
        "best": best,
        "selected": selected,
        "calibration": calibration,
        "evaluations": progress.evaluations,
        "num_labeled": len(split.labeled),
        "num_unlabeled": len(split.unlabeled),
        "label_descriptions": settings.data.label_descriptions is not None,
        "num_steps": settings.train.num_steps,
        "training_seconds": progress.seconds,
        "seconds": setup_seconds + progress.seconds + time.monotonic() - started,
        "tokens_per_second": num_tokens / max(progress.seconds, 1e-9),
        "seed": settings.seed,
        "precision": process.precision.value,
        "num_processes": process.count,
        **export.environment(process.device),
    }
    if process.is_main:
        card = model_card(_facts(settings, split, training.objective), selected, calibration)
        export.export_model(folder / "model", training.models.student, tokenizer, card)
        export.write_predictions(folder / "predictions.parquet", split.test, calibrated, names)
        panels = [("as trained", probs, labels)]
        if method is not Calibration.none:
            panels.append((f"calibrated, T = {temperature.value:.2f}", calibrated, labels))
        figure = reliability_figure(panels)
        write_aside(folder / "reliability.png", lambda aside: figure.savefig(aside, format="png"))
        write_image(folder / "tensorboard", "calibration/reliability", to_image(figure), settings.train.num_steps)
        write_hparams(folder / "tensorboard", config.hparams(settings), selected)
        export.write_json(folder / "metrics.json", metrics)
        shutil.rmtree(folder / "calibration", ignore_errors=True)
    return metrics


def _log_gain(progress: Progress, boundary: int) -> None:
    """What the unlabelled rows added: the last evaluation against that after the steps on labelled rows alone."""
    before = next((entry for entry in progress.evaluations if entry["step"] == boundary), None)
    if before is None or boundary == progress.step:
        return
    after = progress.evaluations[-1]
    low, _ = after["accuracy_interval"]
    verdict = ""
    if after["accuracy"] <= before["accuracy"]:
        verdict = ": here they did not help; compare a run with objective=supervised"
    elif low <= before["accuracy"]:
        verdict = f": {after['num_rows']} rows cannot tell whether that is a gain"
    log.info(
        "%s accuracy after %d steps on the labelled rows alone %.2f %%, with the unlabelled rows %.2f %%%s",
        after["set"],
        boundary,
        100 * before["accuracy"],
        100 * after["accuracy"],
        verdict,
    )


def _select(
    settings: TrainConfig,
    split: Split,
    training: Training,
    progress: Progress,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """Scores of the final and of the best weights on the test rows; the probabilities of the selected ones, which the
    student then has.
    """
    assert split.test is not None
    assert progress.last_probs is not None
    student, role, names = training.models.student, training.evaluation.role, split.label_names
    store = build.tokens_of_rows(split.test, tokenizer, settings.data)
    labels = split.test.label.to_numpy()

    def predict_test() -> np.ndarray:
        return predict(student, store, training.models.pad_id, settings.train.eval_batch_size, training.process)

    def test_scores(probs: np.ndarray, step: int) -> dict[str, Any]:
        return {"step": step, "set": "test", **score(probs, labels, names)}

    probs = progress.last_probs if role == "test" else predict_test()
    final = best = test_scores(probs, progress.step)
    select_best = settings.train.select is Select.best
    if progress.best_step != progress.step and role == "test" and not select_best:
        best = next(entry for entry in progress.evaluations if entry["step"] == progress.best_step)
    elif progress.best_step != progress.step:
        final_weights = {name: value.clone() for name, value in student.state_dict().items()}
        student.load_state_dict(progress.best_weights)
        best_probs = predict_test()
        best = test_scores(best_probs, progress.best_step)
        if select_best:
            probs = best_probs
        else:
            student.load_state_dict(final_weights)
    chosen_on = "dev rows" if role == "dev" else "test rows, so it is optimistic"
    return final, {**best, "chosen_on": chosen_on}, probs


def _fitted(
    settings: TrainConfig,
    split: Split,
    training: Training,
    progress: Progress,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Calibration, Temperature]:
    """The method of calibration that was meant, and its temperature for the student as it is."""
    method, num_folds = build.calibration(settings, split)
    if method is Calibration.none:
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
            fitted = _noted(fitted, f"no dev row is of {_some(missing)}")
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


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")


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
            training.process.wait()
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
    objective = config.build(settings.objective, "objective", **counts)
    if (weights := build.class_weights(settings, split)) is not None:
        objective.weigh_classes(weights)
    location = model_location(settings.model)
    folder.mkdir(parents=True, exist_ok=True)
    training = build.build_training(settings, split, objective, tokenizer, location, process, folder)
    training.evaluation.role = "held-out"
    progress = train(training)
    training.models.wrapped = training.models.student
    process.accelerator.free_memory()  # it keeps every model that it prepared
    assert progress.last_probs is not None
    return progress.last_probs


def _facts(settings: TrainConfig, split: Split, objective: Objective) -> CardFacts:
    data, model = settings.data, settings.model
    folder = Path(model.package or model.name_or_path).expanduser()
    on_hub = model.package is None and not folder.is_dir()
    counts = np.bincount(split.labeled.label, minlength=len(split.label_names))
    labeled = _source(data, data.labeled)
    return CardFacts(
        label_names=split.label_names,
        encoder=model.name_or_path if on_hub else folder.resolve().name,
        base_model=model.name_or_path if on_hub else None,
        labeled_data=labeled,
        unlabeled_data=labeled if data.unlabeled is None else _source(data, data.unlabeled),
        test_data=labeled if data.test is None else _source(data, data.test),
        held_out=_held_out(data) if data.test is None else None,
        counts=[int(count) for count in counts],
        num_unlabeled=0 if objective.teacher_rows == "none" else len(split.unlabeled),
        described=data.label_descriptions is not None,
        objective=type(objective).__name__,
        augmentation=settings.augment["_target_"].rsplit(".", 1)[-1],
        num_steps=settings.train.num_steps,
        max_length=data.max_length,
        truncation=data.truncation.value,
        pairs=data.text_pair_column is not None,
        standalone=model.pooling is Pooling.head,
        repeat="python -m uda.train --config-dir RUN_DIRECTORY --config-name config hydra.run.dir=NEW_FOLDER",
    )


def _held_out(data: DataSettings) -> str:
    drawn = data.num_test or f"a share of {data.test_share:g}"
    return f"{drawn} of the labelled rows, which training did not see"


def _source(data: DataSettings, location: Any) -> str:
    """What a person calls the rows of a location: the package, the data set of the hub, or the files."""
    return data.package or data.repository or ", ".join(Path(str(one)).name for one in np.atleast_1d(location))
