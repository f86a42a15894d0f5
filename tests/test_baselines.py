"""The baselines of `scripts/` get the rows of `uda.train`, and scikit-learn's learn from what they are given."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def rows(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("baselines.rows")


@pytest.fixture(scope="module")
def frozen(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("baselines.frozen")


class Planted:
    """Embeddings by a text's number: "x" is at the angle x on the unit circle, in degrees."""

    def of(self, texts: list[str]) -> np.ndarray:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def planted(rows: ModuleType, unlabeled: list[str]) -> object:
    """Two classes, of which one row each is labelled, at 40 and 90 degrees; the description of class 0 is at 0."""
    test = ["0", "40", "60", "90"]
    return rows.Draw(
        ["a", "b"], ["40", "90"], np.array([0, 1]), ["0"], np.array([0]), unlabeled, test, [], "", (8, "left")
    )


def test_a_draw_is_that_of_training(rows: ModuleType, tiny: list[str]) -> None:
    from uda.config import compose, read_train
    from uda.data.splits import load_split

    overrides = [*tiny, "seed=3"]
    draw, split = rows.draw_of(overrides), load_split(read_train(compose("train", overrides)).data)
    assert draw.labeled == split.labeled.text.tolist()
    assert len(draw.labeled) == 8
    assert draw.test == split.test.text.tolist()
    assert draw.test_labels.tolist() == split.test.label.tolist()
    assert draw.unlabeled == list(split.unlabeled.text)
    assert draw.examples(True)[0][8:] == ["awful bad film", "great good film"]
    assert draw.examples(True)[1][8:].tolist() == [0, 1]
    assert len(draw.examples(False)[0]) == 8
    assert draw.window == (24, "right")
    assert rows.draw_of([*overrides, "data.truncation=tail", "data.max_length=16"]).window == (16, "left")


def test_descriptions_are_examples_of_their_class(rows: ModuleType, frozen: ModuleType) -> None:
    """Between 40 and 90 degrees the border is at 65; with one more row of class 0 it is nearer to class 1."""
    draw = planted(rows, [])
    without, described = (frozen.logistic_regression(draw, Planted(), use) for use in (False, True))
    assert without.argmax(axis=1).tolist() == [0, 0, 0, 1]
    assert (described[:, 0] > without[:, 0]).all()


def test_self_training_learns_from_unlabelled_rows(rows: ModuleType, frozen: ModuleType) -> None:
    """Ten rounds of a tenth label all of the 20 rows at 0 and 20 rows at 55 degrees; those at 55 go to class 0."""
    draw = planted(rows, ["0"] * 20 + ["55"] * 20)
    alone = frozen.logistic_regression(draw, Planted(), False)
    trained = frozen.self_training(draw, Planted(), False, 0.1)
    assert trained[2, 0] > alone[2, 0]  # at 60 degrees
    unsure = frozen.self_training(draw, Planted(), False, None)
    np.testing.assert_allclose(unsure, alone)  # no row is above 0.75
