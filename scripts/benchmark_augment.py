"""TF-IDF word replacement beside the plain loop that the official code is, and Apertium: how fast they are.

    python scripts/benchmark_augment.py FILE.parquet [FILE.parquet …] [--workers 2] [--rows 2000]

Part `augment` of scripts/benchmark.py. The plain loop takes the first `--rows` texts, ours takes all of them.
"""

import argparse
import math
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow.parquet as pq
from transformers.models.bert.tokenization_bert_legacy import BasicTokenizer

from uda import config, instances
from uda.augmentation.tfidf import TfIdfReplacement
from uda.augmentation.words import split_words

PROBABILITY = 0.3
RANDOM_NUMBERS = 100_000  # the plain loop draws so many at once, and takes them one by one


class PlainLoop:
    """The official algorithm word by word: recipes of "Augmentation, the official details", no arrays of words."""

    def __init__(self, documents: list[list[str]]) -> None:
        frequency: Counter[str] = Counter()
        for words in documents:
            frequency.update(set(words))
        self.idf = {word: math.log(len(documents) / count) for word, count in frequency.items()}
        totals: dict[str, float] = {}
        for words in documents:
            for word in words:
                totals[word] = totals.get(word, 0.0) + self.idf[word] / len(words)
        self.vocabulary = list(totals)
        gaps = max(totals.values()) - np.array([totals[word] for word in self.vocabulary])
        self.distribution = gaps / gaps.sum()
        self.generator = np.random.default_rng(0)
        self.numbers: list[float] = []
        self.replacements: list[str] = []

    def number(self) -> float:
        """The next random number in [0, 1)."""
        if not self.numbers:
            self.numbers = self.generator.random(RANDOM_NUMBERS).tolist()
        return self.numbers.pop()

    def replacement(self) -> str:
        """The next word to come."""
        if not self.replacements:
            drawn = self.generator.choice(len(self.vocabulary), RANDOM_NUMBERS, p=self.distribution)
            self.replacements = [self.vocabulary[index] for index in drawn.tolist()]
        return self.replacements.pop()

    def replaced(self, words: list[str]) -> str:
        """A document's words, some of them replaced."""
        counts: dict[str, int] = {}
        for word in words:
            counts[word] = counts.get(word, 0) + 1
        scores = [counts[word] / len(words) * self.idf[word] for word in words]
        largest = max(scores, default=0.0)
        total = sum(largest - score for score in scores)
        result = []
        for word, score in zip(words, scores, strict=True):
            probability = PROBABILITY * len(words) * (largest - score) / total if total else 0.0
            result.append(self.replacement() if self.number() < probability else word)
        return " ".join(result)


def plain_loop(texts: list[str], split: Callable[[str], list[str]]) -> list[str]:
    """Statistics and replacement as the official code has them, `split` cutting the words."""
    documents = [split(text) for text in texts]
    loop = PlainLoop(documents)
    return [loop.replaced(words) for words in documents]


def ours(texts: list[str], num_workers: int, lowercase: bool) -> tuple[float, float]:
    """Seconds for the statistics, and for the replacement in so many processes, their start not counted."""
    augmenter = TfIdfReplacement(PROBABILITY, lowercase, 0)
    started = time.perf_counter()
    augmenter.prepare(texts, [], len(texts))
    statistics = time.perf_counter() - started
    parts = [texts[start : start + 1024] for start in range(0, len(texts), 1024)]
    with ProcessPoolExecutor(num_workers, get_context("spawn"), _take, (augmenter,)) as pool:
        list(pool.map(_replaced, [[]] * (8 * num_workers)))  # until all have started
        started = time.perf_counter()
        count = sum(map(len, pool.map(_replaced, parts)))
        seconds = time.perf_counter() - started
    assert count == len(texts)
    return statistics, seconds


def _take(augmenter: TfIdfReplacement) -> None:
    global _augmenter
    _augmenter = augmenter


def _replaced(texts: list[str]) -> list[str]:
    return _augmenter.augment(texts, [""] * len(texts), 0)


def measure_replacement(texts: list[str], num_workers: int, num_plain: int = 2000) -> dict[str, float]:
    """Texts a second and their ratios; the plain loop is measured twice on `num_plain` texts, the faster time counts.

    plain: with the tokenizer that the official code has, written in Python. plain_words: with our words, so that only
    the loop is compared. ours: statistics and replacement, lower-cased as the official code does; in_place: the same
    with every other character as it was; one_core: ours in this process alone, on the texts that the loop has.
    """
    few = texts[:num_plain]
    basic = BasicTokenizer(do_lower_case=True).tokenize
    plain = len(few) / min(_seconds(lambda: plain_loop(few, basic)) for _ in range(2))
    plain_words = len(few) / min(_seconds(lambda: plain_loop(few, split_words)) for _ in range(2))

    def alone() -> None:
        augmenter = TfIdfReplacement(PROBABILITY, True, 0)
        augmenter.prepare(few, [], len(few))
        augmenter.augment(few, [""] * len(few), 0)

    one_core = len(few) / min(_seconds(alone) for _ in range(2))
    figures = {"plain": plain, "plain_words": plain_words, "one_core": one_core}
    for name, lowercase in (("ours", True), ("in_place", False)):
        statistics, replacement = ours(texts, num_workers, lowercase)
        figures[f"{name}_statistics_seconds"] = statistics
        figures[f"{name}_replacement_seconds"] = replacement
        figures[name] = len(texts) / (statistics + replacement)
        figures[f"{name}_ratio"] = figures[name] / plain
    return figures | {"one_core_ratio": one_core / plain, "one_core_ratio_words": one_core / plain_words}


def measure_apertium(texts: list[str]) -> dict[str, float]:
    """Texts a second by way of Spanish and back, and how many cores are busy; nothing where it is not installed."""
    if shutil.which("apertium") is None:
        return {}
    settings = config.read_train(config.compose("train", ["augment=apertium"])).augment
    augmenter = instances.build_augmenter(settings, lowercase=True)
    augmenter.augment(texts[:4], [""] * 4, 0)  # its programs start
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = _seconds(lambda: augmenter.augment(texts, [""] * len(texts), 0))
    augmenter.close()  # the programs end, and their seconds are known
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"apertium_texts_per_second": len(texts) / seconds, "apertium_cores_busy": busy / seconds}


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="Parquet files with a column text")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=2000, help="texts for the plain loop")
    options = parser.parse_args()
    texts = [text for file in options.files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]
    for name, value in measure_replacement(texts, options.workers, options.rows).items():
        print(f"{name:28} {value:10.1f}")


if __name__ == "__main__":
    main()
