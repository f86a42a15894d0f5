"""`make soak`, a short one."""

import os
import re
import subprocess
import sys

import pytest

from uda.config import config_dir


@pytest.mark.slow
def test_a_short_soak_finds_no_fault() -> None:
    root = config_dir().parent
    done = subprocess.run(
        [sys.executable, str(root / "scripts/soak.py"), "--kills", "1"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"\| (train|augment|predict) \| (\d+) \| \d+ \| (\d+) \| (\d+) \|", done.stdout)
    assert [name for name, *_ in rows] == ["train", "augment", "predict"]
    assert sum(int(kills) for _, kills, _, _ in rows) == 1
    assert all(faults == "0" for *_, faults in rows)
