"""The runs under a folder, as their directories tell of them; nothing of a model or of data is loaded."""

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

log = logging.getLogger(__name__)

# The loader in C takes a ninth of the time; some builds of PyYAML are without it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CHOICE = re.compile(r"chose (data\.max_length|train\.num_steps)=")
_LOG_HEAD = 20_000  # characters of a run's log in which its choices stand
_NO_SCORES = ("step", "num_rows")
_LONGEST_MESSAGE = 500


class Status(Enum):
    """How far a run got; what cannot be read counts as failed."""

    finished = "finished"
    failed = "failed"
    unfinished = "unfinished"


@dataclass(frozen=True)
class Split:
    """Digests of a run's labelled and test rows together, and of its test rows."""

    rows: str
    test: str


@dataclass(frozen=True)
class Run:
    """One run directory.

    path: below the folder that was searched. message: why the run failed, or how far it got. settings: its config by
    keys such as `train.num_steps`, values as on a command line; null again what the run chose for itself. metrics: what
    metrics.json holds, empty unless finished.
    """

    path: str
    status: Status
    message: str
    settings: dict[str, str]
    metrics: dict[str, Any]
    split: Split | None

    @property
    def scores(self) -> dict[str, float]:
        """The finite scores of the selected model on the test rows."""
        return finite_scores(self.metrics.get("selected", {}))

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The scores of each evaluation, with their step and set."""
        return list(self.metrics.get("evaluations") or [])

    @property
    def draw(self) -> tuple[str, str]:
        """The seeds of the label draw and of everything else."""
        return self.settings.get("data.seed", ""), self.settings.get("seed", "")


class _Damaged(Exception):
    """A file that cannot be read as what it should be; the text names it."""


def finite_scores(entry: Mapping[str, Any]) -> dict[str, float]:
    """The scores of one entry of metrics.json that are a finite number each."""
    numbers = {key: value for key, value in entry.items() if type(value) in (int, float) and key not in _NO_SCORES}
    return {key: float(value) for key, value in numbers.items() if math.isfinite(value)}


def read_runs(root: Path) -> Iterator[Run]:
    """Every run of `uda.train` in a folder, at any depth, in the order of their paths; none twice by links."""
    return _search(root, root, {}, set())


def _search(folder: Path, root: Path, splits: dict[bytes, Split], seen: set[tuple[int, int]]) -> Iterator[Run]:
    try:
        facts = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        log.warning("left out: %s", error)
        return
    if (facts.st_dev, facts.st_ino) in seen:
        return
    seen.add((facts.st_dev, facts.st_ino))
    names = {entry.name for entry in entries}
    if {"config.yaml", "failed.json"} & names or {"split.json", "metrics.json"} <= names:
        path = os.fsencode(folder.relative_to(root)).decode(errors="replace")
        run = _read_run(folder, path, names, splits)
        if run is not None:  # what a run directory holds are no runs
            yield run
            return
    for entry in entries:
        if not entry.name.startswith(".") and _is_folder(entry):
            yield from _search(Path(entry.path), root, splits, seen)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link in a circle, or into a folder that we may not enter
        log.warning("left out: %s", error)
        return False


def _read_run(folder: Path, path: str, names: set[str], splits: dict[bytes, Split]) -> Run | None:
    """The run in a folder of these files; None where another command or somebody else wrote there."""
    settings: dict[str, str] = {}
    metrics: dict[str, Any] = {}
    split, damage = None, ""
    try:
        if "config.yaml" in names:
            settings = _read_settings(folder)
            if not settings:
                return None
        if "split.json" in names:
            split = _read_split(folder / "split.json", splits)
        if "metrics.json" in names:
            metrics = _read_metrics(folder / "metrics.json")
            if not settings:
                raise _Damaged("config.yaml is missing")
    except _Damaged as error:
        if not {"split.json", "failed.json"} & names:
            return None
        damage, metrics = _failure(folder) or str(error), {}
    if metrics:
        return Run(path, Status.finished, "", settings, metrics, split)
    if failure := damage or _failure(folder):
        return Run(path, Status.failed, failure, settings, {}, split)
    return Run(path, Status.unfinished, _progress(folder, settings), settings, {}, split)


def _read_settings(folder: Path) -> dict[str, str]:
    """The settings of a run of `uda.train`; of other files of that name none."""
    config = _load(folder / "config.yaml", lambda text: yaml.load(text, Loader=LOADER))
    defaults = config.pop("defaults", None)
    if not isinstance(defaults, list) or "train_schema" not in defaults:
        return {}
    return flat_settings(config) | dict.fromkeys(_chosen(folder), "null")


def _load(path: Path, parse: Any) -> dict[str, Any]:
    """The mapping in a file."""
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _Damaged(f"{path.name} cannot be read: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise _Damaged(f"{path.name} cannot be read: it holds no keys and values")
    return content


def _read_metrics(path: Path) -> dict[str, Any]:
    """What metrics.json holds, if its run is finished; else nothing."""
    metrics = _load(path, json.loads)
    if metrics.get("status") != "finished":
        return {}
    entries = [metrics.get("selected"), *(metrics.get("evaluations") or [])]
    numbers = [metrics.get("seconds"), metrics.get("num_labeled")]
    if not all(isinstance(entry, dict) and type(entry.get("step")) is int for entry in entries):
        raise _Damaged("metrics.json cannot be read: it lacks scores and their steps")
    if metrics.get("select") == "best" and not isinstance(metrics.get("best"), dict):
        raise _Damaged("metrics.json cannot be read: it lacks the scores of the best weights")
    if not all(type(number) in (int, float) for number in numbers):
        raise _Damaged("metrics.json cannot be read: it lacks seconds or num_labeled")
    return metrics


def _read_split(path: Path, known: dict[bytes, Split]) -> Split:
    """The digests of a split; a file that is the same to the byte as an earlier one is not taken apart again."""
    try:
        content = hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise _Damaged(f"split.json cannot be read: {_one_line(error)}") from error
    if content not in known:
        split = _load(path, json.loads)
        try:
            labeled, test = (sorted(row["sha256"] for row in split[role]) for role in ("labeled", "test"))
        except (KeyError, TypeError) as error:
            raise _Damaged("split.json cannot be read: it lacks rows") from error
        known[content] = Split(_digest([*labeled, "test", *test]), _digest(test))
    return known[content]


def _digest(hashes: list[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def flat_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """A config by keys of two levels, such as `seed` and `train.num_steps`, values as on a command line."""
    flat: dict[str, str] = {}
    for group, value in config.items():
        if isinstance(value, dict) and value:
            flat |= {f"{group}.{key}": shown(item) for key, item in value.items()}
        else:
            flat[str(group)] = shown(value)
    return flat


def shown(value: Any) -> str:
    """A value of a config as it is written on a command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, list) else str(value)


def _chosen(folder: Path) -> list[str]:
    """The keys that the run, asked by null, chose for itself: its log says so, its config has what it chose."""
    try:
        with (folder / "train.log").open(encoding="utf-8", errors="replace") as file:
            return _CHOICE.findall(file.read(_LOG_HEAD))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _Damaged(f"train.log cannot be read: {_one_line(error)}") from error


def _failure(folder: Path) -> str:
    """Why the run failed, as its sweep or a step that was not finite left it; or an empty string."""
    if (path := folder / "failed.json").is_file():
        try:
            content = _load(path, json.loads)
        except _Damaged as error:
            return str(error)
        kind, text = str(content.get("type", "")), _one_line(content.get("error", "")) or "no message"
        return text if kind in ("", "UserError") else f"{kind}: {text}"
    if found := sorted(path.name for path in folder.glob("not-finite-*.json")):
        return f"loss or gradient not finite: {found[0]}"
    return ""


def _progress(folder: Path, settings: Mapping[str, str]) -> str:
    """The newest checkpoint of a run that is not finished."""
    steps = [int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*") if path.name[5:].isdigit()]
    if not steps:
        return "no checkpoint"
    total = settings.get("train.num_steps", "null")
    return f"checkpoint at step {max(steps)}" + (f" of {total}" if total != "null" else "")


def _one_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"
