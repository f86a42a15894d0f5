"""FlexMatch: curriculum pseudo-labelling (Zhang et al. 2021, arXiv 2110.08263)."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.objectives.base import Context, PseudoLabels, check_number
from uda.objectives.consistency import WITHOUT_KEPT_SHARE, AlignmentOptions, Consistency


class FlexMatch(Consistency):
    """FixMatch with a threshold for each class, the lower the fewer rows the class has been learnt from.

    threshold: tau. A row is kept where its confidence is at least tau * b / (2 - b), the paper's convex mapping, with
    b = s / max(largest s, rows that have no label yet), its warm-up, for the predicted class's s. s counts the
    unlabelled rows whose latest answer of a confidence of at least tau was that class, as of the step before.
    targets: "hard" (the paper), or "soft": softmax(weak / temperature).

    As long as most rows have no label yet, thresholds are so low that nothing is masked: in the embedded experiments,
    which see a part of the rows, to the end.

    Memory: an int16 for each unlabelled row (int32 for more than 32,767 classes), 20 MB for 10 million, on every
    process and in every checkpoint.
    """

    latest: Tensor
    counts: Tensor

    def __init__(
        self,
        num_classes: int,
        num_unlabeled: int,
        *,
        threshold: float,
        targets: str,
        temperature: float | None,
        **options: Unpack[AlignmentOptions],
    ) -> None:
        super().__init__(num_classes, num_unlabeled, **WITHOUT_KEPT_SHARE, **options)
        check_number("threshold", threshold, low=0, high=1)
        self.teach(targets, temperature)
        self.threshold = threshold
        kind = torch.int16 if num_classes <= torch.iinfo(torch.int16).max else torch.int32
        # K stands for "no label yet", and has a count of its own.
        self.register_buffer("latest", torch.full((num_unlabeled,), num_classes, dtype=kind))
        self.register_buffer("counts", F.one_hot(torch.tensor(num_classes), num_classes + 1) * num_unlabeled)

    @property
    def masks_rows(self) -> bool:
        return self.threshold > 0 and bool(self.counts[:-1].max() > self.counts[-1])

    def threshold_warning(self) -> str | None:
        return None  # the threshold is of the class that is learnt best, and no row need reach it

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits, _ = self.aligned(weak, context)
        confidence, predicted = F.softmax(logits, dim=-1).max(dim=-1)
        counts = self.counts.to(confidence.dtype)
        status = counts[:-1] / counts.max().clamp(min=1)
        kept = ~(confidence < self.threshold * (status / (2 - status))[predicted])
        self._remember(*(context.gather(rows) for rows in (index, predicted, confidence >= self.threshold)))
        return self.taught(self.labels_of(logits), kept, context)

    def _remember(self, index: Tensor, predicted: Tensor, sure: Tensor) -> None:
        """Note the labels of the sure rows. A row twice in one step keeps the last answer and is counted once."""
        index, order = index.sort(stable=True)
        before = self.latest[index].long()
        label = torch.where(sure, predicted, self.num_classes)[order]  # K: no answer
        is_last = torch.ones_like(index, dtype=torch.bool)
        is_last[:-1] = index[1:] != index[:-1]
        # The last place in the order at which a row had an answer, for all places of that row.
        group = F.pad(is_last[:-1].long().cumsum(dim=0), (1, 0))[: len(index)]
        place = torch.where(label < self.num_classes, torch.arange(len(index), device=index.device), -1)
        latest = torch.full_like(place, -1).scatter_reduce_(0, group, place, "amax")[group]
        after = torch.where(latest >= 0, label[latest.clamp(min=0)], before)
        self.latest[index] = after.to(self.latest.dtype)  # the same for all places of a row
        self.counts.scatter_add_(0, before, -is_last.long())
        self.counts.scatter_add_(0, after, is_last.long())
