"""The run directory: refused, resumed or made new; the config and the split that it keeps."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from uda.errors import UserError
from uda.files import write_text

_FOLDERS = ("checkpoints", "model", "tensorboard", "evaluations")
_FILES = ("config.yaml", "split.json", "metrics.json", "predictions.parquet", "train.log")
_HEADER = """\
# To repeat this run:
# python -m uda.train --config-dir THIS_FOLDER --config-name config hydra.run.dir=NEW_FOLDER
"""


def finished_metrics(folder: Path) -> dict[str, Any] | None:
    """The metrics of the finished run in a folder, or None."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    metrics: dict[str, Any] = _read(path, json.loads)
    return metrics if metrics.get("status") == "finished" else None


def refuse_finished(folder: Path, metrics: dict[str, Any]) -> None:
    """Say that the run in the folder is finished, and what can be done."""
    raise UserError(
        f"Expected a run directory without a finished run, found one in {folder} "
        f"(accuracy {100 * metrics['selected']['accuracy']:.2f} %). Set train.overwrite=true to start anew, or "
        "hydra.run.dir=DIR to write elsewhere."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The config that a run keeps, resolved."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"Expected a run directory with a config.yaml, found none in {folder}. Check the path.")
    content: dict[str, Any] = _read(path, yaml.safe_load)
    content.pop("defaults", None)
    return content


def refuse_other_config(folder: Path, wanted: dict[str, Any]) -> None:
    """A run goes on with the config that it began with, or not at all."""
    found, expected = _flat(read_config(folder)), _flat(wanted)
    keys = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
    if keys:
        shown = ", ".join(f"{key} ({found.get(key)!r} there, {expected.get(key)!r} now)" for key in keys[:5])
        raise UserError(
            f"Expected the run in {folder} to have this configuration, found other values: {shown}. Give the old "
            "values, set train.overwrite=true to start anew, or hydra.run.dir=DIR to write elsewhere."
        )


def prepare(folder: Path, config: dict[str, Any], split: dict[str, Any], overwrite: bool) -> None:
    """Make the directory ready for a run that passed all its checks: emptied, new, or the same run's."""
    if overwrite:
        _empty(folder)
    if (folder / "checkpoints").is_dir():
        refuse_other_config(folder, config)
        if _read(folder / "split.json", json.loads) != json.loads(json.dumps(split)):
            raise UserError(
                f"Expected to resume the run in {folder} with the rows that it began with, found other rows or texts. "
                "Restore the data, set train.overwrite=true to start anew, or hydra.run.dir=DIR to write elsewhere."
            )
    folder.mkdir(parents=True, exist_ok=True)
    content = {"defaults": ["train_schema", "common", "_self_"], **config}
    write_text(folder / "config.yaml", _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    write_text(folder / "split.json", json.dumps(split, indent=2, ensure_ascii=False) + "\n")


def _read(path: Path, parse: Any) -> dict[str, Any]:
    try:
        content = parse(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        content = error
    if not isinstance(content, dict):
        raise UserError(
            f"Expected {path} as a run writes it, found it missing or damaged. Restore it, set train.overwrite=true to "
            "start anew, or name another run directory."
        )
    return content


def _empty(folder: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; empty groups stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
