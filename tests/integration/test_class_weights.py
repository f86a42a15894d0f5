"""Class weights and unbalanced draws of whole runs: what reaches the loss, what is warned of and refused."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import uda.train
from uda.config import compose
from uda.errors import UserError
from uda.objectives.base import Objective
from uda.objectives.uda import UDA


@pytest.fixture
def train(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`train(counts, overrides…)`: a run on so many labelled rows of neg and pos; gives the weights its loss saw."""
    seen = []
    loss = UDA.loss

    def spy(self: Objective, *arguments: Any) -> Any:
        seen.append(self.class_weights)
        return loss(self, *arguments)

    def train(counts: tuple[int, int], *overrides: str) -> torch.Tensor | None:
        seen.clear()
        words = [("neg", "awful")] * counts[0] + [("pos", "great")] * counts[1]
        rows = [{"text": f"the film {number} was {word}", "label": label} for number, (label, word) in enumerate(words)]
        pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
        changes = (
            "train.num_steps=4",
            "train.eval_every=null",
            "train.overwrite=true",
            f"hydra.run.dir={tmp_path}/run",
        )
        another = any(override.startswith("objective=") for override in overrides)  # which may lack the keys of UDA
        kept = [item for item in tiny if not (another and item.startswith("objective."))]
        uda.train.run(compose("train", [*kept, *changes, *overrides]))
        return seen[-1] if seen else None

    monkeypatch.setattr(UDA, "loss", spy)
    return train


def test_balanced_weights_by_hand(train: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """9 and 3 rows: 12 / (2 * 9) = 2/3 and 12 / (2 * 3) = 2."""
    caplog.set_level(logging.INFO)
    weights = train((9, 3), "data.num_labeled=null", "train.class_weights=balanced")
    assert weights.tolist() == pytest.approx([2 / 3, 2])
    assert "class weights: neg 0.667, pos 2" in caplog.text


def test_balanced_weights_are_of_the_rows_that_are_drawn(train: Callable[..., Any]) -> None:
    """8 rows that follow 9 and 3 are 6 and 2: 8 / 12 and 8 / 4."""
    weights = train((9, 3), "data.num_labeled=8", "data.balanced=false", "train.class_weights=balanced")
    assert weights.tolist() == pytest.approx([2 / 3, 2])
    assert weights.dtype == torch.float32


def test_weights_by_label(train: Callable[..., Any]) -> None:
    assert train((4, 4), "train.class_weights={pos: 2.5, neg: 1}").tolist() == [1.0, 2.5]


def test_weights_without_effect_are_warned_of(train: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    assert train((4, 4), "train.class_weights=balanced") is None
    assert "train.class_weights=balanced has no effect: all classes weigh the same" in caplog.text


def test_weights_of_other_labels_are_refused(train: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        train((4, 4), "train.class_weights={neg: 1, good: 2}")
    assert str(caught.value) == (
        "train.class_weights: expected a weight for each of the 2 labels, found none for 'pos' and some for 'good', no "
        "label. Give one for each, or balanced, or null."
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_uniform_alignment_of_unbalanced_rows_is_warned_of(
    train: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    warning = (
        "objective.alignment=uniform brings the teacher's answers to equal class shares, but 2 of 'pos' and 6 of 'neg' "
        "are labelled; where the unlabelled rows are as unbalanced, set objective.alignment=none"
    )
    train((9, 3), "data.num_labeled=8", "data.balanced=false")
    assert warning in caplog.text
    caplog.clear()
    train((9, 3), "data.num_labeled=8", "data.balanced=false", "objective.alignment=none")
    assert "equal class shares" not in caplog.text
    train((9, 3), "data.num_labeled=8", "data.balanced=false", "objective=softmatch")
    assert "SoftMatch brings the teacher's answers to equal class shares, but 2 of 'pos' and 6 of" in caplog.text
    assert "as unbalanced, choose one that need not, such as objective=freematch" in caplog.text
    caplog.clear()
    train((4, 3), "data.num_labeled=null")
    assert "objective.alignment" not in caplog.text


def test_a_ramp_that_ends_with_the_steps_on_labelled_rows_alone_is_told(
    train: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Of 4 steps 2 are on labelled rows alone: a ramp over half of the run is over, one over 0.6 is not."""
    changes = ("objective.supervised_steps=2", "objective.coefficient_ramp=0.5")
    train((4, 4), *changes)
    warning = (
        "objective.coefficient_ramp=0.5 has no effect: it counts from the first step, and 2 of the 4 steps are on "
    )
    assert warning in caplog.text
    caplog.clear()
    train((4, 4), *changes[:1], "objective.coefficient_ramp=0.6")
    assert "coefficient_ramp" not in caplog.text
