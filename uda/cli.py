"""What every command shares: Hydra's main, exit codes, one message for a user's mistake, logging."""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from enum import Enum
from logging.handlers import MemoryHandler
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from uda import run_directory, sweeps
from uda.config import TrainConfig, config_dir, is_multirun, register
from uda.errors import UserError, did_you_mean
from uda.files import remove_empty
from uda.sweeps import Outcome, Sweep

log = logging.getLogger("uda")

_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list such as [a, b]",
    dict: "keys and values such as {key: value}",
}


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
    register()
    log_to_stderr()
    sys.argv[1:] = [taken_literally(argument) for argument in sys.argv[1:]]
    sweep = sweeps.current
    task = _guarded(command, schema, job, sweep)
    code, message, outcomes = 0, "", []
    try:
        with signals_interrupt():
            hydra.main(version_base="1.3", config_path=str(config_dir().resolve()), config_name=command)(task)()
    except Interrupted as error:
        sweeps.stop_local_jobs()
        code, message = error.exit_code, str(error)
    except Exception as error:
        outcomes = sweep.outcomes()
        code, message = _unfinished(error, outcomes, schema, sweep.began)
    outcomes = outcomes or sweep.outcomes()
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        code = code or (2 if all(outcome.mistake for outcome in failed) else 1)
        message = f"{message}\n{sweeps.listed(outcomes)}".lstrip("\n")
    if code:
        _end(message, code)


def _guarded(
    command: str, schema: type, job: Callable[[DictConfig], float | None], sweep: Sweep
) -> Callable[[DictConfig], float | None]:
    """The job, its failures told at the end: raised, as only a fault outside a sweep is, they would end a sweep."""

    def guarded(cfg: DictConfig) -> float | None:
        sweep.began = True
        if not logging.getLogger().handlers:  # the process is a launcher's
            log_to_stderr()
        folder = Path(HydraConfig.get().runtime.output_dir)
        noted = run_directory.failure_noted(folder, is_multirun()) if issubclass(schema, TrainConfig) else nullcontext()
        try:
            with noted:
                value = job(cfg)
        except Exception as error:
            if not isinstance(error, UserError):
                if not is_multirun():
                    raise
                log.exception("failed: %s", folder)
            remove_empty(folder)
            sweep.note(command, error)
            return None
        sweep.note(command, None)
        return value

    return guarded


def _unfinished(error: Exception, outcomes: list[Outcome], schema: type, began: bool) -> tuple[int, str]:
    """Exit code and message for an error that came from no job; a fault of ours (`began`: after a job) is raised."""
    if (text := sweeps.explained(error, outcomes)) is not None:
        return 1, text
    if isinstance(error, HydraException | OmegaConfBaseException):
        return 2, explain(error, schema)
    if began or outcomes or not isinstance(error, OSError | ValueError | AssertionError):
        raise error
    if isinstance(error, OSError):  # of Hydra, which makes the folder
        return 2, (
            f"hydra.run.dir: expected a directory that can be made and written, found: {error}. Make room or mend its "
            "permissions, or set hydra.run.dir=DIR to write elsewhere."
        )
    return 2, explain(error, schema)  # Hydra's own complaint about an override


def taken_literally(argument: str) -> str:
    """An override of the command line whose value Hydra's grammar cannot read, such as a path with `=` or an umlaut,
    with that value in quotes; all others as they are.
    """
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or not value or value[0] in "[{":
        return argument
    parser = OverridesParser.create()
    try:
        parser.parse_override(argument)
    except HydraException:
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        quoted = f"{key}='{quoted}'"
        try:
            parser.parse_override(quoted)
        except HydraException:
            return argument  # the key is at fault
        return quoted
    return argument


@contextmanager
def signals_interrupt(outcome: str = "") -> Iterator[None]:
    """SIGTERM and SIGINT end the work where it stands, by `Interrupted`, so that what was begun can be taken back.

    outcome: what the message says of the work, after the signal's name.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}{outcome}", 128 + number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def rank() -> int:
    """The number of this process among those that a launcher started, from 0; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


def _end(message: str, code: int) -> NoReturn:
    print(f"uda{f', process {rank()}' if rank() else ''}: {message}", file=sys.stderr)
    sys.exit(code)


def explain(error: Exception, schema: type) -> str:
    """One message for an error in composing the config."""
    text = " ".join(str(error).split())
    cause = error.__cause__
    detail = " ".join(str(cause).split("\n    full_key")[0].split()) if cause is not None else ""
    if match := re.search(r"Could not override '([^']+)'", text):
        key, known = match[1], known_keys(schema)
        if key == "experiment":
            return "experiment: expected it with a plus, since it is added to the config. Write +experiment=NAME."
        near = " Other options of its group have it." if key in known else did_you_mean(key, known)
        return (
            f"Expected a key and a value that the config has, found '{key}'{f' ({detail})' if detail else ''}.{near} "
            "See all keys with --cfg job."
        )
    if match := re.match(r"Error merging override [+]*([\w.]+)=(.*)$", text):
        key, value = match[1], match[2].strip("'")
        wanted, values = _wanted(schema, key)
        return (
            f"{key}: expected {wanted}, found '{value}'.{did_you_mean(value, values)} Set {key} to such a value, or "
            "leave it out."
        )
    found = r"Could not find '([^']+)/([^'/]+)' Available options in '[^']+': (.*?)(?: Config search|$)"
    if match := re.search(found, text):
        group, name, options = match.groups()
        choices = options.split()
        if name in sweeps.EXTRA.get(group, ()):
            return (
                f"{group}={name}: expected it to be installed, found only {', '.join(choices)}. Install the extra that "
                "brings it: pip install 'uda[sweep]'."
            )
        return (
            f"{group}={name}: expected one of {', '.join(choices)}, found '{name}'.{did_you_mean(name, choices)} "
            f"Choose one of them."
        )
    if "Unexpected type for root: NoneType" in text:
        return (
            "data: expected a group before its keys are set, found data=null, the run's own test rows. Add a group: "
            "data=files data.test=FILE."
        )
    return _general(text + (f" ({detail})" if detail and detail not in text else ""))


def _general(reason: str) -> str:
    """A message for what we have no words of our own for."""
    return (
        f"The configuration does not fit: expected overrides such as group=option or key=value, found: {reason}. "
        "Correct the command line: --help names the groups and their options, --cfg job all keys. Values with special "
        """characters go in two pairs of quotes: 'key="value"', and in a list 'key=["one","two"]'."""
    )


def _wanted(schema: Any, key: str) -> tuple[str, list[str]]:
    """What a key of a schema takes, in words, and the values among which one can choose, if so."""
    kind = schema
    for part in key.split("."):
        nested = next((option for option in (kind, *get_args(kind)) if is_dataclass(option)), None)
        if nested is None:  # a key of a dictionary
            return "keys and values such as {key: value}", []
        kind = get_type_hints(nested)[part]
    options = [option for option in get_args(kind) if option is not type(None)] if type(None) in get_args(kind) else []
    null = " or null" if options else ""
    kind = options[0] if options else kind
    if isinstance(kind, type) and issubclass(kind, Enum):
        names = [option.name for option in kind]
        return f"one of {', '.join(names)}{null}", names
    return _KINDS.get(get_origin(kind) or kind, "another kind of value") + null, []


def known_keys(schema: Any, prefix: str = "") -> list[str]:
    """All keys of a schema, dotted; of a node that describes a class, those of the yaml files of its group."""
    keys: list[str] = []
    hints = get_type_hints(schema)
    for entry in fields(schema):
        kind, key = hints[entry.name], f"{prefix}{entry.name}"
        nested = next((option for option in (kind, *get_args(kind)) if is_dataclass(option)), None)
        if nested:
            keys += known_keys(nested, f"{key}.")
        else:
            options = (config_dir() / entry.name).glob("*.yaml") if not prefix else ()
            keys += [key, *sorted({f"{key}.{name}" for path in options for name in yaml.safe_load(path.read_text())})]
    return keys


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
