"""A guard against collapse: pseudo-labels of one class alone, a mask that keeps nothing or everything."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uda.engine.process import Process
from uda.objectives.base import Objective

BLOCK_STEPS = 10
NUM_BLOCKS = 3  # told at most 39 steps after a collapse began: 9 of a block that was healthy before, then three blocks
_MIN_KEPT = 10  # rows of a block, below which the shares of the classes say nothing; more where `limit` is near 1


@dataclass
class CollapseGuard:
    """Looks at the unlabelled rows in blocks of 10 steps, and speaks after three bad blocks in a row.

    A block is bad where one class has more than `limit` of the kept rows' pseudo-labels, in the block or in its steps
    one by one (the teacher swings), where the mask kept no row, or where it kept every row although the objective
    masks. What was told is told again only after a block that was not bad. `sums` (of the block so far, of this
    process) and `bad` (bad blocks in a row, by kind) belong into the checkpoints.

    Shares are looked at where a block has at least 10 kept rows and 1 / (1 - limit). With p the largest class's share
    of the labels that is 4 / (1 - p), of which an honest teacher gives all to that class with p^(4 / (1 - p)) < 1.9 %,
    three blocks in a row with a probability below 1e-5.
    """

    label_names: list[str]
    limit: float
    objective: Objective
    sums: Tensor | None = None
    bad: dict[str, int] = field(default_factory=dict)

    def step(self, step: int, counts: Tensor, process: Process) -> list[str]:
        """Note a completed step (counted from 1) by its `row_counts` [4 + K]; the warnings that are due."""
        sums = _with_pairs(counts)
        self.sums = sums if self.sums is None else self.sums + sums
        if step % BLOCK_STEPS:
            return []
        rows, kept, same, pairs, *mix = process.context(0.0).sum(self.sums).tolist()
        self.sums = None
        found = self._judged(rows, kept, mix)
        if not found and self._swings(kept, same, pairs):
            found["one class"] = (
                f"nearly all pseudo-labels of a step are of one class, now of one, now of another, for "
                f"{BLOCK_STEPS * NUM_BLOCKS} steps: the teacher answers all texts alike. {class_advice(self.objective)}"
            )
        self.bad = {kind: self.bad.get(kind, 0) + 1 for kind in found}
        return [text for kind, text in found.items() if self.bad[kind] == NUM_BLOCKS]

    def state(self, process: Process) -> dict[str, Any]:
        """What a checkpoint keeps; every process has to ask."""
        sums = None if self.sums is None else process.context(0.0).sum(self.sums).tolist()
        return {"sums": sums, "bad": self.bad}

    def restore(self, state: dict[str, Any], process: Process) -> None:
        """Put back what `state` gave; the sums go to the main process."""
        if state["sums"] is not None:
            self.sums = torch.tensor(state["sums"], device=process.device) * float(process.is_main)
        self.bad = dict(state["bad"])

    def _judged(self, rows: float, kept: float, mix: Sequence[float]) -> dict[str, str]:
        """What is wrong with a block, and what to tell of it."""
        if not rows:
            return {}
        steps = BLOCK_STEPS * NUM_BLOCKS
        if not kept:
            return {
                "nothing kept": f"the mask kept none of the unlabelled rows of the last {steps} steps, so nothing is "
                f"learnt from them. {mask_advice(self.objective, looser=True)}"
            }
        found = {}
        if self.objective.masks_rows and kept == rows:
            found["everything kept"] = (
                f"the mask kept all unlabelled rows of the last {steps} steps, so wrong pseudo-labels are learnt like "
                f"right ones. {mask_advice(self.objective, looser=False)}"
            )
        largest = int(np.argmax(mix))
        if self._enough(kept) and mix[largest] > self.limit * kept:
            found["one class"] = (
                f"{100 * mix[largest] / kept:.0f} % of the pseudo-labels are '{self.label_names[largest]}', and one "
                f"class had above {100 * self.limit:.4g} % for {steps} steps: the teacher answers with one class. "
                f"Unless the unlabelled rows are that one-sided: {class_advice(self.objective)}"
            )
        return found

    def _enough(self, kept: float) -> bool:
        return kept >= _MIN_KEPT and (1 - self.limit) * kept >= 1

    def _swings(self, kept: float, same: float, pairs: float) -> bool:
        """Whether the steps, one by one, are of one class by more than `limit`.

        Two rows of a step have one pseudo-label with a probability of at most l^2 + (1 - l)^2 where the largest class
        has the share l >= 1/2. Pairs, unlike the largest share, do not mistake few rows a step for one-sided ones.
        """
        rows_a_step = kept / BLOCK_STEPS
        return self._enough(kept) and rows_a_step >= 3 and same > (self.limit**2 + (1 - self.limit) ** 2) * pairs


def _with_pairs(counts: Tensor) -> Tensor:
    """A step's `row_counts` as the guard adds them up: rows, kept rows, pairs of kept rows of one pseudo-label, all
    pairs of kept rows, kept rows of each pseudo-label.
    """
    kept, mix = counts[1], counts[4:]
    return torch.cat([torch.stack([counts[0], kept, (mix * (mix - 1)).sum(), kept * (kept - 1)]), mix])


def share_limit(labels: np.ndarray, num_classes: int) -> float:
    """The share of one pseudo-label that counts as a collapse, given the labelled rows' labels [N].

    Three quarters of the way from the largest class's share p (at least 1 / K) to 1: 1 - (1 - p) / 4. With K = 2
    balanced classes 0.875, with 100 of them 0.7525; where nine of ten labelled rows are of one class 0.975. So it is
    told where three quarters of the rows are lost that the labels give to other classes. A draw of equally many
    labelled rows a class says nothing about unbalanced data: there an honest teacher may be told of too.
    """
    shares = np.bincount(labels, minlength=num_classes) / max(len(labels), 1)
    return 1 - (1 - max(float(shares.max()), 1 / num_classes)) / 4


def mask_advice(objective: Objective, looser: bool) -> str:
    """What to change so that more rows are kept (looser), or fewer: of the settings that the objective has."""
    parts = []
    threshold, kept_share = getattr(objective, "threshold", None), getattr(objective, "kept_share", None)
    if threshold is not None and threshold >= 0:
        lowest = f", below 1/{objective.num_classes} it masks nothing" if threshold < 1 / objective.num_classes else ""
        parts.append(f"{'lower' if looser else 'raise'} objective.threshold (now {threshold:g}{lowest})")
    relative = getattr(objective, "relative_threshold", None)
    if relative is not None:
        parts.append(f"{'lower' if looser else 'raise'} objective.relative_threshold (now {relative:g})")
    if kept_share is not None:
        parts.append(f"{'raise' if looser else 'lower'} objective.kept_share (now {kept_share:g})")
    if looser:
        parts.append("raise objective.supervised_steps, so that the teacher is surer")
    else:
        parts.append("lower train.learning_rate, so that the teacher is less sure")
    return _sentence(parts)


def class_advice(objective: Objective) -> str:
    """What to change where the teacher answers with one class."""
    aligns = getattr(objective, "alignment", None) == "none"
    parts = ["set objective.alignment=uniform, if the classes are about as frequent"] if aligns else []
    parts.append(f"raise objective.supervised_steps (now {objective.supervised_steps:g})")
    parts += ["lower train.learning_rate", "give data.label_descriptions or more labels"]
    return _sentence(parts)


def _sentence(parts: list[str]) -> str:
    text = "; or ".join(parts)
    return f"{text[0].upper()}{text[1:]}."
