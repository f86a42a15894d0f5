"""Checkpoints that are whole or not there: written aside, synced, renamed; safetensors and JSON only."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from uda.files import write_aside

Tensors = dict[str, Tensor]


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending."""
    names = [path.name for path in folder.glob("step-*")] if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d+)", name)))


def save_checkpoint(folder: Path, step: int, parts: dict[str, Tensors], state: dict[str, Any], keep: int) -> None:
    """Write `step-<step>`: one safetensors file a part, and state.json; then drop all but the newest `keep`."""

    def write(aside: Path) -> None:
        aside.mkdir(parents=True)
        for name, tensors in parts.items():
            on_cpu = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
            save_file(on_cpu, aside / f"{name}.safetensors")
        (aside / "state.json").write_text(json.dumps({"step": step, **state}))

    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / f"step-{step}", write)
    for old in checkpoint_steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step-{old}")


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]] | None:
    """The parts and the state of the newest checkpoint in a folder, or None."""
    steps = checkpoint_steps(folder)
    if not steps:
        return None
    newest = folder / f"step-{steps[-1]}"
    parts = {path.stem: load_file(path) for path in newest.glob("*.safetensors")}
    return parts, json.loads((newest / "state.json").read_text())


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """An optimiser's state as named tensors: `<parameter number>.<key>`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, values in state.items() for key, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
