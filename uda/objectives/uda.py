"""Unsupervised Data Augmentation for Consistency Training (Xie et al., 2020, arXiv 1904.12848)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.errors import UserError
from uda.objectives.base import (
    Context,
    Loss,
    Objective,
    PseudoLabels,
    at_least_float32,
    check_choice,
    check_number,
)
from uda.objectives.functional import (
    TSA_SCHEDULES,
    annealed_cross_entropy,
    kl_divergence,
    tempered,
    tsa_threshold,
)
from uda.objectives.teacher_memory import TeacherMemory, balancing_bias, class_quantiles


class UDA(Objective):
    """Supervised cross-entropy plus the KL divergence from the teacher's answer on the original text to the
    student's answer on the augmented one.

    temperature: T; None or at most 0 means no tempering. It never enters the mask.
    tempering: "target": the target is softmax(weak / T) (the paper); "prediction": the prediction is
    softmax(strong / T) (a PyTorch port).
    threshold: rows whose untempered confidence max softmax(weak) is not above it are masked; -1 masks none.
    normalizer: the sum over kept rows is divided by "all" rows (the paper) or by max("kept" rows, 1) (the port).
    coefficient: the weight of the consistency loss. tsa: the schedule of training signal annealing, or "none".

    What a weak start needs, off in the paper's recipe:
    alignment: "uniform": targets and mask see the teacher's answers under the class bias that gives the last
    `memory_rows` answers equal class shares (`balancing_bias`), wrong where the classes are unbalanced; "labeled": the
    same, with the class shares of the labelled rows seen so far (one row a class added), right where those are a
    random sample of the data; "none".
    kept_share: keep this share of the rows of each predicted class, the most confident ones among the last
    `memory_rows` rows (`class_quantiles`), after alignment; None keeps all.
    """

    label_counts: Tensor | None

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        temperature: float | None,
        tempering: str,
        threshold: float,
        normalizer: str,
        coefficient: float,
        tsa: str,
        supervised_steps: float,
        teacher_decay: float,
        alignment: str,
        kept_share: float | None,
        memory_rows: int,
        prefill_rows: int,
    ) -> None:
        super().__init__(
            num_classes,
            num_unlabeled,
            supervised_steps=supervised_steps,
            teacher_decay=teacher_decay,
            prefill_rows=prefill_rows,
        )
        check_number("temperature", temperature, optional=True)
        check_choice("tempering", tempering, ("target", "prediction"))
        check_number("threshold", threshold, low=-1, high=1)
        check_choice("normalizer", normalizer, ("all", "kept"))
        check_number("coefficient", coefficient, low=0)
        check_choice("tsa", tsa, TSA_SCHEDULES)
        check_choice("alignment", alignment, ("none", "uniform", "labeled"))
        check_number("kept_share", kept_share, above=0, high=1, optional=True)
        check_number("memory_rows", memory_rows, low=1, whole=True)
        self.temperature = temperature
        self.tempering = tempering
        self.threshold = threshold
        self.normalizer = normalizer
        self.coefficient = coefficient
        self.tsa = tsa
        self.alignment = alignment
        self.kept_share = kept_share
        needs_memory = alignment != "none" or kept_share is not None
        if prefill_rows > (memory_rows if needs_memory else 0):
            raise UserError(
                f"objective.prefill_rows: expected at most objective.memory_rows ({memory_rows}), and 0 where neither "
                f"alignment nor kept_share uses that memory, found {prefill_rows}. Set objective.prefill_rows=0."
            )
        self.memory = TeacherMemory(memory_rows, num_classes) if needs_memory else None
        self.register_buffer("label_counts", torch.ones(num_classes) if alignment == "labeled" else None)

    @property
    def masks_rows(self) -> bool:
        return self.threshold >= 0 or (self.kept_share is not None and self.kept_share < 1)

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits, confident = at_least_float32(weak), torch.ones(len(weak), dtype=torch.bool, device=weak.device)
        if self.memory is not None and len(weak):
            logits, confident = self._against_memory(self.memory, F.log_softmax(logits, dim=-1), context)
        # Not "<=" rather than ">": an answer that is not a number stays, and ends the run, instead of being masked.
        kept = confident & ~(F.softmax(logits, dim=-1).amax(dim=-1) <= self.threshold)
        temperature = self.temperature if self.tempering == "target" else None
        probs = F.softmax(tempered(logits, temperature), dim=-1)
        weight = kept.to(probs.dtype)
        rows = weight if self.normalizer == "kept" else torch.ones_like(weight)
        return PseudoLabels(probs, weight, context.sum(rows.sum()).clamp(min=1))

    def _against_memory(self, memory: TeacherMemory, log_probs: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """The rows' answers after alignment, as logits, and which rows the quantile mask keeps."""
        memory.push(context.gather(log_probs))
        remembered = memory.rows().to(log_probs.dtype)
        if self.alignment != "none":
            counts = self.label_counts
            bias = balancing_bias(remembered, shares=None if counts is None else (counts / counts.sum()).to(remembered))
            log_probs, remembered = log_probs + bias, remembered + bias
        if self.kept_share is None:
            return log_probs, torch.ones(len(log_probs), dtype=torch.bool, device=log_probs.device)
        confidence, predicted = F.softmax(log_probs, dim=-1).max(dim=-1)
        return log_probs, ~(confidence < class_quantiles(F.softmax(remembered, dim=-1), 1 - self.kept_share)[predicted])

    def loss(self, labeled: Tensor, labels: Tensor, unlabeled: Tensor, pseudo: PseudoLabels, context: Context) -> Loss:
        if self.label_counts is not None and len(labels):
            classes = torch.arange(self.num_classes, device=labels.device)
            self.label_counts += (context.gather(labels)[:, None] == classes).sum(dim=0)
        threshold = tsa_threshold(context.progress, self.tsa, self.num_classes)
        supervised, metrics = annealed_cross_entropy(labeled, labels, threshold, context, self.class_weights)
        kept = pseudo.kept(len(unlabeled))
        temperature = self.temperature if self.tempering == "prediction" else None
        log_prediction = F.log_softmax(tempered(at_least_float32(unlabeled), temperature), dim=-1)
        divergence = kl_divergence(pseudo.probs[kept], log_prediction)
        consistency = (pseudo.weight[kept] * divergence).sum() / pseudo.normalizer
        metrics["loss/consistency"] = consistency.detach()
        return Loss(supervised + self.coefficient * consistency, metrics)
