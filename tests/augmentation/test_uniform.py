import math
from collections import Counter

from uda.augmentation.uniform import UniformReplacement


def test_100_000_draws_follow_the_probabilities() -> None:
    augmenter = UniformReplacement(probability=0.4, lowercase=True, seed=0)
    # Distinct words, however often they occur: a, b, c, d and e.
    augmenter.prepare(["a b c c c c", "A d", "e e"], ["0", "1", "2"], num_source_rows=3)
    text = " ".join(["a b"] * 250)
    pairs: Counter[tuple[str, str]] = Counter()
    for copy in range(400):
        words = augmenter.augment([text], ["0"], copy)[0].split(" ")
        pairs.update(zip(*[iter(words)] * 2, strict=True))
    assert pairs.total() == 100_000

    for first in "abcde":
        for second in "abcde":
            # A word stays with 0.6 and becomes each of the five, itself included, with 0.4 / 5 = 0.08.
            expected = (0.68 if first == "a" else 0.08) * (0.68 if second == "b" else 0.08)
            sigma = math.sqrt(expected * (1 - expected) / 100_000)
            found = pairs[first, second] / 100_000
            assert abs(found - expected) <= 4 * sigma, (first, second, found, expected)


def test_probability_one_replaces_every_word() -> None:
    augmenter = UniformReplacement(probability=1.0, lowercase=True, seed=0)
    augmenter.prepare(["x y z"], ["0"], num_source_rows=1)
    words = augmenter.augment([" ".join(["new"] * 1000)], ["0"], copy=0)[0].split(" ")
    assert len(words) == 1000
    assert set(words) == {"x", "y", "z"}


def test_corpus_without_words_changes_nothing() -> None:
    augmenter = UniformReplacement(probability=1.0, lowercase=True, seed=0)
    augmenter.prepare(["", " "], ["0", "1"], num_source_rows=2)
    assert augmenter.augment(["a b"], ["0"], copy=0) == ["a b"]
