"""Launches of several real processes, over gloo on this machine; and commands that need not import everything again."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest

from uda.config import config_dir


def environment(**more: str) -> dict[str, str]:
    """Ours, in which `python -m uda.…` finds this checkout from anywhere."""
    return {**os.environ, "PYTHONPATH": str(config_dir().parent), **more}


@dataclass
class Launch:
    """A launcher and its ranks; what all of them write to standard error goes to one file."""

    launcher: Any  # a Popen or a Command
    log: Path

    def ranks(self) -> dict[int, psutil.Process]:
        """The processes that were launched, by rank, which is the order of their start."""
        children = psutil.Process(self.launcher.pid).children()
        return dict(enumerate(sorted(children, key=lambda child: (child.create_time(), child.pid))))

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
def launch(
    zygote: "Zygote", held_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Launch]]:
    """`launch(count, program, *arguments)`: so many processes of a script or of `-m module`, one without a launcher.

    They are forks of one process; with stderr, a file descriptor in place of the log's file, they are started by
    Python's own means. Whatever is left of them is ended at the end.
    """
    folder = tmp_path_factory.mktemp("launches")
    started: list[psutil.Process] = []

    def start(count: int, *arguments: str, stderr: int | None = None) -> Launch:
        command: list[str] = []
        if count > 1:
            command += ["-m", "torch.distributed.run", "--nproc_per_node", str(count), "--master_addr", "127.0.0.1"]
            command += ["--master_port", str(held_port())]
        command += arguments
        log = folder / f"{len(started)}.log"
        launcher: Any
        if stderr is None:
            launcher = zygote.start(*command, cwd=folder, log=log)
        else:
            launcher = subprocess.Popen(
                [sys.executable, *command], cwd=folder, env=environment(), stderr=stderr, start_new_session=True
            )
        started.append(psutil.Process(launcher.pid))
        return Launch(launcher, log)

    yield start
    for process in started:
        if is_alive(process):
            for each in [*process.children(recursive=True), process]:
                each.kill()


@pytest.fixture(scope="module")
def held_port() -> Iterator[Callable[[], int]]:
    """Ports that nobody else is given meanwhile, and that torch's store, which reuses addresses, can listen at."""
    with ExitStack() as sockets:

        def port() -> int:
            held = sockets.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            return int(held.getsockname()[1])

        yield port


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


class Command:
    """A running command; what tests ask of a `subprocess.Popen`."""

    def __init__(self, zygote: "Zygote", pid: int, log: Path) -> None:
        self._zygote, self.pid, self._log = zygote, pid, log

    def text(self) -> str:
        """What it has said until now."""
        return self._log.read_text()

    def poll(self) -> int | None:
        code: int | None = self._zygote.answer({"poll": self.pid})
        return code

    def wait(self, timeout: float = 900) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < until, f"still there after {timeout} s"
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
    """The process that has imported everything, see zygote.py. It ends with `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pids: list[int] = []
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            env=environment(),
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

    def start(
        self,
        *argv: str,
        cwd: Path,
        log: Path,
        out: Path | None = None,
        input: str | Path = os.devnull,
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> Command:
        """`python argv…` in our environment and env; its output is added to the files `log` and, where given, `out`."""
        log.touch()
        files = {"input": str(input), "out": str(out or log), "log": str(log)}
        pid = self.answer({"argv": argv, "cwd": str(cwd), "env": environment(**env), **files})
        self._pids.append(pid)
        return Command(self, pid, log)

    def run(self, *argv: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """`python argv…` to its end. options: cwd, input, env of `start`."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        out, log = folder / "out", folder / "log"
        code = self.start(*argv, out=out, log=log, **options).wait()
        return subprocess.CompletedProcess(argv, code, out.read_text(), log.read_text())

    def close(self) -> None:
        """End, and with us what a failed test left running."""
        for pid in self._pids:
            if self.answer({"poll": pid}) is None:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # each has a session of its own
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Starts commands as forks of one process."""
    started = Zygote(tmp_path_factory.mktemp("commands"))
    yield started
    started.close()
