"""The jobs of a sweep, in whatever processes they run: what became of each, and how to run one of them alone."""

import json
import logging
import os
import platform
import shlex
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from uda.commands import python
from uda.config import config_dirs, job_overrides
from uda.errors import UserError, in_one_line
from uda.files import write_text

log = logging.getLogger(__name__)

_PREFIX = f".jobs-{platform.node()}-"
_ENDED_FROM_OUTSIDE = ("TerminatedWorkerError", "UncompletedJobError")  # joblib's and submitit's word for it
_SECONDS = 10  # that a local job of submitit gets to end


@dataclass(frozen=True)
class Outcome:
    """What became of a job. error: its message, None where it was done. mistake: the error is the user's to mend."""

    run_dir: str
    command: str
    error: str | None
    mistake: bool


@dataclass
class Sweep:
    """The command's job, or the sweep's jobs; it travels with them to the processes that they run in.

    folder: where each job of a sweep leaves its outcome, for the process that started them; None where there is no
    sweep. process: that which started them. began: a job ran in this process. own: the outcome of a job that is none of
    a sweep's, and those that could not be left in the folder.
    """

    folder: Path | None = None
    process: int = field(default_factory=os.getpid)
    began: bool = False
    own: list[Outcome] = field(default_factory=list)

    def note(self, command: str, error: Exception | None) -> None:
        """Leave the outcome of the job that runs here. Raises it as an error where only the launcher can tell of it:
        UserError, or RuntimeError of a fault of ours.
        """
        hydra, mistake = HydraConfig.get(), isinstance(error, UserError)
        if self.folder is None:
            self.own.append(Outcome(hydra.runtime.output_dir, "", None if error is None else str(error), mistake))
            return
        message = None if error is None else in_one_line(error)
        if message is not None and not mistake:
            message = f"{type(error).__name__}: {message}"
        outcome = Outcome(hydra.runtime.output_dir, _alone(command), message, mistake)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / f"{hydra.job.num:06d}.json", json.dumps(asdict(outcome)))
        except (OSError, UserError) as problem:  # a full disk, say, which may be the job's own failure
            told = f"{outcome.run_dir}: {message or f'done, but that could not be noted: {problem}'}"
            log.error(told)
            if os.getpid() != self.process:  # a copy of us, which goes with the job's process
                raise (UserError if error is None or mistake else RuntimeError)(told) from problem
            self.own.append(outcome)

    def outcomes(self) -> list[Outcome]:
        """The outcomes so far, in the jobs' order; those of a sweep are taken away."""
        if self.folder is None:
            return self.own
        found = [Outcome(**json.loads(path.read_text())) for path in sorted(self.folder.glob("[0-9]*.json"))]
        shutil.rmtree(self.folder, ignore_errors=True)
        return found + self.own


current = Sweep()


class Watch(Callback):
    """Told by Hydra where a sweep goes (`hydra.callbacks` in configs/common.yaml)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir).absolute()
        current.folder = folder / f"{_PREFIX}{os.getpid()}"
        for path in folder.glob(f"{_PREFIX}*"):  # of sweeps that were killed
            process = path.name.removeprefix(_PREFIX)
            if path == current.folder or (process.isdigit() and not psutil.pid_exists(int(process))):
                shutil.rmtree(path, ignore_errors=True)


def _alone(command: str) -> str:
    """What runs this job of a sweep alone, into the same run directory."""
    hydra = HydraConfig.get()
    words = [python(), "-m", f"uda.{command}", *config_dirs()]
    if hydra.job.config_name != command:
        words += ["--config-name", str(hydra.job.config_name)]
    overrides = [override for override in job_overrides() if not override.startswith("+sweep=")]
    return shlex.join([*words, *overrides, f"hydra.run.dir={hydra.runtime.output_dir}"])


def listed(outcomes: list[Outcome]) -> str:
    """The failed jobs, each with its run directory and its command; the error of a job that is none of a sweep."""
    lines = []
    for outcome in outcomes:
        if outcome.error is not None and outcome.command:
            lines += [f"{outcome.run_dir}: {outcome.error}", f"    alone: {outcome.command}"]
        elif outcome.error is not None:
            return outcome.error
    return "\n".join([f"{len(lines) // 2} of {len(outcomes)} jobs failed:", *lines])


def explained(error: Exception, outcomes: list[Outcome]) -> str | None:
    """What to say of an error that ended a sweep and is no job's; None for any other."""
    if type(error).__name__ in _ENDED_FROM_OUTSIDE:
        return (
            f"hydra/launcher: expected each job to end with a result, found that a process was ended from outside "
            f"({type(error).__name__}: {in_one_line(error)}), as the kernel does where memory runs out. Lower the "
            "number of jobs at a time, or mend what ended it; the same command goes on with what is not finished."
        )
    if type(error) is ValueError and outcomes and all(outcome.error for outcome in outcomes):
        return "hydra/sweeper: expected a trial with a score, found none."
    return None


def stop_local_jobs() -> None:
    """End the jobs that submitit's local launcher started, which would outlive the sweep; one that trains writes a
    checkpoint first.
    """
    jobs = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "submitit.local._local" in child.cmdline():
                jobs.append(child)
    with suppress(psutil.NoSuchProcess):
        tasks = [task for job in jobs for task in job.children()]
        for job in jobs:
            job.terminate()  # which it passes on
        for task in psutil.wait_procs(tasks, timeout=_SECONDS)[1]:  # not yet at its training, or stuck
            task.kill()
        psutil.wait_procs(jobs, timeout=_SECONDS)
