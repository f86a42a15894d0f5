"""`python -m uda.adapt`: masked-language-model training of an encoder on the texts of an experiment."""

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

from uda import cli, config, run_directory
from uda.commands import python, shorter
from uda.config import AdaptConfig
from uda.errors import memory_told
from uda.locks import locked
from uda.running import ends_told, started_process

if TYPE_CHECKING:
    from uda.engine.process import Process

_MEMORY = (
    "The last checkpoint stays: the same command goes on from it with hydra.run.dir={} and "
    "train.gradient_checkpointing=true, a lower train.micro_batch_size (texts a pass) or a lower "
    "train.eval_batch_size. A lower data.max_length or a smaller encoder make it another run."
)

log = logging.getLogger("uda.adapt")  # under `python -m` this module is called __main__


@dataclass(frozen=True)
class Result:
    """What a run achieved, as metrics.json has it.

    before, after: `step`, `loss` (nats a hidden token) and `perplexity` on the held-out texts.
    """

    run_dir: Path
    before: dict[str, Any]
    after: dict[str, Any]
    num_texts: int
    num_held_out: int
    new_head: bool


def run(cfg: DictConfig) -> Result:
    """Adapt the encoder as the config says, in the run directory of `config.run_dir`; `model/` in it is the encoder.

    A finished run is refused (in a multirun its stored result is returned), an interrupted one resumed. Raises
    UserError for what the user has to mend and `cli.Interrupted` after a signal.
    """
    settings = config.read_adapt(cfg)
    folder = config.run_dir(settings)
    resolved = config.resolved(cfg)
    stored = _stored(settings, resolved, folder)
    if stored is not None:
        return stored
    from uda import build

    started = time.monotonic()
    with started_process(settings.train, folder) as process:
        build.check_launch(settings, process, "adapt")
        build.check_shared("adapt.batch_size", settings.adapt.batch_size, process)
        with cli.log_kept() as log_to, locked(folder) if process.is_main else nullcontext():
            if process.is_main:
                stored = _stored(settings, resolved, folder)  # another process may have finished it just now
            with memory_told(_MEMORY.format(folder)):
                return stored or _adapt(settings, resolved, folder, process, log_to, started)


def _stored(settings: AdaptConfig, resolved: dict[str, Any], folder: Path) -> Result | None:
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
    return _result(folder, metrics)


def _result(folder: Path, metrics: dict[str, Any]) -> Result:
    names = ("before", "after", "num_texts", "num_held_out", "new_head")
    return Result(folder, **{name: metrics[name] for name in names})


def _adapt(
    settings: AdaptConfig,
    resolved: dict[str, Any],
    folder: Path,
    process: "Process",
    log_to: Callable[[Path], None],
    started: float,
) -> Result:
    """Build, check, adapt, finish; the run directory is touched when all checks are passed."""
    import torch

    from uda import adapting, choices
    from uda.data.masking import make_masker
    from uda.data.splits import load_split
    from uda.engine.adaptation import adapt
    from uda.engine.locations import model_location
    from uda.engine.masked_lm import fit_mask_token, load_masked_lm
    from uda.engine.model import quiet_transformers
    from uda.engine.tokenizer import fit_tokenizer, load_tokenizer, position_limit

    quiet_transformers()
    location = model_location(settings.model)
    tokenizer = load_tokenizer(location, settings.model, settings.data.max_length, settings.data.truncation)
    masker = make_masker(tokenizer, settings.adapt.mask_share, settings.adapt.whole_words)
    torch.manual_seed(settings.seed)
    model, new_head = load_masked_lm(location, settings.model)
    split = load_split(settings.data)
    adapting.check_texts(settings, split)
    if settings.data.max_length is None:
        choices.choose_length(settings, resolved, split, tokenizer, position_limit(model), process.device.type)
        tokenizer = load_tokenizer(location, settings.model, settings.data.max_length, settings.data.truncation)
        if run_directory.has_checkpoint(folder) and not settings.train.overwrite:
            run_directory.refuse_other_config(folder, resolved)
    fit_tokenizer(tokenizer, model, settings.data.max_length)
    fit_mask_token(tokenizer, model)
    built = adapting.build_adaptation(settings, split, tokenizer, masker, model, process, folder)
    if process.is_main:
        run_directory.prepare(folder, resolved, split.as_json(), settings.train.overwrite, "adapt")
        log_to(folder / "adapt.log")
    process.meet()
    setup_seconds = time.monotonic() - started
    log.info(
        "%d texts, %d more held out; %s head; %s on %s; ready after %.0f s",
        len(built.corpus),
        len(built.held_out),
        "a new" if new_head else "the checkpoint's",
        process.precision.value,
        process.device,
        setup_seconds,
    )
    with ends_told(folder):
        progress = adapt(built)
        metrics = adapting.finish(settings, built, progress, tokenizer, location, new_head, setup_seconds)
    built.learning = built.passes
    process.close()
    return _result(folder, metrics)


def show(result: Result, overrides: list[str]) -> None:
    """Perplexities, where the encoder lies, what to do with it, on standard error. `overrides`: what was typed."""
    before, after = (one["perplexity"] for one in (result.before, result.after))
    shown = shorter(str(result.run_dir / "model"))
    mine = ("adapt.", "hydra.run.dir=", "model.name_or_path=", "train.", "seed=")
    other = [override for override in overrides if not override.startswith(mine)]
    lines = [
        f"perplexity {after:.2f}, {before:.2f} before{' with a new head' * result.new_head}   "
        f"({result.num_held_out} held-out texts, {result.num_texts} trained on)",
        f"encoder: {shown}",
    ]
    if config.primary_config() == "adapt" and not config.is_standard_input(overrides):
        command = shlex.join([*config.config_dirs(), *other, f"model.name_or_path={shown}"])
        lines += ["", "next:", f"  {python()} -m uda.train {command}"]
    print("", *lines, sep="\n", file=sys.stderr)


def job(cfg: DictConfig) -> float:
    """One job of the command line: a run, its perplexities shown; the one after it is what a sweep is after."""
    result = run(cfg)
    if cli.rank() == 0:
        show(result, config.job_overrides())
    return float(result.after["perplexity"])


if __name__ == "__main__":
    cli.main("adapt", AdaptConfig, job)
