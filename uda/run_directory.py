"""The run directory: refused, resumed or made new, and the config that it keeps."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from uda.errors import UserError

_FOLDERS = ("checkpoints", "model", "tensorboard")
_FILES = ("config.yaml", "split.json", "metrics.json", "predictions.parquet", "train.log")
_HEADER = """\
# To repeat this run:
# python -m uda.train --config-dir THIS_FOLDER --config-name config hydra.run.dir=NEW_FOLDER
"""


def finished_metrics(folder: Path) -> dict[str, Any] | None:
    """The metrics of the finished run in a folder, or None."""
    path = folder / "metrics.json"
    metrics: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return metrics if metrics.get("status") == "finished" else None


def refuse_finished(folder: Path, metrics: dict[str, Any]) -> None:
    """Say that the run in the folder is finished, and what can be done."""
    raise UserError(
        f"Expected a run directory without a finished run, found one in {folder} "
        f"(accuracy {100 * metrics['selected']['accuracy']:.2f} %). Set train.overwrite=true to start anew, or "
        "hydra.run.dir=DIR to write elsewhere."
    )


def empty(folder: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def keep_config(folder: Path, cfg: DictConfig) -> None:
    """Write the resolved config; an interrupted run goes on with the config that it began with, or not at all."""
    resolved = _plain(OmegaConf.to_container(cfg, resolve=True))
    resolved["train"]["overwrite"] = False
    path = folder / "config.yaml"
    if path.is_file() and (folder / "checkpoints").is_dir():
        _refuse_other_config(path, resolved)
    content = {"defaults": ["train_schema", "common", "_self_"], **resolved}
    path.write_text(_HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _refuse_other_config(path: Path, wanted: dict[str, Any]) -> None:
    found, expected = _flat(yaml.safe_load(path.read_text())), _flat(wanted)
    keys = [key for key in {**found, **expected} if key != "defaults" and found.get(key) != expected.get(key)]
    if keys:
        shown = ", ".join(f"{key} ({found.get(key)!r} there, {expected.get(key)!r} now)" for key in keys[:5])
        raise UserError(
            f"Expected to resume the interrupted run in {path.parent} with its own configuration, found other values: "
            f"{shown}. Give the old values, set train.overwrite=true to start anew, or hydra.run.dir=DIR."
        )


def _plain(value: Any) -> Any:
    """Enums by name, for yaml."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, "name", value)


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; empty groups stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
