"""AdaMatch (Berthelot et al. 2022, arXiv 2106.04732)."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.objectives.base import Context, PseudoLabels, at_least_float32, check_number
from uda.objectives.consistency import WITHOUT_MEMORY, Consistency, RampOptions
from uda.objectives.functional import forget, global_mean

_TINY = 1e-12  # a class may be 0 in all answers


class AdaMatch(Consistency):
    """The teacher's answers are brought to the class shares of its answers on the labelled rows; the threshold is
    relative to its confidence on those.

    target = q * mean labelled q / mean unlabelled q, normalised (the paper's distribution alignment); a row is kept
    where its confidence is at least `relative_threshold` * the mean confidence on the labelled rows of the step (its
    relative confidence threshold). Both means run over `horizon`, a share of the run; the paper has those of the step
    (a horizon of 1 / num_steps or less). targets: "soft" (the paper), sharpened by `temperature`, or "hard" (USB). The
    coefficient ramps up by a cosine, in the paper over the first half of the run.

    Left out: random logit interpolation, which is between the batch statistics of two domains, and the encoders here
    have no batch normalisation; and the augmented copies of the labelled rows, on which the paper's supervised loss
    stands too.
    """

    teacher_rows = "all"
    ramp_shape = "cosine"
    labeled_average: Tensor
    unlabeled_average: Tensor

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        relative_threshold: float,
        horizon: float,
        targets: str,
        temperature: float | None,
        **options: Unpack[RampOptions],
    ) -> None:
        super().__init__(num_classes, num_unlabeled, **WITHOUT_MEMORY, **options)
        check_number("relative_threshold", relative_threshold, low=0, high=1)
        check_number("horizon", horizon, above=0, high=1)
        self.teach(targets, temperature)
        self.alignment = "labeled"  # always
        self.relative_threshold = relative_threshold
        self.horizon = horizon
        self.register_buffer("labeled_average", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("unlabeled_average", torch.full((num_classes,), 1 / num_classes))

    @property
    def masks_rows(self) -> bool:
        return True

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        probs = F.softmax(at_least_float32(weak), dim=-1)
        known = probs[:0] if labeled is None else F.softmax(at_least_float32(labeled), dim=-1)
        confidence = torch.cat([known, known.amax(dim=-1, keepdim=True)], dim=-1)
        *shares, sureness = global_mean(confidence, context).unbind()
        forget(self.labeled_average, torch.stack(shares), self.horizon, context)
        forget(self.unlabeled_average, global_mean(probs, context), self.horizon, context)
        aligned = probs * self.labeled_average.clamp(min=_TINY) / self.unlabeled_average.clamp(min=_TINY)
        logits = (aligned / aligned.sum(dim=-1, keepdim=True)).log()
        kept = ~(logits.exp().amax(dim=-1) < self.relative_threshold * sureness)
        return self.taught(self.labels_of(logits), kept, context)
