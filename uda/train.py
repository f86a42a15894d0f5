"""`python -m uda.train`: train a text classifier from few labels and many unlabelled texts."""

import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from uda import cli, config, run_directory
from uda.config import TrainConfig

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from uda.data.splits import Split
    from uda.engine.training import Progress, Training

log = logging.getLogger("uda.train")  # under `python -m` this module is called __main__


@dataclass(frozen=True)
class Result:
    """What a run achieved; the scores are those of `metrics.json`.

    run_dir: the run directory. final, best, selected: scores with the step and the set that they are of.
    """

    run_dir: Path
    final: dict[str, Any]
    best: dict[str, Any]
    selected: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """The accuracy of the selected model on the test rows."""
        return float(self.selected["accuracy"])


def run(cfg: DictConfig) -> Result:
    """Train as the config says, in the run directory of `config.run_dir`.

    A finished run is refused (in a multirun its stored result is returned), an interrupted one resumed. Raises
    UserError for what the user has to mend and `cli.Interrupted` after a signal.
    """
    settings = config.read_train(cfg)
    folder = config.run_dir(settings)
    config.build(settings.objective, "objective", num_classes=2, num_unlabeled=1)
    metrics = None if settings.train.overwrite else run_directory.finished_metrics(folder)
    if metrics is not None:
        if not config.is_multirun():
            run_directory.refuse_finished(folder, metrics)
        run_directory.refuse_other_config(folder, config.resolved(cfg))
        log.info("finished before: %s", folder)
        return Result(folder, metrics["final"], metrics["best"], metrics["selected"])
    with cli.log_kept() as log_to:
        return _train(settings, config.resolved(cfg), folder, log_to)


def _train(settings: TrainConfig, resolved: dict[str, Any], folder: Path, log_to: Callable[[Path], None]) -> Result:
    """Build, check, train, finish; the run directory is touched when all checks are passed."""
    from uda import build
    from uda.data.splits import load_split
    from uda.engine.model import load_tokenizer, model_location, quiet_transformers
    from uda.engine.process import Process
    from uda.engine.signals import Stop
    from uda.engine.training import train

    started = time.monotonic()
    quiet_transformers()
    process = Process.start(settings.train.precision)
    build.check_processes(settings, process)
    location = model_location(settings.model)
    tokenizer = load_tokenizer(location, settings.model, settings.data.max_length, settings.data.truncation)
    split = load_split(settings.data)
    counts = {"num_classes": len(split.label_names), "num_unlabeled": len(split.unlabeled)}
    objective = config.build(settings.objective, "objective", **counts)
    build.check_split(settings, split, objective)
    training = build.build_training(settings, split, objective, tokenizer, location, process, folder)
    if process.is_main:
        run_directory.prepare(folder, resolved, split.as_json(), settings.train.overwrite)
        log_to(folder / "train.log")
    process.wait()
    setup_seconds = time.monotonic() - started
    log.info(
        "%s with %d labelled and %d unlabelled rows; %s on %s; ready after %.0f s",
        type(objective).__name__,
        len(split.labeled),
        len(split.unlabeled),
        process.precision.value,
        process.device,
        setup_seconds,
    )
    try:
        progress = train(training)
    except Stop as stop:
        raise cli.Interrupted(
            f"{stop}; the same command goes on from the checkpoint in {folder / 'checkpoints'}", stop.exit_code
        ) from None
    return _finish(settings, split, training, progress, tokenizer, setup_seconds)


def _finish(
    settings: TrainConfig,
    split: "Split",
    training: "Training",
    progress: "Progress",
    tokenizer: "PreTrainedTokenizerBase",
    setup_seconds: float,
) -> Result:
    """Select, score on the test rows, export; the metrics come last and mark the run as finished."""
    import numpy as np

    from uda import build
    from uda.engine import export
    from uda.engine.evaluation import predict, score
    from uda.engine.settings import Select

    started = time.monotonic()
    student, process, folder = training.models.student, training.process, training.folder
    names, role = split.label_names, training.evaluation.role
    assert split.test is not None
    labels = split.test.label.to_numpy()
    store = build.tokens_of(list(split.test.text), tokenizer, settings.data)

    def predict_test() -> "np.ndarray":
        return predict(student, store, training.models.pad_id, settings.train.eval_batch_size, process)

    def test_scores(probs: "np.ndarray", step: int) -> dict[str, Any]:
        return {"step": step, "set": "test", **score(probs, labels, names)}

    assert progress.last_probs is not None
    probs = progress.last_probs if role == "test" else predict_test()
    final = test_scores(probs, progress.step)
    best = final
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
    best = {**best, "chosen_on": "dev rows" if role == "dev" else "test rows, so it is optimistic"}
    selected = best if select_best else final
    num_tokens = int(process.gather_rows(np.array([progress.num_tokens])).sum())
    if process.is_main:
        card = export.model_card(names, settings.model.name_or_path, len(split.labeled), selected)
        export.export_model(folder / "model", student, tokenizer, card)
        export.write_predictions(folder / "predictions.parquet", split.test, probs, names)
        metrics = {
            "status": "finished",
            "select": settings.train.select.value,
            "final": final,
            "best": best,
            "selected": selected,
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
        export.write_json(folder / "metrics.json", metrics)
    training.models.wrapped = student
    process.close()
    return Result(folder, final, best, selected)


def show(result: Result, overrides: list[str]) -> None:
    """The scores, where they lie, and what to try next, on standard error. `overrides`: what was typed."""
    scores, folder = result.selected, result.run_dir
    python = "python" if shutil.which("python") == sys.executable else _shorter(sys.executable)
    baseline = "uda_weak_start" if "objective=supervised" in overrides else "supervised"
    other = [override for override in overrides if not override.startswith(("objective", "hydra.run.dir"))]
    print(
        f"\naccuracy {100 * scores['accuracy']:.2f} %   macro-F1 {100 * scores['macro_f1']:.2f} %   "
        f"NLL {scores['nll']:.3f}   ECE {scores['ece']:.3f}   "
        f"({scores['num_rows']} test rows, step {scores['step']})\n"
        f"run directory: {folder}\n\n"
        f"next:\n"
        f"  {python} -m uda.train {shlex.join([*other, f'objective={baseline}'])}\n"
        f"  {python} -m uda.evaluate run={folder}\n"
        f"  {python} -m tensorboard.main --logdir {folder.parent}",
        file=sys.stderr,
    )


def _shorter(path: str) -> str:
    """A path as it is, or relative to where we stand, whichever is shorter."""
    return min(path, os.path.relpath(path), key=len)


def job(cfg: DictConfig) -> float:
    """One job of the command line: a run, its scores shown; the accuracy is what a sweep is after."""
    result = run(cfg)
    if int(os.environ.get("RANK", "0")) == 0:
        show(result, config.job_overrides())
    return result.accuracy


if __name__ == "__main__":
    cli.main("train", TrainConfig, job)
