import numpy as np
import pytest
import torch
from scipy.optimize import root

from uda.objectives.teacher_memory import MIN_ROWS_PER_CLASS, TeacherMemory, balancing_bias, class_quantiles


def sorted_rows(rows: torch.Tensor) -> list[list[float]]:
    return sorted(rows.tolist())


@pytest.mark.parametrize(
    "sizes", [[3], [5], [12], [3, 2, 1], [3, 4], [5, 5, 1], [4, 12, 2, 2], [0, 2, 0, 4], [1] * 13], ids=str
)
def test_memory_holds_the_last_rows(sizes: list[int]) -> None:
    memory = TeacherMemory(5, 2)
    rows = torch.arange(2.0 * sum(sizes)).view(-1, 2) - 100
    end = 0
    for size in sizes:
        memory.push(rows[end : end + size])
        end += size
        assert sorted_rows(memory.rows()) == rows[max(end - 5, 0) : end].tolist()


def test_memory_goes_on_from_a_saved_state() -> None:
    memory, restored = TeacherMemory(5, 2), TeacherMemory(5, 2)
    memory.push(torch.randn(7, 2))
    restored.load_state_dict({name: value.clone() for name, value in memory.state_dict().items()})
    for _ in range(4):
        rows = torch.randn(2, 2)
        memory.push(rows)
        restored.push(rows)
        assert torch.equal(memory.rows(), restored.rows())


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num_classes", [2, 5, 30])
def test_balancing_bias_gives_equal_shares(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(64, num_classes)) + 3 * (np.arange(num_classes) == 0)  # class 0 is far ahead
    log_probs = torch.log_softmax(torch.from_numpy(logits), dim=1)
    assert log_probs.exp().mean(dim=0)[0] > 1.5 / num_classes
    bias = balancing_bias(log_probs).numpy()
    assert softmax(logits + bias).mean(axis=0) == pytest.approx(1 / num_classes, abs=1e-6)

    # A bias is unique up to a constant. Another solver, with the bias of class 0 held at 0:
    def off_balance(others: np.ndarray) -> np.ndarray:
        return (softmax(logits + np.append(0, others)).mean(axis=0) - 1 / num_classes)[1:]

    expected = root(off_balance, np.zeros(num_classes - 1)).x
    assert bias[1:] - bias[0] == pytest.approx(expected, abs=1e-4)


def test_one_round_is_distribution_alignment() -> None:
    """Means 3/4 and 1/4: after one round the answer (1/2, 1/2) is (2/3, 2) / (8/3) = (1/4, 3/4)."""
    log_probs = torch.tensor([[1.0 - 1e-15, 1e-15], [0.5, 0.5]], dtype=torch.float64).log()
    aligned = torch.softmax(log_probs + balancing_bias(log_probs, max_rounds=1), dim=1)
    assert aligned[1].tolist() == pytest.approx([0.25, 0.75], abs=1e-12)


def test_very_sure_answers_come_near_equal_shares() -> None:
    """51 : 49 at margins of 8: one round stays at 0.51, a hundred reach 0.5051."""
    margins = torch.cat([torch.full((261,), 8.0), torch.full((251,), -8.0)]).double()
    log_probs = torch.log_softmax(torch.stack([margins, torch.zeros(512).double()], dim=1), dim=1)
    share = torch.softmax(log_probs + balancing_bias(log_probs), dim=1).mean(dim=0)[0]
    assert share.item() == pytest.approx(0.5051, abs=1e-4)


def test_balanced_answers_stay() -> None:
    log_probs = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64).log()
    assert balancing_bias(log_probs).tolist() == pytest.approx([0, 0], abs=1e-12)


def make_probs(counts: list[int]) -> np.ndarray:
    """Rows of which counts[k] are predicted as class k, in a mixed order; class k is surer the larger k is."""
    rng = np.random.default_rng(0)
    predicted = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    confidence = 0.6 + 0.1 * predicted + 0.1 * rng.random(len(predicted))
    probs = np.repeat((1 - confidence)[:, None] / (len(counts) - 1), len(counts), axis=1)
    probs[np.arange(len(predicted)), predicted] = confidence
    return probs


@pytest.mark.parametrize("quantile", [0, 0.3, 0.5, 1])
def test_class_quantiles_against_numpy(quantile: float) -> None:
    counts = [MIN_ROWS_PER_CLASS, MIN_ROWS_PER_CLASS - 1, 20, 0]  # enough, too few, enough, none
    probs = make_probs(counts)
    confidence, predicted = probs.max(axis=1), probs.argmax(axis=1)
    expected = [
        np.quantile(confidence[predicted == label] if count >= 8 else confidence, quantile)
        for label, count in enumerate(counts)
    ]
    assert MIN_ROWS_PER_CLASS == 8
    assert class_quantiles(torch.from_numpy(probs), quantile).tolist() == pytest.approx(expected, rel=1e-12)
