"""Unsupervised Data Augmentation for Consistency Training (Xie et al., 2020, arXiv 1904.12848)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

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
    alignment: "uniform": targets and mask see the teacher's answers under the class bias that makes their mean over
    the last `memory_rows` rows uniform (`balancing_bias`); "none". Wrong where the classes are unbalanced.
    kept_share: keep this share of the rows of each predicted class, the most confident ones among the last
    `memory_rows` rows (`class_quantiles`), after alignment; None keeps all.
    """

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
        super().__init__(num_classes, num_unlabeled, supervised_steps, teacher_decay, prefill_rows)
        check_number("temperature", temperature, optional=True)
        check_choice("tempering", tempering, ("target", "prediction"))
        check_number("threshold", threshold, low=-1, high=1)
        check_choice("normalizer", normalizer, ("all", "kept"))
        check_number("coefficient", coefficient, low=0)
        check_choice("tsa", tsa, TSA_SCHEDULES)
        check_choice("alignment", alignment, ("none", "uniform"))
        check_number("kept_share", kept_share, low=0, high=1, optional=True)
        check_number("memory_rows", memory_rows, low=1)
        self.temperature = temperature
        self.tempering = tempering
        self.threshold = threshold
        self.normalizer = normalizer
        self.coefficient = coefficient
        self.tsa = tsa
        self.alignment = alignment
        self.kept_share = kept_share
        needs_memory = alignment != "none" or kept_share is not None
        self.memory = TeacherMemory(memory_rows, num_classes) if needs_memory else None

    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        log_probs = F.log_softmax(at_least_float32(weak), dim=-1)
        kept = log_probs.exp().amax(dim=-1) > self.threshold
        if self.memory is not None:
            self.memory.push(context.gather(log_probs))
            log_probs, confident = self._against_memory(log_probs, self.memory.rows().to(log_probs.dtype))
            kept &= confident
        temperature = self.temperature if self.tempering == "target" else None
        probs = F.softmax(tempered(log_probs, temperature), dim=-1)
        weight = kept.to(probs.dtype)
        rows = weight if self.normalizer == "kept" else torch.ones_like(weight)
        return PseudoLabels(probs, weight, context.sum(rows.sum()).clamp(min=1))

    def _against_memory(self, log_probs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The rows' log-probabilities after alignment, and which rows the quantile mask keeps."""
        if self.alignment == "uniform":
            log_prior = torch.full_like(memory[0], -math.log(self.num_classes))
            bias = balancing_bias(memory, log_prior)
            log_probs = torch.log_softmax(log_probs + bias, dim=-1)
            memory = torch.log_softmax(memory + bias, dim=-1)
        if self.kept_share is None:
            return log_probs, torch.ones(len(log_probs), dtype=torch.bool, device=log_probs.device)
        confidence, predicted = log_probs.exp().max(dim=-1)
        return log_probs, confidence >= class_quantiles(memory.exp(), 1 - self.kept_share)[predicted]

    def loss(self, labeled: Tensor, labels: Tensor, unlabeled: Tensor, pseudo: PseudoLabels, context: Context) -> Loss:
        threshold = tsa_threshold(context.progress, self.tsa, self.num_classes)
        supervised, metrics = annealed_cross_entropy(labeled, labels, threshold, context)
        kept = pseudo.weight > 0
        temperature = self.temperature if self.tempering == "prediction" else None
        log_prediction = F.log_softmax(tempered(at_least_float32(unlabeled), temperature), dim=-1)
        divergence = kl_divergence(pseudo.probs[kept], log_prediction)
        consistency = (pseudo.weight[kept] * divergence).sum() / pseudo.normalizer
        metrics["loss/consistency"] = consistency.detach()
        return Loss(supervised + self.coefficient * consistency, metrics)
