"""`alignment: labeled`: the teacher's answers get the class shares of the labelled rows seen so far."""

import numpy as np
import pytest
import torch

from uda.objectives.base import Context
from uda.objectives.teacher_memory import balancing_bias


def test_the_bias_gives_the_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.log_softmax(
        torch.randn(200, 3, generator=generator, dtype=torch.float64) + torch.tensor([2.0, 0, 0]), 1
    )
    shares = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    aligned = torch.softmax(log_probs + balancing_bias(log_probs, shares=shares), dim=1)
    np.testing.assert_allclose(aligned.mean(dim=0), shares, atol=1e-6)


def test_the_shares_are_those_of_the_labels_seen_with_one_row_a_class(make_uda) -> None:
    """Seen: 0, 0, 0, 1, then 0: counts 5, 2 and 1 with one a class, so the shares are 5/8, 2/8 and 1/8."""
    objective = make_uda(3, alignment="labeled", temperature=None)
    context = Context(progress=0.5)
    for labels in ([0, 0, 0, 1], [0], []):
        labels = torch.tensor(labels, dtype=torch.long)
        none = objective.pseudo_label(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), context)
        objective.loss(torch.zeros(len(labels), 3), labels, torch.zeros(0, 3), none, context)
    assert objective.label_counts.tolist() == [5, 2, 1]
    weak = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    pseudo = objective.pseudo_label(weak, torch.arange(64), context)
    np.testing.assert_allclose(pseudo.probs.mean(dim=0), [5 / 8, 2 / 8, 1 / 8], atol=1e-5)


def test_the_counts_are_state_only_where_they_are_used(make_uda) -> None:
    assert "label_counts" in make_uda(3, alignment="labeled").state_dict()
    assert "label_counts" not in make_uda(3, alignment="uniform").state_dict()


@pytest.mark.parametrize("alignment", ["none", "uniform"])
def test_other_alignments_do_not_look_at_labels(make_uda, alignment: str) -> None:
    objective = make_uda(2, alignment=alignment)
    context = Context(progress=0.5)
    none = objective.pseudo_label(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), context)
    objective.loss(torch.zeros(2, 2), torch.tensor([0, 0]), torch.zeros(0, 2), none, context)
    assert objective.label_counts is None
