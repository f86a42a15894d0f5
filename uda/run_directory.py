"""The run directory: refused, resumed or made new; the config and the split that it keeps."""

import json
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from uda.errors import TakenError, UserError, in_one_line
from uda.files import remove, remove_leftovers, write_text
from uda.locks import in_use

log = logging.getLogger(__name__)

# Keys that a resumed run may change: they say what is kept and shown, and enter no number.
FREE_KEYS = (
    *("train.overwrite", "train.checkpoint_every", "train.keep_checkpoints", "train.log_every"),
    *("train.process_timeout", "augment.num_workers", "augment.cache_dir"),
)
# These it may change too: how memory is spent changes numbers by rounding and by other dropout masks alone, and the log
# warns of it.
_MEMORY_KEYS = (
    *("train.micro_batch_size", "train.eval_batch_size", "train.gradient_checkpointing"),
    "train.sharding",
)
_MAY_CHANGE = (*FREE_KEYS, *_MEMORY_KEYS)
_TYPED = ("data", "model", "train")  # groups that have the same keys in every run of a version
# metrics.json first: it says that the rest is there.
_WRITTEN = (
    "metrics.json",
    "checkpoints",
    "model",
    "tensorboard",
    "evaluations",
    "calibration",
    "reliability.png",
    "predictions.parquet",
    "train.log",
    "adapt.log",
    "split.json",
    "config.yaml",
)
_FAILED = "failed.json"
_NOT_FINITE = "not-finite-*.json"
_NAMED = 5  # keys that a message names
# Null asks for a choice (uda.choices): what stands in the folder is one, and is compared when the choice is made again.
_CHOSEN = ("data.max_length", "train.num_steps")
_HEADER = """\
# To repeat this run:
# python -m uda.{command} --config-dir THIS_FOLDER --config-name config hydra.run.dir=NEW_FOLDER
"""


def finished_metrics(folder: Path) -> dict[str, Any] | None:
    """The metrics of the finished run in a folder, or None."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    metrics: dict[str, Any] = _read(path, json.loads)
    return metrics if metrics.get("status") == "finished" else None


def refuse_finished(folder: Path, metrics: dict[str, Any]) -> None:
    """Say that the run in the folder is finished, with what score, and what can be done."""
    score = (
        f"accuracy {100 * metrics['selected']['accuracy']:.2f} %"
        if "selected" in metrics
        else (f"perplexity {metrics['after']['perplexity']:.2f}")
    )
    raise TakenError(
        f"Expected a run directory without a finished run, found one in {folder} "
        f"({score}). Set train.overwrite=true to start anew, or "
        "hydra.run.dir=DIR to write elsewhere."
    )


def refuse_run(folder: Path, key: str) -> None:
    """Refuse to write scores of another kind over those of a run. key: what names the folder."""
    if (folder / "split.json").is_file():
        raise UserError(
            f"{key}: expected a folder that is no run directory, found that of a run, {folder}, whose metrics.json "
            "would be lost. Name another one, or leave the key out."
        )


def read_config(folder: Path) -> dict[str, Any]:
    """The config that a run keeps, resolved."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"Expected a run directory with a config.yaml, found none in {folder}. Check the path.")
    content: dict[str, Any] = _read(path, yaml.safe_load)
    content.pop("defaults", None)
    return content


def of_another_version(folder: Path, absent: list[str]) -> str:
    """What to say of a run whose config lacks keys that this version has."""
    more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
    return (
        f"Expected the run in {folder} to have the settings of this version of uda, found a config.yaml without "
        f"{', '.join(absent[:_NAMED])}{more}: another version made it. Use that version, or train again with this one."
    )


def refuse_other_config(folder: Path, wanted: dict[str, Any]) -> None:
    """A run goes on with the config that it began with, or not at all; only free and memory keys may change."""
    content = read_config(folder)
    absent = [f"{group}.{key}" for group in _TYPED for key in wanted[group] if key not in (content.get(group) or {})]
    if absent := [key for key in absent if key not in _MAY_CHANGE]:
        raise TakenError(
            f"{of_another_version(folder, absent)} Or set train.overwrite=true to start anew, or hydra.run.dir=DIR to "
            "write elsewhere."
        )
    found, expected = _flat(content), _flat(wanted)
    if keys := _other_keys(found, expected):
        shown = ", ".join(f"{key} ({found.get(key)!r} there, {expected.get(key)!r} now)" for key in keys[:_NAMED])
        more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
        raise TakenError(
            f"Expected the run in {folder} to have this configuration, found other values: {shown}{more}. Give the old "
            "values, set train.overwrite=true to start anew, or hydra.run.dir=DIR to write elsewhere."
        )


def _other_keys(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    keys = [key for key in {**found, **expected} if key not in _MAY_CHANGE and found.get(key) != expected.get(key)]
    return [key for key in keys if key not in _CHOSEN or expected.get(key) is not None]


def compare_rows(folder: Path, hashes: list[str], own: bool) -> None:
    """Refuse a run's own test rows where they are others by now; warn of rows that the run was trained on.

    hashes: the content hashes of the rows that are evaluated. own: they are said to be the run's own test rows.
    """
    split = _read(folder / "split.json", json.loads)
    if own and hashes != [row["sha256"] for row in split["test"]]:
        raise UserError(
            f"Expected the test rows that the run in {folder} was scored on ({len(split['test'])} rows, split.json), "
            f"found others ({len(hashes)} rows): the data has changed since. Restore it, or name rows to evaluate on: "
            "data=files data.test=FILE."
        )
    trained_on = {row["sha256"] for row in split["labeled"]}
    if known := sum(each in trained_on for each in hashes):
        log.warning(
            "%d of the %d test rows are among the run's labelled rows: the score is too good", known, len(hashes)
        )


def warn_of_seen_rows(model: Path, hashes: list[str]) -> None:
    """Warn where an encoder comes from a run, of `uda.adapt` or `uda.train`, that did not hold the test rows back.

    model: the folder that training starts from. hashes: the content hashes of the test rows.
    """
    folder = model.resolve().parent
    if model.resolve().name != "model" or not (folder / "split.json").is_file():
        return
    with suppress(UserError, TypeError, KeyError):  # damaged, or no run's: nothing is known of what was read
        split = _read(folder / "split.json", json.loads)
        held_back = {row["sha256"] for role in ("test", "dev") for row in split.get(role, [])}
        if unknown := sum(each not in held_back for each in hashes):
            log.warning(
                "%d of the %d test rows were not held back when the encoder was trained (%s): if they are among the "
                "texts that it read, the score is too good. Make it anew with the data of this training, data.test "
                "included.",
                unknown,
                len(hashes),
                folder,
            )


@contextmanager
def failure_noted(folder: Path, sweep: bool) -> Iterator[None]:
    """Leave what ended a job in failed.json of its run directory, until the run goes on (`prepare`) or succeeds.

    sweep: also where the run left nothing else; outside a sweep such a directory is taken away. Of a directory that
    another process uses nothing is said: the run there goes on.
    """
    try:
        yield
    except TakenError:
        raise
    except Exception as error:
        first = int(os.environ.get("RANK", "0")) == 0  # of several processes that which holds the directory
        others = first and in_use(folder)
        if folder.is_dir() and (sweep or any(folder.iterdir())) and not others:
            note = {"type": type(error).__name__, "error": in_one_line(error)}
            if not isinstance(error, UserError):
                note["traceback"] = "".join(traceback.format_exception(error))
            with suppress(UserError, OSError):  # a full disk, say, which may be the very failure
                write_text(folder / _FAILED, json.dumps(note, indent=2, ensure_ascii=False) + "\n")
        raise
    remove(folder / _FAILED)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run in the folder can go on."""
    return any((folder / "checkpoints").glob("step-*"))


def prepare(
    folder: Path, config: dict[str, Any], split: dict[str, Any], overwrite: bool, command: str = "train"
) -> None:
    """Make the directory ready for a run that passed all its checks: emptied, new, or the same run's.

    overwrite: what is there goes, unless it is this very run, interrupted: a job that is started again by the same
    command, as after a preemption, goes on. command: whose run it is.
    """
    if overwrite and not _is_begun(folder, config, split):
        for name in _WRITTEN:
            remove(folder / name)
    elif has_checkpoint(folder) and _read(folder / "split.json", json.loads) != json.loads(json.dumps(split)):
        raise TakenError(
            f"Expected to resume the run in {folder} with the rows that it began with, found other rows or texts. "
            "Restore the data, set train.overwrite=true to start anew, or hydra.run.dir=DIR to write elsewhere."
        )
    if not has_checkpoint(folder):
        remove(folder / "calibration")  # of a run that may have been another one
    for path in (folder, folder / "checkpoints", folder / "tensorboard", *(folder / "evaluations").glob("*/")):
        remove_leftovers(path)
    remove(folder / _FAILED)
    for path in list(folder.glob(_NOT_FINITE)):  # written anew where it still holds
        path.unlink()
    content = {"defaults": [f"{command}_schema", "common", "_self_"], **config}
    header = _HEADER.format(command=command)
    write_text(folder / "config.yaml", header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    write_text(folder / "split.json", json.dumps(split, indent=2, ensure_ascii=False) + "\n")


def _is_begun(folder: Path, config: dict[str, Any], split: dict[str, Any]) -> bool:
    """Whether the folder holds this run, interrupted after a checkpoint."""
    if (folder / "metrics.json").exists() or not has_checkpoint(folder):
        return False
    try:
        same_rows = _read(folder / "split.json", json.loads) == json.loads(json.dumps(split))
        return same_rows and not _other_keys(_flat(read_config(folder)), _flat(config))
    except UserError:  # damaged: no run can go on from it
        return False


def _read(path: Path, parse: Any) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        content = error
    if not isinstance(content, dict):
        raise UserError(
            f"Expected {path} as a run writes it, found it missing or damaged. Restore it, set train.overwrite=true to "
            "start anew, or name another run directory."
        )
    return content


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; empty groups stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
