"""TF-IDF word replacement: uninformative words go, and uninformative words come."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from uda.augmentation.word_replacement import Floats, WordReplacement
from uda.augmentation.words import split_words

# Term frequencies are summed in whole units: such a sum is the same in every order of the texts.
_UNITS = 2**60


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
        self._statistics = corpus_statistics(split_words(text) for text in texts)
        return list(self._statistics.idf), replacement_distribution(self._statistics.totals)

    def _position_probabilities(self, words: list[str]) -> Floats:
        return position_probabilities(document_scores(words, self._statistics), self.probability)


def corpus_statistics(documents: Iterable[list[str]]) -> CorpusStatistics:
    """Counts the words of all documents, each a list of words; empty ones count towards N."""
    num_documents = 0
    document_frequency: Counter[str] = Counter()
    term_frequency: defaultdict[str, int] = defaultdict(int)
    for words in documents:
        num_documents += 1
        counts = Counter(words)
        document_frequency.update(counts.keys())
        for word, count in counts.items():
            term_frequency[word] += count * _UNITS // len(words)
    idf = {word: math.log(num_documents / document_frequency[word]) for word in sorted(document_frequency)}
    totals = np.array([term_frequency[word] / _UNITS * idf[word] for word in idf])
    return CorpusStatistics(num_documents, idf, totals)


def document_scores(words: Sequence[str], statistics: CorpusStatistics) -> Floats:
    """tf·idf [L] of each of a document's L words: s_i = (count of the word / L) · idf."""
    counts = Counter(words)
    unknown = math.log(statistics.num_documents)
    score = {word: count * statistics.idf.get(word, unknown) for word, count in counts.items()}
    return np.array([score[word] for word in words]) / len(words)


def position_probabilities(scores: Floats, probability: float) -> Floats:
    """Probability [L] that each of a document's words is replaced, from their tf·idf [L].

    probability · L · (max s − s_i) / Σ_j (max s − s_j), at most 1; all 0 where the scores are equal.
    """
    return np.minimum(probability * len(scores) * _shares_of_gap(scores), 1.0)


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
