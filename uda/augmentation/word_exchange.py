"""`words.exchange_words` for many texts at once, as one copy of bytes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from uda.augmentation.word_arrays import KINDS, LETTER, Bytes, Integers, WordArrays, joined, word_bytes
from uda.augmentation.words import byte_shape, exchange_words, fuse

Flags = NDArray[np.bool_]
Words = NDArray[np.object_]

_FIRST_ODD_BYTE = 128  # those below are ASCII characters


def exchange_in_all(texts: Sequence[str], found: WordArrays, positions: Integers, words: Words) -> list[str]:
    """The texts with E of their words, at `positions` [E] among all of them, ascending, exchanged for `words` [E]."""
    shapes = [byte_shape(text) for text in texts]
    clear = np.array([shape is not None for shape in shapes], dtype=bool)
    shape, begins = joined([shape or " " * len(text.encode()) for shape, text in zip(shapes, texts, strict=True)])
    is_start, in_word = word_bytes(shape)
    start = np.flatnonzero(is_start)
    end = start + np.diff(np.flatnonzero(is_start[in_word]), append=in_word.sum())

    owner = found.texts[positions]
    place = positions - found.first[owner]
    chosen = clear[owner]
    which = np.searchsorted(start, begins)[owner[chosen]] + place[chosen]
    data, _ = joined(list(texts))
    result = _copied(data, KINDS[shape] == LETTER, begins, start[which], end[which], words[chosen])
    for number in np.flatnonzero(~clear).tolist():  # accents stand apart there
        mine = np.flatnonzero(owner == number).tolist()
        result[number] = exchange_words(texts[number], {int(place[one]): words[one] for one in mine})
    return result


def _copied(data: Bytes, letter: Flags, begins: Integers, start: Integers, end: Integers, words: Words) -> list[str]:
    """The texts, which begin at `begins` in data, with the words in place of the bytes from start to end [E]."""
    lengths, word_data = _encoded(words)
    first, last = _letters_at_the_ends(words, lengths, word_data)
    before = np.concatenate([[0], end])[:-1]  # where the piece of text before each word begins
    after = np.concatenate([start, [len(data)]])[1:]
    left = np.where(start > before, letter[start - 1], np.concatenate([[False], last])[:-1])
    blank_before = left & first
    blank_after = (after > end) & last & letter[np.minimum(end, len(data) - 1)]

    blank = np.full(len(words), len(data) + len(word_data))
    sources = np.stack([before, blank, len(data) + np.cumsum(lengths) - lengths, blank], axis=1).ravel()
    counts = np.stack([start - before, blank_before, lengths, blank_after], axis=1).ravel()
    tail = int(end[-1]) if len(end) else 0
    sources, counts = np.append(sources, tail), np.append(counts, len(data) - tail)
    shift = np.repeat(sources - (np.cumsum(counts) - counts), counts)
    new = np.concatenate([data, word_data, [ord(" ")]])[shift + np.arange(len(shift))].astype(np.uint8).tobytes()

    grown = np.cumsum(np.concatenate([[0], blank_before + lengths + blank_after - (end - start)]))
    new_begins = begins + grown[np.searchsorted(start, begins)]
    return [new[begin : next_begin - 1].decode() for begin, next_begin in pairwise(new_begins.tolist())]


def _encoded(words: Words) -> tuple[Integers, Bytes]:
    """The number of bytes of each word, and all bytes."""
    array = pa.array(words, pa.string())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32, count=len(words) + 1).astype(np.int64)
    return np.diff(ends), np.frombuffer(data, dtype=np.uint8, count=int(ends[-1]))


def _letters_at_the_ends(words: Words, lengths: Integers, data: Bytes) -> tuple[Flags, Flags]:
    """Whether the first, and the last, character of each word would grow together with a letter beside it."""
    ends = np.cumsum(lengths)
    first_byte, last_byte = data[ends - lengths], data[ends - 1]
    first, last = KINDS[first_byte] == LETTER, KINDS[last_byte] == LETTER
    for number in np.flatnonzero(first_byte >= _FIRST_ODD_BYTE).tolist():
        first[number] = fuse("a", words[number][0])
    for number in np.flatnonzero(last_byte >= _FIRST_ODD_BYTE).tolist():
        last[number] = fuse(words[number][-1], "a")
    return first, last
