"""What a person sees of a run: TensorBoard, the progress bar, the log."""

import logging
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from uda.engine.flops import PassCost
from uda.engine.process import Process
from uda.engine.step import StepOutcome
from uda.files import sync, write_aside

log = logging.getLogger(__name__)

SCORES = ("accuracy", "macro_f1", "nll", "ece")
# TensorBoard shows five columns of settings at first: those said to differ, then by name.
_SHOWN_FIRST = ("objective", "seed", "data.num_labeled", "objective.temperature", "train.learning_rate")
_MAX_CLASS_CURVES = 10  # classes up to which each has a curve of its own


@dataclass(frozen=True)
class SamplePair:
    """An unlabelled row for people to look at: its number, and excerpts of the original and the augmented text."""

    row: int
    original: str
    augmented: str


@dataclass(frozen=True)
class Work:
    """What utilisation is measured by: FLOP of a forward pass, and FLOP/s of the device's matrix products."""

    cost: PassCost
    limit: float


class Tracker:
    """Scalars of the steps and the evaluations, on the main process; other processes only take part in the sums."""

    def __init__(
        self,
        folder: Path,
        process: Process,
        label_names: list[str],
        work: Work,
        first_step: int,
        num_steps: int,
        log_every: int,
    ) -> None:
        self.process = process
        self.label_names = label_names
        self.work = work
        self.num_steps = num_steps
        self.log_every = log_every
        self.score, self.scored_at = "", 0
        self._start_counting()
        self.writer: Any = None
        if process.is_main:
            from torch.utils.tensorboard import SummaryWriter

            # Files are read in the order of their names, which of one second and process may be another than theirs.
            while any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
                time.sleep(0.05)
            # The steps that a killed start took after its last checkpoint are shown anew; 0: all that it showed.
            self.writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else 0, flush_secs=10)
        self.bar = tqdm(
            total=num_steps,
            initial=first_step,
            desc="training",
            unit="step",
            file=sys.stderr,
            disable=None if process.is_main else True,
            dynamic_ncols=True,
        )
        self.redirect = logging_redirect_tqdm() if process.is_main else nullcontext()

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
        self.seen += [outcome.num_tokens, outcome.num_slots, outcome.work_tokens, outcome.work_squares]
        self.bar.update(1)
        if step % self.log_every and step != self.num_steps:
            return
        scalars = self._scalars(outcome)
        tokens, slots, *work = self.process.gather_rows(self.seen[None]).sum(axis=0).tolist()
        seconds = max(time.monotonic() - self.since, 1e-9)
        self._start_counting()
        if not self.process.is_main:
            return
        scalars |= {
            "optimizer/learning_rate": learning_rate,
            "optimizer/gradient_norm": grad_norm,
            "speed/tokens_per_second": tokens / seconds,
            "speed/utilization": self.work.cost.flops(*work) / seconds / self.work.limit / self.process.count,
            "speed/padding_share": 1 - tokens / max(slots, 1),
        }
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self._show(step, scalars)

    def evaluation(self, step: int, role: str, scores: dict[str, Any], labels: np.ndarray, probs: np.ndarray) -> None:
        """Note an evaluation on the dev or test rows: its scores, and their confusion matrix from labels [N] and
        probabilities [N, K].
        """
        self._start_counting()
        if not self.process.is_main:
            return
        for name in SCORES:
            self.writer.add_scalar(f"{role}/{name}", scores[name], step)
        self.score, self.scored_at = f"{role} accuracy {100 * scores['accuracy']:.2f} %", step
        self._confusion(step, role, labels, probs)
        log.info("step %d/%d: %s, NLL %.3f", step, self.num_steps, self.score, scores["nll"])

    def held_out(self, step: int, loss: float, perplexity: float) -> None:
        """Note a masked language model's loss (nats a hidden token) and perplexity on held-out texts."""
        self._start_counting()
        if not self.process.is_main:
            return
        self.writer.add_scalar("held_out/loss", loss, step)
        self.writer.add_scalar("held_out/perplexity", perplexity, step)
        self.score, self.scored_at = f"held-out perplexity {perplexity:.2f}", step
        log.info("step %d/%d: %s", step, self.num_steps, self.score)

    def _start_counting(self) -> None:
        """Speed is that of the steps since then."""
        self.since = time.monotonic()
        self.seen = np.zeros(4, dtype=np.int64)

    def _confusion(self, step: int, role: str, labels: np.ndarray, probs: np.ndarray) -> None:
        from sklearn.metrics import confusion_matrix

        from uda.engine.plots import MAX_CLASSES, confusion_figure, to_image

        if len(self.label_names) > MAX_CLASSES:
            return
        matrix = confusion_matrix(labels, probs.argmax(axis=1), labels=range(len(self.label_names)))
        figure = confusion_figure(matrix, self.label_names, f"step {step}: {self.score} of {len(labels)} rows")
        self.writer.add_image(f"{role}/confusion", to_image(figure), step, dataformats="HWC")

    def samples(self, step: int, pairs: Sequence[SamplePair], teacher: np.ndarray, student: np.ndarray) -> None:
        """Show pairs of texts with what the teacher makes of the original and the student of the augmented one.

        teacher, student: probabilities [N, K].
        """
        if self.writer is None:
            return
        lines = ["| original, teacher | augmented, student |", "| --- | --- |"]
        for pair, *answers in zip(pairs, teacher, student, strict=True):
            texts = (pair.original, pair.augmented)
            cells = [
                f"**{self._answer(probs)}**<br>{as_cell(text)}" for text, probs in zip(texts, answers, strict=True)
            ]
            lines.append(f"| {' | '.join(cells)} |")
        self.writer.add_text("samples/pairs", "\n".join(lines), step)

    def _answer(self, probs: np.ndarray) -> str:
        label = int(probs.argmax())
        return as_cell(f"{self.label_names[label]} {100 * probs[label]:.0f} %")

    def warn(self, step: int, texts: Sequence[str]) -> None:
        """Say in the log and in TensorBoard what is going wrong."""
        if self.writer is None or not texts:
            return
        for text in texts:
            log.warning("step %d/%d: %s", step, self.num_steps, text)
        self.writer.add_text("warnings/collapse", "\n\n".join(as_cell(text) for text in texts), step)

    def flush(self) -> None:
        """Bring all that was noted to the disk."""
        if self.writer is not None:
            self.writer.flush()
            for path in Path(self.writer.log_dir).glob("events.*"):
                sync(path)

    def _scalars(self, outcome: StepOutcome) -> dict[str, float]:
        """The step's values over all processes."""
        add = self.process.context(0.0).sum
        scalars = {name: float(add(value)) for name, value in sorted(outcome.metrics.items())}
        if not len(outcome.counts):
            return scalars
        rows, kept, confidence, agree, *mix = add(outcome.counts).tolist()
        if rows:
            scalars |= {"mask/mask_rate": 1 - kept / rows, "teacher/confidence": confidence / rows}
        if kept:
            scalars["teacher/student_agreement"] = agree / kept
            scalars |= class_mix(np.array(mix) / kept, self.label_names)
        return scalars

    def _show(self, step: int, scalars: dict[str, float]) -> None:
        """The bar's values; where no terminal is, a line of log."""
        names = {"sup": "loss/supervised", "cons": "loss/consistency", "masked tokens": "loss/masked_lm"}
        shown = {short: scalars.get(name) for short, name in names.items()}
        parts = [f"{name} {value:.3f}" for name, value in shown.items() if value is not None]
        if "mask/mask_rate" in scalars:
            parts.append(f"masked {100 * scalars['mask/mask_rate']:.0f} %")
        text = ", ".join([*parts, f"{self.score} at step {self.scored_at}"] if self.score else parts)
        self.bar.set_postfix_str(text, refresh=False)
        if self.bar.disable:
            log.info("step %d/%d: %s", step, self.num_steps, text)


def class_mix(shares: np.ndarray, label_names: Sequence[str]) -> dict[str, float]:
    """Shares [K] of the pseudo-labels as scalars: one a class, or for more than ten of them the largest share and the
    entropy, in units of log K: 1 where all are equal, 0 where there is one.
    """
    if len(label_names) <= _MAX_CLASS_CURVES:
        return {f"pseudo_labels/{tag}": float(share) for tag, share in zip(tags(label_names), shares, strict=True)}
    positive = shares[shares > 0]
    entropy = -(positive * np.log(positive)).sum() / np.log(len(shares))
    return {"pseudo_labels/largest_share": float(shares.max()), "pseudo_labels/entropy": float(entropy)}


def tags(label_names: Sequence[str]) -> list[str]:
    """Label names as TensorBoard takes them, without slashes, which make groups; numbered where two became the same."""
    clean = [re.sub(r"[^\w.-]+", "_", name)[:40] or "_" for name in label_names]
    return clean if len(set(clean)) == len(clean) else [f"{number}_{tag}" for number, tag in enumerate(clean)]


def as_cell(text: str) -> str:
    """A text that stands in a cell of a Markdown table as it is: one line, nothing in it read as Markdown or HTML."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return "".join(each if each.isalnum() or each in " .,;:?'…" else f"&#{ord(each)};" for each in line)


def write_hparams(folder: Path, values: dict[str, Any], scores: dict[str, Any]) -> None:
    """The settings of a run beside its scores, for TensorBoard's page that compares runs.

    values: dotted keys; lists, which the page does not take, become text, and what is None is left blank. The page
    takes its columns from one of the runs, so all should name the same keys. The file replaces that of an earlier try.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2

    results = {f"selected/{name}": scores[name] for name in SCORES}
    experiment = api_pb2.Experiment(
        hparam_infos=[api_pb2.HParamInfo(name=key, differs=key in _SHOWN_FIRST) for key in values],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in results],
    )
    described = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(experiment=experiment))
    columns = Summary.Value(tag=metadata.EXPERIMENT_TAG, metadata=described, tensor=metadata.NULL_TENSOR)
    plain = bool | int | float | str
    shown = {
        key: value if isinstance(value, plain) else str(value) for key, value in values.items() if value is not None
    }
    with _last_file(folder, "hparams") as writer:
        writer.file_writer.add_summary(Summary(value=[columns]))
        row = "/".join(folder.absolute().parts[-3:-1])
        writer.file_writer.add_summary(summary_v2.hparams_pb(shown, trial_id=row))
        for tag, value in results.items():
            writer.add_scalar(tag, value, scores["step"])


def write_image(folder: Path, tag: str, image: np.ndarray, step: int) -> None:
    """A picture [H, W, 3] of a finished run. The file replaces that of an earlier try."""
    with _last_file(folder, "picture") as writer:
        writer.add_image(tag, image, step, dataformats="HWC")


@contextmanager
def _last_file(folder: Path, kind: str) -> Iterator[Any]:
    """A writer of a file of its own, whole or as it was before.

    Its name stands behind those with a time: TensorBoard reads by name, and the file of a resume, which says from which
    step on everything before it counts no more, may carry the same second as one written by this process afterwards.
    """
    from torch.utils.tensorboard import SummaryWriter

    with TemporaryDirectory() as scratch:
        with SummaryWriter(scratch) as writer:
            yield writer
        (written,) = Path(scratch).iterdir()
        write_aside(folder / f"events.out.tfevents.end.{kind}", lambda aside: shutil.copyfile(written, aside))
