import math
from collections import Counter

import numpy as np
import pytest

from uda.augmentation.tfidf import (
    TfIdfReplacement,
    corpus_statistics,
    document_scores,
    position_probabilities,
    replacement_distribution,
)

LN2 = math.log(2)

# Four documents, N = 4. a is in 4, b in 2, c, d and e in 1 of them:
#   idf a = ln(4/4) = 0, idf b = ln(4/2) = ln 2, idf c = idf d = idf e = ln(4/1) = 2 ln 2.
CORPUS = ["a b c c", "a b", "a d d d", "a e"]


@pytest.fixture
def statistics():
    return corpus_statistics(text.split() for text in CORPUS)


def test_corpus_statistics_by_hand(statistics) -> None:
    assert statistics.num_documents == 4
    assert list(statistics.idf) == ["a", "b", "c", "d", "e"]
    assert list(statistics.idf.values()) == pytest.approx([0, LN2, 2 * LN2, 2 * LN2, 2 * LN2], rel=1e-12)
    # S(a) = 0; S(b) = (1/4 + 1/2) ln 2; S(c) = 2/4 · 2 ln 2; S(d) = 3/4 · 2 ln 2; S(e) = 1/2 · 2 ln 2.
    assert statistics.totals == pytest.approx([0, 0.75 * LN2, LN2, 1.5 * LN2, LN2], rel=1e-12)


def test_replacement_distribution_by_hand(statistics) -> None:
    # max S − S, in units of ln 2: 1.5, 0.75, 0.5, 0, 0.5; their sum is 3.25 = 13/4.
    expected = [6 / 13, 3 / 13, 2 / 13, 0, 2 / 13]
    assert replacement_distribution(statistics.totals) == pytest.approx(expected, rel=1e-12)


def test_position_probabilities_by_hand(statistics) -> None:
    # "a b c c", L = 4: s = 1/4 · 0, 1/4 · ln 2, 2/4 · 2 ln 2 twice; in units of ln 2: 0, 1/4, 1, 1.
    scores = document_scores(["a", "b", "c", "c"], statistics)
    assert scores == pytest.approx([0, 0.25 * LN2, LN2, LN2], rel=1e-12)
    # max s − s = 1, 3/4, 0, 0, sum 7/4. p·L = 0.35 · 4 = 1.4, so 1.4 · 4/7 = 0.8 and 1.4 · 3/7 = 0.6.
    assert position_probabilities(scores, 0.35) == pytest.approx([0.8, 0.6, 0, 0], rel=1e-12)


def test_position_probabilities_end_at_one(statistics) -> None:
    # p·L = 0.5 · 4 = 2: 2 · 4/7 = 8/7 is cut to 1, 2 · 3/7 = 6/7 stays.
    scores = document_scores(["a", "b", "c", "c"], statistics)
    assert position_probabilities(scores, 0.5) == pytest.approx([1, 6 / 7, 0, 0], rel=1e-12)


def test_word_unknown_to_the_corpus_has_the_largest_idf(statistics) -> None:
    # As if one document had it: s(new) = 1/2 · ln 4 = ln 2, s(b) = 1/2 · ln 2.
    assert document_scores(["new", "b"], statistics) == pytest.approx([LN2, LN2 / 2], rel=1e-12)


@pytest.mark.parametrize("words", [["d"], ["c", "d"], ["c", "c"], ["new"]])
def test_equal_scores_replace_nothing(statistics, words: list[str]) -> None:
    assert position_probabilities(document_scores(words, statistics), 1.0).tolist() == [0.0] * len(words)


def test_scores_equal_but_for_rounding_replace_nothing() -> None:
    # Such as 2 · ln 2 and 1 · ln 4: equal on paper, not always in floating point.
    scores = np.array([0.3, 0.1 + 0.2, 0.3])
    assert scores[0] != scores[1]
    assert position_probabilities(scores, 0.7).tolist() == [0, 0, 0]
    assert replacement_distribution(scores).tolist() == [0, 0, 0]


def test_statistics_do_not_depend_on_the_order_of_the_documents() -> None:
    rng = np.random.default_rng(0)
    documents = [list(rng.choice(list("abcdefgh"), size=rng.integers(1, 40))) for _ in range(300)]
    forward = corpus_statistics(documents)
    backward = corpus_statistics(documents[::-1])
    assert forward.idf == backward.idf
    assert forward.totals.tolist() == backward.totals.tolist()  # to the last bit


def test_100_000_draws_follow_the_probabilities() -> None:
    augmenter = TfIdfReplacement(probability=0.35, lowercase=True, seed=0)
    augmenter.prepare(CORPUS, ["0", "1", "2", "3"], num_source_rows=4)
    # "a b c c" 250 times over has the same tf, thus the same s: per position 0.8, 0.6, 0, 0 as above.
    text = " ".join([CORPUS[0]] * 250)
    quadruples: Counter[tuple[str, ...]] = Counter()
    for copy in range(400):
        words = augmenter.augment([text], ["0"], copy)[0].split(" ")
        quadruples.update(zip(*[iter(words)] * 4, strict=True))
    num_draws = quadruples.total()
    assert num_draws == 100_000

    new = {"a": 6 / 13, "b": 3 / 13, "c": 2 / 13, "d": 0.0, "e": 2 / 13}
    for first in new:
        for second in new:
            # Each position keeps its word or, independently, draws a new one, which may be the same word again.
            probability_first = 0.8 * new[first] + 0.2 * (first == "a")
            probability_second = 0.6 * new[second] + 0.4 * (second == "b")
            expected = probability_first * probability_second
            sigma = math.sqrt(expected * (1 - expected) / num_draws)
            found = quadruples[first, second, "c", "c"] / num_draws
            assert abs(found - expected) <= 4 * sigma, (first, second, found, expected)


def test_one_document_corpus_changes_nothing() -> None:
    # N = 1: every idf is ln 1 = 0, so all scores and all totals are equal.
    augmenter = TfIdfReplacement(probability=1.0, lowercase=True, seed=0)
    augmenter.prepare(["a b c"], ["0"], num_source_rows=1)
    assert augmenter.augment(["a b c", "new a"], ["0", "1"], copy=0) == ["a b c", "new a"]
