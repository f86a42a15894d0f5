"""What has happened in a run so far, and how it goes into a checkpoint and comes back."""

import logging
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uda.engine.checkpoints import (
    Tensors,
    conditions,
    load_common_checkpoint,
    optimizer_tensors,
    save_checkpoint,
    warn_of_other_conditions,
)
from uda.engine.collapse import CollapseGuard
from uda.engine.sharding import gathered, load_weights

if TYPE_CHECKING:
    from uda.engine.training import Training

log = logging.getLogger(__name__)

_SPEND_MEMORY = ("micro_batch_size", "eval_batch_size", "gradient_checkpointing", "sharding")


@dataclass
class Progress:
    """What has happened so far; all but the last field is in every checkpoint.

    evaluations: scores with their step. best_weights: the student's at the evaluation of highest accuracy, the
    earliest of equals. seconds: wall time of training and its evaluations, over all starts of the run.
    num_tokens: what teacher and student passes saw on this process, padding left out; in a checkpoint on all.
    last_probs: the probabilities of the last evaluation.
    """

    step: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    best_step: int = 0
    best_accuracy: float = -1.0
    best_weights: Tensors = field(default_factory=dict)
    seconds: float = 0.0
    num_tokens: int = 0
    last_probs: np.ndarray | None = None


def save_progress(run: "Training", progress: Progress, optimizer: torch.optim.Optimizer, guard: CollapseGuard) -> None:
    """Write a checkpoint on the main process, of what all have seen."""
    guarded = guard.state(run.process)
    num_tokens = int(run.process.gather_rows(np.array([progress.num_tokens])).sum())
    tensors = {
        "student": run.models.student.state_dict(),
        "teacher": run.models.teacher.state_dict() if run.models.teacher is not None else {},
        "objective": run.objective.state_dict(),
        "optimizer": optimizer_tensors(optimizer),
        "best": progress.best_weights,
    }
    parts = {name: gathered(part, keep=run.process.is_main) for name, part in tensors.items()}
    if not run.process.is_main:
        return
    state = {
        "evaluations": progress.evaluations,
        "best_step": progress.best_step,
        "best_accuracy": progress.best_accuracy,
        "seconds": progress.seconds,
        "num_tokens": num_tokens,
        "collapse_guard": guarded,
        "conditions": _conditions(run),
    }
    save_checkpoint(run.folder / "checkpoints", progress.step, parts, state, run.settings.keep_checkpoints)


def restore_progress(run: "Training", guard: CollapseGuard) -> tuple[Progress, Tensors]:
    """The progress of the newest checkpoint, and its optimiser's tensors; models and objective are put back."""
    stored = load_common_checkpoint(run.folder / "checkpoints", run.process)
    if stored is None:
        return Progress(), {}
    parts, state = stored
    load_weights(run.models.student, parts["student"])
    if run.models.teacher is not None:
        load_weights(run.models.teacher, parts["teacher"])
    run.objective.load_state_dict(parts["objective"])
    log.info("resuming after step %d", state["step"])
    if not run.process.is_main:
        state["num_tokens"] = 0  # the main process goes on counting for those that were there, however many
    guard.restore(state.pop("collapse_guard"), run.process)
    warn_of_other_conditions(state.pop("conditions"), _conditions(run))
    return Progress(best_weights=parts["best"], **state), parts["optimizer"]


def _conditions(run: "Training") -> dict[str, Any]:
    """What the bits of a run depend on besides its data and what may not change in its config."""
    values = {f"train.{name}": getattr(run.settings, name) for name in _SPEND_MEMORY}
    spent = {key: value.value if isinstance(value, Enum) else value for key, value in values.items()}
    return conditions(run.process) | spent
