import numpy as np
import pytest

from uda.augmentation.word_arrays import word_arrays
from uda.augmentation.word_exchange import exchange_in_all
from uda.augmentation.words import exchange_words, split_words

PIECES = [
    "Film",
    "a",
    "B",
    " ",
    "  ",
    "\n",
    "-",
    "...",
    "(1967)",
    "isn't",
    "Amélie",
    "é",
    "“",
    "”",
    "看电影",
    "nb\xa0space",
]
NEW = ["film", "!", "“", "影", "é", "plot2", "5€", "👍"]


@pytest.mark.parametrize(
    "extra", [[], ["cafe\u0301", "bell\x07s"]]
)  # whose characters vanish, so that arrays do not do
def test_each_text_is_as_exchange_words_has_it(extra: list[str]) -> None:
    rng = np.random.default_rng(0)
    texts = ["", " ", "x", *("".join(rng.choice(PIECES + extra, rng.integers(0, 30))) for _ in range(300))]
    found = word_arrays(texts)
    for share in (0.0, 0.3, 1.0):
        positions = np.flatnonzero(rng.random(len(found.ids)) < share)
        words = rng.choice(np.array(NEW, dtype=object), len(positions))
        chosen = dict(zip(positions.tolist(), words, strict=True))
        expected = []
        for text, first, count in zip(texts, found.first.tolist(), found.lengths.tolist(), strict=False):
            mine = {place: chosen[first + place] for place in range(count) if first + place in chosen}
            expected.append(exchange_words(text, mine))
        results = exchange_in_all(texts, found, positions, words)
        assert results == expected
        if share == 1.0:  # nothing grew together
            assert [word for text in results for word in split_words(text)] == [split_words(word)[0] for word in words]


def test_by_hand() -> None:
    texts = ["In 1967.Then", "a-b", "Don't go"]
    found = word_arrays(texts)  # in 1967 . then | a - b | don ' t go
    words = np.array(["film", "x", "y", "z", "stay"], dtype=object)
    new = exchange_in_all(texts, found, np.array([2, 4, 5, 6, 10]), words)
    assert new == ["In 1967 film Then", "x y z", "Don't stay"]


def test_no_texts() -> None:
    assert exchange_in_all([], word_arrays([]), np.zeros(0, dtype=int), np.zeros(0, dtype=object)) == []
