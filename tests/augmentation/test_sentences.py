import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uda.augmentation.sentences import MAX_CHARACTERS, split_parts, split_pieces, split_sentences

# Texts in which marks, quotes, blanks and letters meet often, and long ones.
WORDS = st.sampled_from(
    ["a", "B", "Mr", "U.S", ".", "!", "?", "…", '"', "”", ")", "(", " ", "  ", "\n", "\n\n", "\t", "。", "é"]
)
TEXTS = st.one_of(
    st.text(), st.lists(WORDS, max_size=40).map("".join), st.lists(WORDS, min_size=150, max_size=200).map("".join)
)


@given(TEXTS)
def test_nothing_is_lost(text: str) -> None:
    pieces = split_pieces(text)
    assert "".join(pieces) == text
    sentences = split_sentences(text)
    assert sentences == [piece for piece in pieces if not piece.isspace()]
    assert all(sentence == sentence.strip() and 0 < len(sentence) <= MAX_CHARACTERS for sentence in sentences)


@given(st.one_of(TEXTS, st.integers(0, 2000).map(lambda length: " " * length)))
def test_parts_lose_nothing(text: str) -> None:
    parts = split_parts(text, 400)
    assert "".join(parts) == text
    assert all(len(part) <= 400 for part in parts)
    assert all(len(one) + len(two) > 100 for one, two in pairwise(parts))


def test_parts_end_with_sentences() -> None:
    sentence = "a" * 200 + ". "
    capital = "A" + sentence
    assert split_parts(capital * 3, 450) == [capital * 2, capital]
    assert split_parts(capital * 3, 5_000) == [capital * 3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!  Three?", ["One.", "Two!", "Three?"]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("Mr. Smith met Dr. J. R. Jones in the U.S. Army, i.e. there. Good.", None),
        ("It cost 3.50 dollars. so what", ["It cost 3.50 dollars. so what"]),
        ("Wait... what? Yes", ["Wait... what?", "Yes"]),
        ("Ten of 10. 2 of 3.", ["Ten of 10.", "2 of 3."]),
        ("no end\n\nnew paragraph", ["no end", "new paragraph"]),
        ("one line\nthe next", ["one line\nthe next"]),
        ("好。很好！是吗？", ["好。", "很好！", "是吗？"]),
        ("  ", []),
        ("", []),
    ],
)
def test_where_sentences_end(text: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = ["Mr. Smith met Dr. J. R. Jones in the U.S. Army, i.e. there.", "Good."]
    assert split_sentences(text) == expected


def test_a_sentence_of_299_characters_stays_whole() -> None:
    sentence = "a " * 149 + "a"
    assert len(sentence) == 299
    assert split_sentences(sentence) == [sentence]


@pytest.mark.parametrize("mark", [".", ";", ","])
def test_a_sentence_of_300_characters_is_cut_at_a_mark_before_a_blank(mark: str) -> None:
    # No capital follows, so that no sentence ends at the mark.
    first, second = "a" * 200 + mark, "b" * 60 + " " + "c" * 60
    assert split_sentences(f"{first} {second}") == [first, second]


def test_a_full_stop_is_preferred_to_a_later_comma_and_a_blank() -> None:
    first, second = "a" * 160 + ".", "b" * 20 + ", " + "c" * 20 + " " + "d" * 120
    assert split_sentences(f"{first} {second}") == [first, second]


def test_blanks_and_hard_cuts() -> None:
    assert split_sentences("a" * 250 + " " + "b" * 250) == ["a" * 250, "b" * 250]
    assert [len(part) for part in split_sentences("a" * 700)] == [299, 299, 102]


@pytest.mark.parametrize("unit", ["Hello there. ", "x", '."', "\n ", "U.S. ", ". "])
def test_100_000_characters_take_no_time(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    started = time.process_time()
    assert "".join(split_pieces(text)) == text
    assert time.process_time() - started < 2
