"""What every command shares: Hydra's main, exit codes, one message for a user's mistake, logging."""

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from logging.handlers import MemoryHandler
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from uda import overrides, run_directory, sweeps
from uda.config import AdaptConfig, TrainConfig, config_dir, is_multirun, register
from uda.errors import UserError, in_one_line
from uda.files import remove_empty
from uda.sweeps import Outcome, Sweep

log = logging.getLogger("uda")

_Handler = Callable[[int, FrameType | None], Any] | int | None
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AGAIN_SECONDS = 0.02  # after which a signal is sent again whose exception Python has ignored


class Interrupted(BaseException):
    """A job ended from outside, by a signal or by the loss of another process; `exit_code` is the command's.

    No Exception, so that no launcher goes on after it.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, exit_code)  # both, so that it can travel between processes
        self.message, self.exit_code = message, exit_code

    def __str__(self) -> str:
        return self.message


def main(command: str, schema: type, job: Callable[[DictConfig], float | None]) -> None:
    """Run a command: compose its config, run the job (or the sweep's jobs), end with the contract's exit code.

    0: done. 2: a user's mistake, with one message. 1: a fault of ours, with a traceback. 128 + n: signal n.
    schema: the dataclass of the command's config, for suggestions.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are
    register(command)
    log_to_stderr()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        code, message = _outcome(command, schema, job)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        message = end.code if isinstance(end.code, str) else ""
    except Exception:  # told here, since signals are ignored until it is
        sys.excepthook(*sys.exc_info())
        code, message = 1, ""
    if message:
        print(f"uda{f', process {rank()}' if rank() else ''}: {message}", file=sys.stderr)
    if threading.current_thread() is threading.main_thread():
        _set_signals(handlers)
        # It takes Python a second to take everything apart, when all is said and done.
        atexit.register(_set_signals, dict.fromkeys(_SIGNALS, signal.SIG_IGN))
    if code:
        sys.exit(code)


def _outcome(command: str, schema: type, job: Callable[[DictConfig], float | None]) -> tuple[int, str]:
    """The exit code and what is left to say; a fault of ours is raised. Afterwards SIGTERM and SIGINT are ignored."""
    sys.argv[1:] = [overrides.taken_literally(argument) for argument in sys.argv[1:]]
    sweep = sweeps.current = Sweep()
    task = _guarded(command, schema, job, sweep)
    code, message, outcomes = 0, "", []
    try:
        with signals_interrupt(afterwards=signal.SIG_IGN):  # what ended it is told, whatever a launcher sends meanwhile
            hydra.main(version_base="1.3", config_path=str(config_dir().resolve()), config_name=command)(task)()
    except Interrupted as error:
        sweeps.stop_local_jobs()
        code, message = error.exit_code, str(error)
    except BrokenPipeError:  # whoever reads the help has read enough, as head does
        if sweep.began:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python flushes into the pipe once more
        return 128 + signal.SIGPIPE, ""
    except Exception as error:
        sweeps.stop_local_jobs()
        outcomes = sweep.outcomes()
        code, message = _unfinished(error, outcomes, schema, sweep.began)
    outcomes = outcomes or sweep.outcomes()
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        code = code or (2 if all(outcome.mistake for outcome in failed) else 1)
        message = f"{message}\n{sweeps.listed(outcomes)}".lstrip("\n")
    return code, message


def _guarded(
    command: str, schema: type, job: Callable[[DictConfig], float | None], sweep: Sweep
) -> Callable[[DictConfig], float | None]:
    """The job, its failures told at the end: raised, as only a fault outside a sweep is, they would end a sweep."""

    def guarded(cfg: DictConfig) -> float | None:
        sweep.began = True
        if not logging.getLogger().handlers:  # the process is a launcher's
            log_to_stderr()
        folder = Path(HydraConfig.get().runtime.output_dir)
        keeps_notes = schema in (TrainConfig, AdaptConfig)
        noted = run_directory.failure_noted(folder, is_multirun()) if keeps_notes else nullcontext()
        try:
            _check_sweep()
            with noted:
                value = job(cfg)
        except Exception as error:
            if not isinstance(error, UserError):
                if not is_multirun():
                    raise
                log.exception("failed: %s", folder)
            elif is_multirun():  # told again at the end, which may be hours away
                log.error("failed: %s: %s", folder, in_one_line(error))
            remove_empty(folder)
            sweep.note(command, error)
            return None
        sweep.note(command, None)
        return value

    return guarded


def _check_sweep() -> None:
    """Refuse a sweep's settings in a run that is none, which would train with one value of each key."""
    name = HydraConfig.get().runtime.choices.get("sweep")
    if name is not None and not is_multirun():
        raise UserError(
            f"+sweep={name}: expected -m (--multirun) beside it, which makes a job of each of its values, found a "
            "single run. Add -m, or leave +sweep out."
        )


def _unfinished(error: Exception, outcomes: list[Outcome], schema: type, began: bool) -> tuple[int, str]:
    """Exit code and message for an error that came from no job; a fault of ours (`began`: after a job) is raised."""
    if (text := sweeps.explained(error, outcomes)) is not None:
        return 1, text
    if isinstance(error, HydraException | OmegaConfBaseException):
        return 2, overrides.explain(error, schema)
    if isinstance(error, UserError):  # of a sweep's job, which could not be noted
        return 2, str(error)
    if began or outcomes or not isinstance(error, OSError | ValueError | AssertionError):
        raise error
    if isinstance(error, OSError):  # of Hydra, which makes the folder
        return 2, (
            f"hydra.run.dir: expected a directory that can be made and written, found: {error}. Make room or mend its "
            "permissions, or set hydra.run.dir=DIR to write elsewhere."
        )
    return 2, overrides.explain(error, schema)  # Hydra's own complaint about an override


@contextmanager
def signals_interrupt(outcome: str = "", afterwards: signal.Handlers | None = None) -> Iterator[None]:
    """SIGTERM and SIGINT end the work where it stands, by `Interrupted`, so that what was begun can be taken back.

    outcome: what the message says of the work, after the signal's name. afterwards: what the signals do after the
    block; None: what they did before it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}{outcome}", 128 + number)

    def again(ignored: "sys.UnraisableHookArgs") -> None:
        error = ignored.exc_value
        if isinstance(error, Interrupted) and error.exit_code > 128:  # it came while Python was in a `__del__`
            threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), error.exit_code - 128)).start()
        else:
            hook(ignored)

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = again
        _set_signals(dict.fromkeys(_SIGNALS, handle))
        yield
    finally:
        sys.unraisablehook = hook
        _set_signals(previous if afterwards is None else dict.fromkeys(_SIGNALS, afterwards))


def _set_signals(handlers: Mapping[signal.Signals, _Handler]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # one that is not Python's stays
            signal.signal(number, handler)


def rank() -> int:
    """The number of this process among those that a launcher started, from 0; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


def log_to_stderr() -> None:
    """Our log on standard error, others' warnings too; of several processes the first one's, and errors of all."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    handler.setLevel(logging.ERROR if rank() else logging.NOTSET)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it reports each retry
    log.setLevel(logging.INFO)


@contextmanager
def log_kept() -> Iterator[Callable[[Path], None]]:
    """Keep the log in memory until a file is named, by a call of what is yielded; then write it there, and on."""
    root = logging.getLogger()
    kept = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    root.addHandler(kept)
    log.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [kept]

    def write_to(path: Path) -> None:
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(file)
        root.removeHandler(kept)
        kept.setTarget(file)
        kept.flush()
        handlers.append(file)

    try:
        yield write_to
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
