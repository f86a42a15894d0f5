"""Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method (Lee 2013, ICML workshop WREPL)."""

from typing import Unpack

import torch
from torch import Tensor

from uda.objectives.base import Context, PseudoLabels, check_number
from uda.objectives.consistency import Consistency, MemoryOptions, confidence_of
from uda.objectives.functional import targets_of


class PseudoLabel(Consistency):
    """The student learns the most probable class of the very text that it sees; there is no augmentation.

    threshold: rows whose confidence max softmax(weak) is at least this are kept; the paper keeps all (0), USB 0.95.
    The coefficient ramps up linearly.
    """

    student_view = "weak"

    def __init__(
        self, num_classes: int, num_unlabeled: int, *, threshold: float, **options: Unpack[MemoryOptions]
    ) -> None:
        super().__init__(num_classes, num_unlabeled, **options)
        check_number("threshold", threshold, low=0, high=1)
        self.threshold = threshold

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits, kept = self.aligned(weak, context)
        kept = kept & ~(confidence_of(logits) < self.threshold)
        return self.taught(targets_of(logits, "hard", None), kept, context)
