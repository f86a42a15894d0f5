"""The most confident rows of each class."""

import numpy as np

from uda.engine.relevance import Answers, most_confident


def test_each_class_gives_its_most_confident_rows_and_of_equals_the_earlier() -> None:
    classes = np.array([0, 1, 0, 1, 0, -1, 1], dtype=np.int32)
    confidence = np.array([0.6, 0.9, 0.8, 0.7, 0.8, np.nan, 0.7], dtype=np.float32)
    assert most_confident(classes, confidence, [2, 2]).tolist() == [1, 2, 3, 4]
    assert most_confident(classes, confidence, [1, 3]).tolist() == [1, 2, 3, 6]
    assert most_confident(classes, confidence, [0, 0]).tolist() == []


def test_against_sorting_all_rows() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([1.0] * 5, size=1_000)
    probs[rng.random(1_000) < 0.05] = np.nan
    answers = Answers()
    for part in np.array_split(probs, 7):
        answers.append(part)
    known = [row for row in range(1_000) if not np.isnan(probs[row]).any()]
    expected = []
    for label in range(5):
        mine = [row for row in known if probs[row].argmax() == label]
        expected += sorted(mine, key=lambda row: (-np.float32(probs[row].max()), row))[:40]
    assert most_confident(answers.classes, answers.confidence, [40] * 5).tolist() == sorted(expected)


def test_eight_bytes_a_row_are_kept() -> None:
    answers = Answers()
    for _ in range(3):
        answers.append(np.full((100, 4), 0.25, dtype=np.float32))
    assert answers.classes.nbytes + answers.confidence.nbytes == 8 * 300
