"""A trained run to what it leaves behind: scores, calibration, model, predictions; metrics.json comes last."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave
from transformers import PreTrainedTokenizerBase

from uda import calibrate
from uda.config import TrainConfig
from uda.data.settings import DataSettings, Source
from uda.data.splits import Split
from uda.engine import export
from uda.engine.calibration import divide_logits, scaled
from uda.engine.card import CardFacts, model_card
from uda.engine.evaluation import predict, score
from uda.engine.locations import encoder_name, own_folder
from uda.engine.plots import reliability_figure, to_image
from uda.engine.progress import Progress
from uda.engine.settings import Calibration, Pooling, Select
from uda.engine.sharding import load_weights, whole_model
from uda.engine.tracking import write_hparams, write_image
from uda.engine.training import Training, supervised_steps
from uda.errors import some_names
from uda.files import write_aside
from uda.hparams import hparams
from uda.objectives.base import Objective
from uda.views import tokens_of_rows

log = logging.getLogger(__name__)


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
    method, temperature = calibrate.fit(settings, split, training, progress, tokenizer)
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
        log.warning("no test row is answered %s: the model has not learnt these classes", some_names(unseen))
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
    model = whole_model(training.models.student, keep=process.is_main)
    if model is not None and process.is_main:
        card = model_card(_facts(settings, split, training.objective), selected, calibration)
        export.export_model(folder / "model", model, tokenizer, card)
        export.write_predictions(folder / "predictions.parquet", split.test, calibrated, names)
        panels = [("as trained", probs, labels)]
        if method is not Calibration.none:
            panels.append((f"calibrated, T = {temperature.value:.2f}", calibrated, labels))
        pixels = to_image(reliability_figure(panels))  # once: drawing takes a good part of a second
        write_aside(folder / "reliability.png", lambda aside: imsave(aside, pixels, format="png"))
        write_image(folder / "tensorboard", "calibration/reliability", pixels, settings.train.num_steps)
        write_hparams(folder / "tensorboard", hparams(settings), selected)
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
    store = tokens_of_rows(split.test, tokenizer, settings.data)
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
        load_weights(student, progress.best_weights)
        best_probs = predict_test()
        best = test_scores(best_probs, progress.best_step)
        if select_best:
            probs = best_probs
        else:
            student.load_state_dict(final_weights)
    chosen_on = "dev rows" if role == "dev" else "test rows, so it is optimistic"
    return final, {**best, "chosen_on": chosen_on}, probs


def _facts(settings: TrainConfig, split: Split, objective: Objective) -> CardFacts:
    data, model = settings.data, settings.model
    on_hub = model.package is None and own_folder(model) is None
    counts = np.bincount(split.labeled.label, minlength=len(split.label_names))
    labeled = source_name(data, data.labeled)
    return CardFacts(
        label_names=split.label_names,
        encoder=encoder_name(model),
        base_model=model.name_or_path if on_hub else None,
        labeled_data=labeled,
        unlabeled_data=labeled if data.unlabeled is None else source_name(data, data.unlabeled),
        test_data=labeled if data.test is None else source_name(data, data.test),
        held_out=_held_out(data) if data.test is None else None,
        counts=[int(count) for count in counts],
        num_unlabeled=0 if objective.teacher_rows == "none" else len(split.unlabeled),
        described=data.label_descriptions is not None,
        objective=type(objective).__name__,
        augmentation=settings.augment["_target_"].rsplit(".", 1)[-1] if objective.sees_augmented else "NoAugmentation",
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


def source_name(data: DataSettings, location: Any) -> str:
    """What a person calls the rows of a location: the package, the data set of the hub, or the files."""
    if data.source is Source.files:
        return ", ".join(Path(str(one)).name for one in np.atleast_1d(location))
    return str(data.package if data.source is Source.package else data.repository)
