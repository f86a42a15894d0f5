"""Unsupervised Data Augmentation for Consistency Training (Xie et al., 2020, arXiv 1904.12848)."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.objectives.base import Context, PseudoLabels, check_choice, check_number
from uda.objectives.consistency import Consistency, MemoryOptions, check_targets, confidence_of
from uda.objectives.functional import TSA_SCHEDULES, kl_divergence, targets_of, tempered, tsa_threshold


class UDA(Consistency):
    """Supervised cross-entropy plus the KL divergence from the teacher's answer on the original text to the
    student's answer on the augmented one.

    temperature: T; None or at most 0 means no tempering. It never enters the mask.
    tempering: "target": the target is softmax(weak / T) (the paper); "prediction": the prediction is
    softmax(strong / T) (a PyTorch port). targets: "soft" (the paper), or "hard": the most probable class alone.
    threshold: rows whose untempered confidence max softmax(weak) is not above it are masked; -1 masks none.
    normalizer: the sum over kept rows is divided by "all" rows (the paper) or by max("kept" rows, 1) (the port).
    tsa: the schedule of training signal annealing, or "none".

    What a weak start needs (a kept share, alignment, a ramp: see `Consistency`) is off in the paper's recipe.
    """

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        temperature: float | None,
        tempering: str,
        targets: str,
        threshold: float,
        normalizer: str,
        tsa: str,
        **options: Unpack[MemoryOptions],
    ) -> None:
        super().__init__(num_classes, num_unlabeled, **options)
        check_number("temperature", temperature, optional=True)
        check_choice("tempering", tempering, ("target", "prediction"))
        check_targets(targets, temperature if tempering == "target" else None)
        check_number("threshold", threshold, low=-1, high=1)
        check_choice("normalizer", normalizer, ("all", "kept"))
        check_choice("tsa", tsa, TSA_SCHEDULES)
        self.temperature = temperature
        self.tempering = tempering
        self.targets = targets
        self.threshold = threshold
        self.normalizer = normalizer
        self.tsa = tsa

    @property
    def masks_rows(self) -> bool:
        return self.threshold >= 0 or super().masks_rows

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits, confident = self.aligned(weak, context)
        # Not "<=" rather than ">": an answer that is not a number stays, and ends the run, instead of being masked.
        kept = confident & ~(confidence_of(logits) <= self.threshold)
        temperature = self.temperature if self.tempering == "target" else None
        probs = targets_of(logits, self.targets, temperature)
        weight = kept.to(probs.dtype)
        if self.normalizer == "all":
            return self.taught(probs, weight, context)
        return PseudoLabels(probs, weight, context.sum(weight.sum()).clamp(min=1))

    def tsa_threshold(self, context: Context) -> float:
        return tsa_threshold(context.progress, self.tsa, self.num_classes)

    def divergence(self, target: Tensor, logits: Tensor) -> Tensor:
        temperature = self.temperature if self.tempering == "prediction" else None
        return kl_divergence(target, F.log_softmax(tempered(logits, temperature), dim=-1))
