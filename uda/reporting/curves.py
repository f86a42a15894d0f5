"""What the charts of a report draw: learning curves, and what more labels bring."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uda.reporting.runs import Run, finite_scores
from uda.reporting.statistics import t_interval
from uda.reporting.summary import Metric, Row


@dataclass(frozen=True)
class Point:
    """A mean at x, the ends of its band or bar, and what is said of it."""

    x: float
    y: float
    low: float
    high: float
    note: str


@dataclass(frozen=True)
class Line:
    """The points of a group or of a series of groups."""

    name: str
    points: list[Point]


def learning_curves(rows: Sequence[Row], metric: Metric) -> list[Line]:
    """A line a group: the mean over its runs at each step at which all of them were evaluated, within ± sd."""
    lines = []
    for row in rows:
        curves = [curve for run in row.group.finished if (curve := _curve(run, metric))]
        steps = sorted(set.intersection(*map(set, curves))) if curves else []
        points = [_mean_point(step, [curve[step] for curve in curves], metric) for step in steps]
        if points:
            lines.append(Line(row.group.name, points))
    return lines


def _curve(run: Run, metric: Metric) -> dict[int, float]:
    """The metric at each step of an evaluation."""
    entries = {entry["step"]: finite_scores(entry) for entry in run.evaluations}
    return {step: scores[metric.name] for step, scores in entries.items() if metric.name in scores}


def _mean_point(step: int, values: Sequence[float], metric: Metric) -> Point:
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    spread = f" ± {metric.text(sd)}" if len(values) > 1 else ""
    return Point(step, mean, mean - sd, mean + sd, f"step {step}: {metric.text(mean)}{spread}, n = {len(values)}")


def efficiency_metric(metric: Metric) -> Metric:
    """What is drawn over the number of labels: errors, where it is as good to look at them."""
    return Metric("error") if metric.name == "accuracy" else metric


def label_efficiency(rows: Sequence[Row], metric: Metric) -> list[Line]:
    """A line a series of groups that differ in the number of labels: their means, with t intervals; none if none do."""
    series: dict[str, list[Point]] = defaultdict(list)
    counts = set()
    for row in rows:
        values = [run.scores[metric.name] for run in row.group.finished if metric.name in run.scores]
        if values and row.num_labeled is not None:
            mean = float(np.mean(values))
            low, high = t_interval(values) or (mean, mean)
            note = f"{row.num_labeled:g} labels: {metric.text(mean)}, n = {len(values)}"
            series[row.group.series].append(Point(row.num_labeled, mean, low, high, note))
            counts.add(row.num_labeled)
    if len(counts) < 2:
        return []
    return [Line(name, sorted(points, key=lambda point: point.x)) for name, points in series.items()]
