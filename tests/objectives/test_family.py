"""Each method of the family against a computation in numpy, float64, over several steps with a save in between."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_class
from torch import Tensor
from torch.nn import functional as F

from uda.config import compose
from uda.objectives.base import Context, Objective
from uda.objectives.teacher_memory import balancing_bias

NUM_ROWS, STEPS, K = 14, 6, 4  # 1 / K, the start of many states, is exact
NUM_STEPS = 100  # of the run; a horizon of 5 steps is 0.05 of it
N = 5.0


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def onehot(labels: np.ndarray) -> np.ndarray:
    return np.eye(K)[labels]


def cross_entropy(target: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return -(target * np.log(softmax(logits))).sum(axis=-1)


class Reference:
    """A method in numpy: `step` gives targets [U, K], weights [U], and what is added to the supervised loss."""

    def added(self, target: np.ndarray, weight: np.ndarray, strong: np.ndarray) -> float:
        return float((weight * cross_entropy(target, strong)).mean())


class PseudoLabel(Reference):
    def __init__(self, threshold: float = 0.6, ramp: float = 0.05) -> None:
        self.threshold, self.ramp = threshold, ramp

    def step(self, weak, strong, index, labeled, progress):
        q = softmax(weak)
        target, weight = onehot(q.argmax(1)), (q.max(1) >= self.threshold).astype(float)
        rise = min(progress / self.ramp, 1.0) if self.ramp else 1.0
        return target, weight, rise * self.added(target, weight, strong)


class FlexMatch(Reference):
    def __init__(self, threshold: float = 0.7) -> None:
        self.threshold = threshold
        self.latest = np.full(NUM_ROWS, -1)

    def step(self, weak, strong, index, labeled, progress):
        q = softmax(weak)
        counts = np.array([(self.latest == k).sum() for k in range(K)])
        beta = counts / max(counts.max(), NUM_ROWS - counts.sum())
        limit = self.threshold * beta / (2 - beta)
        weight = (q.max(1) >= limit[q.argmax(1)]).astype(float)
        for row, answer in zip(index, q, strict=True):
            if answer.max() >= self.threshold:
                self.latest[row] = answer.argmax()
        target = onehot(q.argmax(1))
        return target, weight, self.added(target, weight, strong)


class FreeMatch(Reference):
    def __init__(self, fairness: float = 0.3) -> None:
        self.fairness = fairness
        self.tau, self.mean, self.histogram = 1 / K, np.full(K, 1 / K), np.full(K, 1 / K)

    def step(self, weak, strong, index, labeled, progress):
        q = softmax(weak)
        self.tau += (q.max(1).mean() - self.tau) / N
        self.mean = self.mean + (q.mean(0) - self.mean) / N
        self.histogram = self.histogram + (onehot(q.argmax(1)).mean(0) - self.histogram) / N
        weight = (q.max(1) >= (self.tau * self.mean / self.mean.max())[q.argmax(1)]).astype(float)
        target = onehot(q.argmax(1))
        added = self.added(target, weight, strong)
        p = softmax(strong)[weight > 0]
        if len(p):
            shares = onehot(p.argmax(1)).mean(0)
            ratio = np.divide(p.mean(0), shares, out=np.zeros(K), where=shares > 0)
            wanted = self.mean / self.histogram
            wanted, ours = wanted / wanted.sum(), ratio / ratio.sum()
            added += self.fairness * sum(wanted[k] * math.log(ours[k]) for k in range(K) if shares[k] > 0)
        return target, weight, added


class SoftMatch(Reference):
    def __init__(self) -> None:
        self.average, self.mu, self.variance = np.full(K, 1 / K), 1 / K, 1.0

    def step(self, weak, strong, index, labeled, progress):
        q = softmax(weak)
        self.average = self.average + (q.mean(0) - self.average) / N
        aligned = q / K / self.average
        c = (aligned / aligned.sum(1, keepdims=True)).max(1)
        self.mu += (c.mean() - self.mu) / N
        self.variance += (c.var(ddof=1) - self.variance) / N
        weight = np.exp(-(np.minimum(c - self.mu, 0) ** 2) * 2**2 / (2 * self.variance))
        target = onehot(q.argmax(1))
        return target, weight, self.added(target, weight, strong)


class AdaMatch(Reference):
    def __init__(self) -> None:
        self.known, self.seen = np.full(K, 1 / K), np.full(K, 1 / K)

    def step(self, weak, strong, index, labeled, progress):
        q, given = softmax(weak), softmax(labeled)
        self.known = self.known + (given.mean(0) - self.known) / N
        self.seen = self.seen + (q.mean(0) - self.seen) / N
        aligned = q * self.known / self.seen
        aligned = aligned / aligned.sum(1, keepdims=True)
        weight = (aligned.max(1) >= 0.9 * given.max(1).mean()).astype(float)
        rise = (1 - math.cos(math.pi * min(progress / 0.05, 1))) / 2
        return aligned, weight, rise * self.added(aligned, weight, strong)


class MeanTeacher(Reference):
    def step(self, weak, strong, index, labeled, progress):
        q, p = softmax(weak), softmax(strong)
        rise = math.exp(-5 * (1 - min(progress / 0.05, 1)) ** 2)
        return q, np.ones(len(q)), rise * 50 * float(((p - q) ** 2).mean(axis=1).mean())


METHODS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "pseudo_label": (PseudoLabel, {"threshold": 0.6, "coefficient_ramp": 0.05}),
    "fixmatch": (lambda: PseudoLabel(ramp=0), {"threshold": 0.6}),
    "flexmatch": (FlexMatch, {"threshold": 0.7}),
    "freematch": (FreeMatch, {"fairness": 0.3, "horizon": 0.05}),
    "softmatch": (SoftMatch, {"horizon": 0.05}),
    "adamatch": (AdaMatch, {"horizon": 0.05, "coefficient_ramp": 0.05}),
    "mean_teacher": (MeanTeacher, {"coefficient_ramp": 0.05}),
}


@pytest.fixture(scope="module")
def make() -> Callable[..., Objective]:
    """A method of its yaml in float64, with some options changed."""
    nodes: dict[str, dict[str, Any]] = {}

    def build(name: str, num_classes: int = K, num_unlabeled: int = NUM_ROWS, **options: Any) -> Objective:
        if name not in nodes:
            nodes[name] = dict(compose("train", ["+experiment=imdb", f"objective={name}"]).objective)
        node = nodes[name] | options
        objective = get_class(node.pop("_target_"))(num_classes, num_unlabeled, **node).double()
        assert isinstance(objective, Objective)
        return objective

    return build


def drawn(step: int, num_rows: int = 12) -> tuple[np.ndarray, ...]:
    """Labelled logits [8, K] and labels, weak and strong logits [U, K], and the rows' numbers, of a step."""
    rng = np.random.default_rng(step)
    scale = np.linspace(0.2, 5, num_rows)[:, None]
    # A step leans to one class, so that alignment and class thresholds have work.
    weak = rng.normal(size=(num_rows, K)) * scale + np.array([1.0, 0, -0.5, 0]) * (step % 3)
    index = rng.choice(NUM_ROWS, size=num_rows, replace=False)
    return rng.normal(size=(8, K)) * 2, rng.integers(K, size=8), weak, rng.normal(size=(num_rows, K)) * 2, index


def stored(objective: Objective) -> dict[str, Tensor]:
    """The state as a checkpoint keeps it."""
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    file.seek(0)
    found: dict[str, Tensor] = torch.load(file, weights_only=True)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_steps_equal_the_reference_with_save_and_load_between(make, name: str) -> None:
    build, options = METHODS[name]
    reference, objective = build(), make(name, **options)
    masks = set()
    for step in range(STEPS):
        if step == STEPS // 2:
            other = make(name, **options)
            other.load_state_dict(stored(objective))
            objective = other
        labeled, labels, weak, strong, index = drawn(step)
        context = Context(step / NUM_STEPS, num_steps=NUM_STEPS)
        target, weight, added = reference.step(weak, strong, index, labeled, context.progress)
        teacher = torch.from_numpy(labeled) if objective.teacher_rows == "all" else None
        pseudo = objective.pseudo_label(torch.from_numpy(weak), torch.from_numpy(index), context, teacher)
        np.testing.assert_allclose(pseudo.weight, weight, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(pseudo.probs, target, rtol=1e-10, atol=1e-14)
        student = torch.from_numpy(strong)[pseudo.weight > 0]
        loss = objective.loss(torch.from_numpy(labeled), torch.from_numpy(labels), student, pseudo, context)
        supervised = cross_entropy(onehot(labels), labeled).mean()
        assert loss.total.item() == pytest.approx(supervised + added, rel=1e-10)
        masks.add(int((weight > 0).sum()))
    assert name in ("softmatch", "mean_teacher") or len(masks) > 1  # the mask was no constant


@pytest.mark.parametrize("name", ["fixmatch", "pseudo_label", "flexmatch", "freematch", "adamatch"])
def test_not_a_number_is_not_masked(make, name: str) -> None:
    """It must reach the loss and end the run."""
    weak = torch.full((2, K), math.nan, dtype=torch.float64)
    labeled = torch.zeros(4, K, dtype=torch.float64)
    assert make(name).pseudo_label(weak, torch.arange(2), Context(0.5), labeled).weight.tolist() == [1, 1]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_one_row_gives_finite_numbers(make, name: str, num_classes: int) -> None:
    objective = make(name, num_classes, 1)
    for _ in range(3):
        weak, labeled = torch.randn(1, num_classes).double(), torch.randn(1, num_classes).double()
        context = Context(0.5, num_steps=10)
        pseudo = objective.pseudo_label(weak, torch.zeros(1, dtype=torch.int64), context, labeled)
        loss = objective.loss(labeled, torch.tensor([1]), weak[pseudo.weight > 0], pseudo, context)
        assert torch.isfinite(pseudo.weight).all()
        assert torch.isfinite(loss.total)


@pytest.mark.parametrize("name", METHODS)
def test_two_thousand_classes(make, name: str) -> None:
    objective = make(name, 2000, 16)
    weak, labeled = torch.randn(16, 2000).double(), torch.randn(4, 2000).double()
    pseudo = objective.pseudo_label(weak, torch.arange(16), Context(0.5), labeled)
    loss = objective.loss(labeled, torch.arange(4), weak[pseudo.weight > 0], pseudo, Context(0.5))
    assert torch.isfinite(loss.total)


@pytest.mark.parametrize("name", METHODS)
def test_processes_add_up_to_one(make, name: str, on_two_ranks) -> None:
    """Two processes with uneven parts of the rows have the loss, the gradient and the state of one with all."""
    options = METHODS[name][1]
    whole, parts = make(name, **options), [make(name, **options) for _ in range(2)]
    for step in range(4):
        labeled, labels, weak, strong, index = (torch.from_numpy(array) for array in drawn(step))
        context = Context(step / NUM_STEPS, num_steps=NUM_STEPS)
        gradients = []

        def take(objective, rows, marks, own_context, step=step, tensors=(labeled, labels, weak, strong, index)):
            labeled, labels, weak, strong, index = tensors
            student = strong[rows].clone().requires_grad_()
            own = labeled[marks].clone().requires_grad_()
            teacher = own.detach() if objective.teacher_rows == "all" else None
            pseudo = objective.pseudo_label(weak[rows], index[rows], own_context, teacher)
            loss = objective.loss(own, labels[marks], student[pseudo.weight > 0], pseudo, own_context)
            return loss.total, student, own

        total, student, own = take(whole, slice(None), slice(None), context)
        total.backward()

        def share(rank: int, threads: Context, take=take):
            rows, marks = [slice(0, 3), slice(3, None)][rank], [slice(0, 5), slice(5, None)][rank]
            context = Context(threads.progress, threads.gather, threads.sum, NUM_STEPS)
            return take(parts[rank], rows, marks, context)

        results = on_two_ranks(share, step / NUM_STEPS)
        sum(result[0] for result in results).backward()
        gradients = [torch.cat([result[place].grad for result in results]) for place in (1, 2)]
        torch.testing.assert_close(sum(result[0] for result in results), total, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradients[0], student.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(gradients[1], own.grad, rtol=1e-9, atol=1e-12)
        for part in parts:
            for key, value in whole.state_dict().items():
                torch.testing.assert_close(part.state_dict()[key], value, rtol=1e-10, atol=1e-12, msg=key)


def test_flexmatch_counts_a_row_once_however_often_it_comes(make) -> None:
    """Row 7 comes twice in a step, sure of class 0 and then of class 2, then unsure: class 2 has it, once."""
    objective = make("flexmatch", threshold=0.9)
    sure = 20 * torch.eye(K, dtype=torch.float64)
    weak = torch.stack([sure[0], sure[1], sure[2], torch.zeros(K, dtype=torch.float64)])
    objective.pseudo_label(weak, torch.tensor([7, 3, 7, 7]), Context(0.1))
    assert objective.counts.tolist() == [0, 1, 1, 0, NUM_ROWS - 2]
    assert objective.latest[[3, 7, 0]].tolist() == [1, 2, K]
    objective.pseudo_label(sure[:1], torch.tensor([7]), Context(0.2))
    assert objective.counts.tolist() == [1, 1, 0, 0, NUM_ROWS - 2]


def test_the_index_of_ten_million_rows_takes_twenty_megabytes(make) -> None:
    objective = make("flexmatch", 5, 10_000_000)
    assert objective.latest.dtype == torch.int16  # `.double()` of the test leaves whole numbers
    assert sum(buffer.numel() * buffer.element_size() for buffer in objective.buffers()) < 20_000_100


def test_fairness_forbids_accumulation_and_its_absence_allows_it(make) -> None:
    assert not make("freematch").sums_over_rows
    assert make("freematch", fairness=0).sums_over_rows


def test_flexmatch_masks_once_a_label_is_more_frequent_than_none(make) -> None:
    """Until then its thresholds are low, and keeping all rows is no fault to tell."""
    objective = make("flexmatch", threshold=0.9)
    assert not objective.masks_rows
    sure = 20 * torch.eye(K, dtype=torch.float64)[[0]].repeat(8, 1)
    objective.pseudo_label(sure, torch.arange(8), Context(0.1))  # of 14 rows 8 are labelled now
    assert objective.masks_rows


@pytest.mark.parametrize(
    ("name", "threshold", "told"),
    [
        ("fixmatch", 1.0, "objective.threshold=1 keeps hardly a row, so unlabelled text teaches little; lower it"),
        (
            "pseudo_label",
            0.25,
            "objective.threshold=0.25 masks nothing by itself: with 4 classes every answer has a confidence of at "
            "least 0.25",
        ),
        ("fixmatch", 0.95, None),
        ("pseudo_label", 0, None),
        ("flexmatch", 1.0, None),
        ("uda", -1, None),
    ],
)
def test_a_threshold_that_keeps_or_masks_nothing_is_told(make, name: str, threshold: float, told: str | None) -> None:
    assert make(name, threshold=threshold).warning() == told


@pytest.mark.parametrize("name", ["uda", "flexmatch", "softmatch"])
def test_a_coefficient_of_zero_is_told(make, name: str) -> None:
    assert "coefficient=0 lets unlabelled text teach nothing" in str(make(name, coefficient=0.0).warning())


def test_a_memory_of_few_rows_a_class_is_told_where_alignment_looks_at_it(make) -> None:
    """512 sure answers, each of a class of its own: of 2,000 equal shares these classes have 512 / 2,000 in all."""
    told = str(make("uda_weak_start", 2000, kept_share=None, prefill_rows=0).warning())
    assert told.startswith("objective.memory_rows=512 is fewer than 8 for each of the 2000 classes: alignment makes")
    assert make("uda_weak_start", 64).warning() is None
    assert "classes: alignment" in str(make("uda_weak_start", 65).warning())
    assert make("uda_weak_start", 65, alignment="none").warning() is None
    answers = F.log_softmax(10.0 * torch.eye(2000)[:512], dim=-1)
    assert answers.exp().amax(dim=1).mean() > 0.9
    assert F.softmax(answers + balancing_bias(answers), dim=-1).amax(dim=1).mean() < 512 / 2000


def test_fairness_teaches_without_the_coefficient(make) -> None:
    assert make("freematch", coefficient=0.0, fairness=0.001).warning() is None
    assert "coefficient=0 lets" in str(make("freematch", coefficient=0.0, fairness=0.0).warning())


def test_a_threshold_of_zero_masks_nothing_on_purpose(make) -> None:
    assert not make("fixmatch", threshold=0).masks_rows
    assert make("fixmatch", threshold=0.5).masks_rows
    assert make("uda", threshold=0).masks_rows
    assert not make("uda", threshold=-1).masks_rows


@pytest.mark.parametrize("name", ["softmatch", "adamatch"])
def test_a_class_that_no_answer_has_leaves_finite_numbers(make, name: str) -> None:
    """In a run of fewer steps than the horizon the mean is that of the step alone, 0 for such a class."""
    weak = torch.tensor([[200.0, 0, 0, 0], [190, 0, 1, 0]])
    objective = make(name).float()
    pseudo = objective.pseudo_label(weak, torch.arange(2), Context(0.5, num_steps=50), torch.zeros(2, K))
    assert torch.isfinite(pseudo.weight).all()
    assert torch.isfinite(pseudo.probs).all()
