"""Cutting a text into sentences short enough to translate, by rules.

The rules are our own, few regular expressions: pysbd, the known rule-based splitter, found about as many sentences in
reviews (507 where this finds 511), but took some 60 times as long.
"""

import re

MAX_CHARACTERS = 299  # of a sentence; from 300 on the official code cuts again

# A mark, closing quotes and brackets, and then white space before what may start a sentence; or an empty line; or a
# full stop of Chinese and Japanese.
_END = re.compile(
    r"""(?<=[.!?…])["'”’»)\]]*(?=\s+["'“‘«(\[¿¡]*[^\W_a-z])|(?<=[^\s])(?=[^\S\n]*\n\s*\n)|(?<=[。！？])[」』”’]*(?=\S)"""
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Mx|Dr|Prof|Rev|Hon|Gen|Col|Capt|Lt|Sgt|Sen|Gov|St|vs|etc|Vol|approx|cf"
    r"|e\.g|i\.e|(?:[A-Za-z]\.)+[A-Za-z])\.$"
)
_LONGEST_ABBREVIATION = 12  # characters, the one before it included
_CUTS = (".", ";", ",", " ")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space around them, none longer than MAX_CHARACTERS."""
    return [piece for piece in split_pieces(text) if not piece.isspace()]


def split_pieces(text: str) -> list[str]:
    """Sentences, and the white space between them where there is any: joined, they are the text."""
    return [
        part
        for sentence in _at_ends(text)
        for piece in _without_blanks(sentence)
        for part in ([piece] if piece.isspace() else _cut(piece))
    ]


def split_parts(text: str, max_characters: int) -> list[str]:
    """The text in parts of as many sentences as `max_characters`, MAX_CHARACTERS at least, hold: joined, the text."""
    if len(text) <= max_characters:
        return [text]
    parts = [""]
    for piece in split_pieces(text):
        for start in range(0, len(piece), max_characters):  # white space too may be long
            if len(parts[-1]) + min(len(piece) - start, max_characters) > max_characters:
                parts.append("")
            parts[-1] += piece[start : start + max_characters]
    return parts


def _at_ends(text: str) -> list[str]:
    """The text cut behind every sentence's last character."""
    sentences = []
    start = 0
    for match in _END.finditer(text):
        if not _ABBREVIATION.search(text[max(match.start() - _LONGEST_ABBREVIATION, start) : match.start()]):
            sentences.append(text[start : match.end()])
            start = match.end()
    return [*sentences, text[start:]]


def _without_blanks(sentence: str) -> list[str]:
    """White space at the start, what it surrounds, and white space at the end, each where it is."""
    stripped = sentence.strip()
    if not stripped:
        return [sentence] if sentence else []
    start = sentence.index(stripped)
    pieces = (sentence[:start], stripped, sentence[start + len(stripped) :])
    return [piece for piece in pieces if piece]


def _cut(sentence: str) -> list[str]:
    """A long sentence in parts: behind a mark or a blank in the second half of what a part may hold, or hard."""
    parts = []
    while len(sentence) > MAX_CHARACTERS:
        places = (sentence.rfind(mark, MAX_CHARACTERS // 2, MAX_CHARACTERS) for mark in _CUTS)
        end = next((place + 1 for place in places if place >= 0), MAX_CHARACTERS)
        parts += _without_blanks(sentence[:end])
        sentence = sentence[end:]
    return parts + _without_blanks(sentence)
