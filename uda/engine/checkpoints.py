"""Checkpoints that are whole or not there: safetensors and JSON with their checksums, renamed into place."""

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from uda.engine.export import environment
from uda.engine.process import Process
from uda.engine.sharding import part_of
from uda.errors import UserError
from uda.files import remove, write_aside
from uda.packages import file_sha256

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]

_SUMS = "SHA256SUMS"
_THREADS = 2  # that write and read the files at a time


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending."""
    names = [path.name for path in folder.glob("step-*")] if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d+)", name)))


def save_checkpoint(folder: Path, step: int, parts: dict[str, Tensors], state: dict[str, Any], keep: int) -> None:
    """Write `step-<step>`: one safetensors file a part, state.json, and SHA256SUMS as sha256sum reads it.

    Then drop all but the newest `keep`. Steps beyond this one, left over where they were damaged, go too. Raises
    UserError where the disk is full; the checkpoints before stay.
    """

    def write(aside: Path) -> None:
        aside.mkdir(parents=True)

        def write_part(name: str) -> None:
            on_cpu = {key: value.detach().contiguous().cpu() for key, value in parts[name].items()}
            save_file(on_cpu, aside / f"{name}.safetensors")

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(write_part, parts))
        (aside / "state.json").write_text(json.dumps({"step": step, **state}))
        (aside / _SUMS).write_text(_sums(aside))

    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / f"step-{step}", write)
    steps = checkpoint_steps(folder)
    kept = [number for number in steps if number <= step][-keep:]
    for number in set(steps) - set(kept):
        remove(folder / f"step-{number}")


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]] | None:
    """The parts and the state of the newest checkpoint in a folder that is as it was written, or None.

    Raises UserError where there are checkpoints and all are damaged.
    """
    steps = checkpoint_steps(folder)
    for step in reversed(steps):
        path = folder / f"step-{step}"
        damage = _damage(path)
        if damage is None:
            parts = {part.stem: load_file(part) for part in path.glob("*.safetensors")}
            return parts, json.loads((path / "state.json").read_text())
        log.warning("the checkpoint %s is damaged (%s) and left out", path, damage)
    if steps:
        raise UserError(
            f"Expected a checkpoint to go on from in {folder}, found all damaged: "
            f"{', '.join(f'step-{step}' for step in steps)} (`sha256sum -c {_SUMS}` in each names the files). Restore "
            "one from a copy, delete the folder to start anew, or set hydra.run.dir=DIR to write elsewhere."
        )
    return None


def load_common_checkpoint(folder: Path, process: Process) -> tuple[dict[str, Tensors], dict[str, Any]] | None:
    """What `load_checkpoint` gives, once all processes are known to have found the same one."""
    stored = load_checkpoint(folder)
    steps = process.gather_rows(np.array([0 if stored is None else stored[1]["step"]]))
    if len(set(steps.tolist())) > 1:
        raise UserError(
            f"Expected all processes to find the same checkpoint in {folder}, found those of the steps "
            f"{', '.join(map(str, steps))}. Put the run directory where all of them see it (hydra.run.dir=DIR)."
        )
    return stored


def _sums(folder: Path) -> str:
    """The SHA-256 of a folder's files, a line each, in the order of their names."""
    paths = sorted(path for path in folder.iterdir() if path.name != _SUMS)
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = pool.map(file_sha256, paths)
        return "".join(f"{found}  {path.name}\n" for found, path in zip(sums, paths, strict=True))


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        noted, found = (folder / _SUMS).read_text(), _sums(folder)
    except (OSError, ValueError) as error:
        return str(error)
    names = {line[66:] for line in set(noted.splitlines()) ^ set(found.splitlines())}
    return None if noted == found else f"missing or altered: {', '.join(sorted(names)) or _SUMS}"


def conditions(process: Process) -> dict[str, Any]:
    """What the numbers of a run depend on besides its config and its data."""
    now = environment(process.device)
    versions = {name: now["versions"][name] for name in ("torch", "transformers")}
    threads = {"num_threads": now["num_threads"]} if process.device.type == "cpu" else {}
    return {
        "precision": process.precision.value,
        "num_processes": process.count,
        "device_name": now["device_name"],
        **threads,
        **versions,
    }


def warn_of_other_conditions(stored: dict[str, Any], now: dict[str, Any]) -> None:
    """Say in the log why a resumed run will not end with the bits of an undisturbed one, if it will not."""
    keys = [key for key in {**stored, **now} if stored.get(key) != now.get(key)]
    if keys:
        changes = ", ".join(f"{key} was {stored.get(key)}, is {now.get(key)}" for key in keys)
        log.warning("this run goes on, but not to the bit as if it had never stopped: %s", changes)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """An optimiser's state as named tensors: `<parameter number>.<key>`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, values in state.items() for key, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what `optimizer_tensors` gave, gathered."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = part_of(value, parameters[int(number)])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
