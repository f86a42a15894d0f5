"""Sweeps in real processes: by every launcher, with jobs that fail, stopped in the middle, searched by Optuna."""

import json
import math
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from uda import sweeps
from uda.cli import Interrupted, _unfinished
from uda.config import TrainConfig, config_dir, read_train, register
from uda.config import compose as composed
from uda.engine.process import Process
from uda.engine.settings import Precision
from uda.errors import TakenError, UserError
from uda.run_directory import failure_noted, prepare

SWEEPS = sorted(path.stem for path in (config_dir() / "sweep").glob("*.yaml"))
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local"],
}
# Fails in the middle of the training at one temperature, until the file MENDED is there; takes its time while SLOW is.
FAULTY = """
import time
from pathlib import Path
from uda.objectives.uda import UDA

class Faulty(UDA):
    def pseudo_label(self, weak, index, context, labeled=None):
        if Path("SLOW").exists():
            time.sleep(0.1)
        if self.temperature == 0.3 and context.progress > 0.5 and not Path("MENDED").exists():
            raise ZeroDivisionError("out of luck\\nsecond line")
        return super().pseudo_label(weak, index, context, labeled)
"""


@pytest.fixture
def quick(tiny: list[str], tmp_path: Path) -> list[str]:
    """A job of eight steps whose objective may fail; no key that a test sweeps over."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    swept = ("train.learning_rate=", "train.num_steps=")
    return [*(item for item in tiny if not item.startswith(swept)), "train.num_steps=8"]


def start(zygote: Any, tmp_path: Path, *overrides: str) -> Any:
    """A sweep of `uda.train`; its log is the file `log`."""
    (tmp_path / "log").unlink(missing_ok=True)
    path = f"{config_dir().parent}{os.pathsep}{tmp_path}"
    return zygote.start(
        "-m", "uda.train", "-m", *overrides, cwd=tmp_path, env={"PYTHONPATH": path}, log=tmp_path / "log"
    )


def sweep(zygote: Any, tmp_path: Path, *overrides: str) -> tuple[int, str]:
    """The exit code of a whole sweep and what it said."""
    code = start(zygote, tmp_path, *overrides).wait()
    return code, (tmp_path / "log").read_text()


def finished(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """The finished jobs of an outputs folder: when metrics.json was written, and its content."""
    paths = (folder / "tiny").glob("*/metrics.json")
    return {path.parent: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def wait_until(process: Any, moment: Callable[[], bool], log: Path) -> None:
    while not moment():
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)


def descendants(process: Any) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def hydra_config(*overrides: str) -> DictConfig:
    register("train")
    with initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
        return compose("train", ["+experiment=imdb", *overrides], return_hydra_config=True)


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_file_says_what_it_runs_and_its_values_can_be_trained_with(name: str) -> None:
    header = "".join(
        line[1:] for line in (config_dir() / "sweep" / f"{name}.yaml").read_text().splitlines() if line.startswith("#")
    )
    assert "python -m uda.train -m +experiment=" in header
    cfg = hydra_config(f"+sweep={name}").hydra
    if name == "slurm":
        assert cfg.launcher._target_.endswith("SlurmLauncher")
        assert cfg.launcher.max_num_timeout > 0
        return
    params = [f"{key}={value}" for key, value in cfg.sweeper.params.items()]
    overrides = OverridesParser.create().parse_overrides(params)
    if name == "hyperparameters":
        jobs = cfg.sweeper.n_trials
        assert (cfg.sweeper.direction, cfg.sweeper.max_failure_rate) == ("maximize", 1.0)
        assert cfg.sweeper.sampler.seed == 0  # the same command asks for the same trials
        values = [
            [each.value().start, each.value().end] if each.is_interval_sweep() else each.value().list
            for each in overrides
        ]
    else:
        values = [each.value().list for each in overrides]
        jobs = math.prod(map(len, values))
    assert f" {jobs} jobs" in header
    for end in (0, -1):
        first = [f"{each.key_or_group}={own[end]}" for each, own in zip(overrides, values, strict=True)]
        read_train(composed("train", ["+experiment=imdb", *first]))


def test_the_values_of_a_sweep_file_can_be_changed_as_its_header_says() -> None:
    params = hydra_config("+sweep=labels", 'hydra.sweeper.params={data.num_labeled:"8,16"}').hydra.sweeper.params
    assert params == {"data.num_labeled": "8,16", "seed": "0,1,2"}
    params = hydra_config("+sweep=objectives", 'hydra.sweeper.params.seed="0,1"').hydra.sweeper.params
    assert params.seed == "0,1"
    assert params.objective.startswith("supervised,uda,")


def test_a_sweep_file_does_not_name_run_directories() -> None:
    plain, swept = (composed("train", ["+experiment=imdb", *more]).run_dir for more in ([], ["+sweep=objectives"]))
    assert plain == swept == "outputs/imdb/uda_weak_start-seed0"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hydra/launcher=joblib", "hydra/launcher=joblib: expected it to be installed, found only basic. "),
        ("+sweep=hyperparameters", "hydra/sweeper=optuna: expected it to be installed, found only basic"),
    ],
)
def test_a_missing_extra_is_one_message(tmp_path: Path, override: str, message: str) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/__init__.py").touch()  # hides the installed ones
    done = subprocess.run(
        [sys.executable, "-m", "uda.train", "-m", "+experiment=imdb", override],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{config_dir().parent}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"uda: {message}"), done.stderr
    assert done.stderr.endswith("Install the extra that brings it: pip install 'uda[sweep]'.\n")


def test_the_settings_of_a_sweep_are_refused_in_a_single_run(quick, tmp_path, zygote) -> None:
    done = zygote.run("-m", "uda.train", *quick, "+sweep=objectives", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("uda: +sweep=objectives: expected -m (--multirun) beside it"), done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.glob("outputs/**/config.yaml")) == []


def test_an_interrupted_job_can_say_so_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(Interrupted("stopped by SIGTERM", 143)))
    assert (str(error), error.exit_code) == ("stopped by SIGTERM", 143)


def test_failures_are_noted_where_the_run_is_the_jobs_own(tmp_path: Path) -> None:
    path = tmp_path / "failed.json"

    def fail(error: Exception, sweep: bool) -> bool:
        with pytest.raises(type(error)), failure_noted(tmp_path, sweep):
            raise error
        return path.exists()

    assert not fail(UserError("x"), sweep=False)  # the folder is empty, and goes
    assert not fail(TakenError("another run's"), sweep=True)
    assert fail(UserError("expected a\nfound b"), sweep=True)
    assert json.loads(path.read_text()) == {"type": "UserError", "error": "expected a found b"}
    assert fail(ValueError("one\ntwo"), sweep=False)
    note = json.loads(path.read_text())
    assert (note["type"], note["error"]) == ("ValueError", "one")
    assert "test_sweeps.py" in note["traceback"]
    with failure_noted(tmp_path, sweep=True):
        pass
    assert not path.exists()
    assert fail(ValueError("again"), sweep=True)
    prepare(tmp_path, {}, {}, overwrite=False)  # the run goes on
    assert not path.exists()


def test_outcomes_survive_a_full_disk_and_what_killed_workers_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir="run"), job=SimpleNamespace(num=3))
    monkeypatch.setattr(sweeps.HydraConfig, "get", lambda: hydra)
    monkeypatch.setattr(sweeps, "_alone", lambda command: "alone")
    sweep = sweeps.Sweep(tmp_path / "jobs")
    sweep.note("train", None)
    (tmp_path / "jobs/.writing-000004.json").write_text('{"run_dir"')

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweeps, "write_text", full)
    sweep.note("train", UserError("expected room"))
    assert "run: expected room" in caplog.text
    assert sweep.outcomes() == [
        sweeps.Outcome("run", "alone", None, False),
        sweeps.Outcome("run", "alone", "expected room", True),
    ]

    monkeypatch.setattr(os, "getpid", lambda: sweep.process + 1)  # a copy in another process, that none reads
    with pytest.raises(UserError, match="run: expected room"):
        sweep.note("train", UserError("expected room"))
    with pytest.raises(RuntimeError, match=r"run: ValueError: a fault"):
        sweep.note("train", ValueError("a fault"))
    assert _unfinished(UserError("run: expected room"), [], TrainConfig, began=False) == (2, "run: expected room")
    with pytest.raises(RuntimeError):
        _unfinished(RuntimeError("run: ValueError: a fault"), [], TrainConfig, began=False)
    with pytest.raises(UserError, match=r"run: done, but that could not be noted: .*No space left"):
        sweep.note("train", None)


def test_every_failed_job_is_listed_with_its_command() -> None:
    outcomes = [sweeps.Outcome("a", "run a", "x", True), sweeps.Outcome("b", "run b", None, False)]
    outcomes.append(sweeps.Outcome("c", "run c", "E: y", False))
    assert sweeps.listed(outcomes).splitlines() == [
        "2 of 3 jobs failed:",
        *("a: x", "    alone: run a"),
        *("c: E: y", "    alone: run c"),
    ]


def test_errors_that_are_no_jobs_own() -> None:
    from submitit.core.utils import FailedJobError

    outcome = sweeps.Outcome("d", "c", "e", False)
    assert "found none" in str(sweeps.explained(ValueError("No trials are completed yet."), [outcome]))
    done = sweeps.Outcome("d", "c", None, False)
    assert sweeps.explained(ValueError("x"), [outcome, done]) is None
    assert sweeps.explained(ValueError("x"), []) is None
    assert sweeps.explained(FailedJobError("a fault of ours on a node"), []) is None


def test_jobs_of_one_process_may_differ_in_precision() -> None:
    """Accelerate's state is the process's; each job starts with its own."""
    for precision in (Precision.fp32, Precision.bf16, Precision.fp32):
        expected = "bf16" if precision is Precision.bf16 else "no"
        assert Process.start(precision).accelerator.mixed_precision == expected


@pytest.mark.slow
def test_every_launcher_gives_each_job_its_own_state_and_lists_the_failed_one(quick, tmp_path, zygote) -> None:
    """The third job's weights are those of a process that ran nothing else, whatever failed before it in its own."""
    swept = [*quick, "objective._target_=faulty.Faulty", "objective.temperature=0.4,0.3,0.5"]
    found: dict[str, dict[float, bytes]] = {}
    for name, launcher in LAUNCHERS.items():
        outputs = tmp_path / name
        code, said = sweep(zygote, tmp_path, *swept, *launcher, f"hydra.sweep.dir={outputs}")
        assert code == 1, said
        head, error, command = said[said.index("uda: ") :].splitlines()
        assert head == "uda: 1 of 3 jobs failed:"
        assert error.startswith(f"{outputs}/tiny/")
        assert error.endswith(": ZeroDivisionError: out of luck")
        assert command.startswith("    alone: ")
        assert "objective.temperature=0.3" in command
        (note,) = outputs.glob("tiny/*/failed.json")
        assert str(note.parent) == error.removesuffix(": ZeroDivisionError: out of luck")
        assert json.loads(note.read_text())["type"] == "ZeroDivisionError"
        assert not list(outputs.glob(".jobs-*"))
        configs = [(path, yaml.safe_load((path / "config.yaml").read_text())) for path in finished(outputs)]
        found[name] = {
            cfg["objective"]["temperature"]: (path / "model/model.safetensors").read_bytes() for path, cfg in configs
        }
        assert found[name].keys() == {0.4, 0.5}
    assert found["joblib"] == found["submitit_local"] == found["basic"]
    (tmp_path / "MENDED").touch()
    alone = shlex.split(command.removeprefix("    alone: "))[1:]
    options = {"cwd": tmp_path, "env": {"PYTHONPATH": f"{config_dir().parent}{os.pathsep}{tmp_path}"}}
    done = zygote.run(*alone, **options)
    assert done.returncode == 0, done.stderr
    assert note.with_name("metrics.json").is_file()
    assert not note.exists()
    third = [item.replace("temperature=0.3", "temperature=0.5") for item in alone if "hydra.run.dir=" not in item]
    done = zygote.run(*third, "hydra.run.dir=alone", **options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alone/model/model.safetensors").read_bytes() == found["basic"][0.5]


@pytest.mark.slow
def test_twelve_jobs_stopped_in_the_middle_repeat_no_finished_one(quick, tmp_path, zygote) -> None:
    """Killed, stopped by SIGINT, then left alone. What is finished stays as it is, to the byte and the nanosecond."""
    outputs, log = tmp_path / "outputs", tmp_path / "log"
    length = ["train.num_steps=60", "train.checkpoint_every=10", "objective._target_=faulty.Faulty"]
    arguments = [*quick, *length, f"seed={','.join(map(str, range(12)))}"]

    def wait_for_job(number: int) -> None:
        """Until it has a checkpoint; it has then seconds to go."""
        wait_until(process, lambda: len(finished(outputs)) >= number - 1, log)
        (tmp_path / "SLOW").touch()
        wait_until(process, lambda: len(begun()) >= number, log)
        assert len(begun()) == number

    def begun() -> set[Path]:
        """The jobs that have a checkpoint."""
        return {path.parent for path in outputs.glob("tiny/*/checkpoints/step-*")}

    process = start(zygote, tmp_path, *arguments)
    wait_for_job(4)
    process.kill()
    process.wait()
    (tmp_path / "SLOW").unlink()
    first = finished(outputs)
    assert len(first) == 3

    process = start(zygote, tmp_path, *arguments)
    wait_for_job(7)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    (tmp_path / "SLOW").unlink()
    said = log.read_text()
    assert "Traceback" not in said
    assert said.count("finished before: ") == 3
    assert re.search(r"uda: stopped by SIGINT.*the same command goes on from the checkpoint", said)
    second = finished(outputs)
    assert len(second) == 6
    assert len(list(outputs.glob("tiny/*"))) == 7  # the jobs after it were not begun
    assert {folder: second[folder] for folder in first} == first

    code, said = sweep(zygote, tmp_path, *arguments)
    assert code == 0, said
    assert said.count("finished before: ") == 6
    third = finished(outputs)
    assert len(third) == 12
    assert {folder: third[folder] for folder in second} == second
    assert not list(outputs.glob(".jobs-*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joblib", "submitit_local"])
def test_a_signal_to_the_sweep_alone_ends_the_processes_of_its_jobs(quick, tmp_path, zygote, name) -> None:
    outputs, log = tmp_path / "outputs", tmp_path / "log"
    arguments = [*quick, "train.num_steps=4000", "train.checkpoint_every=5", "seed=0,1", *LAUNCHERS[name]]
    process = start(zygote, tmp_path, *arguments)
    wait_until(process, lambda: len(list(outputs.glob("tiny/*/checkpoints/step-*"))) >= 2, log)
    started = descendants(process)
    assert len(started) >= 2
    process.terminate()
    assert process.wait() == 143, log.read_text()
    assert not psutil.wait_procs(started, timeout=60)[1]
    assert "uda: stopped by SIGTERM" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not finished(outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joblib", "submitit_local"])
def test_a_killed_process_of_a_job_is_one_message(quick, tmp_path, zygote, name) -> None:
    outputs, log = tmp_path / "outputs", tmp_path / "log"
    arguments = [*quick, "train.num_steps=4000", "train.checkpoint_every=5", "seed=0,1", *LAUNCHERS[name]]
    process = start(zygote, tmp_path, *arguments)
    wait_until(process, lambda: len(list(outputs.glob("tiny/*/checkpoints"))) == 2, log)
    (folder, _) = sorted(outputs.glob("tiny/*"))
    number = int(re.match(r"process (\d+) ", (folder / ".lock").read_text())[1])
    started = descendants(process)
    os.kill(number, signal.SIGKILL)
    assert process.wait() == 1, log.read_text()
    message = "uda: hydra/launcher: expected each job to end with a result, found that a process was ended from outside"
    assert message in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not psutil.wait_procs(started, timeout=60)[1]  # the other job's ended too


@pytest.mark.slow
def test_a_job_that_submitit_puts_into_the_queue_again_goes_on_from_its_checkpoint(quick, tmp_path, zygote) -> None:
    """What Slurm does to a job before its time ends: here submitit's local executor starts it again."""
    outputs, log = tmp_path / "outputs", tmp_path / "log"
    arguments = ["train.num_steps=60", "train.checkpoint_every=10", "seed=0", "objective._target_=faulty.Faulty"]
    (tmp_path / "SLOW").touch()
    process = start(zygote, tmp_path, *quick, *arguments, *LAUNCHERS["submitit_local"])
    wait_until(process, lambda: any(outputs.glob("tiny/*/checkpoints/step-*")), log)
    (folder,) = outputs.glob("tiny/*")
    number = int(re.match(r"process (\d+) ", (folder / ".lock").read_text())[1])
    os.kill(number, signal.SIGUSR2)
    (tmp_path / "SLOW").unlink()
    assert process.wait() == 0, log.read_text()
    assert len(finished(outputs)) == 1
    assert "resuming after step" in (folder / "train.log").read_text()


@pytest.mark.slow
def test_optuna_gets_the_scores_of_the_runs_and_asks_for_the_same_trials_again(quick, tmp_path, zygote) -> None:
    arguments = [
        *quick,
        "+sweep=hyperparameters",
        "hydra.sweeper.n_trials=5",
        "objective.kept_share=choice(0.5,7)",  # 7 is refused
        "hydra.sweeper.storage=sqlite:///study.db",
        "hydra.sweeper.study_name=first",
    ]
    code, said = sweep(zygote, tmp_path, *arguments)
    assert code == 2
    outputs = tmp_path / "outputs"
    jobs = finished(outputs)
    failed = 5 - len(jobs)
    assert 0 < failed < 5
    assert f"uda: {failed} of 5 jobs failed:" in said
    assert said.count("  failed: ") == failed  # when they fail, not at the end alone
    import optuna

    study = optuna.load_study(study_name="first", storage=f"sqlite:///{tmp_path}/study.db")
    states = [trial.state.name for trial in study.trials]
    assert (states.count("COMPLETE"), states.count("FAIL")) == (len(jobs), failed)
    configs = {folder: yaml.safe_load((folder / "config.yaml").read_text()) for folder in jobs}
    scores = {
        configs[folder]["train"]["learning_rate"]: json.loads(content)["selected"]["accuracy"]
        for folder, (_, content) in jobs.items()
    }
    told = {t.params["train.learning_rate"]: t.value for t in study.trials if t.state.name == "COMPLETE"}
    assert told == pytest.approx(scores)
    best = yaml.safe_load((outputs / "optimization_results.yaml").read_text())
    assert best["best_value"] == study.best_value == max(scores.values())
    code, said = sweep(zygote, tmp_path, *arguments[:-2])  # without a storage
    assert code == 2
    assert said.count("finished before: ") == len(jobs)
    assert finished(outputs) == jobs
