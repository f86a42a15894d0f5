"""Runs that differ in their seeds alone, under a name made of what tells the groups apart."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from uda.reporting.runs import LOADER, Run, Status, flat_settings

Options = Mapping[str, Mapping[str, Mapping[str, str]]]  # by group of the config and name of the option

_OPTION_GROUPS = ("objective", "data", "augment", "model")
_FIRST = ("objective", "data", "data.num_labeled", "augment", "model")  # what a name says before all else
_MOST_PARTS = 4  # of a name; where more settings differ, the fewest that tell the groups apart
_LONGEST_VALUE = 28
_LABELS = "data.num_labeled"


@dataclass(frozen=True)
class Group:
    """Runs with the same settings but for the seeds.

    name: the settings that tell it from the others. series: those without the number of labels. settings: all that its
    runs share, with the options of the config's groups, such as `objective`: `uda_weak_start`. runs: those that count,
    in the order of their paths. repeats: finished runs with settings, seeds and rows of one that counts.
    """

    name: str
    series: str
    settings: dict[str, str]
    runs: list[Run]
    repeats: list[Run]

    @property
    def finished(self) -> list[Run]:
        """The runs that have scores."""
        return [run for run in self.runs if run.status is Status.finished]

    def count(self, status: Status) -> int:
        """How many of its runs are in this state."""
        return sum(run.status is status for run in self.runs)


def read_options(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """The settings of each option of the config's groups, from the folder of the yaml files, without interpolations.

    An option stands before those that are built on it, so that of options equally near to a run's settings the plainest
    is taken.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}
    for group in _OPTION_GROUPS:
        paths = sorted((folder / group).glob("*.yaml"))
        nodes = {path.stem: yaml.load(path.read_text(encoding="utf-8"), LOADER) for path in paths}
        plainest = sorted(nodes, key=lambda name: _depth(name, nodes))
        settings = {name: flat_settings({group: _merged(name, nodes)}) for name in plainest}
        found[group] = {
            name: {key: value for key, value in flat.items() if "${" not in value} for name, flat in settings.items()
        }
    return found


def _depth(name: str, nodes: Mapping[str, dict[str, Any]]) -> int:
    """How many options an option is built on, one upon the other."""
    parents = [parent for parent in nodes[name].get("defaults", []) if parent in nodes]
    return 1 + max(_depth(parent, nodes) for parent in parents) if parents else 0


def _merged(name: str, nodes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """An option with the options of its own group that it is built on."""
    node = dict(nodes[name])
    parents = [parent for parent in node.pop("defaults", []) if parent in nodes]
    merged: dict[str, Any] = {}
    for parent in parents:
        merged |= _merged(parent, nodes)
    return merged | node


def group_runs(runs: Iterable[Run], options: Options, no_matter: Sequence[str]) -> list[Group]:
    """The groups, by name. no_matter: keys that enter no number of a run. Runs without settings are left out."""
    clusters: dict[frozenset[tuple[str, str]], list[Run]] = defaultdict(list)
    without = {*no_matter, "seed", "data.seed", "name"}
    for run in runs:
        if run.settings:
            clusters[frozenset(item for item in run.settings.items() if item[0] not in without)].append(run)
    parts = []
    for shared, members in clusters.items():
        settings = dict(sorted(shared))
        chosen = {group: nearest_option(settings, group, options[group]) for group in _OPTION_GROUPS}
        parts += [(settings | chosen | extra, part) for extra, part in _by_draw(members)]
    every = [settings for settings, _ in parts]
    names = _unique(names_of(every))
    series = names_of(every, without=_LABELS)
    groups = [
        Group(name, line, settings, *_without_repeats(members))
        for name, line, (settings, members) in zip(names, series, parts, strict=True)
    ]
    return sorted(groups, key=lambda group: _natural(group.name))


def nearest_option(settings: Mapping[str, str], group: str, options: Mapping[str, Mapping[str, str]]) -> str:
    """The option of a group of the config that the settings are nearest to: most keys alike less those unlike.

    An option of another class is none; where none is near, the class's name or `custom`.
    """
    target = f"{group}._target_"
    best, most = settings.get(target, "custom").rsplit(".", 1)[-1], 0
    for name, values in options.items():
        if values.get(target) == settings.get(target):
            alike = sum(settings.get(key) == value for key, value in values.items())
            if (score := 2 * alike - len(values)) > most:
                best, most = name, score
    return best


def _by_draw(runs: list[Run]) -> list[tuple[dict[str, str], list[Run]]]:
    """One part, where each run has a draw of its own or all have the same; else one a draw.

    Several runs on each of several draws are no independent repetitions.
    """
    pairs = {run.draw for run in runs}
    draws = {draw for draw, _ in pairs}
    if len(draws) in (1, len(pairs)):
        return [({}, runs)]
    by_draw = defaultdict(list)
    for run in runs:
        by_draw[run.draw[0]].append(run)
    return [({"data.seed": draw}, part) for draw, part in by_draw.items()]


def _without_repeats(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Runs that count, and finished ones that repeat an earlier one: a seed counted twice looks like certainty."""
    seen = set()
    kept: list[Run] = []
    repeats: list[Run] = []
    for run in runs:
        if run.status is not Status.finished:
            kept.append(run)
            continue
        same = (run.draw, run.split)
        (repeats if same in seen else kept).append(run)
        seen.add(same)
    return kept, repeats


def names_of(groups: Sequence[Mapping[str, str]], without: str | None = None) -> list[str]:
    """What tells groups of runs apart, a name each, such as `objective=uda data.num_labeled=20`.

    All settings that differ, up to four; beyond, or to name what stays alike `without` a key, the fewest that do.
    """
    keys = [*_FIRST, *sorted({key for settings in groups for key in settings} - set(_FIRST))]
    parts = {key: _parts(groups, key) for key in keys if not key.endswith("._target_")}
    differing = [key for key, texts in parts.items() if any(texts)]
    if without is not None or len(differing) > _MOST_PARTS:
        differing = _fewest(differing, parts, len(groups), without)
    shown = [" ".join(parts[key][index] for key in differing if parts[key][index]) for index in range(len(groups))]
    return [name or "all runs" for name in shown]


def _parts(groups: Sequence[Mapping[str, str]], key: str) -> list[str]:
    """`key=value` of each group where it tells it from others; in an option, from others of the same option."""
    owner = key.partition(".")[0] if "." in key else ""
    peers: dict[str | None, set[str | None]] = defaultdict(set)
    for settings in groups:
        peers[settings.get(owner)].add(settings.get(key))
    return [
        f"{key}={short(settings[key])}" if key in settings and len(peers[settings.get(owner)]) > 1 else ""
        for settings in groups
    ]


def _fewest(keys: list[str], parts: Mapping[str, list[str]], num_groups: int, without: str | None) -> list[str]:
    """Keys, in their order, of which each parts groups that those before it leave together."""
    told: list[tuple[str, ...]] = [()] * num_groups
    chosen = []
    for key in [without, *(key for key in keys if key != without)] if without in keys else keys:
        finer = [(*one, parts[key][index]) for index, one in enumerate(told)]
        if len(set(finer)) > len(set(told)):
            told = finer
            chosen.append(key)
    return [key for key in chosen if key != without]


def short(value: str) -> str:
    """A value as it fits into a name: of a long one the end, where paths differ."""
    return value if len(value) <= _LONGEST_VALUE else f"…{value[-_LONGEST_VALUE + 1 :]}"


def _unique(names: list[str]) -> list[str]:
    """The names, numbered where two are alike because they were cut."""
    counts, given = Counter(names), Counter[str]()
    unique = []
    for name in names:
        given[name] += 1
        unique.append(f"{name} #{given[name]}" if counts[name] > 1 else name)
    return unique


def _natural(name: str) -> list[tuple[bool, float, str]]:
    """Numbers by size, not by digits."""
    keys = []
    for word in name.replace("=", " ").split():
        number = word.replace(".", "", 1).isdigit()
        keys.append((number, float(word) if number else 0.0, word))
    return keys
