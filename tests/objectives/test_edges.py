"""Edges where an objective must neither round a row over a bound, nor take a value that means nothing."""

import math

import pytest
import torch

from uda.errors import UserError
from uda.objectives.base import Context
from uda.objectives.functional import annealed_cross_entropy, kl_divergence, tsa_threshold

LN3 = math.log(3)


def label(objective, weak):
    return objective.pseudo_label(weak, torch.arange(len(weak)), Context(0))


def test_threshold_sees_the_aligned_answer(make_uda) -> None:
    """Docstring of UDA.alignment: 'targets and mask see the teacher's answers under the class bias'; so the recipe."""
    weak = torch.tensor([[3.0, 0], [3.1, 0], [5, 0], [0, 0]], dtype=torch.float64)
    pseudo = label(make_uda(2, alignment="uniform", threshold=0.8, temperature=None), weak)
    aligned_confidence = pseudo.probs.amax(dim=1)  # T is off: probs are the aligned answers: .53 .55 .90 .96
    assert pseudo.weight.tolist() == (aligned_confidence > 0.8).double().tolist()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_uniform_answers_are_on_eta_at_the_start(dtype) -> None:
    dropped = []
    for num_classes in range(2, 101):
        logits = torch.zeros(1, num_classes, dtype=dtype)
        eta = tsa_threshold(0, "linear", num_classes)
        _, metrics = annealed_cross_entropy(logits, torch.tensor([0]), eta, Context(0))
        if metrics["tsa/kept_share"] == 0:
            dropped.append(num_classes)
    assert dropped == []


def test_three_quarters_is_not_above_three_quarters(make_uda) -> None:
    weak = torch.tensor([[LN3, 0]], dtype=torch.float64)
    assert torch.softmax(weak, dim=1)[0, 0] == 0.75
    assert label(make_uda(2, threshold=0.75), weak).weight.tolist() == [0]


@pytest.mark.parametrize(
    "option",
    [
        {"memory_rows": 1.5, "kept_share": 0.5},
        {"memory_rows": 512.0, "kept_share": 0.5},
        {"prefill_rows": 1.5},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"coefficient": math.inf},
        {"kept_share": 0},
        {"teacher_decay": 1},
        {"prefill_rows": 192},  # neither alignment nor kept_share: no effect
        {"prefill_rows": 192, "memory_rows": 64, "kept_share": 0.5},  # two thirds are forgotten at once
    ],
    ids=str,
)
def test_refused(make_uda, option) -> None:
    with pytest.raises(UserError):
        make_uda(2, **option)


def test_whole_numbers(make_uda) -> None:
    with pytest.raises(UserError):
        make_uda(2.5)


def test_message_has_no_double_space(make_uda) -> None:
    with pytest.raises(UserError) as caught:
        make_uda(2, temperature="hot")
    assert "  " not in str(caught.value)


def test_targets_and_memory_carry_no_gradient(make_uda) -> None:
    weak = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    objective = make_uda(2, kept_share=0.5)
    assert not label(objective, weak).probs.requires_grad
    assert not objective.memory.log_probs.requires_grad
    label(objective, weak)


def test_a_class_of_target_probability_zero_adds_nothing() -> None:
    target, log_prediction = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, -math.inf]])
    assert kl_divergence(target, log_prediction).tolist() == [0]


def test_nan_answers_are_not_masked_in_silence(make_uda) -> None:
    weak = torch.tensor([[math.nan, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert label(make_uda(2), weak).weight.tolist() == [1, 1]  # threshold -1 masks none


def test_no_rows_with_a_memory(make_uda) -> None:
    assert len(label(make_uda(2, alignment="uniform"), torch.zeros(0, 2, dtype=torch.float64)).probs) == 0
