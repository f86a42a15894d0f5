"""One step: masked rows cost nothing, micro-batches change nothing, the teacher is what it should be."""

import copy
import traceback

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import BertConfig, BertForSequenceClassification

import uda.train
from uda.config import compose
from uda.data.batches import Batch, Tokens, pad_rows
from uda.engine.attention import fastest_kernels
from uda.engine.model import enable_gradient_checkpointing, load_classifier, logits_of
from uda.engine.process import Process
from uda.engine.settings import ModelSettings, Pooling, Precision
from uda.engine.step import Models, StepOutcome, length_blocks, logits_by_length, run_step
from uda.objectives import teacher_memory
from uda.objectives.base import Context, Loss, Objective, PseudoLabels
from uda.objectives.uda import UDA


@pytest.fixture(scope="module")
def student(tiny_bert):
    """The tiny BERT with a pooled head, dropout off, in float64."""
    torch.manual_seed(0)
    settings = ModelSettings(str(tiny_bert), pooling=Pooling.mean, dropout=0.0, attention_dropout=0.0)
    return load_classifier(str(tiny_bert), settings, ["neg", "pos"]).double()


@pytest.fixture(scope="module")
def process() -> Process:
    return Process.start(Precision.fp32)


def make_batch(num_unlabeled: int = 6) -> Batch:
    rng = np.random.default_rng(0)

    def rows(number: int) -> Tokens:
        return pad_rows([rng.integers(5, 20, size=rng.integers(3, 9)) for _ in range(number)], 0)

    labels = torch.tensor([0, 1, 1])
    return Batch(rows(3), labels, rows(num_unlabeled), rows(num_unlabeled), torch.arange(num_unlabeled))


def make_objective(**changes) -> UDA:
    settings = {
        "temperature": 0.5,
        "tempering": "target",
        "targets": "soft",
        "threshold": -1,
        "normalizer": "all",
        "coefficient": 1.0,
        "coefficient_ramp": 0.0,
        "tsa": "none",
        "supervised_steps": 0,
        "teacher_decay": 0.0,
        "alignment": "none",
        "kept_share": None,
        "kept_share_end": None,
        "memory_rows": 8,
        "prefill_rows": 0,
    }
    return UDA(2, 6, **{**settings, **changes}).double()


class KeepSome(UDA):
    """UDA whose mask is given: the rows of `kept`."""

    kept = (0, 2, 5)

    def pseudo_label(self, weak, index, context, labeled=None) -> PseudoLabels:
        pseudo = super().pseudo_label(weak, index, context, labeled)
        weight = torch.zeros_like(pseudo.weight)
        weight[list(self.kept)] = 1.0
        return PseudoLabels(pseudo.probs, weight, pseudo.normalizer)


def keep_some(*kept: int) -> UDA:
    objective = make_objective()
    objective.__class__ = type("Kept", (KeepSome,), {"kept": kept})
    return objective


def models_of(student, teacher=None) -> Models:
    return Models(student, teacher, student, teacher or student, 0, None, None)


def left_gradients(student) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in student.named_parameters() if each.grad is not None}


def gradients(student, objective, batch, process, micro_batch_size=None) -> dict[str, Tensor]:
    models = models_of(student)
    student.zero_grad()
    run_step(models, objective, batch, Context(0.5), process, micro_batch_size)
    return {
        name: parameter.grad.clone() for name, parameter in student.named_parameters() if parameter.grad is not None
    }


def dense_gradients(student, batch: Batch, kept: tuple[int, ...]) -> dict[str, Tensor]:
    """Three full passes, each row's divergence times its mask, the mean over all rows: written out."""

    def logits(tokens: Tokens) -> Tensor:
        return student(input_ids=tokens.ids, attention_mask=tokens.mask).logits

    student.zero_grad()
    student.train()
    target = F.softmax(logits(batch.weak).detach() / 0.5, dim=-1)
    divergence = (target * (target.log() - F.log_softmax(logits(batch.strong), dim=-1))).sum(dim=-1)
    mask = torch.zeros(len(batch.index), dtype=torch.float64)
    mask[list(kept)] = 1
    loss = F.cross_entropy(logits(batch.labeled), batch.labels) + (mask * divergence).mean()
    loss.backward()
    return {
        name: parameter.grad.clone() for name, parameter in student.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("kept", [(), (3,), (0, 2, 5), (0, 1, 2, 3, 4, 5)])
def test_leaving_masked_rows_out_gives_the_dense_gradient(student, process, kept) -> None:
    batch = make_batch()
    ours, dense = gradients(student, keep_some(*kept), batch, process), dense_gradients(student, batch, kept)
    assert ours.keys() == dense.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], dense[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("micro_batch_size", [3, 4, 5, 100])
@pytest.mark.parametrize("kept", [(), (0, 2, 5), (0, 1, 2, 3, 4, 5)])
def test_micro_batches_give_the_gradient_of_the_whole(student, process, micro_batch_size, kept) -> None:
    batch, objective = make_batch(), keep_some(*kept)
    whole = gradients(student, objective, batch, process)
    split = gradients(student, objective, batch, process, micro_batch_size)
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-9, atol=1e-12)


def test_masked_rows_never_reach_the_student(student, process) -> None:
    sizes = []

    def spy(module, args, kwargs):
        sizes.append((module.training, torch.is_grad_enabled(), len(kwargs["input_ids"])))

    handle = student.register_forward_pre_hook(spy, with_kwargs=True)
    try:
        gradients(student, keep_some(1, 4), make_batch(), process)
        gradients(student, keep_some(), make_batch(), process)
    finally:
        handle.remove()
    assert sizes == [(True, False, 6), (True, True, 3 + 2), (True, False, 6), (True, True, 3)]


def test_an_ema_teacher_answers_in_eval_mode_and_moves_by_its_decay(student, process) -> None:
    teacher = copy.deepcopy(student).eval()
    models = models_of(student, teacher)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in teacher.parameters()]
    models.update_teacher(0.9)
    for old, new, current in zip(before, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * current)
    models.start_teacher()
    for new, current in zip(teacher.parameters(), student.parameters(), strict=True):
        assert torch.equal(new, current)
    modes = []
    handle = teacher.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    run_step(models, make_objective(), make_batch(), Context(0.0), process, None)
    handle.remove()
    assert modes == [False]


def test_counts_of_a_step(student, process) -> None:
    outcome = run_step(models_of(student), keep_some(1, 4), make_batch(), Context(0.0), process, None)
    rows, kept, confidence, agree, *mix = outcome.counts.tolist()
    assert (rows, kept) == (6, 2)
    assert 3 <= confidence <= 6  # six confidences of at least 1/2
    assert agree <= kept == sum(mix)
    batch = make_batch()
    student_tokens = int(batch.labeled.mask.sum() + batch.strong.mask[[1, 4]].sum())
    assert outcome.num_tokens == int(batch.weak.mask.sum()) + student_tokens


class NeedsLabeled(Objective):
    """Wants the labelled rows in the teacher pass and the original text for the student."""

    teacher_rows = "all"
    student_view = "weak"

    def pseudo_label(self, weak, index, context, labeled=None) -> PseudoLabels:
        self.seen = (weak, labeled)
        return PseudoLabels(weak.softmax(-1), torch.ones(len(weak), dtype=weak.dtype), weak.new_tensor(1.0))

    def loss(self, labeled, labels, unlabeled, pseudo, context) -> Loss:
        self.student_saw = unlabeled.detach()
        return Loss(labeled.sum() + unlabeled.sum())


def test_teacher_rows_and_student_view(student, process) -> None:
    """With dropout off teacher and student agree on the original texts, and on the labelled ones."""
    batch, objective = make_batch(), NeedsLabeled(2, 6, supervised_steps=0, teacher_decay=0.0, prefill_rows=0)
    run_step(models_of(student), objective, batch, Context(0.0), process, None)
    with torch.no_grad():
        labeled = student(input_ids=batch.labeled.ids, attention_mask=batch.labeled.mask).logits
    torch.testing.assert_close(objective.seen[1], labeled)
    torch.testing.assert_close(objective.student_saw, objective.seen[0])


@pytest.mark.parametrize("micro_batch_size", [3, 4])
def test_micro_batches_of_weighted_classes_give_the_gradient_of_the_whole(student, process, micro_batch_size) -> None:
    batch, objective, plain = make_batch(), keep_some(0, 2, 5), keep_some(0, 2, 5)
    objective.weigh_classes([1.0, 4.0])
    whole = gradients(student, objective, batch, process)
    split = gradients(student, objective, batch, process, micro_batch_size)
    equal = gradients(student, plain, batch, process)
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(whole["classifier.weight"], equal["classifier.weight"])


@pytest.mark.parametrize(
    ("lengths", "blocks"),
    [
        ([5], [[0]]),
        ([], [[]]),
        ([128, 128, 127], [[0, 1, 2]]),  # a second pass costs more than a slot of padding
        ([1000, 10, 990, 12], [[0, 2], [3, 1]]),  # 2000 + 24 slots and two passes, against 4000 and one
        ([400, 10], [[0], [1]]),  # 410 + 2 * 256 = 922, against 800 + 256 = 1056
        ([250, 10], [[0, 1]]),  # 260 + 2 * 256 = 772, against 500 + 256 = 756
        ([266, 10], [[0, 1]]),  # 276 + 2 * 256 = 788, against 532 + 256 = 788: equal, so one
        ([267, 10], [[0], [1]]),  # 277 + 2 * 256 = 789, against 534 + 256 = 790
    ],
)
def test_blocks_by_hand(lengths: list[int], blocks: list[list[int]]) -> None:
    assert length_blocks(lengths, 256) == blocks


def test_no_other_blocks_are_cheaper() -> None:
    """All ways to cut the sorted rows, by brute force."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        lengths = rng.integers(4, 900, size=8).tolist()
        ordered = sorted(lengths, reverse=True)
        costs = []
        for cuts in range(2**7):
            starts = [0, *[place + 1 for place in range(7) if cuts >> place & 1]]
            ends = [*starts[1:], 8]
            costs.append(sum((e - s) * ordered[s] + 256 for s, e in zip(starts, ends, strict=True)))
        blocks = length_blocks(lengths, 256)
        assert sum(len(rows) * max(lengths[row] for row in rows) + 256 for rows in blocks) == min(costs)
        assert sorted(row for rows in blocks for row in rows) == list(range(8))


def test_passes_by_length_give_the_logits_and_gradients_of_one_pass() -> None:
    """Dropout off: rows of 400 and of 8 tokens, in mixed order, together and apart."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    model = BertForSequenceClassification(config).eval()
    rng = np.random.default_rng(1)
    tokens = pad_rows([rng.integers(5, 50, size=size) for size in (8, 400, 9, 390, 7)], pad_id=0)
    outcome = StepOutcome()
    models = Models(
        model, None, model, model, 0, fastest_kernels(model, torch.device("cpu"), False), compiled_length=None
    )
    apart = logits_by_length(models, model, tokens, outcome)
    assert outcome.num_tokens == 8 + 400 + 9 + 390 + 7
    assert outcome.num_slots == 2 * 400 + 3 * 9
    apart.pow(2).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    together = logits_of(model, tokens)
    together.pow(2).sum().backward()
    torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-6)
    for mine, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)


WAITS = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "cpu", "numpy", "nonzero", "bincount"}
WAITS |= {"unique", "masked_select"}


class HostWaits(TorchFunctionMode):
    """Notes each call at which the host would wait for a GPU: values read, sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        by_mask = name == "__getitem__" and any(
            isinstance(part, Tensor) and part.dtype == torch.bool
            for part in (args[1] if isinstance(args[1], tuple) else (args[1],))
        )
        by_transformers = any("/transformers/" in frame.filename for frame in traceback.extract_stack(limit=4))
        if (name in WAITS or by_mask) and not by_transformers:
            self.seen.append(f"{name} by mask" if by_mask else name)
        return func(*args, **(kwargs or {}))


def test_the_double_sees_what_it_should() -> None:
    values = torch.tensor([1.0, 0.0])
    with HostWaits() as waits:
        float(values[0])
        if values.sum() > 0:
            values[values > 0].tolist()
        torch.nonzero(values)
    assert waits.seen == ["__float__", "__bool__", "__getitem__ by mask", "tolist", "nonzero"]


@pytest.mark.parametrize("memory", [{}, {"alignment": "uniform", "kept_share": 0.5}])
def test_the_host_waits_once_a_step(student, process, memory, monkeypatch) -> None:
    """For the numbers of the rows that are kept, without which masked rows could not be left out.

    On a CPU a memory is asked whether it has converged, which a GPU is not. transformers waits for whether any slot is
    padding.
    """
    monkeypatch.setattr(teacher_memory, "_asking_is_cheap", lambda tensor: False)
    models, objective = models_of(student), make_objective(**memory)
    run_step(models, objective, make_batch(), Context(0.5), process, None)
    with HostWaits() as waits:
        run_step(models, objective, make_batch(), Context(0.5), process, None)
    assert waits.seen == ["nonzero", "tolist"]


@pytest.mark.slow
def test_compiled_passes_of_few_shapes_give_the_same_gradients(student, process) -> None:
    """Dropout off: rows and lengths padded to multiples, logits cut to the rows that are meant."""
    shapes = []

    def backend(graph, inputs):
        shapes.append([tuple(each.shape) for each in inputs if each.dtype == torch.int64 and each.ndim == 2])
        return graph.forward

    plain = gradients(student, keep_some(0, 2, 5), make_batch(), process)
    made = torch.compile(student, backend=backend, dynamic=False)
    models = Models(student, None, made, made, 0, None, compiled_length=64)
    student.zero_grad()
    outcome = run_step(models, keep_some(0, 2, 5), make_batch(), Context(0.5), process, None)
    assert {shape for found in shapes for shape in found} >= {(8, 64)}
    assert outcome.num_slots == 2 * 8 * 64  # six rows of the teacher's, six of the student's
    for name, gradient in left_gradients(student).items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-9, atol=1e-12)
    torch._dynamo.reset()


def test_layers_computed_twice_give_the_same_gradients_with_dropout_and_keep_less(tiny_bert, process) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(str(tiny_bert), pooling=Pooling.mean, dropout=0.3)
    model = load_classifier(str(tiny_bert), settings, ["neg", "pos"])
    kept = {False: 0, True: 0}
    found = {}
    for again in (False, True):
        if again:
            enable_gradient_checkpointing(model)
        torch.manual_seed(1)

        def note(tensor: Tensor, again: bool = again) -> Tensor:
            kept[again] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            found[again] = gradients(model, keep_some(1, 2).float(), make_batch(), process)
    assert kept[True] < 0.7 * kept[False]
    for name, gradient in found[True].items():
        torch.testing.assert_close(gradient, found[False][name], rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_a_run_with_torchs_own_compiler_learns_the_same(tiny, tmp_path) -> None:
    """Dropout off, 6 steps; evaluations are not compiled."""
    plain = [*tiny, "train.num_steps=6", "model.dropout=0", "model.attention_dropout=0", "train.precision=fp32"]
    weights = []
    for name, more in (("plain", []), ("compiled", ["train.compile=inductor", "train.gradient_checkpointing=true"])):
        folder = tmp_path / name
        uda.train.run(compose("train", [*plain, *more, f"hydra.run.dir={folder}"]))
        weights.append(load_file(folder / "model" / "model.safetensors"))
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5)
