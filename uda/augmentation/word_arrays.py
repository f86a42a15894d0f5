"""The words of many texts at once, as numbers: what `words` says of each text, at the speed of array operations."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from uda.augmentation.words import MORE, spaced

Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_CHUNK_TEXTS = 512
_CHUNK_CHARACTERS = 2**22

BLANK, PUNCTUATION, LETTER, MORE_PUNCTUATION = 0, 1, 2, 3
KINDS = np.full(256, LETTER, dtype=np.uint8)  # of each byte; those of other than ASCII characters belong to words
KINDS[list(b" \t\n\r")] = BLANK
KINDS[[byte for byte in range(33, 127) if not chr(byte).isalnum()]] = PUNCTUATION
KINDS[ord(MORE)] = MORE_PUNCTUATION


@dataclass(frozen=True)
class WordArrays:
    """D texts of W words in all, V of them distinct.

    words: the V distinct ones, in no particular order. ids [W]: each word's place there, text after text.
    first [D + 1]: text d has the words first[d] to first[d + 1] - 1.
    """

    words: list[str]
    ids: Integers
    first: Integers

    @property
    def lengths(self) -> Integers:
        """Words of each text [D]."""
        return np.diff(self.first)

    @property
    def texts(self) -> Integers:
        """The number of each word's text [W]."""
        return np.repeat(np.arange(len(self.first) - 1), self.lengths)

    def counts(self) -> tuple[Integers, Integers, Integers]:
        """The P pairs of a text and a distinct word of it: the texts' numbers, the words' ids, the words' counts."""
        pairs, counts = np.unique(self._pairs(), return_counts=True)
        texts, ids = np.divmod(pairs, max(len(self.words), 1))
        return texts, ids, counts

    def occurrences(self) -> Integers:
        """How often each word stands in its text [W]."""
        _, places, counts = np.unique(self._pairs(), return_inverse=True, return_counts=True)
        return np.asarray(counts[places])

    def _pairs(self) -> Integers:
        return self.texts * len(self.words) + self.ids


def word_arrays(texts: Sequence[str]) -> WordArrays:
    """The words of `texts`, of which there are less than 2 GB."""
    data, begins = joined([spaced(text) for text in texts])
    is_start, in_word = word_bytes(data)
    # Without the blanks each word ends where the next begins, as Arrow's strings do.
    characters = data[in_word]
    offsets = np.append(np.flatnonzero(is_start[in_word]), len(characters)).astype(np.int32)
    buffers = [pa.py_buffer(offsets), pa.py_buffer(characters)]
    coded = pa.StringArray.from_buffers(len(offsets) - 1, *buffers).dictionary_encode()
    first = np.searchsorted(np.flatnonzero(is_start), begins)
    return WordArrays(coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64), first)


def in_chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists whose arrays take little memory."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if len(chunk) == _CHUNK_TEXTS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def joined(texts: list[str]) -> tuple[Bytes, Integers]:
    """The bytes of all texts, a line break after each, and where in them each text begins and the last one ends."""
    encoded = [text.encode() for text in texts]
    data = np.frombuffer(b"\n".join([*encoded, b""]), dtype=np.uint8)
    return data, np.cumsum([0, *(len(text) + 1 for text in encoded)])


def word_bytes(data: Bytes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the bytes begin a word, and which are part of one."""
    kinds = KINDS[data]
    letter = kinds == LETTER
    starts = kinds == PUNCTUATION
    starts |= letter & ~np.concatenate([[False], letter[:-1]])
    return starts, kinds != BLANK
