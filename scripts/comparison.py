"""What comparisons share: runs of `uda.train` in several processes, whose scores go into a file of results."""

import argparse
import fcntl
import hashlib
import json
import multiprocessing
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

SCORES = ("accuracy", "macro_f1", "nll", "ece")


@dataclass(frozen=True)
class Job:
    """One run: its name in the results, its seed, and the overrides that make it."""

    name: str
    seed: int
    overrides: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.name}, seed={self.seed}"

    @property
    def all_overrides(self) -> list[str]:
        return [*self.overrides, f"seed={self.seed}", "train.eval_every=null", "train.checkpoint_every=null"]


class Results:
    """A file of results, written after each run; what is in it is not repeated."""

    def __init__(self, path: Path, kinds: Iterable[str] = ("runs",)) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
        if path.is_file():
            self.found |= json.loads(path.read_text())

    def add(self, kind: str, key: str, result: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:  # another comparison may write there too
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.is_file():
                self.found |= json.loads(self.path.read_text())
            self.found[kind][key] = {**result, "machine": machine()}
            aside = self.path.with_suffix(".writing")
            aside.write_text(json.dumps(self.found, indent=1, sort_keys=True) + "\n")
            aside.replace(self.path)

    def has(self, job: "Job") -> bool:
        """Whether the run is there, made by the same overrides."""
        return self.found["runs"].get(job.key, {}).get("overrides") == job.all_overrides

    def scores(self, jobs: Iterable["Job"], score: str = "accuracy") -> list[Any]:
        """A score (or `machine`) of each run, None where it is not there as it would be made now."""
        return [self.found["runs"][job.key][score] if self.has(job) else None for job in jobs]


def machine() -> str:
    """The GPU's name where there is one, else how many processors there are, and theirs."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}"


def train(job: Job, outputs: Path) -> dict[str, Any]:
    """The scores of a run, in this process; of one that was finished when the comparison was stopped, its own."""
    import uda.train
    from uda.config import compose

    overrides = hashlib.sha256("\0".join(job.all_overrides).encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]+", "-", job.key)
    folder = outputs / f"{name}-{overrides}"
    done = folder / "metrics.json"
    if not done.is_file():
        try:
            uda.train.run(compose("train", [*job.all_overrides, f"hydra.run.dir={folder}"]))
        except Exception as error:  # many cannot be sent to another process
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
    for large in ("checkpoints", "model"):  # hundreds of runs fill a disk
        shutil.rmtree(folder / large, ignore_errors=True)
    metrics = json.loads(done.read_text())
    scores = {name: metrics["final"][name] for name in SCORES}
    return {"overrides": job.all_overrides, **scores, "seconds": metrics["seconds"], "steps": metrics["num_steps"]}


def train_all(jobs: list[Job], outputs: Path, results: Results, num_processes: int) -> None:
    """The runs that the results lack, in the order of the jobs; one that fails is told, and the others go on.

    A process that is killed, as for want of memory, ends the comparison; what is there stays.
    """
    jobs = [job for job in jobs if not results.has(job)]
    if num_processes > 1:
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
            for number, (job, run) in enumerate(_as_completed(pool, jobs, outputs, num_processes), start=1):
                error = run.exception()
                if isinstance(error, BrokenProcessPool):
                    raise error
                if error is not None:
                    print(f"{job.key} failed: {error}", file=sys.stderr, flush=True)
                    continue
                results.add("runs", job.key, run.result())
                print(f"{number}/{len(jobs)} {job.key}: {100 * run.result()['accuracy']:.2f} %", flush=True)
    except BrokenProcessPool as error:
        sys.exit(f"A process was killed, perhaps for want of memory: {error}. Start again, with fewer --jobs.")


def _as_completed(
    pool: ProcessPoolExecutor, jobs: list[Job], outputs: Path, at_once: int
) -> Iterator[tuple[Job, Future[dict[str, Any]]]]:
    """Runs that ended; a pool given all at once would begin the next ones after Ctrl-C."""
    ahead, running = iter(jobs), {}
    while True:
        running |= {pool.submit(train, job, outputs): job for job in islice(ahead, at_once - len(running))}
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for run in done:
            yield running.pop(run), run


def table(rows: dict[str, list[Any]], columns: list[str], num_words: int = 0) -> str:
    """Markdown: a row for each name. num_words: so many of the last columns hold words, not numbers."""
    kinds = [*[" ---: |"] * (len(columns) - num_words), *[" --- |"] * num_words]
    lines = [f"| {' | '.join(['run', *columns])} |", f"| --- |{''.join(kinds)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(map(str, cells))} |" for name, cells in rows.items())])


def mean_and_spread(values: list[float | None]) -> str:
    """Mean ± sample standard deviation in percent; how many there are where some are missing."""
    there = [100 * value for value in values if value is not None]
    if not there:
        return ""
    spread = f" ± {np.std(there, ddof=1):.2f}" if len(there) > 1 else ""
    return f"{np.mean(there):.2f}{spread}{f' ({len(there)})' if len(there) < len(values) else ''}"


def arguments(description: str | None, parts: Iterable[str], seeds: list[int], outputs: str) -> argparse.ArgumentParser:
    """The options that all comparisons have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; all if none is named")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="runs of these names alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--outputs", type=Path, default=Path(outputs))
    return parser


def training_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of comparisons whose runs are trainings."""
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each if more than 1")
    parser.add_argument("--tables", action="store_true", help="run nothing")


def chosen(
    options: argparse.Namespace, parser: argparse.ArgumentParser, runs: Mapping[str, Iterable[str]]
) -> list[str]:
    """The parts that were asked for. runs: the names of each part's."""
    if unknown := [part for part in options.parts if part not in runs]:
        parser.error(f"expected parts of {', '.join(runs)}, found {', '.join(unknown)}")
    parts = options.parts or list(runs)
    names = list(dict.fromkeys(name for part in parts for name in runs[part]))
    if unknown := [name for name in options.only if name not in names]:
        parser.error(f"--only: expected names of {', '.join(names)}, found {', '.join(unknown)}")
    return parts
