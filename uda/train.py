"""`python -m uda.train`: train a text classifier from few labels and many unlabelled texts."""

import logging
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from uda import cli, config, instances, run_directory
from uda.commands import python, shorter
from uda.config import TrainConfig
from uda.errors import memory_told
from uda.locks import locked
from uda.running import ends_told, started_process

if TYPE_CHECKING:
    from uda.engine.process import Process

_MEMORY = (
    "The last checkpoint stays: the same command goes on from it with hydra.run.dir={} and "
    "train.gradient_checkpointing=true, a lower train.micro_batch_size (rows a pass, no fewer than the labelled ones "
    "of a step), a lower train.eval_batch_size or, by several processes, train.sharding=full. A lower data.max_length "
    "or a smaller encoder make it another run."
)

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
    objective = instances.build(settings.objective, "objective", num_classes=2, num_unlabeled=1)
    resolved = config.resolved(cfg)
    stored = _stored(settings, resolved, folder)
    if stored is not None:
        return stored
    if objective.sees_augmented:
        instances.build_augmenter(settings.augment, lowercase=True)
    else:
        for override in config.job_overrides():
            if override.lstrip("+").startswith("augment."):
                log.warning("%s has no effect: %s looks at no augmented text", override, type(objective).__name__)
    from uda import build

    started = time.monotonic()
    with started_process(settings.train, folder) as process:
        build.check_processes(settings, process)
        with cli.log_kept() as log_to, locked(folder) if process.is_main else nullcontext():
            if process.is_main:
                stored = _stored(settings, resolved, folder)  # another process may have finished it just now
            with memory_told(_MEMORY.format(folder)):
                return stored or _train(settings, resolved, folder, process, log_to, started)


def _stored(settings: TrainConfig, resolved: dict[str, Any], folder: Path) -> Result | None:
    """The result of a finished run in the folder: refused, but for a multirun; None where there is something to do."""
    if settings.train.overwrite:
        return None
    metrics = run_directory.finished_metrics(folder)
    if metrics is not None and not config.is_multirun():
        run_directory.refuse_finished(folder, metrics)
    if metrics is not None or run_directory.has_checkpoint(folder):
        run_directory.refuse_other_config(folder, resolved)
    if metrics is None:
        return None
    log.info("finished before: %s", folder)
    return Result(folder, metrics["final"], metrics["best"], metrics["selected"])


def _train(
    settings: TrainConfig,
    resolved: dict[str, Any],
    folder: Path,
    process: "Process",
    log_to: Callable[[Path], None],
    started: float,
) -> Result:
    """Build, check, train, finish; the run directory is touched when all checks are passed."""
    from uda import build, choices
    from uda.data.splits import load_split
    from uda.engine.locations import model_location
    from uda.engine.model import quiet_transformers
    from uda.engine.tokenizer import encoder_positions, load_tokenizer
    from uda.engine.training import train
    from uda.finish import finish

    quiet_transformers()
    location = model_location(settings.model)
    tokenizer = load_tokenizer(location, settings.model, settings.data.max_length, settings.data.truncation)
    split = load_split(settings.data)
    counts = {"num_classes": len(split.label_names), "num_unlabeled": len(split.unlabeled)}
    objective = instances.build(settings.objective, "objective", **counts)
    if settings.data.max_length is None or settings.train.num_steps is None:
        positions = encoder_positions(location, settings.model)
        choices.choose(settings, resolved, split, objective, tokenizer, positions, process.device.type)
        tokenizer = load_tokenizer(location, settings.model, settings.data.max_length, settings.data.truncation)
        if run_directory.has_checkpoint(folder) and not settings.train.overwrite:
            run_directory.refuse_other_config(folder, resolved)
    build.check_split(settings, split, objective)
    if (weights := build.class_weights(settings, split)) is not None:
        objective.weigh_classes(weights)
    training = build.build_training(settings, split, objective, tokenizer, location, process, folder)
    if process.is_main:
        run_directory.prepare(folder, resolved, split.as_json(), settings.train.overwrite)
        log_to(folder / "train.log")
    process.meet()
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
    with ends_told(folder):
        progress = train(training)
        metrics = finish(settings, split, training, progress, tokenizer, setup_seconds)
    training.models.learning = training.models.student
    process.close()
    return Result(folder, metrics["final"], metrics["best"], metrics["selected"])


# What is chosen for labelled rows alone, as few steps of many rows are, is no setting of the experiment's own recipe.
_LENGTH = ("train.num_steps=", "train.batch_size=", "train.learning_rate=")


def show(result: Result, overrides: list[str]) -> None:
    """The scores, where they lie, and what to try next, on standard error. `overrides`: what was typed."""
    scores, folder = result.selected, result.run_dir
    shown = shorter(str(folder))
    low, high = scores["accuracy_interval"]
    lines = [
        f"accuracy {100 * scores['accuracy']:.2f} % (95 %: {100 * low:.2f} – {100 * high:.2f})   "
        f"macro-F1 {100 * scores['macro_f1']:.2f} %   "
        f"NLL {scores['nll']:.3f}   ECE {scores['ece']:.3f}   "
        f"({scores['num_rows']} test rows, step {scores['step']})",
        f"run directory: {shown}",
    ]
    if config.is_multirun():  # whose other jobs are what to compare with
        print("", *lines, sep="\n", file=sys.stderr)
        return
    lines += ["", "next:"]
    # Without the unlabelled rows, or what the experiment makes of them, in its own number of steps.
    supervised = "objective=supervised" in overrides
    compared = [] if supervised else ["objective=supervised"]
    mine = ("objective", "hydra.run.dir", "train.overwrite", *(_LENGTH if supervised else ()))
    other = [override for override in overrides if not override.startswith(mine)]
    if not config.is_standard_input(overrides):  # which is read by now
        if config.primary_config() == "train":
            lines.append(f"  {python()} -m uda.train {shlex.join([*config.config_dirs(), *other, *compared])}")
        lines.append(f"  {python()} -m uda.evaluate {shlex.quote(f'run={shown}')}")
    lines.append(f"  {python()} -m tensorboard.main --logdir {shlex.quote(shorter(str(folder.parent)))}")
    print("", *lines, sep="\n", file=sys.stderr)


def job(cfg: DictConfig) -> float:
    """One job of the command line: a run, its scores shown; the accuracy is what a sweep is after."""
    result = run(cfg)
    if cli.rank() == 0:
        show(result, config.job_overrides())
    return result.accuracy


if __name__ == "__main__":
    cli.main("train", TrainConfig, job)
