"""An objective of one's own: one file of under 40 lines and one yaml, beside the project."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = '''
"""Entropy minimisation (Grandvalet & Bengio 2005) with the teacher's own answer as the target."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.objectives.base import Context, PseudoLabels, check_number
from uda.objectives.consistency import Consistency, MemoryOptions


class Sharpened(Consistency):
    """power: what the teacher's probabilities are raised to, above 0."""

    def __init__(self, num_classes: int, num_unlabeled: int, *, power: float, **options: Unpack[MemoryOptions]) -> None:
        super().__init__(num_classes, num_unlabeled, **options)
        check_number("power", power, above=0)
        self.power = power

    @torch.no_grad()
    def pseudo_label(
        self, weak: Tensor, index: Tensor, context: Context, labeled: Tensor | None = None
    ) -> PseudoLabels:
        logits, kept = self.aligned(weak, context)
        return self.taught(F.softmax(self.power * logits, dim=-1), kept, context)
'''
YAML = """
_target_: sharpened.Sharpened
power: 2.0
coefficient: 1.0
coefficient_ramp: 0.0
supervised_steps: 1
teacher_decay: 0.9
alignment: none
kept_share: 0.5
kept_share_end: null
memory_rows: 16
prefill_rows: 12
"""


@pytest.mark.slow
def test_one_file_and_one_yaml_are_an_objective(tiny_files: list[str], tmp_path: Path) -> None:
    assert len(MODULE.strip().splitlines()) < 40
    (tmp_path / "sharpened.py").write_text(MODULE)
    (tmp_path / "objective").mkdir()
    (tmp_path / "objective" / "sharpened.yaml").write_text(YAML)
    command = [sys.executable, "-m", "uda.train", "--config-dir", str(tmp_path), *tiny_files, "objective=sharpened"]
    command += ["train.num_steps=3", f"hydra.run.dir={tmp_path / 'run'}"]
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"-m uda.train --config-dir {tmp_path} +experiment=imdb " in done.stderr  # what to try next finds it too
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] == "finished"
    assert "Sharpened with 8 labelled" in (tmp_path / "run" / "train.log").read_text()
