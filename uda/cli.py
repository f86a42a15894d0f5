"""What every command shares: Hydra's main, exit codes, one message for a user's mistake, logging."""

import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from uda.config import TrainConfig, config_dir, is_multirun, register, run_dir
from uda.errors import UserError, did_you_mean

log = logging.getLogger("uda")


class Interrupted(Exception):
    """A job ended by a signal; `exit_code` is the command's."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(command: str, job: Callable[[DictConfig], float | None]) -> None:
    """Run a command: compose its config, run the job (or the sweep's jobs), end with the contract's exit code.

    0: done. 2: a user's mistake, with one message. 1: a fault of ours, with a traceback. 128 + n: signal n.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are
    register()
    log_to_stderr()
    caught: list[Exception] = []

    def guarded(cfg: DictConfig) -> float | None:
        try:
            return job(cfg)
        except (UserError, Interrupted) as error:
            if is_multirun():
                raise
            caught.append(error)  # raised here, Hydra would print a line of its own
            _remove_empty(run_dir())
            return None

    try:
        hydra.main(version_base="1.3", config_path=str(config_dir().resolve()), config_name=command)(guarded)()
        if caught:
            raise caught[0]
    except UserError as error:
        _end(str(error), 2)
    except Interrupted as error:
        _end(str(error), error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        _end(explain(error), 2)


def _remove_empty(folder: Path) -> None:
    """Take back the folders that Hydra made for a job that was refused."""
    below = [path for path in folder.parents if Path.cwd() in path.parents]
    for path in (folder, *below):
        if not path.is_dir() or any(path.iterdir()):
            return
        path.rmdir()


def _end(message: str, code: int) -> None:
    print(f"uda: {message}", file=sys.stderr)
    sys.exit(code)


def explain(error: Exception) -> str:
    """One message for an error in composing the config."""
    text = " ".join(str(error).split())
    cause = error.__cause__
    detail = " ".join(str(cause).split("\n    full_key")[0].split()) if cause is not None else ""
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        return (
            f"Expected a key and a value that the config has, found '{key}'"
            f"{f' ({detail})' if detail else ''}.{did_you_mean(key, known_keys(TrainConfig))} "
            "See all keys with --cfg job."
        )
    if match := re.search(
        r"Could not find '([^']+)/([^'/]+)' Available options in '[^']+': (.*?)( Config search|$)", text
    ):
        group, name, options, _ = match.groups()
        choices = options.split()
        return (
            f"{group}={name}: expected one of {', '.join(choices)}, found '{name}'.{did_you_mean(name, choices)} "
            f"Choose one of them."
        )
    return f"The configuration does not fit: {text}{f' ({detail})' if detail and detail not in text else ''}"


def known_keys(schema: Any, prefix: str = "") -> list[str]:
    """All keys of a schema, dotted."""
    keys: list[str] = []
    hints = get_type_hints(schema)
    for entry in fields(schema):
        kind = hints[entry.name]
        nested = next((option for option in (kind, *get_args(kind)) if is_dataclass(option)), None)
        keys += known_keys(nested, f"{prefix}{entry.name}.") if nested else [f"{prefix}{entry.name}"]
    return keys


def log_to_stderr() -> None:
    """Our log on standard error, others' warnings too."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it reports each retry
    log.setLevel(logging.INFO)


def log_to_file(path: Path) -> logging.FileHandler:
    """The log of this run as a file too, appended to; close the handler with `stop_log_file`."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    log.setLevel(logging.INFO)
    return handler


def stop_log_file(handler: logging.FileHandler) -> None:
    """Undo `log_to_file`: a multirun has a file a job."""
    logging.getLogger().removeHandler(handler)
    handler.close()
