"""The training loop."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from uda.data.batches import Batch, PairedRows, Phase, RowStream, StepRows, StepSampler, make_loader, pad_stored
from uda.data.tokens import TokenStore
from uda.engine.checkpoints import restore_optimizer
from uda.engine.collapse import CollapseGuard, share_limit
from uda.engine.evaluation import predict, probabilities, score
from uda.engine.flops import pass_cost, product_limit
from uda.engine.gradients import clip, refuse_not_finite, remedy
from uda.engine.optimizer import learning_rate_factor, make_optimizer, steps_of
from uda.engine.process import Process
from uda.engine.progress import Progress, restore_progress, save_progress
from uda.engine.settings import TrainSettings
from uda.engine.sharding import is_sharded, whole
from uda.engine.signals import noted_signals, stop_together
from uda.engine.step import Models, StepOutcome, label_rows, run_step
from uda.engine.tracking import SamplePair, Tracker, Work
from uda.errors import UserError
from uda.objectives.base import Objective

_PREFILL_STREAM = 1_000  # apart from the streams of the phases


@dataclass
class EvaluationRows:
    """The rows that evaluations during training see: tokens, labels [N], and which part they are, dev or test."""

    store: TokenStore
    labels: np.ndarray
    role: str


@dataclass
class Training:
    """One run: everything the loop needs, built by the command."""

    models: Models
    objective: Objective
    rows: PairedRows
    samples: list[SamplePair]
    evaluation: EvaluationRows
    label_names: list[str]
    settings: TrainSettings
    seed: int
    process: Process
    folder: Path


def supervised_steps(objective: Objective, num_steps: int) -> int:
    """How many steps, from the first, see labelled rows alone."""
    if objective.teacher_rows == "none":
        return num_steps
    share = objective.supervised_steps
    return min(steps_of(share, num_steps), num_steps)


def make_phases(objective: Objective, settings: TrainSettings) -> list[Phase]:
    """The steps on labelled rows alone, then the others; an empty phase is left out."""
    boundary = supervised_steps(objective, settings.num_steps)
    num_unlabeled = settings.batch_size * settings.unlabeled_ratio
    alone = Phase(0, boundary, settings.supervised_batch_size or settings.batch_size, 0)
    joint = Phase(boundary, settings.num_steps, settings.batch_size, num_unlabeled)
    return [phase for phase in (alone, joint) if phase.end > phase.start]


def train(run: Training) -> Progress:
    """Train to `num_steps`, from the newest checkpoint in the run's folder where there is one.

    Raises Stop after a signal, once a checkpoint is written, and UserError for a loss or gradient that is not
    finite, once the step's rows are written.
    """
    settings, models, process = run.settings, run.models, run.process
    phases = make_phases(run.objective, settings)
    limit = share_limit(run.rows.labels, len(run.label_names))
    guard = CollapseGuard(run.label_names, limit, run.objective)
    progress, stored_optimizer = restore_progress(run, guard)
    started = time.monotonic() - progress.seconds
    lengths = run.rows.labeled.row_lengths, run.rows.weak.row_lengths
    sampler = StepSampler(*lengths, phases, run.seed, progress.step, process.rank, process.count)
    eval_every = settings.eval_every and steps_of(settings.eval_every, settings.num_steps)
    work = Work(pass_cost(models.student), product_limit(process.device, process.precision))
    tracker = Tracker(
        run.folder / "tensorboard",
        process,
        run.label_names,
        work,
        progress.step,
        settings.num_steps,
        settings.log_every,
    )
    optimizer, peak = None, 0.0
    with tracker, noted_signals(once=process.count == 1) as note:
        for batch in make_loader(run.rows, sampler):
            step = progress.step
            phase = next(phase for phase in phases if step < phase.end)
            if optimizer is None or step == phase.start:
                peak = _peak_rate(settings, phase)
                optimizer = make_optimizer(models.student, settings, peak)
                if step > phase.start:
                    restore_optimizer(optimizer, stored_optimizer)
            if phase.num_unlabeled and step == phase.start:
                _start_teaching(run, step)
            rate = peak * learning_rate_factor(
                step - phase.start, phase.end - phase.start, settings.warmup, settings.schedule
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            process.seed_step(run.seed, step)
            context = process.context(step / settings.num_steps, settings.num_steps)
            outcome = run_step(
                models, run.objective, batch.to(process.device), context, process, settings.micro_batch_size
            )
            gradient_norm = _clipped_norm(run, outcome, batch, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if phase.num_unlabeled:
                models.update_teacher(run.objective.teacher_decay)
            progress.step = step + 1
            progress.seconds = time.monotonic() - started
            progress.num_tokens += outcome.num_tokens
            tracker.step(progress.step, outcome, rate, gradient_norm)
            tracker.warn(progress.step, guard.step(progress.step, outcome.counts, process))
            last = progress.step == settings.num_steps
            evaluated = last or (eval_every and progress.step % eval_every == 0)
            if evaluated:
                evaluate(run, progress, tracker)
            if phase.num_unlabeled and (evaluated or step == phase.start):
                _show_samples(run, progress.step, tracker)
            signal_number = process.highest(note.number)
            due = last or (settings.checkpoint_every and progress.step % settings.checkpoint_every == 0)
            if due or signal_number:
                tracker.flush()  # what is shown up to a checkpoint is never shown again
                save_progress(run, progress, optimizer, guard)
            if signal_number:
                stop_together(process, signal_number)
        if not progress.evaluations:  # no step to take
            evaluate(run, progress, tracker)
        elif progress.last_probs is None:  # stopped after the last step
            progress.last_probs = _probs(run)
        progress.seconds = time.monotonic() - started
        if signal_number := process.highest(note.number):  # it came while the last checkpoint was written
            stop_together(process, signal_number)
    return progress


def evaluate(run: Training, progress: Progress, tracker: Tracker) -> None:
    """Score the student on the evaluation rows and remember its weights if they are the best so far."""
    rows, probs = run.evaluation, _probs(run)
    if not np.isfinite(probs).all():
        raise UserError(
            f"Expected finite probabilities, found others after step {progress.step}: the weights have grown beyond "
            f"what can be computed. {remedy('train.learning_rate', run.settings.learning_rate)}"
        )
    scores = score(probs, rows.labels, run.label_names)
    progress.evaluations.append({"step": progress.step, "set": rows.role, **scores})
    progress.last_probs = probs
    if scores["accuracy"] > progress.best_accuracy:
        progress.best_accuracy, progress.best_step = scores["accuracy"], progress.step
        progress.best_weights = {
            name: whole(value.detach()).cpu().clone() for name, value in run.models.student.state_dict().items()
        }
    tracker.evaluation(progress.step, rows.role, scores, rows.labels, probs)


def _probs(run: Training) -> np.ndarray:
    """The student's probabilities for the evaluation rows."""
    store, pad_id, size = run.evaluation.store, run.models.pad_id, run.settings.eval_batch_size
    with torch.no_grad(), run.models.attention(run.models.student):
        return predict(run.models.student, store, pad_id, size, run.process)


def _peak_rate(settings: TrainSettings, phase: Phase) -> float:
    if phase.num_unlabeled == 0 and settings.supervised_learning_rate is not None:
        return settings.supervised_learning_rate
    return settings.learning_rate


def _start_teaching(run: Training, step: int) -> None:
    """The student becomes the teacher; the objective sees what it answers on rows of a stream of their own."""
    run.models.start_teacher()
    lengths = run.rows.weak.row_lengths
    size = max(run.settings.batch_size * run.settings.unlabeled_ratio, run.process.count)
    stream = RowStream(lengths, size, run.seed, _PREFILL_STREAM)
    for number in range(math.ceil(run.objective.prefill_rows / size)):
        run.process.seed_step(run.seed + 1, number)
        mine = stream.batch(number)[run.process.rank :: run.process.count]
        batch = run.rows[StepRows(step, np.zeros(0, dtype=np.int64), mine)].to(run.process.device)
        context = run.process.context(step / run.settings.num_steps, run.settings.num_steps)
        label_rows(run.models, run.objective, batch, context, run.process, run.settings.micro_batch_size, StepOutcome())


def _show_samples(run: Training, step: int, tracker: Tracker) -> None:
    """The sample pairs with the answers of teacher and student as they are now."""
    if not run.samples or not (run.process.is_main or is_sharded(run.models.student)):
        return
    models, numbers = run.models, [pair.row for pair in run.samples]
    views = [
        pad_stored([(store, row) for row in numbers], models.pad_id) for store in (run.rows.weak, run.rows.strong[0])
    ]
    with torch.no_grad(), models.attention(models.student):
        teacher = probabilities(models.teacher or models.student, views[0], run.process)
        student = probabilities(models.student, views[1], run.process)
    tracker.samples(step, run.samples, teacher, student)


def _clipped_norm(run: Training, outcome: StepOutcome, batch: Batch, step: int) -> float:
    """Clip the gradients; their norm before that. A loss, norm or teacher's answer that is not finite ends the run."""
    loss = outcome.metrics["loss/total"]
    norm, finite = clip(run.models.student, run.settings.max_grad_norm, loss, outcome.counts, run.process)
    if not finite:
        rows = {
            "unlabeled_rows": batch.index.tolist(),
            "labels": batch.labels.tolist(),
            "labeled_ids": batch.labeled.ids.tolist(),
        }
        advice = remedy("train.learning_rate", run.settings.learning_rate)
        refuse_not_finite(run.folder, step + 1, float(loss), norm, rows, run.process, advice)
    return norm
