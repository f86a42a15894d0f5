"""Files of rows, written in a test's own folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any, str], str]:
    """`write(rows, name)`: a frame, or what makes one, as the file `name`; its path."""

    def write(rows: Any, name: str) -> str:
        path = tmp_path / name
        WRITERS[path.suffix](pd.DataFrame(rows), path)
        return str(path)

    return write
