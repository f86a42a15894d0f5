"""One optimiser step's forward and backward passes: teacher, pseudo-labels, student on what is left."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from uda.data.batches import Batch, Tokens
from uda.engine.attention import Kernels, attention
from uda.engine.model import logits_of
from uda.engine.process import Process
from uda.engine.sharding import is_sharded
from uda.objectives.base import Context, Objective, PseudoLabels, at_least_float32

_ROWS_MULTIPLE, _LENGTH_MULTIPLE = 8, 64  # of the shapes of compiled passes
_PASS_COST = 256  # tokens: what a pass of its own costs beyond its rows


@dataclass
class Models:
    """The student, and an EMA teacher if any.

    learning: the student as it makes passes with a gradient: wrapped by Accelerate, compiled. teaching: the teacher,
    or the student where there is none, as it makes passes without. kernels: of attention; None: the one that the user
    named, for all passes. compiled_length: these two were compiled, so that batches must come in few shapes, of at most
    so many tokens a row; None: they were not.
    """

    student: PreTrainedModel
    teacher: PreTrainedModel | None
    learning: nn.Module
    teaching: nn.Module
    pad_id: int
    kernels: Kernels | None
    compiled_length: int | None

    def attention(self, model: PreTrainedModel, longest: int = 0) -> AbstractContextManager[None]:
        """Passes of the student or the teacher are made by the kernel that suits rows of at most so many tokens, and a
        backward pass if torch computes gradients now.
        """
        return nullcontext() if self.kernels is None else attention(model, self.kernels.of(longest))

    @torch.no_grad()
    def start_teacher(self) -> None:
        """Make the teacher a copy of the student."""
        if self.teacher is not None:
            self.teacher.load_state_dict(self.student.state_dict())

    @torch.no_grad()
    def update_teacher(self, decay: float) -> None:
        """teacher <- decay * teacher + (1 - decay) * student, after an optimiser step."""
        if self.teacher is not None:
            pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
            for teacher, student in pairs:
                teacher.lerp_(student, 1 - decay)


@dataclass
class StepOutcome:
    """What one step did: tensors to be read when they are logged.

    metrics: the objective's, this process's share. counts: sums over this process's rows, see `row_counts`.
    num_tokens, num_slots: of all passes; slots are tokens and padding. work_tokens, work_squares: tokens and squared
    lengths of rows, threefold where a backward pass follows, which takes twice the forward's operations.
    """

    metrics: dict[str, Tensor] = field(default_factory=dict)
    counts: Tensor = field(default_factory=lambda: torch.zeros(0))
    num_tokens: int = 0
    num_slots: int = 0
    work_tokens: int = 0
    work_squares: int = 0

    def saw(self, lengths: Sequence[int], num_slots: int) -> None:
        """Count a pass over rows of such lengths."""
        times = 3 if torch.is_grad_enabled() else 1
        self.num_tokens += sum(lengths)
        self.num_slots += num_slots
        self.work_tokens += times * sum(lengths)
        self.work_squares += times * sum(length**2 for length in lengths)


def run_step(
    models: Models,
    objective: Objective,
    batch: Batch,
    context: Context,
    process: Process,
    micro_batch_size: int | None,
) -> StepOutcome:
    """Forward and backward passes of one step; the gradients are left in the student.

    With `micro_batch_size` all teacher passes run first, the labelled rows go whole into the first student pass and
    only the kept rows are split.
    """
    outcome = StepOutcome()
    weak, pseudo = label_rows(models, objective, batch, context, process, micro_batch_size, outcome)
    kept = torch.nonzero(pseudo.weight > 0).flatten().tolist()  # the host waits here: it must know what to compute
    view = batch.strong if objective.student_view == "strong" else batch.weak
    student_logits = []
    parts = list(_parts(len(batch.labeled), kept, micro_batch_size))
    if is_sharded(models.student):
        parts += [[]] * (process.highest(len(parts)) - len(parts))
    models.student.train()
    for number, rows in enumerate(parts):
        num_labeled = len(batch.labeled) if number == 0 else 0
        inputs = batch.labeled.select(range(num_labeled)).followed_by(view.select(rows), models.pad_id)
        last = number == len(parts) - 1
        with nullcontext() if last else process.accelerator.no_sync(models.learning):
            with process.accelerator.autocast():  # one for all passes, so that they share what it casts
                # A pass that only the other processes have rows for is made with a row that counts nothing.
                passed = inputs if len(inputs) else batch.labeled.select([0])
                logits = logits_by_length(models, models.learning, passed, outcome)[: len(inputs)]
            loss = objective.loss(
                logits[:num_labeled],
                batch.labels[:num_labeled],
                logits[num_labeled:],
                pseudo if len(parts) == 1 else pseudo.select(torch.tensor(rows, dtype=torch.int64)),
                context,
            )
            process.accelerator.backward(loss.total * process.count)  # undoes DDP's averaging
        for name, value in loss.metrics.items():
            outcome.metrics[name] = outcome.metrics.get(name, 0) + value
        outcome.metrics["loss/total"] = outcome.metrics.get("loss/total", 0) + loss.total.detach()
        student_logits.append(logits[num_labeled:].detach())
    outcome.counts = row_counts(weak, pseudo, torch.cat(student_logits), kept)
    return outcome


def label_rows(
    models: Models,
    objective: Objective,
    batch: Batch,
    context: Context,
    process: Process,
    micro_batch_size: int | None,
    outcome: StepOutcome,
) -> tuple[Tensor, PseudoLabels]:
    """The teacher's logits of the unlabelled rows [U, K], and the pseudo-labels made of them."""
    if not len(batch.index):
        logits = torch.zeros(0, objective.num_classes, device=batch.index.device)
        return logits, PseudoLabels.none(objective.num_classes, logits)
    rows = batch.weak
    if objective.teacher_rows == "all":
        rows = batch.labeled.followed_by(rows, models.pad_id)
    if models.teacher is None:
        models.student.train()
    size = micro_batch_size or len(rows)
    with torch.no_grad(), process.accelerator.autocast():
        parts = [rows.select(range(len(rows))[start : start + size]) for start in range(0, len(rows), size)]
        answers = [logits_by_length(models, models.teaching, part, outcome) for part in parts]
        logits = at_least_float32(torch.cat(answers))
    num_labeled = len(logits) - len(batch.index)
    labeled = logits[:num_labeled] if num_labeled else None
    weak = logits[num_labeled:]
    with torch.no_grad():
        return weak, objective.pseudo_label(weak, batch.index, context, labeled)


def logits_by_length(models: Models, model: nn.Module, tokens: Tokens, outcome: StepOutcome) -> Tensor:
    """The logits [N, K] of `model`, the learning or the teaching one, from passes over rows of like length, so that few
    slots are padding.

    Which rows share a pass changes no logit but by rounding: padding is masked. A model in shards makes one pass, as
    the other processes have rows of other lengths. Rows and lengths of compiled passes are padded to multiples, since a
    model is compiled anew for each shape.
    """
    blocks = length_blocks(tokens.lengths, math.inf if is_sharded(models.student) else _PASS_COST)
    unwrapped = models.student if model is models.learning or models.teacher is None else models.teacher
    parts = []
    for rows in blocks:
        part = tokens if len(blocks) == 1 else tokens.select(rows)
        padded = part
        if models.compiled_length is not None and len(part):
            padded = part.padded_to(_ROWS_MULTIPLE, _LENGTH_MULTIPLE, models.compiled_length, models.pad_id)
        outcome.saw(part.lengths, padded.mask.numel())
        with models.attention(unwrapped, max(part.lengths, default=0)):
            parts.append(logits_of(model, padded)[: len(part)])
    logits = torch.cat(parts)
    if len(blocks) == 1:
        return logits
    place = torch.empty(len(tokens), dtype=torch.int64)
    place[torch.tensor([row for rows in blocks for row in rows])] = torch.arange(len(tokens))
    return logits[place.to(logits.device)]


def length_blocks(lengths: Sequence[int], pass_cost: float) -> list[list[int]]:
    """The rows parted into blocks of like length, so that the slots of all, and a price for each block, are fewest.

    One block has the rows in their order; of more, each has them from the longest to the shortest.
    """
    if len(lengths) * max(lengths, default=0) - sum(lengths) <= pass_cost:
        return [list(range(len(lengths)))]  # not even no padding at all would pay for a second one
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    best, first = [0.0], [0]  # of the rows up to each: the least cost, and where its last block begins
    for end in range(1, len(rows) + 1):
        costs = [best[start] + (end - start) * lengths[rows[start]] + pass_cost for start in range(end)]
        best.append(min(costs))
        first.append(costs.index(best[-1]))
    blocks, end = [], len(rows)
    while end:
        blocks.append(rows[first[end] : end])
        end = first[end]
    return blocks[::-1] if len(blocks) > 1 else [list(range(len(lengths)))]


def _parts(num_labeled: int, kept: list[int], micro_batch_size: int | None) -> Iterator[list[int]]:
    """The kept rows of each student pass; the first pass has room for the labelled rows too."""
    if micro_batch_size is None:
        yield kept
        return
    first = max(micro_batch_size - num_labeled, 0)
    yield kept[:first]
    for start in range(first, len(kept), micro_batch_size):
        yield kept[start : start + micro_batch_size]


def row_counts(weak: Tensor, pseudo: PseudoLabels, student: Tensor, kept: list[int]) -> Tensor:
    """Sums over this process's rows, to be added over processes: [4 + K].

    rows, kept rows, confidence (max softmax(weak)), kept rows on which teacher and student agree, kept rows of each
    pseudo-label. student: logits of the kept rows, whose numbers are `kept`.
    """
    numbers = torch.tensor(kept, dtype=torch.int64).to(weak.device, non_blocking=True)
    predicted = pseudo.probs[numbers].argmax(dim=-1)
    confidence = torch.softmax(weak, dim=-1).amax(dim=-1) if len(weak) else weak.new_zeros(0)
    agree = (student.argmax(dim=-1) == predicted).sum()
    classes = torch.arange(pseudo.probs.shape[1], device=weak.device)
    mix = (predicted[:, None] == classes).sum(dim=0)
    head = torch.stack([weak.new_tensor(float(len(weak))), weak.new_tensor(len(kept)), confidence.sum(), agree])
    return torch.cat([head.float(), mix.float()])
