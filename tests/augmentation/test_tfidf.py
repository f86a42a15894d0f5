import math
from collections import Counter

import numpy as np
import pytest

from uda.augmentation.tfidf import (
    TfIdfReplacement,
    WordCounts,
    corpus_statistics,
    count_words,
    document_scores,
    position_probabilities,
    replacement_distribution,
)
from uda.augmentation.word_arrays import word_arrays

LN2 = math.log(2)

# Four documents, N = 4. a is in 4, b in 2, c, d and e in 1 of them:
#   idf a = ln(4/4) = 0, idf b = ln(4/2) = ln 2, idf c = idf d = idf e = ln(4/1) = 2 ln 2.
CORPUS = ["a b c c", "a b", "a d d d", "a e"]


@pytest.fixture
def statistics():
    return corpus_statistics(count_words(CORPUS))


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
    words = word_arrays(["a b c c"])
    scores = document_scores(words, statistics)
    assert scores == pytest.approx([0, 0.25 * LN2, LN2, LN2], rel=1e-12)
    # max s − s = 1, 3/4, 0, 0, sum 7/4. p·L = 0.35 · 4 = 1.4, so 1.4 · 4/7 = 0.8 and 1.4 · 3/7 = 0.6.
    assert position_probabilities(scores, words.first, 0.35) == pytest.approx([0.8, 0.6, 0, 0], rel=1e-12)


def test_position_probabilities_end_at_one(statistics) -> None:
    # p·L = 0.5 · 4 = 2: 2 · 4/7 = 8/7 is cut to 1, 2 · 3/7 = 6/7 stays.
    words = word_arrays(["a b c c"])
    assert position_probabilities(document_scores(words, statistics), words.first, 0.5) == pytest.approx(
        [1, 6 / 7, 0, 0], rel=1e-12
    )


def test_word_unknown_to_the_corpus_has_the_largest_idf(statistics) -> None:
    # As if one document had it: s(new) = 1/2 · ln 4 = ln 2, s(b) = 1/2 · ln 2.
    assert document_scores(word_arrays(["new b"]), statistics) == pytest.approx([LN2, LN2 / 2], rel=1e-12)


def test_scores_of_several_documents_at_once(statistics) -> None:
    # Each as it is alone: "b" is half of the second, and of the last the only word.
    words = word_arrays(["a b c c", "new b", "", "b"])
    assert document_scores(words, statistics) == pytest.approx([0, 0.25 * LN2, LN2, LN2, LN2, LN2 / 2, LN2], rel=1e-12)
    probabilities = position_probabilities(document_scores(words, statistics), words.first, 0.35)
    # In "new b" the gaps are 0 and 1: p·L = 0.7 for b.
    assert probabilities == pytest.approx([0.8, 0.6, 0, 0, 0, 0.7, 0], rel=1e-12)


@pytest.mark.parametrize("text", ["d", "c d", "c c", "new"])
def test_equal_scores_replace_nothing(statistics, text: str) -> None:
    words = word_arrays([text])
    probabilities = position_probabilities(document_scores(words, statistics), words.first, 1.0)
    assert probabilities.tolist() == [0.0] * len(words.ids)


def test_scores_equal_but_for_rounding_replace_nothing() -> None:
    # Such as 2 · ln 2 and 1 · ln 4: equal on paper, not always in floating point.
    scores = np.array([0.3, 0.1 + 0.2, 0.3])
    assert scores[0] != scores[1]
    assert position_probabilities(scores, np.array([0, 3]), 0.7).tolist() == [0, 0, 0]
    assert replacement_distribution(scores).tolist() == [0, 0, 0]


def make_documents() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(list("abcdefgh"), size=rng.integers(0, 40))) for _ in range(1300)]


def test_statistics_do_not_depend_on_the_order_of_the_documents() -> None:
    documents = make_documents()
    forward = corpus_statistics(count_words(documents))
    backward = corpus_statistics(count_words(documents[::-1]))
    assert forward.idf == backward.idf
    assert forward.totals.tolist() == backward.totals.tolist()  # to the last bit


def test_counts_are_exact_and_those_of_parts_add_up() -> None:
    documents = make_documents()
    whole, parts = count_words(documents), WordCounts()
    for start in range(0, len(documents), 300):
        parts.add(count_words(documents[start : start + 300]))
    assert parts == whole
    assert whole.num_documents == len(documents)
    words = [document.split() for document in documents]
    assert whole.document_frequency == Counter(word for document in words for word in set(document))
    units = Counter()
    for document in words:
        for word, count in Counter(document).items():
            units[word] += count * 2**60 // len(document)
    assert whole.term_frequency == units


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
