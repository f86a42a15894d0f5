"""Mean teachers are better role models (Tarvainen & Valpola 2017, arXiv 1703.01780)."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.errors import UserError
from uda.objectives.base import Context, PseudoLabels
from uda.objectives.consistency import Consistency, MemoryOptions


class MeanTeacher(Consistency):
    """The student's probabilities on the augmented text come near those of an average of its own past on the original.

    The divergence is the squared error between the probabilities, a mean over classes; the average is
    `teacher_decay`, which must be above 0. The coefficient ramps up by a sigmoid (`functional.ramp`).
    """

    ramp_shape = "sigmoid"

    def __init__(self, num_classes: int, num_unlabeled: int, **options: Unpack[MemoryOptions]) -> None:
        super().__init__(num_classes, num_unlabeled, **options)
        if self.teacher_decay == 0:
            raise UserError(
                "objective.teacher_decay: expected a number > 0 and < 1 for the average that mean_teacher is about, "
                "found 0. Set it, for example to 0.98."
            )

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits, kept = self.aligned(weak, context)
        return self.taught(F.softmax(logits, dim=-1), kept, context)

    def divergence(self, target: Tensor, logits: Tensor) -> Tensor:
        return (F.softmax(logits, dim=-1) - target).square().mean(dim=-1)
