"""What a weak start needs: alignment and the kept share, over several steps, against numpy in float64."""

import numpy as np
import pytest
import torch
from scipy.optimize import root

from uda.objectives.base import Context

NUM_ROWS = 24  # a step
MEMORY_ROWS = 60
TEMPERATURE = 0.4


def make_answers(num_classes: int, num_steps: int, seed: int = 0) -> torch.Tensor:
    """A teacher's logits [steps, rows, K] that lean towards class 0."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num_steps, NUM_ROWS, num_classes)) + 1.5 * (np.arange(num_classes) == 0)
    return torch.from_numpy(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def reference(answers: np.ndarray, alignment: str, kept_share: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Targets and weights of the last of the steps [steps, rows, K]."""
    num_classes = answers.shape[-1]
    memory = answers.reshape(-1, num_classes)[-MEMORY_ROWS:]
    if alignment == "uniform":

        def off_balance(bias: np.ndarray) -> np.ndarray:
            return (softmax(memory + np.append(0, bias)).mean(axis=0) - 1 / num_classes)[1:]

        memory = memory + np.append(0, root(off_balance, np.zeros(num_classes - 1)).x)
    targets = softmax(memory[-NUM_ROWS:] / TEMPERATURE)
    if kept_share is None:
        return targets, np.ones(NUM_ROWS)
    probs = softmax(memory)
    confidence, predicted = probs.max(axis=1), probs.argmax(axis=1)
    thresholds = np.full(num_classes, np.quantile(confidence, 1 - kept_share))
    for label in range(num_classes):
        if np.sum(predicted == label) >= 8:
            thresholds[label] = np.quantile(confidence[predicted == label], 1 - kept_share)
    return targets, (confidence >= thresholds[predicted])[-NUM_ROWS:].astype(float)


@pytest.fixture
def make_objective(make_uda):
    def make(num_classes: int, alignment: str = "uniform", kept_share: float | None = 0.5, **options):
        options = {"memory_rows": MEMORY_ROWS, "temperature": TEMPERATURE, "normalizer": "kept", **options}
        return make_uda(num_classes, alignment=alignment, kept_share=kept_share, **options)

    return make


def label(objective, weak: torch.Tensor, context: Context | None = None):
    return objective.pseudo_label(weak, torch.arange(len(weak)), context or Context(0.5))


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize(("alignment", "share"), [("uniform", 0.5), ("uniform", None), ("none", 0.5), ("none", 0.2)])
def test_pseudo_labels_against_numpy(make_objective, num_classes: int, alignment: str, share: float | None) -> None:
    answers = make_answers(num_classes, num_steps=8)
    objective = make_objective(num_classes, alignment, share)
    for step in range(len(answers)):
        pseudo = label(objective, answers[step])
        targets, weight = reference(answers[: step + 1].numpy(), alignment, share)
        assert pseudo.probs.numpy() == pytest.approx(targets, rel=0, abs=2e-6)
        assert pseudo.weight.tolist() == weight.tolist()
        assert pseudo.normalizer.item() == weight.sum()
        # A saved and restored objective goes on as if nothing had happened.
        restored = make_objective(num_classes, alignment, share)
        restored.load_state_dict(objective.state_dict())
        objective = restored


@pytest.mark.parametrize("num_classes", [2, 5])
def test_the_surer_half_of_balanced_classes_is_kept(make_objective, num_classes: int) -> None:
    objective = make_objective(num_classes, memory_rows=240)
    labels = [label(objective, weak) for weak in make_answers(num_classes, num_steps=25)]
    probs, weight = (torch.cat([getattr(pseudo, name) for pseudo in labels[10:]]) for name in ("probs", "weight"))
    predicted = probs.argmax(dim=1)
    assert weight.mean().item() == pytest.approx(0.5, abs=0.05)
    before = make_answers(num_classes, num_steps=25)[10:].argmax(dim=-1)
    assert (before == 0).double().mean().item() > 1 / num_classes + 0.15  # leaning towards class 0
    assert (predicted == 0).double().mean().item() == pytest.approx(1 / num_classes, abs=0.1)
    for k in range(num_classes):  # of each class half, whatever its share
        assert weight[predicted == k].mean().item() == pytest.approx(0.5, abs=0.1)
    confidence = probs.max(dim=1).values
    assert confidence[weight > 0].mean() > confidence[weight == 0].mean() + 0.1


def test_a_kept_share_of_one_keeps_every_row(make_objective) -> None:
    objective = make_objective(5, kept_share=1.0)
    assert all(label(objective, weak).weight.all() for weak in make_answers(5, num_steps=5))


def test_a_row_must_pass_the_threshold_and_the_kept_share(make_objective) -> None:
    weak = make_answers(2, num_steps=1)[0]
    confidence = torch.softmax(weak, dim=1).amax(dim=1)
    in_the_share = label(make_objective(2, "none"), weak).weight > 0
    both = label(make_objective(2, "none", threshold=0.9), weak).weight > 0
    assert both.tolist() == (in_the_share & (confidence > 0.9)).tolist()
    assert 0 < both.sum() < in_the_share.sum()


def test_without_the_options_there_is_no_state(make_uda) -> None:
    assert make_uda(2).state_dict() == {}


@pytest.mark.parametrize("num_classes", [2, 5])
def test_two_processes_remember_and_keep_what_one_does(make_objective, on_two_ranks, num_classes: int) -> None:
    answers = make_answers(num_classes, num_steps=4)
    alone, ranks = make_objective(num_classes), [make_objective(num_classes) for _ in range(2)]
    for weak in answers:
        halves = weak.split(NUM_ROWS // 2)
        shares = on_two_ranks(lambda rank, context, halves=halves: label(ranks[rank], halves[rank], context), 0.5)
        whole = label(alone, weak)
        torch.testing.assert_close(torch.cat([share.probs for share in shares]), whole.probs, rtol=0, atol=1e-10)
        assert torch.equal(torch.cat([share.weight for share in shares]), whole.weight)
        assert [share.normalizer for share in shares] == [whole.normalizer] * 2
        assert torch.equal(ranks[0].memory.rows(), ranks[1].memory.rows())
