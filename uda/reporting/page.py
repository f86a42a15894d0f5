"""The report as a web page that needs no other file and no network."""

from collections.abc import Sequence
from html import escape

from uda.reporting.charts import MAX_LINES, chart
from uda.reporting.curves import Line, efficiency_metric, label_efficiency, learning_curves
from uda.reporting.runs import Run, Status
from uda.reporting.statistics import Interval
from uda.reporting.style import SORTING, STYLE
from uda.reporting.summary import Row, Summary
from uda.reporting.tables import cells, differing_settings, headings, plain


def page(summary: Summary) -> str:
    """The whole page."""
    title = _text(f"Runs in {summary.root}")
    parts = [
        f"<h1>{title}</h1><p>{_text(summary.headline)}.</p>",
        _table(summary),
        *(f"<p class='soft'>{_text(note)}</p>" for note in summary.notes),
        _charts(summary),
        _settings(summary.rows),
        _listed("Failed", [run for run in summary.runs if run.status is Status.failed]),
        _listed("Unfinished", [run for run in summary.runs if run.status is Status.unfinished]),
    ]
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>{chr(10).join(parts)}</main>"
        f"<script>{SORTING}</script></body></html>\n"
    )


def _table(summary: Summary) -> str:
    """A row a group; its columns sort by the numbers behind what is shown."""
    if not summary.rows:
        return ""
    heads = "".join(
        f"<th scope='col'{' aria-sort=none' if number else ''}><button type='button'>{_text(name)}</button></th>"
        for number, name in enumerate(headings(summary.metric))
    )
    rows = []
    for row in summary.rows:
        name, *others = cells(row, summary.metric)
        values = zip(others, _sorted_by(row), strict=True)
        numbers = "".join(
            f"<td data-value='{'' if value is None else value}'>{_text(cell)}</td>" for cell, value in values
        )
        marked = " class='baseline'" if row.is_baseline else ""
        rows.append(f"<tr{marked}><th scope='row'>{_name(name)}</th>{numbers}</tr>")
    return (
        "<div class='scroll' tabindex='0' role='region' aria-label='table of the groups'><table class='sortable'>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _sorted_by(row: Row) -> list[float | None]:
    """The number behind each cell after the name."""
    found, difference = row.estimate, row.difference

    def low(ends: Interval | None) -> float | None:
        return None if ends is None else ends[0]

    return [
        found.n,
        found.mean,
        low(found.t),
        low(found.bootstrap),
        0.0 if row.is_baseline else difference.mean if difference else None,
        low(difference.t) if difference else None,
        difference.num_pairs if difference else None,
        row.seconds,
        row.group.count(Status.failed),
        row.group.count(Status.unfinished),
    ]


def _charts(summary: Summary) -> str:
    """Learning curves, and error over the number of labels where groups differ in it."""
    metric = summary.metric
    curves = learning_curves(_drawn_first(summary.rows), metric)
    figures = []
    if curves:
        sets = sorted(
            {entry["set"] for row in summary.rows for run in row.group.finished for entry in _evaluations(run)}
        )
        title = f"{metric.title} on {' or '.join(sets)} rows over steps: mean ± sd"
        figures.append(_figure(curves, title, "step", metric.is_share, bars=False))
    efficiency = efficiency_metric(metric)
    if lines := label_efficiency(_drawn_first(summary.rows), efficiency):
        title = f"{efficiency.title} on test rows over labels: mean, 95 % (t)"
        figures.append(_figure(lines, title, "labelled rows", efficiency.is_share, bars=True))
    return f"<div class='charts'>{''.join(figures)}</div>" if figures else ""


def _evaluations(run: Run) -> list[dict[str, str]]:
    return [entry for entry in run.evaluations if isinstance(entry.get("set"), str)]


def _drawn_first(rows: Sequence[Row]) -> list[Row]:
    """The baseline, which must not be cut, then the others."""
    return sorted(rows, key=lambda row: not row.is_baseline)


def _figure(lines: Sequence[Line], title: str, x_label: str, percent: bool, bars: bool) -> str:
    if len(lines) > MAX_LINES:
        title += f" ({MAX_LINES} of {len(lines)}, the best and the baseline)"
    named = [Line(plain(line.name), line.points) for line in lines[:MAX_LINES]]
    return chart(named, title, x_label, percent, bars, logarithmic=bars)


def _settings(rows: Sequence[Row]) -> str:
    """What differs between the groups, all of it."""
    keys = differing_settings([row.group.settings for row in rows])
    if not keys:
        return ""
    heads = "".join(f"<th scope='col'>{_name(key)}</th>" for key in keys)
    lines = []
    for row in rows:
        values = "".join(f"<td>{_text(_cut(row.group.settings.get(key, '–')))}</td>" for key in keys)
        lines.append(f"<tr><th scope='row'>{_name(row.group.name)}</th>{values}</tr>")
    return (
        f"<details><summary>Settings that differ: {len(keys)}</summary><div class='scroll' tabindex='0' role='region' "
        f"aria-label='settings that differ'><table><thead><tr><th scope='col'>group</th>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _listed(heading: str, runs: Sequence[Run]) -> str:
    """Runs without scores: where, and why or how far."""
    if not runs:
        return ""
    items = "".join(f"<li><code>{_text(run.path)}</code><br>{_text(run.message)}</li>" for run in runs)
    return f"<section><h2>{heading}: {len(runs)}</h2><ul class='runs'>{items}</ul></section>"


def _name(text: str) -> str:
    """A group's name or a key: it breaks between its parts, and where it must in these, but in no number."""
    parts = []
    for part in text.split(" "):
        key, equals, value = part.partition("=")
        breaking = _breaking(key, "._") + (f"=<wbr>{_breaking(value, '_/')}" if equals else "")
        parts.append(f"<span class='part'>{breaking}</span>")
    return " ".join(parts)


def _breaking(text: str, marks: str) -> str:
    shown = _text(text)
    for mark in marks:
        shown = shown.replace(mark, f"{mark}<wbr>")
    return shown


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


def _text(text: str) -> str:
    return escape(plain(text))
