"""What objectives with pseudo-labels have in common: alignment, a kept share, a ramp, and the loss itself."""

from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.errors import UserError
from uda.objectives.base import Context, Loss, Objective, PseudoLabels, at_least_float32, check_choice, check_number
from uda.objectives.functional import TARGETS, annealed_cross_entropy, cross_entropy_with, ramp, targets_of
from uda.objectives.teacher_memory import (
    MAX_QUANTILE_VALUES,
    MIN_ROWS_PER_CLASS,
    TeacherMemory,
    balancing_bias,
    class_quantiles,
)


class RampOptions(TypedDict):
    """The keys of every objective with pseudo-labels, see `Consistency`."""

    coefficient: float
    coefficient_ramp: float
    supervised_steps: float
    teacher_decay: float


class AlignmentOptions(RampOptions):
    """And of those whose paper aligns nothing itself."""

    alignment: str
    memory_rows: int
    prefill_rows: int


class MemoryOptions(AlignmentOptions):
    """And of those whose paper has no mask that adapts."""

    kept_share: float | None
    kept_share_end: float | None


WITHOUT_KEPT_SHARE: dict[str, Any] = {"kept_share": None, "kept_share_end": None}
WITHOUT_MEMORY: dict[str, Any] = {**WITHOUT_KEPT_SHARE, "alignment": "none", "memory_rows": 1, "prefill_rows": 0}


class Consistency(Objective):
    """Supervised cross-entropy plus coefficient * sum of weight * divergence(target, student's answer) / normalizer.

    A method is a `pseudo_label` and, if it is no cross-entropy, a `divergence`.

    coefficient: the weight of the consistency loss. coefficient_ramp: the share of the run over which it rises from 0,
    by the method's `ramp_shape`; 0: none.
    alignment: "uniform": targets and mask see the teacher's answers under the class bias that gives the last
    `memory_rows` answers equal class shares (`balancing_bias`), wrong where the classes are unbalanced; "labeled": the
    same, with the class shares of the labelled rows seen so far (one row a class added), right where those are a
    random sample of the data; "none".
    kept_share: keep this share of the rows of each predicted class, the most confident ones among the last
    `memory_rows` rows (`class_quantiles`), after alignment; None keeps all. kept_share_end: what the share has widened
    to at the end of the run, linearly in progress (curriculum labelling, Cascante-Bonilla et al. 2021, arXiv
    2001.06001, widens it in rounds); None: it stays.
    """

    label_counts: Tensor | None
    targets: str
    temperature: float | None
    ramp_shape = "linear"

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        coefficient: float,
        coefficient_ramp: float,
        supervised_steps: float,
        teacher_decay: float,
        alignment: str,
        memory_rows: int,
        prefill_rows: int,
        kept_share: float | None,
        kept_share_end: float | None,
    ) -> None:
        super().__init__(
            num_classes,
            num_unlabeled,
            supervised_steps=supervised_steps,
            teacher_decay=teacher_decay,
            prefill_rows=prefill_rows,
        )
        check_number("coefficient", coefficient, low=0)
        check_number("coefficient_ramp", coefficient_ramp, low=0, high=1)
        check_choice("alignment", alignment, ("none", "uniform", "labeled"))
        check_number("kept_share", kept_share, above=0, high=1, optional=True)
        check_number("memory_rows", memory_rows, low=1, whole=True)
        if kept_share is None and kept_share_end is not None:
            raise UserError(
                f"objective.kept_share_end: expected null where objective.kept_share is null, found {kept_share_end}. "
                "Set objective.kept_share to the share that it starts from."
            )
        check_number("kept_share_end", kept_share_end, low=kept_share, high=1, optional=True)
        self.coefficient = coefficient
        self.coefficient_ramp = coefficient_ramp
        self.alignment = alignment
        self.kept_share = kept_share
        self.kept_share_end = kept_share_end
        needs_memory = alignment != "none" or kept_share is not None
        if prefill_rows > (memory_rows if needs_memory else 0):
            raise UserError(
                f"objective.prefill_rows: expected at most objective.memory_rows ({memory_rows}), and 0 where neither "
                f"alignment nor kept_share uses that memory, found {prefill_rows}. Set objective.prefill_rows=0."
            )
        if kept_share is not None and memory_rows * num_classes > MAX_QUANTILE_VALUES:
            raise UserError(
                f"objective.memory_rows: expected at most {MAX_QUANTILE_VALUES // num_classes} with {num_classes} "
                f"classes, of whose answers quantiles are taken, found {memory_rows}. Lower objective.memory_rows."
            )
        self.memory = TeacherMemory(memory_rows, num_classes) if needs_memory else None
        self.register_buffer("label_counts", torch.ones(num_classes) if alignment == "labeled" else None)

    @property
    def masks_rows(self) -> bool:
        return getattr(self, "threshold", 0) > 0 or (self.kept_share is not None and self.kept_share < 1)

    def warning(self) -> str | None:
        if self.coefficient == 0:
            return "objective.coefficient=0 lets unlabelled text teach nothing; objective=supervised is faster at that"
        return self.threshold_warning() or self.memory_warning()

    def memory_warning(self) -> str | None:
        """What is wrong with a memory that alignment looks at, which needs some rows of each class."""
        if self.alignment == "none" or self.memory is None:
            return None
        if self.memory.capacity >= MIN_ROWS_PER_CLASS * self.num_classes:
            return None
        return (
            f"objective.memory_rows={self.memory.capacity} is fewer than {MIN_ROWS_PER_CLASS} for each of the "
            f"{self.num_classes} classes: alignment makes sure answers unsure where a class is in hardly a row; raise "
            "it, or set objective.alignment=none"
        )

    def threshold_warning(self) -> str | None:
        """What is wrong with the threshold, if the method has one that every row must reach."""
        threshold = getattr(self, "threshold", 0)
        if threshold >= 1:
            return f"objective.threshold={threshold:g} keeps hardly a row, so unlabelled text teaches little; lower it"
        if 0 < threshold <= 1 / self.num_classes:
            return (
                f"objective.threshold={threshold:g} masks nothing by itself: with {self.num_classes} classes every "
                f"answer has a confidence of at least {1 / self.num_classes:.3g}"
            )
        return None

    def aligned(self, weak: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """The teacher's answers [U, K] as logits after alignment, and which rows the kept share keeps, [U] bool."""
        logits, kept = at_least_float32(weak), torch.ones(len(weak), dtype=torch.bool, device=weak.device)
        if self.memory is None or not len(weak):
            return logits, kept
        logits = F.log_softmax(logits, dim=-1)
        self.memory.push(context.gather(logits))
        remembered = self.memory.rows().to(logits.dtype)
        if self.alignment != "none":
            counts = self.label_counts
            bias = balancing_bias(remembered, shares=None if counts is None else (counts / counts.sum()).to(remembered))
            logits, remembered = logits + bias, remembered + bias
        if self.kept_share is None:
            return logits, kept
        end = self.kept_share if self.kept_share_end is None else self.kept_share_end
        share = self.kept_share + (end - self.kept_share) * context.progress
        confidence, predicted = F.softmax(logits, dim=-1).max(dim=-1)
        return logits, ~(confidence < class_quantiles(F.softmax(remembered, dim=-1), 1 - share)[predicted])

    def teach(self, targets: str, temperature: float | None) -> None:
        """Have `labels_of` give "hard" targets, or "soft" ones sharpened by a temperature (None: as they are)."""
        check_targets(targets, temperature)
        self.targets = targets
        self.temperature = temperature

    def labels_of(self, logits: Tensor) -> Tensor:
        """What the student is taught, [U, K], of the teacher's logits [U, K]."""
        return targets_of(logits, self.targets, self.temperature)

    def taught(self, targets: Tensor, weight: Tensor, context: Context) -> PseudoLabels:
        """Targets [U, K] and weights [U] (numbers or bool); the loss is a mean over all rows, kept or not."""
        weight = weight.to(targets.dtype)
        return PseudoLabels(targets, weight, context.sum(torch.ones_like(weight).sum()).clamp(min=1))

    def tsa_threshold(self, context: Context) -> float:
        """The true-class probability above which a labelled row is dropped; 1: none is."""
        return 1.0

    def divergence(self, target: Tensor, logits: Tensor) -> Tensor:
        """How far the student's answers, logits [N, K], are from the targets [N, K]; per row, [N]."""
        return cross_entropy_with(target, F.log_softmax(logits, dim=-1))

    def loss(self, labeled: Tensor, labels: Tensor, unlabeled: Tensor, pseudo: PseudoLabels, context: Context) -> Loss:
        if self.label_counts is not None and len(labels):
            classes = torch.arange(self.num_classes, device=labels.device)
            self.label_counts += (context.gather(labels)[:, None] == classes).sum(dim=0)
        supervised, metrics = annealed_cross_entropy(
            labeled, labels, self.tsa_threshold(context), context, self.class_weights
        )
        kept = pseudo.kept(len(unlabeled))
        divergence = self.divergence(pseudo.probs[kept], at_least_float32(unlabeled))
        consistency = (pseudo.weight[kept] * divergence).sum() / pseudo.normalizer
        metrics["loss/consistency"] = consistency.detach()
        rise = ramp(context.progress, self.coefficient_ramp, self.ramp_shape)
        return Loss(supervised + self.coefficient * rise * consistency, metrics)


def confidence_of(logits: Tensor) -> Tensor:
    """max softmax(logits), [N, K] to [N]."""
    return F.softmax(logits, dim=-1).amax(dim=-1)


def check_targets(targets: str, temperature: float | None) -> None:
    """Refuse targets that are neither soft nor hard, and a temperature that would do nothing."""
    check_choice("targets", targets, TARGETS)
    check_number("temperature", temperature, optional=True)
    if targets == "hard" and temperature is not None and temperature > 0:
        raise UserError(
            f"objective.temperature: expected null where objective.targets=hard, which nothing sharpens, found "
            f"{temperature:g}. Set objective.temperature=null or objective.targets=soft."
        )
