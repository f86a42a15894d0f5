"""TF-IDF word replacement: uninformative words go, and uninformative words come."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from uda.augmentation.word_arrays import Integers, WordArrays, in_chunks, word_arrays
from uda.augmentation.word_replacement import Floats, WordReplacement

# Term frequencies are summed in whole units: such a sum is the same in every order of the texts.
_UNITS = 2**60
_HALF = 2**30


@dataclass
class WordCounts:
    """The words of N documents, counted; counts of parts of a corpus add up to those of the whole."""

    num_documents: int = 0
    document_frequency: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    term_frequency: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))  # in 2^-60

    def add(self, other: "WordCounts") -> None:
        """Count the other's documents too."""
        self.num_documents += other.num_documents
        for mine, more in (
            (self.document_frequency, other.document_frequency),
            (self.term_frequency, other.term_frequency),
        ):
            for word, count in more.items():
                mine[word] += count


@dataclass(frozen=True)
class CorpusStatistics:
    """What N documents say about their V distinct words."""

    num_documents: int
    idf: dict[str, float]  # ln(N / number of documents with the word), words sorted
    totals: Floats  # [V] in the order of idf: S(w), the sum of the word's tf·idf over the documents


class TfIdfReplacement(WordReplacement):
    """Replaces words that say little about their document by words that say little about any.

    A word that the corpus lacks counts as if one document had it: it has the largest idf, ln N.
    Source: "Unsupervised Data Augmentation for Consistency Training", arXiv 1904.12848, section 2.2, and its
    official code.
    """

    def _fit(self, texts: Iterable[str]) -> tuple[list[str], Floats]:
        self._statistics = corpus_statistics(count_words(texts))
        return list(self._statistics.idf), replacement_distribution(self._statistics.totals)

    def _position_probabilities(self, words: WordArrays) -> Floats:
        return position_probabilities(document_scores(words, self._statistics), words.first, self.probability)


def count_words(texts: Iterable[str]) -> WordCounts:
    """Counts the words of all documents; empty ones count towards N."""
    total = WordCounts()
    for chunk in in_chunks(texts):
        total.num_documents += len(chunk)
        found = word_arrays(chunk)
        documents, ids, counts = found.counts()
        # count · 2^60 // L in 64 bits: 2^60 = quotient · L + rest, and what comes out is at most 2^60.
        quotient, rest = np.divmod(_UNITS, np.maximum(found.lengths, 1))
        units = counts * quotient[documents] + counts * rest[documents] // found.lengths[documents]
        # Sums of halves are exact in floating point, which `bincount` sums in.
        high, low = (np.bincount(ids, half, len(found.words)) for half in np.divmod(units, _HALF))
        frequency = np.bincount(ids, minlength=len(found.words))
        columns = (found.words, frequency.tolist(), high.tolist(), low.tolist())
        for word, documents_with_it, high_half, low_half in zip(*columns, strict=True):
            total.document_frequency[word] += documents_with_it
            total.term_frequency[word] += int(high_half) * _HALF + int(low_half)
    return total


def corpus_statistics(counts: WordCounts) -> CorpusStatistics:
    """What the counts of a corpus say about its words."""
    frequency = counts.document_frequency
    idf = {word: math.log(counts.num_documents / frequency[word]) for word in sorted(frequency)}
    totals = np.array([counts.term_frequency[word] / _UNITS * idf[word] for word in idf])
    return CorpusStatistics(counts.num_documents, idf, totals)


def document_scores(words: WordArrays, statistics: CorpusStatistics) -> Floats:
    """tf·idf [W] of each word in its document of L words: s_i = (count of the word / L) · idf."""
    unknown = math.log(statistics.num_documents)
    idf = np.array([statistics.idf.get(word, unknown) for word in words.words])
    return words.occurrences() * idf[words.ids] / words.lengths[words.texts]


def position_probabilities(scores: Floats, first: Integers, probability: float) -> Floats:
    """Probability [W] that each word is replaced, from their tf·idf [W]; document d has those from first[d] on.

    probability · L · (max s − s_i) / Σ_j (max s − s_j) over a document of L words, at most 1; all 0 where the scores
    are equal.
    """
    shares = [
        _shares_of_gap(scores[start:end]) * (probability * (end - start)) for start, end in pairwise(first.tolist())
    ]
    return np.minimum(np.concatenate(shares), 1.0)


def replacement_distribution(totals: Floats) -> Floats:
    """Probability [V] of each word as a replacement, from S [V]: proportional to max S − S(w).

    All 0 where the totals are equal: then no word is less informative than another, and none is drawn.
    """
    return _shares_of_gap(totals)


def _shares_of_gap(scores: Floats) -> Floats:
    largest = scores.max(initial=0.0)
    gaps = largest - scores
    # Scores that are equal on paper may differ in their last bits, and shares would blow such gaps up.
    gaps[gaps <= 1e-12 * largest] = 0.0
    return gaps / gaps.sum() if gaps.any() else gaps
