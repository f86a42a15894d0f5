"""Two processes do what one does with the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from uda.config import config_dir


def train(tiny: list[str], folder: Path, processes: int) -> Path:
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--nproc_per_node", str(processes), "--master_addr", "127.0.0.1"]
        launcher += ["--master_port", "29817", "-m"]
    no_dropout = ["model.dropout=0", "model.attention_dropout=0"]
    done = subprocess.run(
        [*launcher, "uda.train", *tiny, *no_dropout, f"hydra.run.dir={folder}"],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(config_dir().parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,  # a process that waits for another for ever
    )
    assert done.returncode == 0, done.stderr
    return folder


def gradient_norms(folder: Path) -> list[float]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("optimizer/gradient_norm")]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["supervised", "uda", "uda_port", "uda_weak_start", "uda_files"])
def test_two_processes_end_with_the_weights_of_one(tiny: list[str], tmp_path: Path, objective: str) -> None:
    overrides = [f"objective={objective}", *[item for item in tiny if not item.startswith("objective.")]]
    if objective in ("uda_weak_start", "uda_files"):
        overrides += [item for item in tiny if item.startswith("objective.")]
    one = load_file(train(overrides, tmp_path / "one", 1) / "model/model.safetensors")
    two = load_file(train(overrides, tmp_path / "two", 2) / "model/model.safetensors")
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-4)
    # AdamW takes the same steps whatever the gradient's scale; its norm does not.
    norms = [gradient_norms(tmp_path / name) for name in ("one", "two")]
    assert len(norms[0]) == 20
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-3)
