"""Pictures of a run, drawn by matplotlib without a display."""

from collections.abc import Sequence
from functools import lru_cache
from unicodedata import east_asian_width

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from uda.engine.evaluation import expected_calibration_error, reliability_bins

MAX_CLASSES = 200  # of a confusion matrix: beyond, a class has not the pixels to be seen
_MAX_NUMBERS = 15  # classes up to which a cell has room for its numbers
_MAX_CHARACTERS = 24
_NUM_MISTAKES = 20
_SURE, _GAP = "#2b6ca3", "#d9822b"  # told apart by the colour-blind too


def to_image(figure: Figure) -> np.ndarray:
    """The figure's pixels [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def axis_names(label_names: Sequence[str]) -> list[str]:
    """Label names as they fit on an axis: one line, cut; characters that no installed font has by their numbers."""
    lines = [" ".join("".join(each if each.isprintable() else " " for each in name).split()) for name in label_names]
    drawn = ["".join(each if _font_of(each) else f"\\u{ord(each):04x}" for each in line) for line in lines]
    return [line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 1]}…" for line in drawn]


def confusion_figure(matrix: np.ndarray, label_names: Sequence[str], title: str) -> Figure:
    """A confusion matrix [K, K] of counts, true classes down, predicted ones across, coloured by the row's share.

    Up to 15 classes each cell says count and share. Beyond, up to MAX_CLASSES, a list beside the matrix has the most
    frequent mistakes.
    """
    names = axis_names(label_names)
    numbered = len(names) <= _MAX_NUMBERS
    size = 9 if numbered else 6
    longest = max(sum(2 if east_asian_width(each) in "WF" else 1 for each in name) for name in names)
    side = max(0.7 * len(names), 2.1) if numbered else min(0.11 * len(names) + 2, 14)  # inches, as all here
    margin = 0.7 + size / 110 * longest
    width, height = margin + side + (0.3 if numbered else 4.5), margin + side + 0.5
    figure = Figure((width, height), dpi=100)
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    figure.text(0.2 / width, 1 - 0.3 / height, title, fontsize=9)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set(xlabel="predicted", ylabel="true")
    _name_ticks(axes, names, size)
    if numbered:
        _write_numbers(axes, matrix, shares)
    else:
        text = figure.text((margin + side + 0.3) / width, 1 - 0.5 / height, _mistakes(matrix, names))
        text.set(va="top", fontsize=9, family=_families(names), parse_math=False)
    return figure


def _name_ticks(axes: Axes, names: Sequence[str], size: int) -> None:
    """All names, or every second where they would overlap."""
    places = range(0, len(names), -(-len(names) // 110))
    level = sum(map(len, names)) <= 24
    shown = [names[place] for place in places]
    axes.set_xticks(places, shown, rotation=0 if level else 90)
    axes.set_yticks(places, shown)
    for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        text.set(fontsize=size, family=_families(names), parse_math=False)


def _write_numbers(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        share = shares[row, column]
        color = "white" if share > 0.55 else "black"
        text = f"{count}\n{100 * share:.0f} %"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)


def _mistakes(matrix: np.ndarray, names: Sequence[str]) -> str:
    """The most frequent mistakes, and how often they were made, a line each."""
    wrong = matrix - np.diag(np.diag(matrix))
    places = np.argsort(-wrong, axis=None, kind="stable")[:_NUM_MISTAKES]
    mistakes = [(wrong.flat[place], *np.unravel_index(place, wrong.shape)) for place in places]
    lines = [f"{count:>5}  {names[true]} → {names[predicted]}" for count, true, predicted in mistakes if count]
    return "\n".join(["most frequent mistakes: true → predicted", "", *lines])


@lru_cache(maxsize=10_000)
def _font_of(character: str) -> str | None:
    """The name of an installed font that has the character: matplotlib's own DejaVu Sans if it has it."""
    if ord(character) in _characters(font_manager.findfont("DejaVu Sans")):
        return "DejaVu Sans"
    fonts = sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname))
    real = [font for font in fonts if "Last Resort" not in font.name]  # a font of boxes that has every character
    return next((font.name for font in real if ord(character) in _characters(font.fname)), None)


@lru_cache(maxsize=1_000)
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


def _families(texts: Sequence[str]) -> list[str]:
    """The fonts that the texts need, DejaVu Sans first."""
    found = {font for text in texts for character in text if (font := _font_of(character))}
    return ["DejaVu Sans", *sorted(found - {"DejaVu Sans"})]


def reliability_figure(panels: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """Accuracy against confidence for each (title, probabilities [N, K], labels [N]), with the rows of each bin below.

    Bars that end below the diagonal are answers surer than they are right. Source: Guo et al. 2017, figure 1.
    """
    figure = Figure(figsize=(4.6 * len(panels), 5.2), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row", height_ratios=[3.4, 1])
    for column, (title, probs, labels) in enumerate(panels):
        rows, right, sums = reliability_bins(probs, labels)
        filled = rows > 0
        width = 1 / len(rows)
        centers = (np.arange(len(rows)) + 0.5)[filled] * width
        accuracy, confidence = (right / np.maximum(rows, 1))[filled], (sums / np.maximum(rows, 1))[filled]
        top, bottom = grid[0, column], grid[1, column]
        top.bar(centers, accuracy, width * 0.92, color=_SURE, label="accuracy")
        top.plot(centers, confidence, "_", color=_GAP, markersize=15, markeredgewidth=2.5, label="mean confidence")
        top.plot([0, 1], [0, 1], "--", color="0.4", linewidth=1, label="as sure as right")
        error = expected_calibration_error(probs, labels)
        top.set(title=f"{title}\nECE {error:.3f}, {len(labels)} test rows", xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        top.legend(loc="upper left", fontsize=8, frameon=False)
        bottom.bar(centers, rows[filled], width * 0.92, color="0.6")
        bottom.set(xlabel="confidence", ylabel="rows")
    return figure
