"""Two and four processes do what one does with the same global batch, for every objective."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from uda.config import compose, config_dir

pytestmark = pytest.mark.slow

MEMORY = [
    "objective.supervised_steps=3",
    "objective.memory_rows=24",
    "objective.prefill_rows=16",
    "objective.kept_share=0.2",
]
# What makes each objective keep another number of rows on each process, on one of them none.
MASKS = {
    "supervised": [],
    "uda": ["objective.threshold=0.8"],
    "uda_port": ["objective.threshold=0.8"],
    "uda_weak_start": MEMORY,
    "uda_files": MEMORY,
    "pseudo_label": ["objective.threshold=0.8"],
    "fixmatch": ["objective.threshold=0.8"],
    "flexmatch": ["objective.threshold=0.9"],
    "freematch": ["objective.horizon=0.1", "objective.fairness=0.1"],
    "softmatch": ["objective.horizon=0.1"],
    "adamatch": ["objective.relative_threshold=1", "objective.horizon=0.1"],
    "mean_teacher": MEMORY,
}
OBJECTIVES = sorted(MASKS)
SOFT = ("flexmatch", "freematch")  # their thresholds follow the answers, so that hardly a process keeps nothing
KEEP_ALL = ("supervised", "softmatch")  # the former sees no unlabelled row, the latter's weights are above 0
COUNTS = (1, 2, 4)
MICRO_COUNTS = (1, 2)  # numbers of processes that also take a step in several passes
WHOLE_STEPS = ("freematch",)  # no sum over rows: accumulation is refused
MICRO = 5  # rows a pass, of 16 rows a step

# Each process runs all jobs one after another and notes, step by step, what it saw and what it had.
WORKER = """
import hashlib, json, os, sys
from pathlib import Path
from omegaconf import OmegaConf
import uda.finish, uda.train
from uda.engine import evaluation, training
from uda.engine.process import Process

# Without pictures, which take longer than the steps.
training.Tracker._confusion = uda.finish.to_image = uda.finish.write_image = lambda *arguments: None
uda.finish.reliability_figure = lambda panels: None
uda.finish.imsave = lambda path, pixels, format: path.touch()
RANK = os.environ.get("RANK", "0")
Process.close = lambda self: (self.accelerator.free_memory(), self.wait(), self.stop_watching())
steps, drawn, predicted = [], [], []

def digest(tensors):
    data = b"".join(tensor.detach().numpy().tobytes() for _, tensor in sorted(tensors.items()))
    return hashlib.sha256(data).hexdigest()

draw, run_step, norm, gather = (
    training.StepSampler.__iter__, training.run_step, training._clipped_norm, Process.gather_rows)

def noted_rows(sampler):
    for rows in draw(sampler):
        drawn.append(rows)
        yield rows

def noted_step(models, objective, batch, *rest):
    outcome = run_step(models, objective, batch, *rest)
    rows = drawn[-1]
    assert rows.unlabeled.tolist() == batch.index.tolist()
    steps.append({
        "loss": float(outcome.metrics["loss/total"]),
        "labeled": rows.labeled.tolist(),
        "unlabeled": rows.unlabeled.tolist(),
        "kept": int(outcome.counts[1]),
        "objective": digest(objective.state_dict()),
        "weights": digest(models.student.state_dict()),
    })
    return outcome

def noted_norm(*arguments):
    steps[-1]["norm"] = norm(*arguments)
    return steps[-1]["norm"]

def noted_evaluation(model, store, pad_id, batch_size, process):
    gathered = []  # probabilities, then rows
    Process.gather_rows = lambda self, rows: gathered.append(gather(self, rows)) or gathered[-1]
    try:
        return predict(model, store, pad_id, batch_size, process)
    finally:
        Process.gather_rows = gather
        predicted.append([len(store), sorted(gathered[-1].tolist())])

predict = evaluation.predict
training.StepSampler.__iter__ = noted_rows
training.run_step, training._clipped_norm, training.predict = noted_step, noted_norm, noted_evaluation

for name in json.loads(Path(sys.argv[1]).read_text()):
    folder = Path(sys.argv[2]) / name
    cfg = OmegaConf.load(Path(sys.argv[1]).with_name(f"{name}.yaml"))
    cfg.run_dir = str(folder)
    for notes in (steps, drawn, predicted):
        notes.clear()
    uda.train.run(cfg)
    (folder / f"noted-{RANK}.json").write_text(json.dumps({"steps": steps, "predicted": predicted}))
"""


class Runs:
    """What the processes of each launch noted: `runs.notes(count, job)` by rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, count: int, job: str) -> Path:
        return self.folder / str(count) / job

    def notes(self, count: int, job: str) -> list[dict[str, Any]]:
        return [json.loads((self.path(count, job) / f"noted-{rank}.json").read_text()) for rank in range(count)]

    def trace(self, count: int, job: str) -> np.ndarray:
        """The losses of the steps, added over processes."""
        return np.sum([[step["loss"] for step in notes["steps"]] for notes in self.notes(count, job)], axis=0)


@pytest.fixture(scope="module")
def runs(tiny_files: list[str], launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    jobs = {}
    for name in OBJECTIVES:
        jobs[name] = [*tiny_files, f"objective={name}", *MASKS[name]]
        if name not in WHOLE_STEPS:
            jobs[f"{name}-micro"] = [*jobs[name], f"train.micro_batch_size={MICRO}"]
    jobs["uda"].append("train.eval_every=8")
    for name, overrides in jobs.items():  # composed once: that takes as long as the steps
        OmegaConf.save(compose("train", overrides), folder / f"{name}.yaml")
    (folder / "jobs.json").write_text(json.dumps(list(jobs)))
    (folder / "worker.py").write_text(WORKER)
    (folder / "whole.json").write_text(json.dumps([name for name in jobs if not name.endswith("-micro")]))
    for count in COUNTS:
        file = folder / ("jobs.json" if count in MICRO_COUNTS else "whole.json")
        launch(count, str(folder / "worker.py"), str(file), str(folder / str(count))).finish()
    return Runs(folder)


def test_every_class_of_objectives_is_here() -> None:
    """The yaml files that are left out have other numbers for the same class."""
    targets = {
        path.stem: compose("train", ["+experiment=imdb", f"objective={path.stem}"]).objective._target_
        for path in (config_dir() / "objective").glob("*.yaml")
    }
    assert {targets[name] for name in OBJECTIVES} == set(targets.values())


@pytest.mark.parametrize(
    ("objective", "passes"),
    [(name, passes) for name in OBJECTIVES for passes in ("", "-micro") if not (passes and name in WHOLE_STEPS)],
)
def test_any_number_of_processes_and_passes_learns_the_same(runs: Runs, objective: str, passes: str) -> None:
    expected = load_file(runs.path(1, objective) / "model/model.safetensors")
    (alone,) = runs.notes(1, objective)
    for count in MICRO_COUNTS if passes else COUNTS:
        trace = runs.trace(count, objective + passes)
        assert len(trace) == 20
        np.testing.assert_allclose(trace, runs.trace(1, objective), rtol=0, atol=1e-5)
        found = load_file(runs.path(count, objective + passes) / "model/model.safetensors")
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-4)
        # AdamW takes the same steps whatever the gradient's scale; its norm does not.
        for notes in runs.notes(count, objective + passes):
            norms = [[step["norm"] for step in steps] for steps in (notes["steps"], alone["steps"])]
            np.testing.assert_allclose(*norms, rtol=1e-3)


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name not in KEEP_ALL])
def test_the_masks_were_uneven_and_one_process_kept_nothing(runs: Runs, objective: str, count: int) -> None:
    """Else the test above would prove little."""
    kept = np.array([[step["kept"] for step in notes["steps"]] for notes in runs.notes(count, objective)])
    least = kept.max(axis=0) - 1 if objective in SOFT else 0
    assert ((kept.min(axis=0) <= least) & (kept.max(axis=0) > 0)).any(), kept


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_row_of_a_step_is_seen_by_one_process(runs: Runs, objective: str, count: int) -> None:
    (alone,) = runs.notes(1, objective)
    for whole, *shares in zip(alone["steps"], *[notes["steps"] for notes in runs.notes(count, objective)], strict=True):
        for rows in ("labeled", "unlabeled"):
            seen = [row for share in shares for row in share[rows]]
            assert sorted(seen) == sorted(whole[rows])
            assert len({len(share[rows]) for share in shares}) == 1
        assert len(whole["labeled"]) == 4
        assert len(set(whole["unlabeled"])) == len(whole["unlabeled"])


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_weights_and_the_objectives_state_are_the_same_on_all_processes(runs: Runs, objective: str, count: int) -> None:
    """To the bit, after each step."""
    for shares in zip(*[notes["steps"] for notes in runs.notes(count, objective)], strict=True):
        assert len({share["objective"] for share in shares}) == 1
        assert len({share["weights"] for share in shares}) == 1


@pytest.mark.parametrize("count", COUNTS[1:])
def test_evaluation_gathers_each_row_once(runs: Runs, count: int) -> None:
    """30 rows in batches of 7 make five batches, which neither two nor four processes share evenly."""
    for notes in runs.notes(count, "uda"):
        assert notes["predicted"] == [[30, list(range(30))]] * 3
    tables = [pd.read_parquet(runs.path(number, "uda") / "predictions.parquet") for number in (1, count)]
    assert tables[1].key.tolist() == tables[0].key.tolist()
    assert len(set(tables[0].key)) == 30
    np.testing.assert_allclose(tables[1].probability_pos, tables[0].probability_pos, atol=1e-4)
