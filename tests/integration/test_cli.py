"""The commands as a user types them: exit codes, one message, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uda.config import config_dir


def command(name: str, *overrides: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"uda.{name}", *overrides],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(config_dir().parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def wait_for_step_20(process: subprocess.Popen[str], log: Path) -> None:
    while "step 20/" not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)


BAD = [
    (["+experiment=imbd"], "experiment=imbd: expected one of ", "Did you mean 'imdb'?"),
    (["+experiment=imdb", "objective=udda"], "objective=udda: expected one of supervised, uda", "Did you mean 'uda'?"),
    (["+experiment=imdb", "train.num_step=3"], "found 'train.num_step'", "Did you mean 'train.num_steps'?"),
    (["+experiment=imdb", "train.num_steps=many"], "train.num_steps: expected a whole number", "found 'many'"),
    (["+experiment=imdb", "data.truncation=midle"], "data.truncation: expected one of head, tail", "found 'midle'"),
    (["+experiment=imdb", "objective.threshold=2"], "objective.threshold: expected a number", "found 2"),
    (["+experiment=imdb", "train.num_steps=1=2=["], "", ""),
    (["+experiment=imdb", "train=null"], "The configuration does not fit", "must be a string"),
    (["+experiment=imdb", "objective.temprature=1"], "'objective.temprature'", "Did you mean 'objective.temperature'?"),
]


@pytest.mark.parametrize(("overrides", "first", "second"), BAD)
def test_a_mistake_in_the_config_is_one_message_and_exit_code_2(tmp_path, overrides, first, second) -> None:
    done = command("train", *overrides, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("uda: ") == 1
    assert first in done.stderr
    assert second in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())  # no folder is left behind


def test_mistakes_of_evaluate(tmp_path) -> None:
    for overrides, message in (
        ([], "run: expected a run directory, found none. Set run="),
        (["run=nowhere"], "Expected a run directory with a config.yaml, found none in nowhere."),
        (["presicion=fp32"], "Did you mean 'precision'?"),
    ):
        done = command("evaluate", *overrides, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("uda: ")) == (2, 1), done.stderr
        assert message in done.stderr
        assert not list(tmp_path.iterdir())


def test_help_and_cfg(tmp_path) -> None:
    done = command("train", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "python -m uda.train +experiment=imdb" in done.stdout
    done = command("evaluate", "--help", cwd=tmp_path)
    assert "python -m uda.evaluate run=" in done.stdout
    done = command("predict", "--help", cwd=tmp_path)
    assert "python -m uda.predict run=RUN input=tickets.csv output=labelled.csv" in done.stdout
    done = command("train", "+experiment=imdb", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0
    assert "name: imdb" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_fault_of_ours_is_a_traceback_and_exit_code_1(tmp_path) -> None:
    (tmp_path / "broken.py").write_text(
        "class Broken:\n    def __init__(self, **kw): raise ZeroDivisionError('ours')\n"
    )
    script = (
        "import sys; sys.argv[1:] = ['+experiment=imdb']; from uda import cli, train\n"
        "def job(cfg): raise ZeroDivisionError('ours')\n"
        "cli.main('train', train.TrainConfig, job)"
    )
    environment = {**os.environ, "PYTHONPATH": str(config_dir().parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ZeroDivisionError: ours" in done.stderr


@pytest.mark.slow
def test_train_evaluate_and_sweep_from_the_command_line(tiny, tmp_path) -> None:
    done = command("train", *tiny, "hydra.run.dir=first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for line in (
        "accuracy ",
        "run directory: first\n",
        "-m uda.evaluate run=first\n",
        "-m tensorboard.main --logdir .\n",
    ):
        assert line in done.stderr
    assert command("train", *tiny, "hydra.run.dir=first", cwd=tmp_path).returncode == 2
    done = command("evaluate", "run=first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "first/evaluations/own/metrics.json").read_text())
    final = json.loads((tmp_path / "first/metrics.json").read_text())["final"]
    assert metrics["accuracy"] == final["accuracy"]
    tiny = [item for item in tiny if not item.startswith("objective.")]  # keys that objective=supervised lacks
    done = command("train", "-m", *tiny, "seed=0,1", "objective=supervised,uda", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted(path.parent.name for path in (tmp_path / "outputs/tiny").glob("*/metrics.json"))
    assert len(folders) == 4
    done = command("train", "-m", *tiny, "seed=0,1", "objective=supervised,uda", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("finished before") == 4


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_failed_job_and_lists_it(tiny, tmp_path) -> None:
    done = command("train", "-m", *tiny, "train.num_steps=6", "objective.kept_share=7,0.5", cwd=tmp_path)
    assert done.returncode == 2
    assert "uda: 1 of 2 jobs failed:" in done.stderr
    assert "objective.kept_share: expected a number > 0 and <= 1 or null, found 7" in done.stderr
    assert len(list((tmp_path / "outputs/tiny").glob("*/metrics.json"))) == 1


@pytest.mark.slow
def test_a_signal_ends_a_sweep(tiny, tmp_path) -> None:
    arguments = [sys.executable, "-m", "uda.train", "-m", *tiny, "train.num_steps=4000", "seed=0,1"]
    environment = {**os.environ, "PYTHONPATH": str(config_dir().parent)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=log)
        wait_for_step_20(process, tmp_path / "log")
        process.terminate()
        assert process.wait() == 143
    assert len(list((tmp_path / "outputs/tiny").glob("*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint_and_the_same_command_goes_on(tiny, tmp_path, number, code) -> None:
    arguments = [sys.executable, "-m", "uda.train", *tiny, "train.num_steps=4000", "hydra.run.dir=run"]
    environment = {**os.environ, "PYTHONPATH": str(config_dir().parent)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=log)
        wait_for_step_20(process, tmp_path / "log")
        process.send_signal(number)
        assert process.wait() == code
    assert "Traceback" not in (tmp_path / "log").read_text()
    (checkpoint,) = (tmp_path / "run/checkpoints").glob("step-*")
    process = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "resuming after step" in line:
            assert line.strip().endswith(checkpoint.name.removeprefix("step-"))
            break
    process.terminate()
    process.stderr.read()
    assert process.wait() in (143, -signal.SIGTERM)
