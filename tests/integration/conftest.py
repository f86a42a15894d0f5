"""Launches of several real processes, over gloo on this machine."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
