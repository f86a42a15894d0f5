"""What an augmentation did to its texts: how much it changed, how varied its copies are, and pairs to look at."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from uda.augmentation.agreement import LabelAgreement
from uda.augmentation.measures import Measure, Pair, Tally, draw, extremeness, length_ratio, word_distance, word_overlap
from uda.augmentation.words import split_words

WORD_TEXTS = 5_000  # whose words are compared, so that a repeated run stays one of seconds
NUM_SAMPLES = 30

_BARS = "▁▂▃▄▅▆▇█"
_TABLE_BARS = 20
_MAX_NAME = 22


@dataclass(frozen=True)
class Judgement:
    """Measures of N texts and their copies. Shares and means are None where there was nothing to measure.

    Lengths, `unchanged` and `distinct` are of all texts; what has to do with words is of `num_word_texts` of them.
    """

    num_texts: int
    num_copies: int
    num_word_texts: int
    unchanged: float | None  # share of copies that are their original, character for character
    same_words: float | None  # share of copies of the same words in the same order
    distinct: float | None  # of the copies of one text, the share of different ones: 1 if no two are equal
    length_ratio: Measure
    overlap: Measure
    distance: Measure
    vocabulary: int  # distinct words of the originals
    new_words: int  # distinct words of the copies that no original has
    samples: tuple[Pair, ...]  # drawn, one copy a text
    agreement: LabelAgreement | None = None

    @property
    def vocabulary_growth(self) -> float | None:
        """Distinct words of originals and copies for each of the originals'."""
        return (self.vocabulary + self.new_words) / self.vocabulary if self.vocabulary else None

    def with_agreement(self, agreement: LabelAgreement) -> "Judgement":
        """The same with a classifier's answers."""
        return replace(self, agreement=agreement)

    def table(self) -> str:
        """The measures in lines of at most 80 columns, histograms included."""
        lines = [headline(self), "", *(f"{name:<25}{value:>8}   {note}".rstrip() for name, value, note in _lines(self))]
        return "\n".join(lines)

    def html(self, title: str) -> str:
        """The measures and the pairs as a page that needs no other file."""
        from uda.augmentation.page import page

        return page(self, title)

    def as_json(self) -> dict[str, Any]:
        """The numbers, without texts."""
        numbers: dict[str, Any] = {
            "num_texts": self.num_texts,
            "num_copies": self.num_copies,
            "num_word_texts": self.num_word_texts,
            "unchanged": self.unchanged,
            "same_words": self.same_words,
            "distinct_copies": self.distinct,
            "length_ratio": _plain(self.length_ratio),
            "word_overlap": _plain(self.overlap),
            "word_edit_distance": _plain(self.distance),
            "vocabulary": self.vocabulary,
            "new_words": self.new_words,
            "vocabulary_growth": self.vocabulary_growth,
        }
        if (found := self.agreement) is not None:
            numbers["label_agreement"] = {
                "num_pairs": found.num_pairs,
                "blank": found.blank,
                "disagreement": found.disagreement,
                "by_class": {name: {"pairs": rows, "disagreement": share} for name, rows, share in found.by_class()},
                "probability_change": _plain(found.change),
            }
        return numbers


def judge(pairs: Iterable[tuple[str, Sequence[str]]], num_texts: int, num_copies: int, sample_seed: int) -> Judgement:
    """Compare each of `num_texts` texts with its `num_copies` copies; the seed draws what is looked at closely.

    The pairs are gone through once. Memory does not grow with them, but for the distinct words of at most WORD_TEXTS
    texts and their copies.
    """
    generator = np.random.default_rng(sample_seed)
    compared = draw(num_texts, WORD_TEXTS, generator)
    shown = {row: int(generator.integers(num_copies)) for row in sorted(draw(num_texts, NUM_SAMPLES, generator))}
    counts = _Counts()
    samples = []
    for row, (original, copies) in enumerate(pairs):
        found = [Pair(row, number, original, copy) for number, copy in enumerate(copies)]
        counts.add(original, found)
        if row in compared:
            counts.add_words(original, found)
        if row in shown:
            samples.append(found[shown[row]])
    return counts.judgement(num_copies, samples)


@dataclass
class _Counts:
    """The sums that a judgement is made of."""

    texts: int = 0
    word_texts: int = 0
    pairs: int = 0
    word_pairs: int = 0
    unchanged: int = 0
    same_words: int = 0
    distinct: int = 0
    length_ratio: Tally = field(default_factory=lambda: Tally(2, extremeness))
    overlap: Tally = field(default_factory=lambda: Tally(1, lambda overlap: -overlap))
    distance: Tally = field(default_factory=lambda: Tally(1, float))
    originals: set[str] = field(default_factory=set)
    copies: set[str] = field(default_factory=set)

    def add(self, original: str, pairs: Sequence[Pair]) -> None:
        self.texts += 1
        self.pairs += len(pairs)
        self.unchanged += sum(pair.augmented == original for pair in pairs)
        self.distinct += len({pair.augmented for pair in pairs})
        for pair in pairs:
            self.length_ratio.add(length_ratio(original, pair.augmented), pair)

    def add_words(self, original: str, pairs: Sequence[Pair]) -> None:
        self.word_texts += 1
        self.word_pairs += len(pairs)
        words = split_words(original)
        distinct = set(words)
        self.originals |= distinct
        for pair in pairs:
            new = words if pair.augmented == original else split_words(pair.augmented)
            new_distinct = distinct if new is words else set(new)
            self.copies |= new_distinct
            self.same_words += new == words
            self.overlap.add(word_overlap(distinct, new_distinct), pair)
            self.distance.add(word_distance(words, new), pair)

    def judgement(self, num_copies: int, samples: list[Pair]) -> Judgement:
        return Judgement(
            num_texts=self.texts,
            num_copies=num_copies,
            num_word_texts=self.word_texts,
            unchanged=_share(self.unchanged, self.pairs),
            same_words=_share(self.same_words, self.word_pairs),
            distinct=_share(self.distinct, self.pairs),
            length_ratio=self.length_ratio.measure(),
            overlap=self.overlap.measure(),
            distance=self.distance.measure(),
            vocabulary=len(self.originals),
            new_words=len(self.copies - self.originals),
            samples=tuple(samples),
        )


def headline(judgement: Judgement) -> str:
    """How many texts and copies were looked at."""
    copies = "1 copy" if judgement.num_copies == 1 else f"{judgement.num_copies} copies"
    text = f"{judgement.num_texts:,} texts, {copies} each"
    if judgement.num_word_texts < judgement.num_texts:
        text += f"; words compared in {judgement.num_word_texts:,} drawn texts"
    return text


def labelled(judgement: Judgement, found: LabelAgreement) -> str:
    """How many copies the classifier labelled."""
    drawn = found.num_pairs + found.blank < judgement.num_texts * judgement.num_copies
    return f"{found.num_pairs:,} {'drawn ' if drawn else ''}copies"


def percent(share: float | None) -> str:
    """A share in per cent, or a dash for none."""
    return "–" if share is None else f"{100 * share:.1f} %"


def growth(judgement: Judgement) -> str:
    """By how much the copies' words enlarge the vocabulary."""
    found = judgement.vocabulary_growth
    return "–" if found is None else f"+{percent(found - 1)}"


def mean(measure: Measure, digits: int) -> str:
    """The mean of a measure, or a dash for none."""
    return "–" if measure.mean is None else f"{measure.mean:.{digits}f}"


def _lines(judgement: Judgement) -> Iterator[tuple[str, str, str]]:
    """Name, number and note of each line of the table."""
    yield "unchanged copies", percent(judgement.unchanged), "to the character"
    yield "same words", percent(judgement.same_words), "without regard to case, accents and spaces"
    if judgement.num_copies > 1:
        yield "distinct copies", percent(judgement.distinct), "among the copies of a text"
    yield "length ratio", mean(judgement.length_ratio, 3), _bars(judgement.length_ratio)
    if unbounded := judgement.length_ratio.unbounded:
        yield "  empty originals", f"{unbounded:,}", "left out of the ratio"
    yield "word overlap", mean(judgement.overlap, 3), _bars(judgement.overlap)
    yield "word edit distance", mean(judgement.distance, 3), _bars(judgement.distance)
    yield (
        "vocabulary",
        growth(judgement),
        f"{judgement.new_words:,} words added to the originals' {judgement.vocabulary:,}",
    )
    if (found := judgement.agreement) is not None:
        yield "classifier disagrees", percent(found.disagreement), f"of {labelled(judgement, found)}"
        for name, rows, share in found.by_class():
            yield f"  {_cut(name)}", percent(share), f"of {rows:,} originals' copies"
        if found.blank:
            yield "  copies left out", f"{found.blank:,}", "blank, or of a blank text"
        yield "change of probability", mean(found.change, 3), _bars(found.change)


def _bars(measure: Measure) -> str:
    """A histogram in one line, with the ends of its scale."""
    counts = np.array(measure.counts).reshape(_TABLE_BARS, -1).sum(axis=1)
    if not counts.any():
        return ""
    heights = np.ceil(counts / counts.max() * len(_BARS)).astype(int)
    bars = "".join(_BARS[height - 1] if height else " " for height in heights)
    beyond = "+" if measure.top > 1 else ""
    return f"0 {bars} {measure.top}{beyond}"


def _cut(name: str) -> str:
    line = " ".join("".join(each if each.isprintable() else " " for each in name).split())
    return line if len(line) <= _MAX_NAME else f"{line[: _MAX_NAME - 1]}…"


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


def _plain(measure: Measure) -> dict[str, Any]:
    edges = [round(measure.top * edge / len(measure.counts), 2) for edge in range(len(measure.counts) + 1)]
    return {"mean": measure.mean, "histogram": {"edges": edges, "counts": list(measure.counts)}}
