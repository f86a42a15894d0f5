"""SoftMatch: weights in place of a threshold (Chen et al. 2023, arXiv 2301.10921)."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.objectives.base import Context, PseudoLabels, at_least_float32, check_number
from uda.objectives.consistency import WITHOUT_MEMORY, Consistency, RampOptions
from uda.objectives.functional import forget, global_mean

_TINY = 1e-12  # a class may be 0 in all answers


class SoftMatch(Consistency):
    """All rows are learnt from, each by a weight: a Gaussian of its confidence, cut at the mean.

    weight = exp(-min(c - mean, 0)^2 * n^2 / (2 * variance)) with n = `num_sigmas` (n = 2 in the authors'
    code). c is the confidence of the uniformly aligned answer, q / mean q normalised; the label is that of the answer
    as it is. Mean and unbiased variance of c, and mean q, run over `horizon`, a
    share of the run. targets: "hard" (the paper), or "soft": softmax(weak / temperature).
    """

    average: Tensor
    confidence_mean: Tensor
    confidence_variance: Tensor

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        num_sigmas: float,
        horizon: float,
        targets: str,
        temperature: float | None,
        **options: Unpack[RampOptions],
    ) -> None:
        super().__init__(num_classes, num_unlabeled, **WITHOUT_MEMORY, **options)
        check_number("num_sigmas", num_sigmas, above=0)
        check_number("horizon", horizon, above=0, high=1)
        self.teach(targets, temperature)
        self.alignment = "uniform"  # always
        self.num_sigmas = num_sigmas
        self.horizon = horizon
        self.register_buffer("average", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("confidence_mean", torch.tensor(1 / num_classes))
        self.register_buffer("confidence_variance", torch.tensor(1.0))

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits = at_least_float32(weak)
        probs = F.softmax(logits, dim=-1)
        forget(self.average, global_mean(probs, context), self.horizon, context)
        aligned = probs / self.average.clamp(min=_TINY)
        confidence = (aligned / aligned.sum(dim=-1, keepdim=True)).amax(dim=-1)
        everywhere = context.gather(confidence)
        forget(self.confidence_mean, everywhere.mean(), self.horizon, context)
        if len(everywhere) > 1:
            forget(self.confidence_variance, everywhere.var(unbiased=True), self.horizon, context)
        below = (confidence - self.confidence_mean).clamp(max=0)
        weight = torch.exp(-(below**2) * self.num_sigmas**2 / (2 * self.confidence_variance.clamp(min=1e-12)))
        return self.taught(self.labels_of(logits), weight, context)
