"""What every objective is: tensors in, loss out, in two phases.

The engine runs the teacher on the original texts, asks `Objective.pseudo_label` for targets and weights, drops the
rows of weight 0, runs the student on the labelled and the kept rows in one pass, and asks `Objective.loss`.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from uda.errors import UserError


def _identity(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Context:
    """Where training stands, and how values cross processes (identities on one process).

    progress: completed steps / num_steps, in [0, 1].
    gather: concatenates the rows of all processes, in rank order, without gradient; for state.
    sum: adds a tensor over all processes, differentiable; for denominators and means.
    num_steps: of the run, from which state that forgets takes its pace (`functional.forget`).
    """

    progress: float
    gather: Callable[[Tensor], Tensor] = _identity
    sum: Callable[[Tensor], Tensor] = _identity
    num_steps: int = 1


@dataclass(frozen=True)
class PseudoLabels:
    """The teacher's answer for the U unlabelled rows of one step on this process.

    probs: targets [U, K]. weight: [U], at least 0; rows of weight 0 never reach the student.
    normalizer: scalar, what the sum over rows is divided by; it spans the whole step on all processes, so that a
    part of the rows (a micro-batch) keeps the right scale.
    """

    probs: Tensor
    weight: Tensor
    normalizer: Tensor

    @classmethod
    def none(cls, num_classes: int, like: Tensor) -> "PseudoLabels":
        """Pseudo-labels of no row at all: a supervised step, or a micro-batch of labelled rows only."""
        return cls(like.new_zeros(0, num_classes), like.new_zeros(0), like.new_ones(()))

    def kept(self, count: int) -> Tensor:
        """The numbers of the rows of weight above 0, in order; `count` of them, as many as the student has answered.

        A mask would give the same rows, but on a GPU the host would have to wait for how many there are.
        """
        return torch.argsort(self.weight > 0, descending=True, stable=True)[:count]

    def select(self, rows: Tensor) -> "PseudoLabels":
        """The pseudo-labels of some rows, by mask or index; the normaliser stays that of the step."""
        return PseudoLabels(self.probs[rows], self.weight[rows], self.normalizer)


@dataclass(frozen=True)
class Loss:
    """One process's share of the global loss.

    total: scalar with gradient. metrics: detached scalars; added over micro-batches and processes they give the
    value of the step.
    """

    total: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """A semi-supervised objective; its only state is registered buffers.

    class_weights: [K], the weight of a labelled row of each class in the supervised loss, or None.
    num_classes: K. num_unlabeled: how many unlabelled rows there are, for objectives that keep a number per row.
    supervised_steps: steps on labelled rows alone before the consistency loss joins (below 1 a share of the steps).
    teacher_decay: 0: the student teaches, in train mode; otherwise the decay of an exponential moving average of
    the student that teaches in eval mode, a copy of the student when the supervised steps end.
    prefill_rows: unlabelled rows that the teacher labels, for the objective's state alone, when they end.
    """

    class_weights: Tensor | None
    teacher_rows = "unlabeled"  # "all": the labelled rows join the teacher pass; "none": there is no teacher
    student_view = "strong"  # "weak": the student sees the original text
    sums_over_rows = True  # False: the loss is no sum over rows, so gradient accumulation is refused

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        supervised_steps: float,
        teacher_decay: float,
        prefill_rows: int,
    ) -> None:
        super().__init__()
        check_number("num_classes", num_classes, low=2, whole=True)
        check_number("num_unlabeled", num_unlabeled, low=0, whole=True)
        check_number("supervised_steps", supervised_steps, low=0)
        if supervised_steps > 1 and supervised_steps % 1:
            raise UserError(
                f"objective.supervised_steps: expected a whole number of steps, or below 1 a share of them, found "
                f"{supervised_steps:g}. Correct it."
            )
        check_number("teacher_decay", teacher_decay, low=0, below=1)
        check_number("prefill_rows", prefill_rows, low=0, whole=True)
        self.num_classes = num_classes
        self.num_unlabeled = num_unlabeled
        self.supervised_steps = supervised_steps
        self.teacher_decay = teacher_decay
        self.prefill_rows = prefill_rows
        self.register_buffer("class_weights", None, persistent=False)

    def weigh_classes(self, weights: Sequence[float]) -> None:
        """Weigh the labelled rows of each class by one of K numbers above 0; the engine does, before training."""
        self.class_weights = torch.tensor(weights, dtype=torch.float32)

    @property
    def sees_augmented(self) -> bool:
        """Whether augmented texts are looked at; if not, none are made."""
        return self.teacher_rows != "none" and self.student_view == "strong"

    @property
    def masks_rows(self) -> bool:
        """Whether unlabelled rows are meant to be left out: then keeping all of them for long is worth a warning."""
        return False

    def warning(self) -> str | None:
        """What its settings make of every step, if that is hardly meant: told before the work."""
        return None

    @abstractmethod
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        """Targets and weights from the teacher's logits `weak` [U, K]; `index` [U] names the unlabelled rows.

        `labeled` holds the teacher's logits of the labelled rows where `teacher_rows` is "all".
        """

    @abstractmethod
    def loss(self, labeled: Tensor, labels: Tensor, unlabeled: Tensor, pseudo: PseudoLabels, context: Context) -> Loss:
        """The loss from the student's logits of the labelled rows [B, K] and of the kept rows, in order.

        `pseudo` has all U rows of the step (or of the micro-batch), kept or not.
        """


def check_number(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Refuse what is no finite number within the bounds (`above` and `below` strictly); None passes if `optional`."""
    if value is None and optional:
        return
    bounds = [(low, ">=", operator.ge), (above, ">", operator.gt), (high, "<=", operator.le), (below, "<", operator.lt)]
    given = [(bound, sign, holds) for bound, sign, holds in bounds if bound is not None]
    kinds = int if whole else int | float
    is_number = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and all(holds(value, bound) for bound, _, holds in given):
        return
    kind = "a whole number" if whole else "a number"
    wanted = " ".join([kind, " and ".join(f"{sign} {bound:g}" for bound, sign, _ in given)]).strip()
    raise UserError(
        f"objective.{name}: expected {wanted}{' or null' * optional}, found {value!r}. "
        f"Set objective.{name} to such a value."
    )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        raise UserError(
            f"objective.{name}: expected one of {', '.join(choices)}, found {value!r}. "
            f"Set objective.{name} to one of them."
        )


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; float64 stays."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
