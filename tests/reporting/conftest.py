"""Run directories as `uda.train` leaves them, without the training."""

import copy
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from uda import run_directory
from uda.config import compose, config_dir, resolved
from uda.reporting.groups import read_options
from uda.reporting.runs import read_runs
from uda.reporting.summary import Summary, summarise


@cache
def config_of(overrides: tuple[str, ...]) -> dict[str, Any]:
    return resolved(compose("train", ["+experiment=imdb", *overrides]))


def split_of(draw: int, num_labeled: int = 2) -> dict[str, Any]:
    """Labelled rows of a draw; the test rows are the same for all."""
    labeled = [{"index": 10 * draw + row, "sha256": f"l{10 * draw + row}"} for row in range(num_labeled)]
    return {"label_names": ["neg", "pos"], "labeled": labeled, "test": [{"index": 900, "sha256": "t900"}]}


def scores_of(accuracy: float, step: int) -> dict[str, Any]:
    return {
        "step": step,
        "set": "test",
        "accuracy": accuracy,
        "accuracy_interval": [0.1, 0.9],
        "error": 1 - accuracy,
        "macro_f1": accuracy / 2,
        "nll": 2 - accuracy,
        "ece": 0.25,
        "num_rows": 1,
        "per_class": {},
    }


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """`make_run(path, *overrides, seed=0, accuracy=0.8, …)`: a run below tmp_path/runs; accuracy None: unfinished.

    split: its content; curve: (step, accuracy) of the evaluations; others: keys of metrics.json.
    """

    def make(
        path: str,
        *overrides: str,
        seed: int = 0,
        accuracy: float | None = 0.8,
        split: dict[str, Any] | None = None,
        curve: Sequence[tuple[int, float]] = ((10, 0.6), (20, 0.8)),
        **others: Any,
    ) -> Path:
        folder = tmp_path / "runs" / path
        config = copy.deepcopy(config_of(tuple(each for each in overrides if each.startswith("objective="))))
        for key, _, value in (each.partition("=") for each in overrides if not each.startswith("objective=")):
            *group, last = key.split(".")
            (config[group[0]] if group else config)[last] = yaml.safe_load(value)
        if not any(override.startswith("data.seed") for override in overrides):
            config["data"]["seed"] = seed
        config["seed"] = seed
        num_labeled = config["data"]["num_labeled"]
        folder.mkdir(parents=True)
        run_directory.prepare(folder, config, split or split_of(seed, num_labeled), overwrite=False)
        if accuracy is not None:
            selected = scores_of(accuracy, 20)
            metrics = {
                "status": "finished",
                "select": "final",
                "final": selected,
                "best": {**selected, "chosen_on": "test rows, so it is optimistic"},
                "selected": selected,
                "evaluations": [scores_of(value, step) for step, value in curve],
                "num_labeled": num_labeled,
                "num_unlabeled": 100,
                "label_descriptions": False,
                "training_seconds": 5.0,
                "seconds": 6.0,
                "precision": "fp32",
                "device": "cpu",
                "device_name": "x86_64",
                **others,
            }
            (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    return make


@pytest.fixture
def summarised(tmp_path: Path) -> Callable[..., Summary]:
    """`summarised(metric=…, baseline=…)`: the summary of the runs that were made."""

    def summarised(metric: str = "accuracy", baseline: str | None = None) -> Summary:
        root = tmp_path / "runs"
        options = read_options(config_dir())
        return summarise(root, list(read_runs(root)), metric, baseline, options, run_directory.FREE_KEYS)

    return summarised
