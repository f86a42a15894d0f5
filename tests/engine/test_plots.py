"""Pictures: what stands in them, for few and many classes and names of all kinds."""

import warnings

import numpy as np
import pytest

from uda.engine.plots import axis_names, confusion_figure, reliability_figure, to_image


def cells(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_cells_say_count_and_share_of_the_row() -> None:
    """Rows of 4, 1 and 0: 3/4 and 1/4, 0 and 1, nothing."""
    matrix = np.array([[3, 1, 0], [0, 1, 0], [0, 0, 0]])
    figure = confusion_figure(matrix, ["a", "b", "c"], "step 7")
    assert cells(figure) == [
        *("3\n75 %", "1\n25 %", "0\n0 %"),
        *("0\n0 %", "1\n100 %", "0\n0 %"),
        *("0\n0 %", "0\n0 %", "0\n0 %"),
    ]
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel(), figure.texts[0].get_text()) == ("predicted", "true", "step 7")


def test_many_classes_have_a_list_of_mistakes() -> None:
    matrix = 50 * np.eye(16, dtype=int)
    matrix[3, 5], matrix[9, 1] = 7, 12
    figure = confusion_figure(matrix, [f"class {number}" for number in range(16)], "")
    assert cells(figure) == []
    assert figure.texts[1].get_text().splitlines()[2:] == ["   12  class 9 → class 1", "    7  class 3 → class 5"]


@pytest.mark.parametrize("num_classes", [2, 10, pytest.param(100, marks=pytest.mark.slow)])
def test_pictures_have_a_size_to_look_at_and_their_colours(num_classes: int) -> None:
    matrix = np.eye(num_classes, dtype=int) * 3
    image = to_image(confusion_figure(matrix, [f"a long name, {number}" for number in range(num_classes)], "title"))
    assert image.dtype == np.uint8
    height, width, channels = image.shape
    assert channels == 3
    assert 250 < height < 2000
    assert 250 < width < 2200
    blue = (image[..., 2].astype(int) - image[..., 0]) > 60
    assert blue.mean() > 0.2 / num_classes  # the diagonal
    margins = [image[:, :4], image[:, -4:], image[:4], image[-4:]]
    assert all((margin == 255).all() for margin in margins)  # nothing runs over the edge


def test_names_of_all_kinds_are_drawn_as_they_are() -> None:
    names = ["$x$ and $y", "two\nlines", "a" * 40, "очень", "体育", "tab\tNUL\0", "_{^"]
    shown = axis_names(names)
    assert shown[:4] == ["$x$ and $y", "two lines", "a" * 23 + "…", "очень"]
    assert shown[4] in ("体育", "\\u4f53\\u80b2")  # with a font that has them, and without
    assert shown[5:] == ["tab NUL", "_{^"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_image(confusion_figure(np.eye(7, dtype=int), names, ""))


def test_the_reliability_plot_shows_the_bins_that_have_rows() -> None:
    """Of two rows of confidence about 0.7 one is right; the row of confidence 0.99 is right."""
    probs = np.array([[0.7, 0.3], [0.69, 0.31], [0.01, 0.99]])
    figure = reliability_figure([("as trained", probs, np.array([0, 1, 1]))])
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.5, 1.0]
    assert "ECE" in figure.axes[0].get_title()
