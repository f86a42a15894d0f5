import numpy as np
import pytest

from uda.augmentation.word_arrays import in_chunks, word_arrays
from uda.augmentation.words import split_words, word_spans

TEXTS = [
    "It's GREAT -- 10/10!",
    "",
    " \t\n\r ",
    "a_b A_B ~`",
    "Amélie, CAFÉ “no” 5€",
    "看电影movie好 nb\xa0space",
    "cafe\u0301 bell\x07s \u0301!",
    "x",
]


def test_words_of_each_text() -> None:
    found = word_arrays(TEXTS)
    words = [found.words[index] for index in found.ids]
    expected = [split_words(text) for text in TEXTS]
    assert words == [word for text in expected for word in text]
    assert found.lengths.tolist() == [len(text) for text in expected]
    assert sorted(found.words) == sorted(set(words))
    assert found.texts.tolist() == [number for number, text in enumerate(expected) for _ in text]


def test_occurrences_by_hand() -> None:
    found = word_arrays(["b a B", "", "a c c c"])
    assert found.occurrences().tolist() == [2, 1, 2, 1, 3, 3, 3]
    texts, ids, counts = found.counts()
    triples = {
        (int(text), found.words[index], int(count)) for text, index, count in zip(texts, ids, counts, strict=True)
    }
    assert triples == {(0, "a", 1), (0, "b", 2), (2, "a", 1), (2, "c", 3)}


def test_no_texts_and_texts_without_words() -> None:
    for texts in ([], ["", " "]):
        found = word_arrays(texts)
        assert found.words == []
        assert found.lengths.tolist() == [0] * len(texts)
        assert found.occurrences().tolist() == []


@pytest.mark.parametrize("lengths", [[3] * 2000, [5_000_000, 1, 5_000_000], []])
def test_chunks_hold_all_texts_in_order(lengths: list[int]) -> None:
    texts = ["x" * length for length in lengths]
    chunks = list(in_chunks(iter(texts)))
    assert [text for chunk in chunks for text in chunk] == texts
    assert all(len(chunk) <= 512 for chunk in chunks)
    assert all(sum(map(len, chunk[:-1])) < 2**22 for chunk in chunks)


def test_every_character_as_the_tokenizers_library_takes_it() -> None:
    # Random neighbours: what `spaced` and `word_shape` write in ASCII terms against the library's own path.
    from uda.augmentation.words import _normalizer, _pre_tokenizer

    rng = np.random.default_rng(0)
    codes = rng.integers(1, 0x3100, size=(3000, 12))
    for row in codes:
        text = "a" + "".join(map(chr, row)) + " b"
        expected = [word for word, _ in _pre_tokenizer.pre_tokenize_str(_normalizer.normalize_str(text))]
        assert split_words(text) == expected, ascii(text)
        assert [split_words(text[start:end])[0] for start, end in word_spans(text)] == expected
