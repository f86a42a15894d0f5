"""The collapse guard: its arithmetic by hand, planted collapses in real runs, silence where all is well."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import uda.train
from uda.config import compose
from uda.engine import training
from uda.engine.collapse import CollapseGuard, class_advice, mask_advice, share_limit
from uda.engine.process import Process
from uda.engine.settings import Precision
from uda.objectives.base import Objective
from uda.objectives.supervised import Supervised
from uda.objectives.uda import UDA

HEALTHY = (24, 16, (8, 8))


@pytest.fixture(scope="module")
def process() -> Process:
    return Process.start(Precision.fp32)


def make_objective(num_classes: int = 2, **changes) -> UDA:
    settings = {
        "temperature": None,
        "tempering": "target",
        "targets": "soft",
        "threshold": -1,
        "normalizer": "all",
        "coefficient": 1.0,
        "coefficient_ramp": 0.0,
        "tsa": "none",
        "supervised_steps": 12,
        "teacher_decay": 0.0,
        "alignment": "none",
        "kept_share": None,
        "kept_share_end": None,
        "memory_rows": 8,
        "prefill_rows": 0,
    }
    return UDA(num_classes, 6, **{**settings, **changes})


def make_guard(objective: Objective | None = None, labels: tuple[int, ...] = (0, 1)) -> CollapseGuard:
    objective = objective or make_objective()
    names = [f"c{number}" for number in range(objective.num_classes)]
    return CollapseGuard(names, share_limit(np.array(labels), objective.num_classes), objective)


def told(guard: CollapseGuard, process: Process, steps: list[tuple], first: int = 1) -> list[tuple[int, str]]:
    """Steps of (rows, kept, mix) shown to the guard; the steps at which it spoke, and the first words."""
    found = []
    for step, (rows, kept, mix) in enumerate(steps, first):
        counts = torch.tensor([rows, kept, 0.7 * rows, kept, *mix], dtype=torch.float32)
        found += [(step, text) for text in guard.step(step, counts, process)]
    return found


def steps_told(*args) -> list[int]:
    return [step for step, _ in told(*args)]


@pytest.mark.parametrize(
    ("labels", "num_classes", "limit"),
    [
        ([0, 1], 2, 1 - 0.5 / 4),
        ([0] * 9 + [1], 2, 1 - 0.1 / 4),
        (list(range(100)), 100, 1 - 0.99 / 4),
        ([0, 0, 1, 2], 3, 1 - 0.5 / 4),
    ],
)
def test_limit_by_hand(labels, num_classes: int, limit: float) -> None:
    assert share_limit(np.array(labels), num_classes) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("num_classes", "labels", "kept", "largest", "speaks"),
    [
        (2, (0, 1), 16, 14, False),  # 0.875 is the limit itself
        (2, (0, 1), 16, 15, True),
        (2, (0,) * 9 + (1,), 16, 15, False),  # 0.9375, where the labels say 0.9 and the limit is 0.975
        (2, (0,) * 9 + (1,), 16, 16, True),
        (100, tuple(range(100)), 20, 15, False),  # 0.75 and 0.8 around the limit of 0.7525
        (100, tuple(range(100)), 20, 16, True),
    ],
)
def test_one_class_at_the_edges_of_the_limit(process, num_classes, labels, kept, largest, speaks) -> None:
    mix = np.zeros(num_classes, dtype=int)
    mix[1], mix[0] = largest, kept - largest
    guard = make_guard(make_objective(num_classes), labels)
    assert steps_told(guard, process, [(24, kept, mix)] * 60) == ([30] if speaks else [])


@pytest.mark.parametrize("start", range(11))
def test_whenever_a_collapse_begins_it_is_told_within_50_steps(process, start: int) -> None:
    found = steps_told(make_guard(), process, [HEALTHY] * start + [(24, 16, (16, 0))] * 60)
    assert len(found) == 1
    assert 21 <= found[0] - start <= 39


def test_after_the_supervised_steps_too(process) -> None:
    """12 steps of no unlabelled row: the block of steps 11 to 20 has eight that count, and is the first of three."""
    assert steps_told(make_guard(), process, [(0, 0, (0, 0))] * 12 + [(24, 16, (0, 16))] * 60) == [40]


def test_it_is_told_once_and_again_after_it_was_gone(process) -> None:
    bad = [(24, 16, (16, 0))]
    assert steps_told(make_guard(), process, bad * 200) == [30]
    assert steps_told(make_guard(), process, bad * 60 + [HEALTHY] * 10 + bad * 60) == [30, 100]
    assert steps_told(make_guard(), process, (bad * 20 + [HEALTHY] * 10) * 5) == []


def test_a_teacher_that_swings(process) -> None:
    """From one class to the other every ten steps, or every step: no step has both."""
    pos, neg = [(24, 16, (0, 16))], [(24, 16, (16, 0))]
    assert steps_told(make_guard(), process, (pos * 10 + neg * 10) * 6) == [30]
    assert steps_told(make_guard(), process, (pos + neg) * 60) == [30]


@pytest.mark.parametrize(("largest", "speaks"), [(14, False), (15, True)])
def test_swings_at_the_edges_of_the_limit(process, largest: int, speaks: bool) -> None:
    """Pairs of one label by hand: 14 * 13 + 2 * 1 = 184 of 240 (0.767), 15 * 14 = 210 of 240 (0.875); the limit of
    0.875 of the rows is one of 0.875^2 + 0.125^2 = 0.781 of the pairs.
    """
    mixes = [(24, 16, (largest, 16 - largest)), (24, 16, (16 - largest, largest))]
    assert steps_told(make_guard(), process, mixes * 30) == ([30] if speaks else [])


def test_few_rows_a_step_are_not_mistaken_for_swings(process) -> None:
    """Drawn with equal chances: a step's two rows are of one class half of the time, and its only row always."""
    for kept in (1, 2, 3, 5):
        right = np.random.default_rng(kept).binomial(kept, 0.5, size=3_000)
        assert steps_told(make_guard(), process, [(24, kept, (kept - k, k)) for k in right.tolist()]) == []


@pytest.mark.parametrize(
    ("changes", "rows", "kept", "begins"),
    [
        ({"threshold": 0.95}, 24, 0, "the mask kept none of the unlabelled rows of the last 30 steps"),
        ({"threshold": 0.95}, 24, 24, "the mask kept all unlabelled rows of the last 30 steps"),
        ({"threshold": 0.0}, 24, 24, "the mask kept all"),
        ({"kept_share": 0.5}, 24, 24, "the mask kept all"),
        ({"threshold": 0.95}, 24, 2, None),
        ({"threshold": 0.95}, 24, 23, None),
        ({}, 24, 24, None),  # no mask was asked for
        ({"kept_share": 1.0}, 24, 24, None),
    ],
)
def test_masks_that_keep_nothing_or_everything(process, changes, rows: int, kept: int, begins: str | None) -> None:
    mix = (kept // 2, kept - kept // 2)
    found = told(make_guard(make_objective(**changes)), process, [(rows, kept, mix)] * 100)
    assert [step for step, _ in found] == ([30] if begins else [])
    assert all(text.startswith(begins) for _, text in found)


def test_few_kept_rows_prove_nothing(process) -> None:
    """Ten kept rows a block at least; 1 / (1 - 0.975) = 40 of them where nine labels in ten are of one class."""
    unbalanced = (0,) * 9 + (1,)
    nine = ([(24, 1, (1, 0))] * 9 + [(24, 0, (0, 0))]) * 6
    assert steps_told(make_guard(), process, nine) == []
    assert steps_told(make_guard(), process, [(24, 1, (1, 0))] * 60) == [30]
    assert steps_told(make_guard(labels=unbalanced), process, [(24, 3, (3, 0))] * 60) == []
    assert steps_told(make_guard(labels=unbalanced), process, [(24, 4, (4, 0))] * 60) == [30]


def test_supervised_runs_are_silent(process) -> None:
    assert steps_told(make_guard(Supervised(2, 0, tsa="none")), process, [(0, 0, (0, 0))] * 100) == []


def test_the_state_goes_through_json_at_any_step(process) -> None:
    steps = [HEALTHY] * 7 + [(24, 16, (16, 0))] * 60 + [HEALTHY] * 13 + [(24, 0, (0, 0))] * 60
    whole = told(make_guard(), process, steps)
    assert [step for step, _ in whole] == [40, 110]
    for stop in range(1, len(steps)):
        before, after = make_guard(), make_guard()
        found = told(before, process, steps[:stop])
        after.restore(json.loads(json.dumps(before.state(process))), process)
        assert found + told(after, process, steps[stop:], stop + 1) == whole, stop


def test_advice_names_what_the_objective_has() -> None:
    strict, quantile = make_objective(threshold=0.95), make_objective(kept_share=0.5, alignment="uniform")
    assert mask_advice(strict, looser=True).startswith(
        "Lower objective.threshold (now 0.95); or raise objective.superv"
    )
    assert mask_advice(strict, looser=False).startswith("Raise objective.threshold (now 0.95); or lower train.learning")
    assert mask_advice(quantile, looser=False).startswith("Lower objective.kept_share (now 0.5); or lower")
    assert "(now 0.1, below 1/2 it masks nothing)" in mask_advice(make_objective(threshold=0.1), looser=False)
    assert class_advice(strict).startswith("Set objective.alignment=uniform, if the classes are about as frequent; or")
    assert class_advice(quantile).startswith("Raise objective.supervised_steps (now 12); or lower train.learning_rate")


def test_a_real_run_that_swings_between_the_classes_and_one_that_learns(process) -> None:
    """The row counts of the 60 steps of two runs of `+experiment=imdb train.num_steps=60 data.num_test=1000`: UDA as in
    the paper without label descriptions, and the default. Neither rests on one class.
    """
    recorded = json.loads((Path(__file__).parent / "imdb_pseudo_labels.json").read_text())
    for name, objective in (
        ("uda", make_objective()),
        ("uda_weak_start", make_objective(kept_share=0.5, alignment="uniform")),
    ):
        steps = [(rows, kept, mix) for rows, kept, *mix in recorded[name]]
        assert len(steps) == 60
        assert steps_told(make_guard(objective), process, steps) == []


def run(overrides: list[str], folder: Path) -> tuple[str, dict[int, str]]:
    """The log of a run, and its warnings in TensorBoard by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}"]))
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tag = "warnings/collapse/text_summary"
    texts = events.Tensors(tag) if tag in events.Tags()["tensors"] else []
    found = {event.step: event.tensor_proto.string_val[0].decode() for event in texts}
    assert len(found) == len(texts)
    return (folder / "train.log").read_text(), found


PLAIN = ["objective=uda", "objective.supervised_steps=0", "objective.prefill_rows=0", "train.num_steps=40"]
QUICK = ["train.eval_every=null", "train.log_every=25"]


@pytest.fixture
def plain(tiny: list[str]) -> list[str]:
    """The tiny run with UDA as in the paper."""
    return [item for item in tiny if not item.startswith("objective.")] + PLAIN + QUICK


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective.threshold=0.999999", "the mask kept none of the unlabelled rows of the last 30 steps"),
        ("objective.threshold=0", "the mask kept all unlabelled rows of the last 30 steps"),
    ],
)
def test_a_planted_mask_is_told_within_50_steps(plain, tmp_path: Path, change: str, message: str) -> None:
    log, warnings = run([*plain, change], tmp_path / "run")
    assert log.count(message) == 1
    assert f"step 30/40: {message}" in log
    assert list(warnings) == [30]


def test_a_planted_teacher_of_one_class_is_told_within_50_steps(
    plain: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.Models, "update_teacher", _answer_pos)
    log, warnings = run(plain, tmp_path / "run")
    assert "100 % of the pseudo-labels are 'pos', and one class had above 87.5 % for 30 steps" in log
    assert list(warnings) == [30]
    assert "Set objective.alignment=uniform, if the classes are about as frequent" in log


def _answer_pos(models, decay: float) -> None:
    """After each step the student's classifier prefers the second class, whatever it reads."""
    with torch.no_grad():
        models.student.classifier.bias.copy_(torch.tensor([-99.0, 99.0]))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["uda", "uda_weak_start"])
def test_healthy_runs_are_silent(plain: list[str], tmp_path: Path, objective: str) -> None:
    log, warnings = run([*plain, f"objective={objective}"], tmp_path / "run")
    assert "the mask kept" not in log
    assert "of the pseudo-labels are" not in log
    assert not warnings
