"""In-domain adaptation: the loop of masked-language-model training on the unlabelled texts."""

import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from uda.data.batches import RowStream
from uda.data.masking import Corpus, MaskedRows
from uda.engine.attention import Kernels, attention
from uda.engine.checkpoints import (
    Tensors,
    conditions,
    load_common_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    warn_of_other_conditions,
)
from uda.engine.flops import pass_cost, product_limit
from uda.engine.gradients import clip, refuse_not_finite, remedy
from uda.engine.masked_lm import AtPlaces, summed_loss, unshared
from uda.engine.optimizer import learning_rate_factor, make_optimizer
from uda.engine.process import Process
from uda.engine.settings import AdaptSettings, TrainSettings
from uda.engine.signals import noted_signals, stop_together
from uda.engine.step import StepOutcome
from uda.engine.tracking import Tracker, Work
from uda.errors import UserError

log = logging.getLogger(__name__)

_RATE = "adapt.learning_rate"
_LARGEST_LOSS = 700.0  # whose exponential, the perplexity, is still a number
_HELD_OUT_MASKS = 712_025  # the seed of the held-out texts' masks, the same for all runs
_SPEND_MEMORY = ("micro_batch_size", "eval_batch_size", "gradient_checkpointing")


@dataclass
class Adaptation:
    """One run: everything the loop needs, built by the command.

    passes: the model as it makes passes, its head at hidden places alone; learning: the same, wrapped by Accelerate.
    kernels: of attention; None: the one that the user named.
    """

    passes: AtPlaces
    learning: nn.Module
    kernels: Kernels | None
    corpus: Corpus
    held_out: Corpus
    settings: AdaptSettings
    train: TrainSettings
    seed: int
    process: Process
    folder: Path

    @property
    def model(self) -> PreTrainedModel:
        """The masked language model."""
        return self.passes.model

    def attention(self, longest: int = 0) -> AbstractContextManager[None]:
        """Passes over rows of at most so many tokens are made by the kernel that suits them."""
        return nullcontext() if self.kernels is None else attention(self.model, self.kernels.of(longest))


@dataclass
class AdaptProgress:
    """What has happened so far; all of it is in every checkpoint.

    evaluations: `step`, `loss` (nats a hidden token) and `perplexity` on the held-out texts, the first before any step.
    seconds: wall time of training and evaluations, over all starts. num_tokens: padding left out, on this process; in
    a checkpoint on all.
    """

    step: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    num_tokens: int = 0


def adapt(run: Adaptation) -> AdaptProgress:
    """Train to `num_steps`, from the newest checkpoint in the run's folder where there is one.

    Raises Stop after a signal, once a checkpoint is written, and UserError for a loss or gradient that is not
    finite, once the step's rows are written.
    """
    settings, train, process = run.settings, run.train, run.process
    progress, stored_optimizer = _restore(run)
    started = time.monotonic() - progress.seconds
    stream = RowStream(run.corpus, settings.batch_size, run.seed, stream=0)
    optimizer = make_optimizer(run.model, train, settings.learning_rate)
    if progress.step:
        restore_optimizer(optimizer, stored_optimizer)
    work = Work(pass_cost(run.model), product_limit(process.device, process.precision))
    tracker = Tracker(run.folder / "tensorboard", process, [], work, progress.step, settings.num_steps, train.log_every)
    with tracker, noted_signals(once=process.count == 1) as note:
        if not progress.evaluations:
            _evaluate(run, progress, tracker)
        while progress.step < settings.num_steps:
            step = progress.step
            rate = settings.learning_rate * learning_rate_factor(
                step, settings.num_steps, settings.warmup, train.schedule
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = stream.batch(step)[process.rank :: process.count]
            process.seed_step(run.seed, step)
            outcome = run_step(run, rows, step)
            gradient_norm = _clipped_norm(run, outcome, rows, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.step = step + 1
            progress.seconds = time.monotonic() - started
            progress.num_tokens += outcome.num_tokens
            tracker.step(progress.step, outcome, rate, gradient_norm)
            last = progress.step == settings.num_steps
            if last or (settings.eval_every and progress.step % settings.eval_every == 0):
                _evaluate(run, progress, tracker)
            signal_number = process.highest(note.number)
            due = last or (train.checkpoint_every and progress.step % train.checkpoint_every == 0)
            if due or signal_number:
                tracker.flush()  # what is shown up to a checkpoint is never shown again
                _save(run, progress, optimizer)
            if signal_number:
                stop_together(process, signal_number)
        progress.seconds = time.monotonic() - started
        if signal_number := process.highest(note.number):  # it came while the last checkpoint was written
            stop_together(process, signal_number)
    return progress


def run_step(run: Adaptation, rows: np.ndarray, step: int) -> StepOutcome:
    """Forward and backward passes over this process's rows; the gradient is that of the mean over the hidden tokens of
    all processes.

    Which tokens are hidden depends on (seed, step, row) alone. With `micro_batch_size` rows of like length share a
    pass.
    """
    process, size = run.process, run.train.micro_batch_size or len(rows)

    def generator(row: int) -> np.random.Generator:
        return np.random.default_rng((run.seed, step, row))

    order = rows[np.argsort(run.corpus[rows], kind="stable")]
    starts = range(0, len(order), size)
    parts = [run.corpus.masked(order[start : start + size], generator) for start in starts]
    context = process.context(step / run.settings.num_steps)
    num_hidden = torch.tensor(float(sum(len(part.targets) for part in parts)), device=process.device)
    num_hidden = context.sum(num_hidden).clamp(min=1)
    outcome, total = StepOutcome(), torch.zeros((), device=process.device)
    run.model.train()
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with nullcontext() if last else process.accelerator.no_sync(run.learning):
            loss = _loss(run, run.learning, part, outcome) / num_hidden
            process.accelerator.backward(loss * process.count)  # undoes DDP's averaging
        total += loss.detach()
    outcome.metrics["loss/masked_lm"] = total
    return outcome


def _loss(run: Adaptation, model: nn.Module, rows: MaskedRows, outcome: StepOutcome) -> torch.Tensor:
    """The summed loss of a pass, which the outcome counts."""
    outcome.saw(rows.tokens.lengths, rows.tokens.mask.numel())
    with run.process.accelerator.autocast(), run.attention(max(rows.tokens.lengths)):
        return summed_loss(model, rows.to(run.process.device))


@torch.inference_mode()
def held_out_loss(run: Adaptation) -> float:
    """The mean loss (nats a hidden token) on the held-out texts: dropout off, their masks always the same.

    Each process takes every n-th batch.
    """
    corpus, process, size = run.held_out, run.process, run.train.eval_batch_size
    order = np.argsort(corpus[np.arange(len(corpus))], kind="stable")[::-1]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    run.model.eval()
    sums = np.zeros(2)
    for rows in batches[process.rank :: process.count]:
        part = corpus.masked(rows, lambda row: np.random.default_rng((_HELD_OUT_MASKS, row)))
        sums += [float(_loss(run, run.passes, part, StepOutcome())), len(part.targets)]
    loss, count = process.gather_rows(sums[None]).sum(axis=0)
    if not count:
        raise UserError(
            f"Expected words that the tokenizer knows in the held-out texts, found none in {len(corpus)} of them. "
            "Choose an encoder of their language: model=local model.name_or_path=…."
        )
    return float(loss / count)


def _evaluate(run: Adaptation, progress: AdaptProgress, tracker: Tracker) -> None:
    loss = held_out_loss(run)
    if not loss < _LARGEST_LOSS:
        raise UserError(
            f"Expected a loss of the held-out texts with a finite perplexity, found {loss} after step {progress.step}: "
            f"the weights have grown beyond what can be computed. {remedy(_RATE, run.settings.learning_rate)}"
        )
    perplexity = math.exp(loss)
    progress.evaluations.append({"step": progress.step, "loss": loss, "perplexity": perplexity})
    tracker.held_out(progress.step, loss, perplexity)


def _clipped_norm(run: Adaptation, outcome: StepOutcome, rows: np.ndarray, step: int) -> float:
    loss = outcome.metrics["loss/masked_lm"]
    norm, finite = clip(run.model, run.train.max_grad_norm, loss, outcome.counts, run.process)
    if not finite:
        texts = {"rows": run.corpus.numbers[rows].tolist()}
        advice = remedy(_RATE, run.settings.learning_rate)
        refuse_not_finite(run.folder, step + 1, float(loss), norm, texts, run.process, advice)
    return norm


def _save(run: Adaptation, progress: AdaptProgress, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint on the main process."""
    num_tokens = int(run.process.gather_rows(np.array([progress.num_tokens])).sum())
    if not run.process.is_main:
        return
    state = {
        "evaluations": progress.evaluations,
        "seconds": progress.seconds,
        "num_tokens": num_tokens,
        "conditions": _conditions(run),
    }
    parts = {"model": unshared(run.model), "optimizer": optimizer_tensors(optimizer)}
    save_checkpoint(run.folder / "checkpoints", progress.step, parts, state, run.train.keep_checkpoints)


def _restore(run: Adaptation) -> tuple[AdaptProgress, Tensors]:
    """The progress of the newest checkpoint, and its optimiser's tensors; the model is put back."""
    stored = load_common_checkpoint(run.folder / "checkpoints", run.process)
    if stored is None:
        return AdaptProgress(), {}
    parts, state = stored
    shared = run.model.state_dict().keys() - unshared(run.model).keys()
    run.model.load_state_dict(parts["model"] | {name: run.model.state_dict()[name] for name in shared})
    log.info("resuming after step %d", state["step"])
    if not run.process.is_main:
        state["num_tokens"] = 0  # the main process goes on counting for those that were there, however many
    warn_of_other_conditions(state.pop("conditions"), _conditions(run))
    return AdaptProgress(**state), parts["optimizer"]


def _conditions(run: Adaptation) -> dict[str, Any]:
    spent = {f"train.{name}": getattr(run.train, name) for name in _SPEND_MEMORY}
    return conditions(run.process) | spent
