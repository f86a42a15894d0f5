"""The words of a text and where they stand, as BERT's uncased basic tokenizer cuts them, before word pieces.

They are lower-cased, accents and control characters are removed, and each punctuation mark and each CJK
character is a word of its own.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain, pairwise

from tokenizers import PreTokenizedString
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

_normalizer = BertNormalizer(lowercase=True)
_pre_tokenizer = BertPreTokenizer()

# On plain ASCII two regular expressions find the same words much faster.
_PLAIN = re.compile(r"[ -~\t\n\r]*")
_PLAIN_WORD = re.compile(r"[!-/:-@\[-`{-~]|[^\s!-/:-@\[-`{-~]+")


def split_words(text: str) -> list[str]:
    """The words of `text`, in their order."""
    if _PLAIN.fullmatch(text):
        return _PLAIN_WORD.findall(text.lower())
    return [word for word, _ in _pre_tokenizer.pre_tokenize_str(_normalizer.normalize_str(text))]


def word_spans(text: str) -> list[tuple[int, int]]:
    """For each of `split_words(text)` its characters in `text`, from first to beyond the last."""
    if _PLAIN.fullmatch(text):
        return [match.span() for match in _PLAIN_WORD.finditer(text)]
    pieces = PreTokenizedString(text)
    pieces.normalize(_normalizer.normalize)
    _pre_tokenizer.pre_tokenize(pieces)
    return [(start, _after_marks(text, end)) for _, (start, end), _ in pieces.get_splits("original", "char")]


def exchange_words(text: str, exchanges: Mapping[int, str]) -> str:
    """`text` with its i-th word exchanged for `exchanges[i]`, every other character as it was.

    Where a new word would grow together with its neighbour ("1967." with "." exchanged) a blank parts them,
    so that `split_words` finds the new words again.
    """
    spans = word_spans(text)
    pieces = []
    position = 0
    for index, word in sorted(exchanges.items()):
        start, end = spans[index]
        pieces += [text[position:start], word]
        position = end
    pieces = [piece for piece in [*pieces, text[position:]] if piece]
    blanks = [" " if _fuse(left[-1], right[0]) else "" for left, right in pairwise(pieces)]
    return "".join(chain.from_iterable(zip(pieces, [*blanks, ""], strict=True)))


@lru_cache(maxsize=100_000)
def _fuse(left: str, right: str) -> bool:
    """Whether these two characters, side by side, belong to one word."""
    return len(split_words(left + right)) < len(split_words(left)) + len(split_words(right))


def _after_marks(text: str, end: int) -> int:
    # The normaliser's offsets leave out the combining accents that end a word; left behind, they would join
    # its replacement.
    while end < len(text) and unicodedata.category(text[end]) == "Mn":
        end += 1
    return end
