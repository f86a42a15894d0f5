"""The commands as a user types them: exit codes, one message, nothing left behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from uda import cli, train
from uda.config import config_dir
from uda.overrides import taken_literally


def command(name: str, *overrides: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"uda.{name}", *overrides],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(config_dir().parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def started(zygote: Any, folder: Path, *overrides: str) -> Any:
    """`uda.train` at work; what it says goes into the file `log`."""
    (folder / "log").touch()
    return zygote.start("-m", "uda.train", *overrides, cwd=folder, log=folder / "log")


def wait_for_step_20(process: Any, log: Path) -> None:
    while "step 20/" not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)


BAD = [
    (["+experiment=imbd"], "experiment=imbd: expected one of ", "Did you mean 'imdb'?"),
    (["+experiment=imdb", "objective=udda"], "objective=udda: expected one of adamatch", "Did you mean 'uda'?"),
    (["+experiment=imdb", "train.num_step=3"], "found 'train.num_step'", "Did you mean 'train.num_steps'?"),
    (["+experiment=imdb", "augment.num_copy=3"], "found 'augment.num_copy'", "Did you mean 'augment.num_copies'?"),
    (["+experiment=imdb", "train.num_steps=many"], "train.num_steps: expected a whole number", "found 'many'"),
    (["+experiment=imdb", "data.truncation=midle"], "data.truncation: expected one of head, tail", "found 'midle'"),
    (["+experiment=imdb", "objective.threshold=2"], "objective.threshold: expected a number", "found 2"),
    (["+experiment=imdb", "train.num_steps=1=2=["], "expected a whole number", "found '1=2=['"),
    pytest.param(
        ["+experiment=imdb", "data.labeled=März (1).csv"],
        "Expected März (1).csv inside the pip",
        "choose +experiment=files",
        marks=pytest.mark.slow,  # imports much
    ),
    (["+experiment=imdb", "data.label_names=[Lob,Kündigung]"], "does not fit", "two pairs of quotes"),
    (["experiment=imdb"], "expected it with a plus", "Write +experiment=NAME."),
    (["+experiment=imdb", "train.warmup=1.5"], "train.warmup: expected a whole number", "found 1.5"),
    (["+experiment=imdb", "objective.supervised_steps=2.5"], "objective.supervised_steps: expected a", "found 2.5"),
    (["+experiment=imdb", "train=null"], "The configuration does not fit", "must be a string"),
    (["-m", "+experiment=imdb", "--cfg", "job"], "Expected at most one of --multirun", "leave out -m"),
    (["+experiment=imdb", "objective.temprature=1"], "'objective.temprature'", "Did you mean 'objective.temperature'?"),
]


# One command line after another in one process, each as `python -m` runs it: a process of its own takes seconds.
SERVER = """
import contextlib, io, json, os, runpy, sys
for line in sys.stdin:
    folder, module, *sys.argv[1:] = json.loads(line)
    os.chdir(folder)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[..., tuple[int, str, str]]]:
    """`ask(folder, module, *overrides)`: exit code, standard output and standard error."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env={**os.environ, "PYTHONPATH": str(config_dir().parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def answer(folder: Path, module: str, *overrides: str) -> tuple[int, str, str]:
        server.stdin.write(json.dumps([str(folder), module, *overrides]) + "\n")
        server.stdin.flush()
        code, out, err = json.loads(server.stdout.readline())
        return code, out, err

    yield answer
    server.stdin.close()
    assert server.wait() == 0


@pytest.mark.parametrize(("overrides", "first", "second"), BAD)
def test_a_mistake_in_the_config_is_one_message_and_exit_code_2(tmp_path, ask, overrides, first, second) -> None:
    code, out, err = ask(tmp_path, "uda.train", *overrides)
    assert code == 2
    assert "Traceback" not in err
    assert err.count("uda: ") == 1
    assert first in err
    assert second in err
    assert out == ""
    assert not list(tmp_path.iterdir())  # no folder is left behind


def test_mistakes_of_evaluate(tmp_path, ask) -> None:
    for overrides, message in (
        ([], "run: expected a run directory, found none. Set run="),
        (["run=nowhere"], "Expected a run directory with a config.yaml, found none in nowhere."),
        (["presicion=fp32"], "Did you mean 'precision'?"),
        (["run=x", "data.test=mine.csv"], "found data=null, the run's own test rows. Add a group: data=files"),
        (["run=a/seed0-data.max_length=8"], "found none in a/seed0-data.max_length=8."),
    ):
        code, _, err = ask(tmp_path, "uda.evaluate", *overrides)
        assert (code, err.count("uda: ")) == (2, 1), err
        assert message in err
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
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


# A command whose job ends by END; BEFORE comes first.
ENDING = """
import atexit, os, signal, sys
from uda import cli, errors, sweeps, train
sys.argv[1:] = ['+experiment=imdb']
outcomes, hook = sweeps.Sweep.outcomes, sys.excepthook
def stop(): os.kill(os.getpid(), signal.SIGTERM)
def job(cfg): END
BEFORE
cli.main('train', train.TrainConfig, job)
"""


@pytest.mark.parametrize(
    ("before", "end", "code", "said"),
    [
        pytest.param(
            "sweeps.Sweep.outcomes = lambda self: [stop(), outcomes(self)][1]",
            "raise errors.UserError('another process is gone')",
            *(2, "uda: another process is gone\n"),
            id="before a message",
        ),
        pytest.param(
            "sys.excepthook = lambda *error: [stop(), hook(*error)]",
            "raise ZeroDivisionError('ours')",
            *(1, "ZeroDivisionError: ours\n"),
            id="before a traceback",
        ),
        pytest.param(
            "atexit.register(stop)",
            "raise errors.UserError('no')",
            *(2, "uda: no\n"),
            id="after a message",
        ),
        pytest.param("", "sys.exit('why')", 1, "uda: why\n", id="a library's own end"),
        pytest.param("atexit.register(stop)", "return 0.5", 0, "", id="after the work"),
        pytest.param(
            "class Late:\n    def __del__(self, stop=stop): stop()\nlate = Late()",
            "return 0.5",
            *(0, ""),
            id="while Python takes all apart",
        ),
    ],
)
def test_a_command_ends_as_it_would_whatever_a_launcher_sends_meanwhile(tmp_path, before, end, code, said) -> None:
    """As torchrun does where one process is lost: the others have found that out and are about to say so."""
    environment = {**os.environ, "PYTHONPATH": str(config_dir().parent)}
    script = ENDING.replace("BEFORE", before).replace("END", end)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stderr == said or ("Traceback" in done.stderr and done.stderr.endswith(said))


def test_a_signal_that_comes_while_python_takes_an_object_away_is_heeded() -> None:
    """Python ignores what is raised there."""

    class Gone:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def wait() -> None:
        with cli.signals_interrupt("."):
            Gone()
            time.sleep(30)

    with pytest.raises(cli.Interrupted, match=r"^stopped by SIGTERM\.$"):
        wait()


@pytest.mark.slow
def test_train_evaluate_and_sweep_from_the_command_line(tiny, tmp_path, ask, zygote) -> None:
    done = command("train", *tiny, "hydra.run.dir=first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for line in (
        "accuracy ",
        "run directory: first\n",
        "objective=supervised\n",
        "-m uda.evaluate run=first\n",
        "-m tensorboard.main --logdir .\n",
    ):
        assert line in done.stderr
    assert ask(tmp_path, "uda.train", *tiny, "hydra.run.dir=first")[0] == 2
    done = zygote.run("-m", "uda.evaluate", "run=first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "first/evaluations/own/metrics.json").read_text())
    final = json.loads((tmp_path / "first/metrics.json").read_text())["final"]
    assert metrics["accuracy"] == final["accuracy"]
    tiny = [item for item in tiny if not item.startswith("objective.")]  # keys that objective=supervised lacks
    sweep = ["-m", "uda.train", "-m", *tiny, "seed=0,1", "objective=supervised,uda", "train.num_steps=6"]
    done = zygote.run(*sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted(path.parent.name for path in (tmp_path / "outputs/tiny").glob("*/metrics.json"))
    assert len(folders) == 4
    done = zygote.run(*sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("finished before") == 4


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_failed_job_and_lists_it(tiny, tmp_path, zygote) -> None:
    arguments = ["train.num_steps=6", "objective.kept_share=7,0.5"]
    done = zygote.run("-m", "uda.train", "-m", *tiny, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "uda: 1 of 2 jobs failed:" in done.stderr
    assert "objective.kept_share: expected a number > 0 and <= 1 or null, found 7" in done.stderr
    assert len(list((tmp_path / "outputs/tiny").glob("*/metrics.json"))) == 1


@pytest.mark.slow
def test_a_signal_ends_a_sweep(tiny, tmp_path, zygote) -> None:
    process = started(zygote, tmp_path, "-m", *tiny, "train.num_steps=4000", "seed=0,1")
    wait_for_step_20(process, tmp_path / "log")
    process.terminate()
    assert process.wait() == 143
    assert len(list((tmp_path / "outputs/tiny").glob("*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint_and_the_same_command_goes_on(tiny, tmp_path, zygote, number, code) -> None:
    overrides = [*tiny, "train.num_steps=4000", "hydra.run.dir=run"]
    process = started(zygote, tmp_path, *overrides)
    wait_for_step_20(process, tmp_path / "log")
    process.send_signal(number)
    assert process.wait() == code
    assert "Traceback" not in (tmp_path / "log").read_text()
    (checkpoint,) = (tmp_path / "run/checkpoints").glob("step-*")
    process = started(zygote, tmp_path, *overrides)
    resumed = f"resuming after step {checkpoint.name.removeprefix('step-')}\n"
    while resumed not in (tmp_path / "log").read_text():
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
    process.terminate()
    assert process.wait() in (143, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("run=outputs/a=b", "run='outputs/a=b'"),
        ("data.labeled=März.csv", "data.labeled='März.csv'"),
        ("data.text_column=Anfrage (Text)", "data.text_column='Anfrage (Text)'"),
        ("data.text_column=it's (1)", "data.text_column='it\\'s (1)'"),
        ("data.delimiter=,", "data.delimiter=','"),
        ("data.labeled=a.csv", "data.labeled=a.csv"),
        ("seed=0,1", "seed=0,1"),
        ("data.labeled=[a.csv,b.csv]", "data.labeled=[a.csv,b.csv]"),
        ("+experiment=imdb", "+experiment=imdb"),
        ("train.num_steps=", "train.num_steps="),
        ("--config-dir=a=b", "--config-dir=a=b"),
    ],
)
def test_values_that_hydra_cannot_read_are_taken_literally(typed: str, taken: str) -> None:
    assert taken_literally(typed) == taken
    parsed = OverridesParser.create()
    if taken != typed:
        assert parsed.parse_override(taken).value() == typed.partition("=")[2]


@pytest.mark.slow
def test_the_printed_commands_can_be_pasted(tiny, tmp_path, zygote) -> None:
    """The folder's name has `=` in it, and a run from a stored config offers no command that would train other data."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # so that `python` is this one
    done = command("train", *tiny, "train.num_steps=4", cwd=tmp_path, PATH=path)
    evaluate = next(line for line in done.stderr.splitlines() if "-m uda.evaluate" in line)
    assert "=" in evaluate.partition("run=")[2]
    again = subprocess.run(
        evaluate,
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(config_dir().parent), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    (config,) = tmp_path.glob("outputs/tiny/*/config.yaml")
    repeat = ["--config-dir", str(config.parent), "--config-name", "config", "hydra.run.dir=again"]
    done = zygote.run("-m", "uda.train", *repeat, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "uda.evaluate run=again" in done.stderr
    assert "-m uda.train" not in done.stderr
    pd.read_parquet(tmp_path / "test.parquet").to_csv(tmp_path / "test.csv", index=False)
    pd.read_json(tmp_path / "unlabeled.jsonl", lines=True).to_csv(tmp_path / "unlabeled.csv", index=False)
    csv = ["data.labeled=-", "data.format=csv", "data.unlabeled=unlabeled.csv", "data.test=test.csv"]
    arguments = ["-m", "uda.train", *tiny, *csv, "train.num_steps=4"]
    done = zygote.run(*arguments, input=tmp_path / "train.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "-m tensorboard.main" in done.stderr
    assert "-m uda.evaluate" not in done.stderr  # the rows are read by now
    assert "-m uda.train" not in done.stderr


def test_a_supervised_run_is_told_to_be_compared_with_the_experiments_own_objective(capsys, monkeypatch) -> None:
    scores = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "macro_f1": 0.5, "nll": 1.0, "ece": 0.1}
    result = train.Result(Path("a/b"), {}, {}, {**scores, "num_rows": 10, "step": 3})
    monkeypatch.setattr(train.config, "primary_config", lambda: "train")
    for typed, offered in (
        (["+experiment=newsgroups", "seed=1"], "-m uda.train +experiment=newsgroups seed=1 objective=supervised\n"),
        (["+experiment=newsgroups", "objective=supervised"], "-m uda.train +experiment=newsgroups\n"),
        (["+experiment=imdb", "train.overwrite=true"], "-m uda.train +experiment=imdb objective=supervised\n"),
        (  # the recipe has steps, batches and a rate of its own, which those of labelled rows alone do not suit
            [
                *("+experiment=imdb", "objective=supervised", "train.num_steps=12", "train.eval_every=null"),
                *("train.batch_size=40", "train.learning_rate=1e-4"),
            ],
            "-m uda.train +experiment=imdb train.eval_every=null\n",
        ),
    ):
        train.show(result, typed)
        assert offered in capsys.readouterr().err


def test_jobs_of_a_sweep_are_not_told_what_to_run_next(capsys, monkeypatch) -> None:
    scores = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "macro_f1": 0.5, "nll": 1.0, "ece": 0.1}
    result = train.Result(Path("a/b"), {}, {}, {**scores, "num_rows": 10, "step": 3})
    monkeypatch.setattr(train.config, "is_multirun", lambda: True)
    train.show(result, ["+sweep=objectives", "+experiment=imdb"])
    said = capsys.readouterr().err
    assert said.endswith("run directory: a/b\n")
    assert "accuracy 50.00 %" in said


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_training_is_one_line(tiny, tmp_path, number, code) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, signal\nfrom uda.objectives.supervised import Supervised\n"
        "class Killer(Supervised):\n"
        "    def __init__(self, **kw):\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        super().__init__(**kw)\n"
    )
    overrides = ["objective=supervised", "objective._target_=slow.Killer"]
    rest = [item for item in tiny if not item.startswith("objective.")]
    done = command("train", *rest, *overrides, cwd=tmp_path, PYTHONPATH=f"{config_dir().parent}:{tmp_path}")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert f"uda: stopped by {number.name}" in done.stderr


@pytest.mark.slow
def test_help_may_be_cut_off_by_its_reader() -> None:
    command = f"{shlex.quote(sys.executable)} -m uda.train --help | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Train a text classifier")
    assert done.stderr == ""
