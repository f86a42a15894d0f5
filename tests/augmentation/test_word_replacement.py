"""What holds for both word replacement methods."""

import numpy as np
import pytest

from uda.augmentation.tfidf import TfIdfReplacement
from uda.augmentation.uniform import UniformReplacement
from uda.augmentation.word_replacement import WordReplacement
from uda.augmentation.words import split_words
from uda.errors import UserError

METHODS = [TfIdfReplacement, UniformReplacement]
WORDS = ["Film", "plot,", "the", "a", "was", "isn't", "Great!", "BAD", "Amélie", "(1967)", "and...", "电影"]


def make_texts() -> list[str]:
    rng = np.random.default_rng(0)
    return ["  ".join(rng.choice(WORDS, size=rng.integers(5, 40))) for _ in range(60)]


def prepared(method: type[WordReplacement], texts: list[str], **changes: object) -> WordReplacement:
    augmenter = method(**({"probability": 0.5, "lowercase": True, "seed": 0} | changes))
    augmenter.prepare(texts, [str(row) for row in range(len(texts))], len(texts))
    return augmenter


@pytest.mark.parametrize("method", METHODS)
def test_result_does_not_depend_on_order_batching_or_keys(method: type[WordReplacement]) -> None:
    texts = make_texts()
    together = prepared(method, texts).augment(texts, ["0"] * 60, copy=0)
    assert together != [" ".join(split_words(text)) for text in texts]

    order = np.random.default_rng(1).permutation(60)
    shuffled = [texts[row] for row in order]
    alone = prepared(method, shuffled)
    assert [alone.augment([text], ["7"], copy=0)[0] for text in shuffled] == [together[row] for row in order]


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_result_other_copy_or_seed_another(method: type[WordReplacement]) -> None:
    texts = make_texts()
    keys = ["0"] * 60
    augmenter = prepared(method, texts)
    first = augmenter.augment(texts, keys, copy=0)
    assert augmenter.augment(texts, keys, copy=0) == first
    assert prepared(method, texts).augment(texts, keys, copy=0) == first
    other_copy = augmenter.augment(texts, keys, copy=1)
    other_seed = prepared(method, texts, seed=1).augment(texts, keys, copy=0)
    for other in (other_copy, other_seed):
        assert sum(a != b for a, b in zip(first, other, strict=True)) >= 55


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (TfIdfReplacement, "the film and good great great"),
        (UniformReplacement, "the film a great great was"),
    ],
)
def test_recorded_result(method: type[WordReplacement], expected: str) -> None:
    # The same in every process and on every machine; a change here makes every cached augmentation another.
    corpus = ["the film was a great film", "the plot was bad", "a bad film and a good plot"]
    augmenter = prepared(method, corpus)
    assert augmenter.augment(corpus[:1], ["0"], copy=0) == [expected]


@pytest.mark.parametrize("method", METHODS)
def test_probability_zero_keeps_all_words(method: type[WordReplacement]) -> None:
    texts = make_texts()
    lowercase = prepared(method, texts, probability=0.0).augment(texts, ["0"] * 60, copy=0)
    assert lowercase == [" ".join(split_words(text)) for text in texts]
    in_place = prepared(method, texts, probability=0, lowercase=False).augment(texts, ["0"] * 60, copy=0)
    assert in_place == texts


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lowercase", [True, False])
def test_texts_without_words_come_back_unchanged(method: type[WordReplacement], lowercase: bool) -> None:
    texts = ["", " \n ", "\u00a0"]
    augmenter = prepared(method, [*make_texts(), *texts], probability=1.0, lowercase=lowercase)
    assert augmenter.augment(texts, ["0"] * 3, copy=0) == texts


@pytest.mark.parametrize("method", METHODS)
def test_in_place_exchanges_the_same_words(method: type[WordReplacement]) -> None:
    texts = make_texts()
    lowercase = prepared(method, texts).augment(texts, ["0"] * 60, copy=0)
    in_place = prepared(method, texts, lowercase=False).augment(texts, ["0"] * 60, copy=0)
    assert [split_words(text) for text in in_place] == [text.split(" ") for text in lowercase]


def test_in_place_keeps_case_spacing_and_punctuation() -> None:
    # idf(x) = idf(y) = ln(2/2) = 0, all others ln 2. In the text x alone scores below the maximum, so p = 1 replaces
    # it surely and nothing else; S(x) = S(y) = 0 and all others are equal, so x or y replaces it.
    augmenter = prepared(TfIdfReplacement, ["great, movie (x)! y", "x y"], probability=1.0, lowercase=False)
    text = "Great,\t  MOVIE (X)!\n"
    results = {augmenter.augment([text], ["0"], copy)[0] for copy in range(50)}
    assert results == {"Great,\t  MOVIE (x)!\n", "Great,\t  MOVIE (y)!\n"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan"), "much"])
def test_probability_outside_zero_and_one(method: type[WordReplacement], probability: object) -> None:
    with pytest.raises(UserError) as error:
        method(probability=probability, lowercase=True, seed=0)
    assert str(error.value) == (
        "augment.probability: expected a number from 0 to 1, the share of words to replace; found "
        f"{probability!r}. Set augment.probability to such a number, for example 0.5."
    )
