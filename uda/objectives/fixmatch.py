"""FixMatch (Sohn et al. 2020, arXiv 2001.07685)."""

from typing import Unpack

import torch
from torch import Tensor

from uda.objectives.base import Context, PseudoLabels, check_number
from uda.objectives.consistency import Consistency, MemoryOptions, confidence_of


class FixMatch(Consistency):
    """The student's answer on the augmented text learns the teacher's label of the original one, if it is sure.

    threshold: rows whose confidence max softmax(weak) is at least this are kept (the paper's tau).
    targets: "hard" (the paper): the most probable class; "soft": softmax(weak / temperature).
    """

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        threshold: float,
        targets: str,
        temperature: float | None,
        **options: Unpack[MemoryOptions],
    ) -> None:
        super().__init__(num_classes, num_unlabeled, **options)
        check_number("threshold", threshold, low=0, high=1)
        self.teach(targets, temperature)
        self.threshold = threshold

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits, kept = self.aligned(weak, context)
        kept = kept & ~(confidence_of(logits) < self.threshold)
        return self.taught(self.labels_of(logits), kept, context)
