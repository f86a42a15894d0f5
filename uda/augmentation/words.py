"""The words of a text and where they stand, as BERT's uncased basic tokenizer cuts them, before word pieces.

They are lower-cased, accents and control characters are removed, and each punctuation mark and each CJK
character is a word of its own.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from tokenizers import PreTokenizedString
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

_normalizer = BertNormalizer(lowercase=True)
_pre_tokenizer = BertPreTokenizer()

# Regular expressions find the same words much faster, once what is not plain ASCII is written in its terms.
_PLAIN_WORD = re.compile(r"[!-/:-@\[-`{-~]|[^ \t\n\r!-/:-@\[-`{-~]+")
_ODD = re.compile(r"[^ -~\t\n\r]")
_UNCLEAR = "\0"  # stands in no normalised text
MORE = "\1"  # a byte that belongs to the punctuation mark or CJK character before it
_NOTHING = "\2"  # a character that the tokenizer takes away
_NO_LETTER = rf" \t\n\r!-/:-@\[-`{{-~{MORE}{_NOTHING}"
_NOTHING_WITHIN = re.compile(f"(?<=[^{_NO_LETTER}]){_NOTHING}+(?=[^{_NO_LETTER}])")


def split_words(text: str) -> list[str]:
    """The words of `text`, in their order."""
    return _PLAIN_WORD.findall(spaced(text))


def spaced(text: str) -> str:
    """`text`, normalised, with blanks around the words that no ASCII character parts from their neighbours."""
    result = _ODD.sub(_spaced_match, text)
    if _UNCLEAR in result:
        result = " ".join([word for word, _ in _pre_tokenizer.pre_tokenize_str(_normalizer.normalize_str(text))])
    return result.lower()


def word_spans(text: str) -> list[tuple[int, int]]:
    """For each of `split_words(text)` its characters in `text`, from first to beyond the last."""
    shape = word_shape(text)
    if shape is not None:
        return [match.span() for match in _PLAIN_WORD.finditer(shape)]
    pieces = PreTokenizedString(text)
    pieces.normalize(_normalizer.normalize)
    _pre_tokenizer.pre_tokenize(pieces)
    return [(start, _after_marks(text, end)) for _, (start, end), _ in pieces.get_splits("original", "char")]


def word_shape(text: str) -> str | None:
    """A text of ASCII characters with its words where `text` has them; None where accents stand apart."""
    return _settled(_ODD.sub(_shape_match, text))


def byte_shape(text: str) -> str | None:
    """Like `word_shape` with as many characters as `text` has bytes, and `MORE` for the further ones of a mark."""
    return _settled(_ODD.sub(_byte_shape_match, text))


def _settled(shape: str) -> str | None:
    """What the tokenizer takes away is part of a word that goes on behind it, and of none otherwise."""
    if _UNCLEAR in shape:
        return None
    if _NOTHING in shape:
        shape = _NOTHING_WITHIN.sub(lambda match: "a" * len(match[0]), shape).replace(_NOTHING, " ")
    return shape


def exchange_words(text: str, exchanges: Mapping[int, str]) -> str:
    """`text` with its i-th word exchanged for `exchanges[i]`, every other character as it was.

    Where a new word would grow together with its neighbour ("1967." with "." exchanged) a blank parts them,
    so that `split_words` finds the new words again.
    """
    spans = word_spans(text)
    exchanged = sorted(exchanges.items())
    return exchange_spans(text, [spans[index] for index, _ in exchanged], [word for _, word in exchanged])


def exchange_spans(text: str, spans: list[tuple[int, int]], words: list[str]) -> str:
    """`text` with words in place of its characters `spans`, which ascend; blanks as `exchange_words` has them."""
    pieces = []
    position = 0
    last = " "
    for (start, end), word in zip(spans, words, strict=True):
        if start > position:
            gap = text[position:start]
            pieces.append(_after(last, gap))
            last = gap[-1]
        pieces.append(_after(last, word))
        last = word[-1]
        position = end
    pieces.append(_after(last, text[position:]))
    return "".join(pieces)


@lru_cache(maxsize=100_000)
def fuse(left: str, right: str) -> bool:
    """Whether these two characters, side by side, belong to one word."""
    return len(split_words(left + right)) < len(split_words(left)) + len(split_words(right))


def _after(last: str, piece: str) -> str:
    """A piece of text with a blank before it where it would grow together with the character that it follows."""
    return f" {piece}" if last != " " and piece and piece[0] != " " and fuse(last, piece[0]) else piece


@lru_cache(maxsize=100_000)
def _pieces(character: str) -> tuple[str, list[str]]:
    """A character normalised, and what it makes of the word `aXa`."""
    normal: str = _normalizer.normalize_str(character)
    around = _normalizer.normalize_str(f"a{character}a")
    return normal, [piece for piece, _ in _pre_tokenizer.pre_tokenize_str(around)]


@lru_cache(maxsize=100_000)
def _spaced_character(character: str) -> str:
    normal, pieces = _pieces(character)
    if any(map(unicodedata.combining, normal)):
        return _UNCLEAR  # its place among its neighbours depends on them
    return f" {' '.join(pieces[1:-1])} " if len(pieces) > 1 else normal


@lru_cache(maxsize=100_000)
def _shape_character(character: str) -> str:
    normal, pieces = _pieces(character)
    if len(pieces) > 3 or unicodedata.category(character) == "Mn":
        return _UNCLEAR
    if not normal:
        return _NOTHING
    return {1: "a", 2: " ", 3: "."}[len(pieces)]


@lru_cache(maxsize=100_000)
def _byte_shape_character(character: str) -> str:
    shape = _shape_character(character)
    return shape + (MORE if shape == "." else shape) * (len(character.encode()) - 1)


def _spaced_match(match: re.Match[str]) -> str:
    return _spaced_character(match[0])


def _shape_match(match: re.Match[str]) -> str:
    return _shape_character(match[0])


def _byte_shape_match(match: re.Match[str]) -> str:
    return _byte_shape_character(match[0])


def _after_marks(text: str, end: int) -> int:
    # The normaliser's offsets leave out the combining accents that end a word; left behind, they would join
    # its replacement.
    while end < len(text) and unicodedata.category(text[end]) == "Mn":
        end += 1
    return end
