"""Cross-entropy on the labelled rows: the baseline, and the ceiling where every row is labelled."""

from torch import Tensor

from uda.objectives.base import Context, Loss, Objective, PseudoLabels, check_choice
from uda.objectives.functional import TSA_SCHEDULES, annealed_cross_entropy, tsa_threshold


class Supervised(Objective):
    """Cross-entropy on labelled rows alone. `tsa`: the schedule of training signal annealing, or "none"."""

    teacher_rows = "none"

    def __init__(self, num_classes: int, num_unlabeled: int, *, tsa: str) -> None:
        super().__init__(num_classes, num_unlabeled, supervised_steps=0, teacher_decay=0.0, prefill_rows=0)
        check_choice("tsa", tsa, TSA_SCHEDULES)
        self.tsa = tsa

    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        return PseudoLabels.none(self.num_classes, weak)

    def loss(self, labeled: Tensor, labels: Tensor, unlabeled: Tensor, pseudo: PseudoLabels, context: Context) -> Loss:
        threshold = tsa_threshold(context.progress, self.tsa, self.num_classes)
        total, metrics = annealed_cross_entropy(labeled, labels, threshold, context, self.class_weights)
        return Loss(total, metrics)
