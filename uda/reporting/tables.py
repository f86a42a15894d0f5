"""The report as text: a Markdown table for the terminal, CSV for other programs."""

import csv
import io
import unicodedata
from collections.abc import Sequence

from uda.reporting.runs import Run, Status
from uda.reporting.statistics import Interval
from uda.reporting.summary import Metric, Row, Summary

_LISTED = 20  # runs that failed or are not finished, on the terminal
_COLUMNS = ("95 % (t)", "95 % (bootstrap)", "difference", "95 % (t)", "pairs", "seconds", "failed", "unfinished")


def headings(metric: Metric) -> list[str]:
    """The columns of the table of groups."""
    return ["group", "n", f"{metric.title}, mean ± sd", *_COLUMNS]


def cells(row: Row, metric: Metric) -> list[str]:
    """A group's row under the `headings`."""
    found, difference = row.estimate, row.difference
    spread = "" if found.sd is None else f" ± {metric.text(found.sd)}"
    against = "baseline" if row.is_baseline else metric.text(difference.mean if difference else None, sign=True)
    return [
        row.group.name,
        str(found.n),
        metric.text(found.mean) + spread,
        interval(found.t, metric),
        interval(found.bootstrap, metric),
        against,
        interval(difference.t if difference else None, metric, sign=True),
        str(difference.num_pairs) if difference else "–",
        "–" if row.seconds is None else f"{row.seconds:.0f}",
        str(row.group.count(Status.failed)),
        str(row.group.count(Status.unfinished)),
    ]


def interval(ends: Interval | None, metric: Metric, sign: bool = False) -> str:
    """`low – high`, a dash for none."""
    return "–" if ends is None else f"{metric.text(ends[0], sign)} {'to' if sign else '–'} {metric.text(ends[1], sign)}"


def markdown(summary: Summary) -> str:
    """The whole report for a terminal: GitHub's tables, padded so that they are readable as they are."""
    lines = [f"{plain(str(summary.root))}: {summary.headline}", ""]
    if summary.rows:
        rows = [cells(row, summary.metric) for row in summary.rows]
        lines += [*table(headings(summary.metric), rows), ""]
    lines += [plain(note) for note in summary.notes]
    for status in (Status.failed, Status.unfinished):
        found = [run for run in summary.runs if run.status is status]
        if found:
            lines += [
                "",
                f"{status.value}:",
                *(f"- {plain(run.path)}: {plain(run.message)}" for run in found[:_LISTED]),
            ]
        if len(found) > _LISTED:
            lines.append(f"- … and {len(found) - _LISTED} more, in report.html")
    return "\n".join(lines).rstrip() + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table: the first column to the left, the others to the right."""
    grid = [[plain(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(_width(row[column]) for row in grid)) for column in range(len(head))]
    rule = [f":{'-' * (width - 1)}" if column == 0 else f"{'-' * (width - 1)}:" for column, width in enumerate(widths)]
    lines = []
    for row in [grid[0], rule, *grid[1:]]:
        gaps = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        first, *others = [
            cell + gap if column == 0 else gap + cell for column, (cell, gap) in enumerate(zip(row, gaps, strict=True))
        ]
        lines.append(f"| {' | '.join([first, *others])} |")
    return lines


def plain(text: str) -> str:
    """A text on one line without characters that steer a terminal."""
    return "".join(each if each.isprintable() else "�" for each in text)


def _width(text: str) -> int:
    """Columns on a terminal."""
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(unicodedata.combining(each) > 0 for each in text)


def runs_csv(summary: Summary) -> str:
    """A line a run, in the order of the paths: its state, scores as metrics.json has them, and settings that differ."""
    groups = {run.path: row.group for row in summary.rows for run in (*row.group.runs, *row.group.repeats)}
    repeats = {run.path for row in summary.rows for run in row.group.repeats}
    scores = sorted({name for run in summary.runs for name in run.scores})
    keys = differing_settings([run.settings for run in summary.runs if run.settings])
    facts = ("num_labeled", "num_unlabeled", "seconds", "training_seconds", "precision", "device", "device_name")

    def line(run: Run) -> list[object]:
        name = groups[run.path].name if run.path in groups else ""
        counted = run.status is Status.finished and run.path not in repeats
        return [
            *(run.path, run.status.value, name, str(counted).lower(), run.message, run.settings.get("seed", "")),
            *(run.scores.get(score, "") for score in scores),
            *(run.metrics.get(fact, "") for fact in facts),
            *(run.settings.get(key, "") for key in keys),
        ]

    head = ["path", "status", "group", "counted", "message", "seed", *scores, *facts, *keys]
    return _csv(head, [line(run) for run in summary.runs])


def groups_csv(summary: Summary) -> str:
    """A line a group, the best first: the figures of the table, unrounded, and settings that differ."""
    keys = differing_settings([row.group.settings for row in summary.rows])
    head = [
        *("group", "metric", "n", "mean", "sd", "t_low", "t_high", "bootstrap_low", "bootstrap_high"),
        *("difference", "difference_low", "difference_high", "num_pairs", "is_baseline"),
        *("median_seconds", "num_labeled", "failed", "unfinished", *keys),
    ]

    def line(row: Row) -> list[object]:
        found, difference = row.estimate, row.difference
        return [
            *(row.group.name, summary.metric.name, found.n, found.mean, found.sd),
            *(found.t or (None, None)),
            *(found.bootstrap or (None, None)),
            *((difference.mean, *(difference.t or (None, None)), difference.num_pairs) if difference else [None] * 4),
            *(str(row.is_baseline).lower(), row.seconds, row.num_labeled),
            *(row.group.count(Status.failed), row.group.count(Status.unfinished)),
            *(row.group.settings.get(key, "") for key in keys),
        ]

    return _csv(head, [line(row) for row in summary.rows])


def differing_settings(settings: Sequence[dict[str, str]]) -> list[str]:
    """Keys that have not the same value everywhere, the seed left out."""
    keys = sorted({key for each in settings for key in each} - {"seed"})
    return [key for key in keys if len({each.get(key) for each in settings}) > 1]


def _csv(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([["" if cell is None else cell for cell in line] for line in lines])
    return file.getvalue()
