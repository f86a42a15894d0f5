import numpy as np
import pytest
import torch

from uda.objectives.teacher_memory import MIN_ROWS_PER_CLASS, TeacherMemory, alignment_bias, class_quantiles


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


@pytest.mark.parametrize("num_classes", [2, 5, 100])
def test_alignment_divides_by_the_mean_answer(num_classes: int) -> None:
    """softmax(log q + bias) = q / mean(q), renormalised, against numpy."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(64, num_classes)) + 3 * (np.arange(num_classes) == 0)  # class 0 is far ahead
    log_probs = torch.log_softmax(torch.from_numpy(logits), dim=1)
    aligned = torch.softmax(log_probs + alignment_bias(log_probs), dim=1).numpy()
    quotient = softmax(logits) / softmax(logits).mean(axis=0)
    assert aligned == pytest.approx(quotient / quotient.sum(axis=1, keepdims=True), rel=1e-10)
    off = abs(softmax(logits).mean(axis=0)[0] - 1 / num_classes)
    assert abs(aligned.mean(axis=0)[0] - 1 / num_classes) < 0.6 * off  # nearer to equal shares, not there


def test_alignment_by_hand() -> None:
    """Means 3/4 and 1/4: the answer (1/2, 1/2) becomes (2/3, 2) / (8/3) = (1/4, 3/4)."""
    log_probs = torch.tensor([[1.0 - 1e-15, 1e-15], [0.5, 0.5]], dtype=torch.float64).log()
    aligned = torch.softmax(log_probs + alignment_bias(log_probs), dim=1)
    assert aligned[1].tolist() == pytest.approx([0.25, 0.75], abs=1e-12)


def test_balanced_answers_stay() -> None:
    log_probs = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64).log()
    assert torch.softmax(log_probs + alignment_bias(log_probs), dim=1).tolist() == [
        pytest.approx([0.9, 0.1]),
        pytest.approx([0.1, 0.9]),
    ]


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
