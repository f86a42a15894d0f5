"""What a person sees of a run: TensorBoard, the progress bar, the log."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from uda.engine.process import Process
from uda.engine.step import StepOutcome

log = logging.getLogger(__name__)


class Tracker:
    """Scalars of the steps and the evaluations, on the main process; other processes only take part in the sums."""

    def __init__(
        self, folder: Path, process: Process, label_names: list[str], first_step: int, num_steps: int, log_every: int
    ) -> None:
        self.process = process
        self.label_names = label_names
        self.num_steps = num_steps
        self.log_every = log_every
        self.accuracy = ""
        self.tokens = self.slots = 0
        self.since = time.monotonic()
        self.writer: Any = None
        if process.is_main:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None, flush_secs=10)
        self.bar = tqdm(
            total=num_steps,
            initial=first_step,
            desc="training",
            unit="step",
            file=sys.stderr,
            disable=None if process.is_main else True,
            dynamic_ncols=True,
        )
        self.redirect = logging_redirect_tqdm()

    def __enter__(self) -> "Tracker":
        self.redirect.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.redirect.__exit__(None, None, None)
        self.bar.close()
        if self.writer is not None:
            self.writer.close()

    def step(self, step: int, outcome: StepOutcome, learning_rate: float, grad_norm: float) -> None:
        """Note a completed step (counted from 1); every `log_every` steps it is written."""
        self.tokens += outcome.num_tokens
        self.slots += outcome.num_slots
        self.bar.update(1)
        if step % self.log_every and step != self.num_steps:
            return
        scalars = self._scalars(outcome)
        tokens, slots = self.process.gather_rows(np.array([[self.tokens, self.slots]])).sum(axis=0).tolist()
        seconds = time.monotonic() - self.since
        self.tokens = self.slots = 0
        self.since = time.monotonic()
        if not self.process.is_main:
            return
        scalars |= {
            "optimizer/learning_rate": learning_rate,
            "optimizer/gradient_norm": grad_norm,
            "speed/tokens_per_second": tokens / max(seconds, 1e-9),
            "speed/padding_share": 1 - tokens / max(slots, 1),
        }
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self._show(step, scalars)

    def evaluation(self, step: int, role: str, scores: dict[str, Any]) -> None:
        """Note the scores of an evaluation on the dev or test rows."""
        if not self.process.is_main:
            return
        for name in ("accuracy", "macro_f1", "nll", "ece"):
            self.writer.add_scalar(f"{role}/{name}", scores[name], step)
        self.accuracy = f"{role} accuracy {100 * scores['accuracy']:.2f} %"
        log.info("step %d/%d: %s, NLL %.3f", step, self.num_steps, self.accuracy, scores["nll"])
        self.since = time.monotonic()
        self.tokens = self.slots = 0

    def _scalars(self, outcome: StepOutcome) -> dict[str, float]:
        """The step's values over all processes."""
        add = self.process.context(0.0).sum
        scalars = {name: float(add(value)) for name, value in sorted(outcome.metrics.items())}
        rows, kept, confidence, agree, *mix = add(outcome.counts).tolist()
        if rows:
            scalars |= {"mask/mask_rate": 1 - kept / rows, "teacher/confidence": confidence / rows}
        if kept:
            scalars["teacher/student_agreement"] = agree / kept
            scalars |= {
                f"pseudo_labels/{name}": count / kept for name, count in zip(self.label_names, mix, strict=True)
            }
        return scalars

    def _show(self, step: int, scalars: dict[str, float]) -> None:
        """The bar's values; where no terminal is, a line of log."""
        shown = {"sup": scalars.get("loss/supervised"), "cons": scalars.get("loss/consistency")}
        parts = [f"{name} {value:.3f}" for name, value in shown.items() if value is not None]
        if "mask/mask_rate" in scalars:
            parts.append(f"masked {100 * scalars['mask/mask_rate']:.0f} %")
        text = ", ".join([*parts, self.accuracy] if self.accuracy else parts)
        self.bar.set_postfix_str(text, refresh=False)
        if self.bar.disable:
            log.info("step %d/%d: %s", step, self.num_steps, text)
