"""Groups of runs, a row each: their score, how sure it is, and what they are better by than a baseline."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

from uda.errors import UserError, did_you_mean
from uda.reporting.groups import Group, Options, group_runs
from uda.reporting.runs import Run, Status
from uda.reporting.statistics import Estimate, Interval, estimate, paired_differences, t_interval

_NAMED = 8  # groups or runs that a message names
_SHARES = ("accuracy", "error", "macro_f1")  # shown in per cent
_LOWER_IS_BETTER = ("error", "nll", "ece")


@dataclass(frozen=True)
class Metric:
    """A score by its name in metrics.json, and how it is shown."""

    name: str

    @property
    def is_share(self) -> bool:
        """Whether it is shown in per cent."""
        return self.name in _SHARES

    @property
    def title(self) -> str:
        """Its name for people, with the unit."""
        name = {"nll": "NLL", "ece": "ECE", "macro_f1": "macro-F1"}.get(self.name, self.name.replace("_", " "))
        return f"{name} %" if self.is_share else name

    @property
    def lower_is_better(self) -> bool:
        """Whether the best is the least."""
        return self.name in _LOWER_IS_BETTER

    def text(self, value: float | None, sign: bool = False) -> str:
        """A value of it; a dash for none."""
        if value is None:
            return "–"
        digits, scale = (2, 100) if self.is_share else (3, 1)
        return f"{scale * value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Difference:
    """The mean over pairs of runs on the same rows, ours minus the baseline's, with its t interval."""

    num_pairs: int
    mean: float
    t: Interval | None


@dataclass(frozen=True)
class Row:
    """A group with its figures. difference: None for the baseline, and where no run has a partner."""

    group: Group
    estimate: Estimate
    difference: Difference | None
    seconds: float | None
    num_labeled: float | None
    is_baseline: bool


@dataclass(frozen=True)
class Summary:
    """All that the report says. runs: every run, in the order of the paths. rows: the groups, the best first."""

    root: Path
    metric: Metric
    runs: list[Run]
    rows: list[Row]
    notes: list[str]

    def count(self, status: Status) -> int:
        """How many runs are in this state."""
        return sum(run.status is status for run in self.runs)

    @property
    def headline(self) -> str:
        """How many runs there are, and how far they got."""
        counts = ", ".join(f"{self.count(status)} {status.value}" for status in Status if self.count(status))
        one = len(self.runs) == 1
        return f"{len(self.runs)} run{'' if one else 's'} ({counts}) in {len(self.rows)} group" + (
            "" if len(self.rows) == 1 else "s"
        )


def summarise(
    root: Path, runs: list[Run], metric: str, baseline: str | None, options: Options, no_matter: Sequence[str]
) -> Summary:
    """Group the runs and compare the groups.

    baseline: what the names or settings of the baseline's groups hold; None: the supervised ones, else the first. The
    others: as `group_runs` has them. Raises UserError for an unknown metric and for a baseline that is none or several.
    """
    _check_metric(metric, runs)
    groups = group_runs(runs, options, no_matter)
    chosen = _default_baseline(groups) if baseline is None else _named_baseline(groups, baseline)
    partners = {key: value for group in chosen for key, value in values_by_rows(group, metric).items()}
    shown = Metric(metric)
    rows = [_row(group, metric, group in chosen, partners) for group in groups]
    rows.sort(key=lambda row: _rank(row, shown))
    return Summary(root, shown, runs, rows, _notes(runs, groups, chosen, metric))


def _check_metric(metric: str, runs: Sequence[Run]) -> None:
    known = sorted({name for run in runs for name in run.scores})
    if known and metric not in known:
        raise UserError(
            f"metric: expected one of {', '.join(known)}, found '{metric}'.{did_you_mean(metric, known)} Choose one of "
            "them."
        )


def _row(group: Group, metric: str, is_baseline: bool, partners: dict[Hashable, float]) -> Row:
    values = [run.scores[metric] for run in group.finished if metric in run.scores]
    pairs = [] if is_baseline else paired_differences(values_by_rows(group, metric), partners)
    difference = Difference(len(pairs), sum(pairs) / len(pairs), t_interval(pairs)) if pairs else None
    done = [run.metrics for run in group.finished]
    return Row(
        group,
        estimate(values),
        difference,
        median(each["seconds"] for each in done) if done else None,
        median(each["num_labeled"] for each in done) if done else None,
        is_baseline,
    )


def values_by_rows(group: Group, metric: str) -> dict[Hashable, float]:
    """The score of each run by its labelled and test rows and its seed, which two runs of a pair have in common."""
    return {
        (run.split.rows, run.settings.get("seed")): run.scores[metric]
        for run in group.finished
        if run.split is not None and metric in run.scores
    }


def _rank(row: Row, metric: Metric) -> tuple[bool, float]:
    mean = row.estimate.mean
    return mean is None, 0.0 if mean is None else mean if metric.lower_is_better else -mean


def _rows_of(group: Group) -> set[Hashable]:
    """The rows and seeds of its runs that could be half of a pair."""
    return {(run.split.rows, run.settings.get("seed")) for run in group.finished if run.split is not None}


def _default_baseline(groups: Sequence[Group]) -> list[Group]:
    """The supervised groups, of those on the same rows the first; where there is none, the first group."""
    done = [group for group in groups if group.finished]
    chosen: list[Group] = []
    for group in done:
        apart = all(_rows_of(group).isdisjoint(_rows_of(other)) for other in chosen)
        if group.settings["objective"] in ("supervised", "Supervised") and apart:
            chosen.append(group)
    return chosen or done[:1]


def _named_baseline(groups: Sequence[Group], text: str) -> list[Group]:
    """The groups that a text means: several only where no two have runs on the same rows, as with label counts."""
    words = text.split()
    names = [group.name for group in groups]
    if text in names:
        return [groups[names.index(text)]]
    found = [group for group in groups if all(_has(group, word) for word in words)]
    found = found or [group for group in groups if all(word in group.name for word in words)]
    if not found or not words:
        raise UserError(
            f"baseline: expected a part of a group's name, or settings of it, found '{text}', which is in none of "
            f"{_some(names)}. Give baseline=NAME of one of them."
        )
    for index, group in enumerate(found):
        for other in found[:index]:
            if _rows_of(group) & _rows_of(other):
                raise UserError(
                    f"baseline: expected one group for the same rows, found '{text}' in several: "
                    f"{_some([each.name for each in found])}. Give more of the name of one of them."
                )
    return found


def _has(group: Group, word: str) -> bool:
    """Whether `key=value` is a setting of the group, or another word a part of its name."""
    key, _, value = word.partition("=")
    return group.settings.get(key) == value if value else word in group.name


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more


def _notes(runs: Sequence[Run], groups: Sequence[Group], chosen: Sequence[Group], metric: str) -> list[str]:
    """What a reader of the figures must know."""
    notes = []
    finished = [run for group in groups for run in group.finished]
    if len(groups) > 1 and chosen:
        notes.append(f"Differences are to {_some([group.name for group in chosen])}, on the same rows and seed.")
    tests = [{run.split.test for run in group.finished if run.split is not None} for group in groups]
    if any(one and other and one.isdisjoint(other) for one, other in combinations(tests, 2)):
        notes.append("Some groups were scored on other test rows than others: their means are not comparable.")
    described = [run for run in finished if run.metrics.get("label_descriptions")]
    if described:
        who = "All runs" if len(described) == len(finished) else f"{len(described)} of {len(finished)} runs"
        notes.append(f"{who} had label descriptions, which are supervision beyond the labels.")
    optimistic = [
        run
        for run in finished
        if run.metrics.get("select") == "best" and "optimistic" in str(run.metrics["best"].get("chosen_on"))
    ]
    if optimistic:
        notes.append(f"Weights chosen on test rows, so optimistic: {_some([run.path for run in optimistic])}.")
    if lacking := [run.path for run in finished if metric not in run.scores]:
        notes.append(f"No finite {metric}, so left out of its mean: {_some(lacking)}.")
    if repeats := [run.path for group in groups for run in group.repeats]:
        notes.append(f"Settings and seed of an earlier run, so left out: {_some(repeats)}.")
    kinds = Counter((run.metrics.get("precision"), run.metrics.get("device_name")) for run in finished)
    if len(kinds) > 1:
        parts = ", ".join(f"{precision} on {device} ({count})" for (precision, device), count in kinds.most_common())
        notes.append(f"Runs were made in different places: {parts}.")
    if apart := sum(not run.settings for run in runs):
        notes.append(
            f"In no group, since their config was not written (they were refused before) or cannot be read: {apart} "
            "failed."
        )
    return notes
