"""One cache of augmented texts for all methods: no text is augmented twice by the same method.

Each method in each configuration has a folder, CACHE/CLASS/CONFIGURATION; a text's key there is SHA-256 over the text
and the number of its copy. So new texts alone are computed, another parameter finds nothing, and equal texts are one.

A folder holds Arrow files, each sorted by key (`store`). A run writes one every few seconds, aside, synced and renamed
into place, so that a killed one loses no more than that; when it ends it merges all into one. What that one holds, in
bytes and in name, depends on the keys and texts alone: for a method whose results are determined it is the same file
however often a run was killed, whichever run computed what, by whatever number of processes.

Several runs may work on a folder at once, also on several machines. Locks (flock), which end with their process, keep
two runs with the same part of the texts from computing them twice, and runs that write from one that merges. Where
the file system has no locks nothing is merged, which costs time alone.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from uda.augmentation.base import Augmenter
from uda.augmentation.store import SUFFIX, TextFile, as_keys, merged, sorted_piece, write_texts
from uda.errors import UserError
from uda.files import remove, write_text

log = logging.getLogger(__name__)

VERSION = 1  # another one where the same keys stand for something else
_WRITING = ".writing-"
_SETTINGS = "settings.json"  # what the texts of a folder were made with: for people, and for `own_folders`
_MAX_FILES = 32  # all of which are open, and searched
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system that knows no locks


def configuration_folder(cache: Path, augmenter: Augmenter, settings: dict[str, Any], corpus: str) -> Path:
    """Where an augmentation method's texts of one configuration lie.

    settings: all that the method was made of. corpus: another string for other unlabelled texts.
    """
    decided_by = [VERSION, settings, augmenter.fingerprint(), corpus if augmenter.uses_corpus else None]
    key = hashlib.sha256(json.dumps(decided_by, sort_keys=True, default=str).encode()).hexdigest()
    return cache / type(augmenter).__name__ / key[:32]


def own_folders(cache: Path, augmenter: Augmenter, settings: dict[str, Any]) -> list[Path]:
    """Where the texts of a method with these settings lie: a folder for each corpus, if results depend on that, and for
    each version of the method. What was chosen for the settings that were left open makes no difference.
    """
    wanted = json.loads(_as_text(settings))
    found = []
    for path in sorted((cache / type(augmenter).__name__).glob(f"[!.]*/{_SETTINGS}")):
        with suppress(FileNotFoundError):
            stored = json.loads(path.read_text())
            if stored | wanted == stored:
                found.append(path.parent)
    return found


def _as_text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str, indent=1) + "\n"


def size_in_bytes(folder: Path) -> int:
    """The size of all files in a folder and below, which other processes may be deleting."""
    size = 0
    for parent, _, names in os.walk(folder):  # which passes over a folder that vanishes
        for name in names:
            with suppress(FileNotFoundError):
                size += (Path(parent) / name).stat().st_size
    return size


def clear(folder: Path) -> None:
    """Delete a folder of texts, and note that, so that nothing made of them counts any more."""
    if folder.exists():
        note = str(time.time_ns())
        write_text(_note(folder), note)  # of a clearing that is killed in the middle, too
        remove(folder)
        write_text(_note(folder), f"{note} done")  # tokens may have been made meanwhile


def cleared(folder: Path) -> str:
    """Another string after each `clear` of a folder."""
    note = _note(folder)
    return note.read_text() if note.is_file() else ""


def _note(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.cleared")


def text_hashes(texts: Sequence[str]) -> list[bytes]:
    """SHA-256 of each text."""
    return [hashlib.sha256(text.encode()).digest() for text in texts]


def copy_keys(hashes: Sequence[bytes], copy: int) -> list[bytes]:
    """The key of each text's copy of this number."""
    number = copy.to_bytes(8, "little")
    return [hashlib.sha256(each + number).digest() for each in hashes]


class Cache:
    """The texts of one method in one configuration. Raises UserError where the folder cannot be read or written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[TextFile] = []
        self.refresh()

    def __len__(self) -> int:
        """How many texts there are; while several files wait to be merged, some may count twice."""
        return sum(map(len, self._files))

    def has(self, keys: Sequence[bytes]) -> np.ndarray:
        """Which of the keys have a text, [N]."""
        wanted = as_keys(keys)
        found = np.zeros(len(keys), dtype=bool)
        for file in self._files:
            found |= file.has(wanted)
        return found

    def texts(self, keys: Sequence[bytes]) -> list[str | None]:
        """The text of each key, None where there is none."""
        wanted = as_keys(keys)
        texts: list[str | None] = [None] * len(keys)
        for file in reversed(self._files):  # the first one decides, as when they are merged
            file.read_into(texts, wanted)
        return texts

    def refresh(self) -> None:
        """Look for what other processes have written or merged."""
        with self._told():
            while True:
                with suppress(FileNotFoundError):  # merged between the two looks: look again
                    files = [TextFile(path) for path in self.folder.glob(f"*{SUFFIX}")]
                    break
        self._files = sorted(files, key=lambda file: (-len(file), file.path.name))

    def add(self, keys: Sequence[bytes], texts: Sequence[str]) -> None:
        """Write texts, whole or not at all."""
        piece = sorted_piece(as_keys(keys), pa.array(texts, pa.large_string()))
        with self._told():
            with self._locked(".lock", fcntl.LOCK_SH):
                path = write_texts(self.folder, self._aside(), [piece])
                self._files.append(TextFile(path))
            if len(self._files) > _MAX_FILES:
                self._merge(_MAX_FILES // 2)

    def describe(self, settings: dict[str, Any]) -> None:
        """Say in the folder what its texts are made with."""
        path = self.folder / _SETTINGS
        if path.is_file() or self.is_read_only:
            return
        with self._told(), self._locked(".lock", fcntl.LOCK_EX):
            aside = self._aside()
            aside.write_text(_as_text(settings))
            aside.replace(path)

    def tidy(self) -> None:
        """Make one file of all and delete what killed processes left half written."""
        with self._told():
            self._merge(None)

    @property
    def is_tidy(self) -> bool:
        """Whether there is at most one file."""
        return len(self._files) <= 1

    @property
    def is_read_only(self) -> bool:
        """Whether this process may not write: what somebody else has filled serves all the same."""
        return self.folder.exists() and not os.access(self.folder, os.W_OK)

    @contextmanager
    def filling(self, part: str) -> Iterator[None]:
        """For one process at a time, which makes this part of the texts; others wait for its end, then look anew."""
        with ExitStack() as held:
            with self._told():
                waiting = "another process fills the cache: waiting for it"
                held.enter_context(self._locked(f".filling-{part}", fcntl.LOCK_EX, waiting))
            self.refresh()
            yield

    def _merge(self, num_smallest: int | None) -> None:
        """Make one file of so many of the smallest ones, or of all."""
        with self._locked(".lock", fcntl.LOCK_EX) as alone:
            self.refresh()
            if not alone:
                return
            for path in self.folder.glob(f"{_WRITING}*"):  # of killed processes: nobody writes now
                path.unlink(missing_ok=True)
            chosen = self._files if num_smallest is None else self._files[-num_smallest:]
            if len(chosen) > 1:
                path = write_texts(self.folder, self._aside(), merged(chosen))
                for file in chosen:
                    if file.path != path:
                        file.path.unlink()
        self.refresh()

    @contextmanager
    def _locked(self, name: str, kind: int, waiting: str | None = None) -> Iterator[bool]:
        """Hold a lock of the folder, which is made where it is missing; False where there are no locks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            yield _lock(descriptor, kind, waiting)
        finally:
            os.close(descriptor)

    def _aside(self) -> Path:
        return self.folder / f"{_WRITING}{platform.node()}-{os.getpid()}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the disk refuses is said in one message."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"Expected room and permission for augmented texts in the cache {self.folder}, found: {error}. What "
                "was written before is whole: make room or mend the permissions and give the same command again, or "
                "set augment.cache_dir to another folder."
            ) from error


def _lock(descriptor: int, kind: int, waiting: str | None) -> bool:
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                log.info(waiting)
            fcntl.flock(descriptor, kind)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True
