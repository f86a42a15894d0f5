"""Launches of several real processes, over gloo on this machine; and commands that need not import everything again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from uda.config import config_dir


@dataclass
class Launch:
    """A launcher and its ranks; what all of them write to standard error goes to one file."""

    launcher: subprocess.Popen[bytes]
    log: Path

    def ranks(self) -> dict[int, psutil.Process]:
        """The processes that were launched, by rank."""
        children = psutil.Process(self.launcher.pid).children()
        return {int(child.environ()["RANK"]): child for child in children}

    def ended(self, ranks: dict[int, psutil.Process], seconds: float) -> list[int]:
        """The ranks that have ended when so many seconds are over, or as soon as all have."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(map(is_alive, ranks.values())):
            time.sleep(0.05)
        return [rank for rank, process in ranks.items() if not is_alive(process)]

    def finish(self, seconds: float = 900) -> str:
        """Wait for the launcher to end with success; the log."""
        assert self.launcher.wait(seconds) == 0, self.text()
        return self.text()

    def text(self) -> str:
        return self.log.read_text()


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Launch]]:
    """`launch(count, program, *arguments)`: so many processes of a script or of `-m module`, one without a launcher.

    stderr: a file descriptor in place of the log's file. Whatever is left of them is ended at the end.
    """
    folder = tmp_path_factory.mktemp("launches")
    environment = {
        **os.environ,
        "PYTHONPATH": str(config_dir().parent),
        "UDA_CACHE": str(tmp_path_factory.getbasetemp() / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    started: list[psutil.Process] = []

    def start(count: int, *arguments: str, stderr: int | None = None) -> Launch:
        command = [sys.executable]
        if count > 1:
            command += ["-m", "torch.distributed.run", "--nproc_per_node", str(count), "--master_addr", "127.0.0.1"]
            command += ["--master_port", str(free_port())]
        log = folder / f"{len(started)}.log"
        with log.open("w") as file:
            launcher = subprocess.Popen(
                [*command, *arguments],
                cwd=folder,
                env=environment,
                stderr=file if stderr is None else stderr,
                start_new_session=True,  # a Ctrl-C reaches all of them, and not us
            )
        started.append(psutil.Process(launcher.pid))
        return Launch(launcher, log)

    yield start
    for process in started:
        if is_alive(process):
            for each in [*process.children(recursive=True), process]:
                each.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def tiny_files(
    tiny_bert: Path, write_reviews: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Overrides as of `tiny`, for a whole module: four labelled and twelve unlabelled rows a step, no dropout."""
    folder = write_reviews(tmp_path_factory.mktemp("reviews"))
    return [
        "+experiment=imdb",
        "data=files",
        f"data.labeled={folder}/train.csv",
        f"data.unlabeled={folder}/unlabeled.jsonl",
        f"data.test={folder}/test.parquet",
        "data.num_labeled=8",
        "data.max_length=24",
        "data.label_descriptions={neg: [awful bad film], pos: [great good film]}",
        "model=local",
        f"model.name_or_path={tiny_bert}",
        "model.pooling=mean",
        "model.dropout=0",
        "model.attention_dropout=0",
        "train.num_steps=20",
        "train.batch_size=4",
        "train.unlabeled_ratio=3",
        "train.supervised_batch_size=4",
        "train.learning_rate=1e-3",
        "train.supervised_learning_rate=1e-3",
        "train.precision=fp32",
        "train.eval_every=null",
        "train.eval_batch_size=7",
        "train.log_every=1",
    ]


# Reads a request a line. {"module", "arguments", "cwd", "env", "log"} forks a process that runs the module as
# `python -m` does and answers with its id; {"poll": id} answers with its exit code, or null.
SERVER = """
import json, os, runpy, sys
import uda.build, uda.data.splits, uda.engine.evaluation, uda.engine.export, uda.engine.training, uda.finish, uda.train
from torch.utils.tensorboard import SummaryWriter

def run(module, arguments, cwd, env, log):
    for number, file in ((0, os.devnull), (1, log), (2, log)):
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [cwd, *env.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)

codes = {}
while line := sys.stdin.readline():
    request = json.loads(line)
    if "poll" in request:
        pid = request["poll"]
        if codes.get(pid) is None:
            found, status = os.waitpid(pid, os.WNOHANG)
            codes[pid] = os.waitstatus_to_exitcode(status) if found else None
        print(json.dumps(codes[pid]), flush=True)
        continue
    pid = os.fork()
    if not pid:
        sys.modules.pop(request["module"], None)  # it becomes __main__
        run(**request)
    print(pid, flush=True)
"""


class Command:
    """A running command; what tests ask of a `subprocess.Popen`."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self._zygote, self.pid = zygote, pid

    def poll(self) -> int | None:
        code: int | None = self._zygote.answer({"poll": self.pid})
        return code

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The process that has imported everything. It ends with `close`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env={**os.environ, "PYTHONPATH": str(config_dir().parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self, request: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, module: str, *arguments: str, cwd: Path, env: Mapping[str, str], log: Path) -> Command:
        """`python -m module arguments…`, whose output is added to the file `log`."""
        request = {"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env), "log": str(log)}
        return Command(self, self.answer(request))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Starts commands as forks of one process."""
    started = Zygote()
    yield started
    started.close()
