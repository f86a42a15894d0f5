import pytest

from uda.augmentation.differences import Kind, Piece, cut, differences, excerpt


def told(original: str, augmented: str) -> list[tuple[str, str]]:
    return [(piece.kind.value, piece.text) for piece in differences(original, augmented)]


def test_exchanged_removed_and_added_words() -> None:
    assert told("the good film", "the bad film") == [
        ("same", "the "),
        ("removed", "good "),
        ("added", "bad "),
        ("same", "film"),
    ]
    assert told("a b c", "a c") == [("same", "a "), ("removed", "b "), ("same", "c")]
    assert told("a c", "a b c") == [("same", "a "), ("added", "b "), ("same", "c")]


def test_neighbouring_changes_are_told_together() -> None:
    assert told("a b c d", "a x y d") == [("same", "a "), ("removed", "b c "), ("added", "x y "), ("same", "d")]


def test_case_and_accents_are_no_difference_and_the_copys_spelling_stays() -> None:
    assert told("Amélie\n IS good.", "amelie is  good .") == [("same", "amelie is  good .")]


@pytest.mark.parametrize(
    "text", ["", "one", " two words ", "«Ça va?» — 看电影 cafe\u0301\x00 it's 10/10!\n", "👍 yes👍"]
)
def test_no_character_is_lost(text: str) -> None:
    assert "".join(piece.text for piece in differences(text, text)) == text
    other = f"new {text}"
    pieces = differences(text, other)
    assert "".join(piece.text for piece in pieces if piece.kind is not Kind.removed) == other
    removed = "".join(piece.text for piece in pieces if piece.kind is Kind.removed)
    assert not removed.strip()


def test_texts_without_words() -> None:
    assert told("", "") == []
    assert told(" ", "\t") == []
    assert told("", "a b") == [("added", "a b")]
    assert told("a b", "") == [("removed", "a b")]


def test_an_excerpt_begins_before_the_first_difference() -> None:
    pieces = differences("a " * 100 + "b c", "a " * 100 + "d c")
    assert excerpt(pieces, 4, 8) == [
        Piece(Kind.same, "…a a "),
        Piece(Kind.removed, "b "),
        Piece(Kind.added, "d"),
        Piece(Kind.same, "…"),
    ]
    same = differences("a b c", "a b c")
    assert excerpt(same, 1, 100) == same


def test_what_is_cut_ends_with_a_mark() -> None:
    pieces = [Piece(Kind.same, "abc"), Piece(Kind.added, "def")]
    assert cut(pieces, 6) == pieces
    assert cut(pieces, 4) == [pieces[0], Piece(Kind.added, "d"), Piece(Kind.same, "…")]
