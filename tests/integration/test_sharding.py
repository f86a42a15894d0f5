"""Two processes, each with a part of every tensor, do what one process does that has them whole."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import uda.train
from uda.config import compose
from uda.engine import training

pytestmark = pytest.mark.slow

KILLED_AT = 13  # steps; the checkpoint before it is of step 10
WEAK = [
    "objective=uda_weak_start",
    "objective.supervised_steps=3",
    "objective.memory_rows=24",
    "objective.prefill_rows=16",
    "objective.kept_share=0.2",
    "train.checkpoint_every=5",
    "train.eval_every=8",
]
PAPER = ["objective=uda", "objective.threshold=0.8", "data.label_descriptions=null", "model.pooling=head"]
JOBS = {
    "weak": WEAK,  # an EMA teacher, a pooled head
    # layers computed twice, in passes of which the processes need other numbers
    "micro": [*WEAK, "train.micro_batch_size=3", "train.gradient_checkpointing=true"],
    # the checkpoint's own head, its student the teacher, the weights of the best evaluation exported
    "best": [*PAPER, "train.eval_every=3", "train.select=best"],
}
ENCODERS = ["deberta-v2", "mpnet", "modernbert"]  # weights that layers share; a layer of no special class; no biases
FULL = "train.sharding=full"

# Each process runs the jobs one after another and notes what it had at each step. The job `killed` ends it in the
# middle; then the launched process itself goes on, with a store of its own, as a start anew that need not import torch.
WORKER = f"""
import json, os, shutil, signal, sys
from pathlib import Path
from torch.distributed.tensor import DTensor
import uda.finish, uda.train
from uda.config import compose
from uda.engine import training
from uda.engine.process import Process

training.product_limit = lambda *arguments: 1e12
training.Tracker._confusion = uda.finish.to_image = uda.finish.write_image = lambda *arguments: None
uda.finish.reliability_figure = lambda panels: None
uda.finish.imsave = lambda path, pixels, format: path.touch()
RANK = os.environ["RANK"]
Process.close = lambda self: (self.accelerator.free_memory(), self.stop_watching(), self.wait())
run_step, norm, step = training.run_step, training._clipped_norm, training.Tracker.step
steps = []

def share(model):
    parameters = list(model.parameters())
    assert all(isinstance(each, DTensor) for each in parameters)
    return sum(each.to_local().numel() for each in parameters) / sum(each.numel() for each in parameters)

def noted_step(models, objective, batch, *rest):
    passes = []
    counted = models.student.register_forward_pre_hook(lambda *arguments: passes.append(1))
    outcome = run_step(models, objective, batch, *rest)
    counted.remove()
    steps.append({{
        "loss": float(outcome.metrics["loss/total"]),
        "kept": int(outcome.counts[1]),
        "passes": len(passes),
        "shares": [share(model) for model in (models.student, models.teacher) if model is not None],
    }})
    return outcome

def noted_norm(*arguments):
    steps[-1]["norm"] = norm(*arguments)
    return steps[-1]["norm"]

def killed(self, completed, *rest):
    step(self, completed, *rest)
    if completed == {KILLED_AT}:
        os.kill(os.getpid(), signal.SIGKILL)

training.run_step, training._clipped_norm = noted_step, noted_norm
def run_jobs(jobs):
    for name, overrides in jobs.items():
        folder = Path(sys.argv[2]) / name
        steps.clear()
        uda.train.run(compose("train", [*overrides, f"hydra.run.dir={{folder}}"]))
        (folder / f"noted-{{RANK}}.json").write_text(json.dumps(steps))

first, second = json.loads(Path(sys.argv[1]).read_text())
killed_one = os.fork()
if not killed_one:
    run_jobs(first)
    training.Tracker.step = killed
    run_jobs({{"killed": second["killed"]}})
_, status = os.waitpid(killed_one, 0)
assert status, "it was not killed"  # where the other one died first, its end is an exit code
if RANK == "0":
    shutil.copytree(Path(sys.argv[2]) / "killed", Path(sys.argv[2]) / "fewer")
os.environ |= {{"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": sys.argv[3]}}
run_jobs(second)
os._exit(0)  # in any order: the first process has the store, and the group was never ended
"""


@dataclass
class Runs:
    """The run directories: `alone / job` of one process, `shards / job` of two, with the notes of each process."""

    alone: Path
    shards: Path
    jobs: dict[str, list[str]]

    def notes(self, job: str) -> list[list[dict[str, Any]]]:
        """Of each of the two processes, of each step."""
        return [json.loads((self.shards / job / f"noted-{rank}.json").read_text()) for rank in (0, 1)]

    def train_alone(self, job: str, folder: Path) -> list[dict[str, float]]:
        """One process trains in the folder; loss and gradient norm of each step."""
        notes: list[dict[str, float]] = []
        step = training.Tracker.step

        def noted(self: Any, completed: int, outcome: Any, rate: float, norm: float) -> None:
            notes.append({"loss": float(outcome.metrics["loss/total"]), "norm": norm})
            step(self, completed, outcome, rate, norm)

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("UDA_CACHE", str(self.alone.parent / "cache"))
            patch.setattr(training.Tracker, "step", noted)
            patch.setattr(training.Tracker, "_confusion", lambda *arguments: None)
            patch.setattr(training, "product_limit", lambda *arguments: 1e12)
            uda.train.run(compose("train", [*self.jobs[job], f"hydra.run.dir={folder}"]))
        return notes


@pytest.fixture(scope="module")
def runs(
    tiny_files: list[str],
    tiny_encoder: Callable[[str], Path],
    launch: Callable[..., Any],
    held_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """What one process does, what two do, and what goes on from checkpoints."""
    folder = tmp_path_factory.mktemp("sharding")
    jobs = {name: [*tiny_files, *changes] for name, changes in JOBS.items()}
    for kind in ENCODERS:
        jobs[kind] = [*tiny_files, *PAPER, f"model.name_or_path={tiny_encoder(kind)}", "train.num_steps=4"]
    runs = Runs(folder / "alone", folder / "shards", jobs)
    notes = {job: runs.train_alone(job, runs.alone / job) for job in jobs if job != "micro"}
    notes["micro"] = notes["weak"]  # all rows of a step in one pass
    (runs.alone / "micro").symlink_to(runs.alone / "weak")
    (folder / "noted.json").write_text(json.dumps(notes))
    shutil.copytree(runs.alone / "weak", runs.shards / "more")
    shutil.rmtree(runs.shards / "more/checkpoints/step-20")
    (runs.shards / "more/metrics.json").unlink()
    in_parts = {job: [*overrides, FULL] for job, overrides in jobs.items()}
    then = {"killed": in_parts["weak"], "more": in_parts["weak"]}
    (folder / "worker.py").write_text(WORKER)
    (folder / "jobs.json").write_text(json.dumps([in_parts, then]))
    port = str(held_port())
    launch(2, str(folder / "worker.py"), str(folder / "jobs.json"), str(runs.shards), port).finish()
    return runs


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/model.safetensors")


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("job", [*JOBS, *ENCODERS])
def test_parts_learn_what_the_whole_does(runs: Runs, job: str) -> None:
    alone = json.loads((runs.alone.parent / "noted.json").read_text())[job]
    first, second = runs.notes(job)
    losses = [one["loss"] + other["loss"] for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(losses, [step["loss"] for step in alone], rtol=0, atol=1e-5)
    for notes in (first, second):
        np.testing.assert_allclose([step["norm"] for step in notes], [step["norm"] for step in alone], rtol=1e-3)
    assert_close(weights(runs.shards / job), weights(runs.alone / job), 1e-4)


@pytest.mark.parametrize("job", [*JOBS, *ENCODERS])
def test_each_process_has_half_of_student_and_teacher(runs: Runs, job: str) -> None:
    """Between passes, of every tensor."""
    for notes in runs.notes(job):
        shares = [share for step in notes for share in step["shares"]]
        assert len(shares) == len(notes) * (2 if "uda_weak_start" in " ".join(runs.jobs[job]) else 1)
        assert min(shares) > 0.4
        assert max(shares) < 0.6


def test_processes_with_fewer_rows_make_the_passes_of_the_others(runs: Runs) -> None:
    """Else the test above would prove little."""
    first, second = runs.notes("micro")
    assert [step["passes"] for step in first] == [step["passes"] for step in second]
    needed = [[max(1, -(-(step["kept"] + 2) // 3)) for step in notes] for notes in (first, second)]
    assert needed[0] != needed[1]


@pytest.mark.parametrize("job", JOBS)
def test_evaluation_and_export_are_those_of_the_whole(runs: Runs, job: str) -> None:
    """30 rows in batches of 7 make five, of which one process has three and the other two."""
    tables = [pd.read_parquet(folder / job / "predictions.parquet") for folder in (runs.shards, runs.alone)]
    assert tables[0].key.tolist() == tables[1].key.tolist()
    np.testing.assert_allclose(tables[0].probability_pos, tables[1].probability_pos, atol=1e-4)
    found, expected = [json.loads((each / job / "metrics.json").read_text()) for each in (runs.shards, runs.alone)]
    scores = [[(each["step"], each["accuracy"]) for each in run["evaluations"]] for run in (found, expected)]
    assert scores[0] == scores[1]
    assert found["best"]["step"] == expected["best"]["step"]
    assert found["selected"]["nll"] == pytest.approx(expected["selected"]["nll"], abs=1e-4)
    config = [json.loads((each / job / "model/config.json").read_text()) for each in (runs.shards, runs.alone)]
    assert config[0] == config[1]


def test_the_export_loads_in_plain_transformers(runs: Runs) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(runs.shards / "best/model")
    assert type(model).__name__ == "BertForSequenceClassification"
    assert_close(dict(model.state_dict()), weights(runs.shards / "best"), 0)


@pytest.mark.parametrize("part", ["student", "teacher", "optimizer", "best"])
def test_a_checkpoint_is_that_of_the_whole(runs: Runs, part: str) -> None:
    found, expected = [
        load_file(folder / f"weak/checkpoints/step-20/{part}.safetensors") for folder in (runs.shards, runs.alone)
    ]
    assert_close(found, expected, 1e-4)


def test_a_killed_run_goes_on_to_the_same_bits(runs: Runs) -> None:
    log = (runs.shards / "killed/train.log").read_text()
    assert log.count("resuming after step 10") == 1
    assert "not to the bit" not in log
    assert_close(weights(runs.shards / "killed"), weights(runs.shards / "weak"), 0)


def test_parts_and_wholes_go_on_from_each_others_checkpoints(runs: Runs) -> None:
    runs.train_alone("weak", runs.shards / "fewer")
    for folder, was, now, step in (
        (runs.shards / "fewer", ("2", "full"), ("1", "none"), 10),
        (runs.shards / "more", ("1", "none"), ("2", "full"), 15),
    ):
        log = (folder / "train.log").read_text()
        assert f"resuming after step {step}" in log
        assert (
            "this run goes on, but not to the bit as if it had never stopped: num_processes was "
            f"{was[0]}, is {now[0]}, train.sharding was {was[1]}, is {now[1]}\n"
        ) in log
        assert_close(weights(folder), weights(runs.alone / "weak"), 1e-4)
