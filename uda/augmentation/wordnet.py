"""Synonyms out of WordNet's dictionary files, which are mapped into memory and searched there.

Source: the manual pages wndb(5WN) for the format and morphy(7WN) for the base forms.
"""

import hashlib
import mmap
import os
import sys
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uda.errors import UserError

_DEBIAN = Path("/usr/share/wordnet")
# How the ends of inflected words are taken back.
_ENDINGS = {
    "noun": ("s:", "ses:s", "xes:x", "zes:z", "ches:ch", "shes:sh", "men:man", "ies:y"),
    "verb": ("s:", "ies:y", "es:e", "es:", "ed:e", "ed:", "ing:e", "ing:"),
    "adj": ("er:", "est:", "er:e", "est:e"),
    "adv": (),
}
_FILES = [f"{kind}.{part}" for part in _ENDINGS for kind in ("index", "data")] + [f"{part}.exc" for part in _ENDINGS]


@dataclass(frozen=True)
class _Part:
    """The files of one part of speech."""

    index: mmap.mmap  # a lemma a line, in the order of their bytes
    lines: NDArray[np.int64]  # where each line of the index begins
    data: mmap.mmap
    exceptions: dict[str, list[str]]  # base forms of irregular words

    def synsets(self, lemma: str) -> list[int]:
        """Where in `data` the synsets of a lemma begin; none where it is unknown."""
        wanted = lemma.replace(" ", "_").encode()
        place = bisect_left(self.lines, wanted, key=lambda line: self.index[line : self.index.find(b" ", line)])
        if place == len(self.lines):
            return []
        line = int(self.lines[place])
        fields = self.index[line : self.index.find(b"\n", line)].split()
        return [int(offset) for offset in fields[-int(fields[2]) :]] if fields[:1] == [wanted] else []

    def lemmas(self, offset: int) -> list[str]:
        """The words of the synset that begins at `offset`, as they are written in a text."""
        fields = self.data[offset : self.data.find(b"\n", offset)].split()
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        return [word.decode().partition("(")[0].replace("_", " ") for word in words]  # an adjective may end in "(p)"


def find_wordnet(folder: str | None) -> Path:
    """The folder of WordNet's files: the one that was named, or else Debian's or NLTK's."""
    tried = [_DEBIAN, *_nltk_folders()] if folder is None else [Path(folder).expanduser()]
    for place in tried:
        if all((place / name).is_file() for name in _FILES):
            return place
    raise UserError(
        f"augment.wordnet: expected a folder with WordNet's files ({_FILES[0]}, {_FILES[1]}, …), found none at "
        f"{', '.join(map(str, tried))}. Install Debian's package wordnet-base (apt-get install wordnet-base), or set "
        "augment.wordnet to such a folder."
    )


@lru_cache(maxsize=50_000)
def synonyms(folder: Path, word: str) -> tuple[str, ...]:
    """The other words, sorted and lower-cased, of the synsets of a lower-cased word or else of its base forms."""
    found: set[str] = set()
    for name, part in _parts(folder).items():
        forms = [word] if part.synsets(word) else _base_forms(name, part, word)
        offsets = {offset for form in forms for offset in part.synsets(form)}
        found.update(lemma.lower() for offset in offsets for lemma in part.lemmas(offset))
        found.difference_update(forms)
    return tuple(sorted(found - {word}))


@cache
def content_hash(folder: Path) -> str:
    """SHA-256 over the files."""
    digest = hashlib.sha256()
    for name in _FILES:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _base_forms(name: str, part: _Part, word: str) -> list[str]:
    if word in part.exceptions:
        return part.exceptions[word]
    rules = (rule.split(":") for rule in _ENDINGS[name])
    forms = [word.removesuffix(old) + new for old, new in rules if word.endswith(old)]
    return [form for form in forms if part.synsets(form)]


@cache
def _parts(folder: Path) -> dict[str, _Part]:
    return {name: _load(folder, name) for name in _ENDINGS}


def _load(folder: Path, name: str) -> _Part:
    index, data = _mapped(folder / f"index.{name}"), _mapped(folder / f"data.{name}")
    ends = np.flatnonzero(np.frombuffer(index, dtype=np.uint8) == ord("\n"))
    begins = np.concatenate([[0], ends[:-1] + 1])
    lines = np.array([begin for begin in begins.tolist() if index[begin] != ord(" ")])  # the licence is indented
    exceptions = [line.split() for line in (folder / f"{name}.exc").read_text().splitlines()]
    return _Part(index, lines, data, {words[0].replace("_", " "): words[1:] for words in exceptions})


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _nltk_folders() -> list[Path]:
    """Where NLTK's downloader puts WordNet, unpacked."""
    named = [Path(place) for place in os.environ.get("NLTK_DATA", "").split(os.pathsep) if place]
    shared = [Path(root) / "nltk_data" for root in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")]
    own = [Path(sys.prefix) / place / "nltk_data" for place in ("", "share", "lib")]
    return [place / "corpora" / "wordnet" for place in (*named, Path.home() / "nltk_data", *own, *shared)]
