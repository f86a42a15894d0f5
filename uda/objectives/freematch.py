"""FreeMatch: self-adaptive thresholds (Wang et al. 2023, arXiv 2205.07246)."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.objectives.base import Context, Loss, PseudoLabels, at_least_float32, check_number
from uda.objectives.consistency import WITHOUT_KEPT_SHARE, AlignmentOptions, Consistency
from uda.objectives.functional import forget, global_mean


class FreeMatch(Consistency):
    """FixMatch with thresholds that follow the teacher's confidence, and a term for fair class shares.

    A row is kept where its confidence is at least tau * q[label] / max q: tau is the running mean of the confidence,
    q [K] that of the answers. `fairness` weighs the sum over classes of n(q / h) * log n(p / g) (the paper's
    self-adaptive fairness): h [K] is the running histogram of the labels; p and g are mean and histogram of the
    student's answers on the kept rows of the step, and n normalises to a sum of 1. Classes that g lacks have no term.
    horizon: over which share of the run the running means go; the paper's decay 0.999 is 1,000 of its 2 ** 20 steps.
    targets: "hard" (the paper), or "soft": softmax(weak / temperature).

    With fairness the loss is no sum over rows, so gradient accumulation is refused.
    """

    tau: Tensor
    mean: Tensor
    histogram: Tensor

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        fairness: float,
        horizon: float,
        targets: str,
        temperature: float | None,
        **options: Unpack[AlignmentOptions],
    ) -> None:
        super().__init__(num_classes, num_unlabeled, **WITHOUT_KEPT_SHARE, **options)
        check_number("fairness", fairness, low=0)
        check_number("horizon", horizon, above=0, high=1)
        self.teach(targets, temperature)
        self.fairness = fairness
        self.horizon = horizon
        self.sums_over_rows = fairness == 0
        self.register_buffer("tau", torch.tensor(1 / num_classes))
        self.register_buffer("mean", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("histogram", torch.full((num_classes,), 1 / num_classes))

    @property
    def masks_rows(self) -> bool:
        return True

    def warning(self) -> str | None:
        return None if self.fairness else super().warning()  # fairness is beside the coefficient, and has no threshold

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits, _ = self.aligned(weak, context)
        probs = F.softmax(logits, dim=-1)
        confidence, predicted = probs.max(dim=-1)
        forget(self.tau, global_mean(confidence, context), self.horizon, context)
        forget(self.mean, global_mean(probs, context), self.horizon, context)
        labels = F.one_hot(predicted, self.num_classes).to(probs.dtype)
        forget(self.histogram, global_mean(labels, context), self.horizon, context)
        kept = ~(confidence < (self.tau * self.mean / self.mean.max())[predicted])
        return self.taught(self.labels_of(logits), kept, context)

    def loss(self, labeled: Tensor, labels: Tensor, unlabeled: Tensor, pseudo: PseudoLabels, context: Context) -> Loss:
        loss = super().loss(labeled, labels, unlabeled, pseudo, context)
        if self.fairness == 0:
            return loss
        probs = F.softmax(at_least_float32(unlabeled), dim=-1)
        fairness = self._fairness(probs, context)
        share = len(pseudo.weight) / pseudo.normalizer  # all processes compute the same number: each has its part of it
        loss.metrics["loss/fairness"] = (fairness * share).detach()
        return Loss(loss.total + self.fairness * fairness * share, loss.metrics)

    def _fairness(self, probs: Tensor, context: Context) -> Tensor:
        """The fairness term from the student's answers on the kept rows, [N, K]: a scalar, at most 0."""
        histogram = F.one_hot(probs.argmax(dim=-1), self.num_classes).to(probs.dtype).sum(dim=0).detach()
        sums, counts = context.sum(torch.stack([probs.sum(dim=0), histogram])).unbind()
        seen = counts > 0
        ratio = torch.where(seen, sums, 1.0) / counts.clamp(min=1)
        ours = ratio * seen / (ratio * seen).sum().clamp(min=1e-12)
        wanted = torch.where(self.histogram > 0, self.mean / self.histogram.clamp(min=1e-12), 0.0).to(probs.dtype)
        wanted = wanted / wanted.sum()
        return (wanted * torch.where(seen, ours, 1.0).log()).sum()
