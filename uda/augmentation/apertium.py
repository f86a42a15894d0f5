"""Back-translation by Apertium, a rule-based translator: English to a pivot language and back, without a network."""

import hashlib
import os
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from uda.augmentation import lengths, pipelines, pivots, sentences, tagger_filter
from uda.augmentation.base import Augmenter, code_hash
from uda.augmentation.checks import check_positive, check_whole
from uda.augmentation.lengths import keeps_length
from uda.augmentation.pipelines import Pipelines
from uda.augmentation.pivots import drawn_pivots, pivot_names
from uda.augmentation.sentences import split_parts
from uda.errors import UserError

_PART_CHARACTERS = 5_000  # the time for a word grows with the square of its length
_MARKS = "*@#"  # of words that a dictionary lacks
_TAGGER_FILTER = [sys.executable, "-I", "-S", tagger_filter.__file__]


class Apertium(Augmenter):
    """Translates each text by an installed pair, such as that of Debian's apertium-eng-spa, and back.

    pivot: one language, or several of which each copy of a text gets one. modes: the folder of Apertium's mode files.
    num_workers: how many pipelines of each pivot work side by side; None: one for each core that this process may use.
    A text stays as it is where lengths differ too much (`keeps_length`), and where its translator dies of it or needs
    more than `seconds_per_text`, which a text of over 5,000 characters has for each of its parts. Raises UserError
    where a program or a pair is missing.
    Source: "Apertium: a free/open-source platform for rule-based machine translation", Forcada et al., 2011.
    """

    own_workers = True
    free_settings = ("seconds_per_text",)

    def __init__(
        self, pivot: str | list[str], seconds_per_text: float, modes: str, num_workers: int | None, seed: int
    ) -> None:
        self.pivots = pivot_names(pivot)
        self.max_copies = len(self.pivots)
        check_positive("augment.seconds_per_text", seconds_per_text, 60)
        check_whole("augment.seed", seed, 0, 0)
        if num_workers is not None:
            check_whole("augment.num_workers", num_workers, 1, 2)
        self.seed = seed
        self._stages = {name: _stages_there_and_back(Path(str(modes)).expanduser(), name) for name in self.pivots}
        size = num_workers or len(os.sched_getaffinity(0))
        self._pipelines = {name: Pipelines(stages, size, seconds_per_text) for name, stages in self._stages.items()}

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        results = list(texts)
        for pivot, numbers in drawn_pivots(self.pivots, self.seed, copy, texts):
            # Its dictionaries and its tokenizer know accented letters as one character alone.
            composed = [unicodedata.normalize("NFC", texts[number]) for number in numbers]
            translations = self._translate(pivot, composed)
            for number, translation in zip(numbers, translations, strict=True):
                if translation is not None:
                    results[number] = _accepted(texts[number], translation)
        return results

    def _translate(self, pivot: str, texts: list[str]) -> list[str | None]:
        """Each text there and back; None where that of a part failed."""
        parts = [split_parts(text, _PART_CHARACTERS) for text in texts]
        translated = iter(self._pipelines[pivot].translate([part for of_text in parts for part in of_text]))
        results = []
        for of_text in parts:
            found = [next(translated) for _ in of_text]
            whole = [part for part in found if part is not None]
            results.append("".join(whole) if len(whole) == len(found) else None)
        return results

    def close(self) -> None:
        for pool in self._pipelines.values():
            pool.close()

    def fingerprint(self) -> str:
        return super().fingerprint() + code_hash(lengths, tagger_filter, pipelines, pivots, sentences) + self._data_hash

    @cached_property
    def _data_hash(self) -> str:
        """SHA-256 over the pairs' commands and the content of the dictionaries and rules that they name."""
        digest = hashlib.sha256()
        for stages in self._stages.values():
            own = (part for stage in stages for part in stage if part not in _TAGGER_FILTER)  # the same on any machine
            for part in own:
                digest.update(f"{part}\0".encode())
                if Path(part).is_file():
                    digest.update(Path(part).read_bytes())
        return digest.hexdigest()


def _accepted(text: str, translation: str) -> str:
    """The translation without Apertium's marks, or the text where that is too long or too short."""
    for mark in _MARKS:
        if mark not in text:
            translation = translation.replace(mark, "")
    return translation if keeps_length(text, translation) else text


def _stages_there_and_back(modes: Path, pivot: str) -> list[list[str]]:
    """The programs, with their arguments, that translate English into the pivot and back."""
    if shutil.which("apertium") is None:
        raise UserError(
            f"augment: expected the program apertium, found none on the PATH. Install it and the pair: "
            f"apt-get install apertium apertium-eng-{pivot}."
        )
    files = [modes / f"eng-{pivot}.mode", modes / f"{pivot}-eng.mode"]
    if not all(file.is_file() for file in files):
        known = [file.stem.removeprefix("eng-") for file in sorted(modes.glob("eng-*.mode"))]
        found = ", ".join(name for name in known if (modes / f"{name}-eng.mode").is_file()) or "none"
        raise UserError(
            f"augment.pivot: expected a language that an installed pair translates English to and from (in {modes}: "
            f"{found}), found '{pivot}'. Choose one, or install its pair: apt-get install apertium-eng-{pivot}."
        )
    stages = [stage for file in files for stage in _stages(file)]
    missing = [stage[0] for stage in stages if shutil.which(stage[0]) is None]
    if missing:
        raise UserError(
            f"augment: expected the program {missing[0]}, which the pair of eng and {pivot} runs, found none on the "
            f"PATH. Install the pair again: apt-get install --reinstall apertium apertium-eng-{pivot}."
        )
    return stages


def _stages(file: Path) -> list[list[str]]:
    """The programs of a mode file, each told to flush its output at every NUL, the generator to mark no word."""
    words = shlex.shlex(file.read_text(), posix=True, punctuation_chars="|")
    words.whitespace_split = True
    words.commenters = ""
    stages: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            stages.append([])
        elif word == "$1":  # where the script apertium says how to treat unknown words; its $2 is for debugging
            stages[-1].append("-n")
        elif word != "$2":
            stages[-1].append(word)
    flushing = [[program, "-z", *arguments] for program, *arguments in stages]
    return [_TAGGER_FILTER + stage if stage[0] == "apertium-tagger" and "-g" in stage else stage for stage in flushing]
