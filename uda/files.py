"""Files and folders that are whole or not there: written aside, synced, renamed into place."""

import glob
import mmap
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from uda.errors import UserError

_WRITING, _REMOVING = ".writing-", ".removing-"
_LEFT_SECONDS = 7 * 24 * 3600  # far beyond what writing takes


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file or folder under another name, then put it in the place of what was there.

    Of several processes that write a file at once the last one's stays; a folder is for one process. Raises UserError
    where that cannot be written, as on a full disk; what was there stays.
    """
    remove_old(path.parent, f"{_WRITING}*-{glob.escape(path.name)}")
    put_in_place(path, path.with_name(f"{_WRITING}{uuid.uuid4().hex}-{path.name}"), write)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or as it was before."""
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def put_in_place(path: Path, aside: Path, write: Callable[[Path], object]) -> None:
    """As `write_aside`, under a name that no other process takes."""
    gone = _removing(path)
    try:
        write(aside)
        if aside.is_dir():
            for part in aside.rglob("*"):
                sync(part)
            with suppress(FileNotFoundError):
                path.rename(gone)
        sync(aside)
        aside.rename(path)
        sync(path.parent)
    except BaseException as error:
        _delete(aside)
        if isinstance(error, OSError | SafetensorError):
            raise unwritable(path, error) from error
        raise
    finally:
        if path.exists():
            _delete(gone)
        elif gone.exists():
            gone.rename(path)


def remove(path: Path) -> None:
    """Take away a file or folder at once: whoever looks finds it whole or not at all."""
    gone = _removing(path)
    with suppress(FileNotFoundError):
        path.rename(gone)
    _delete(gone)


def _removing(path: Path) -> Path:
    return path.with_name(f"{_REMOVING}{uuid.uuid4().hex}")


def finish_removing(folder: Path) -> bool:
    """Delete what processes that removed something from a folder were killed at, or are still at; whether that was."""
    left = list(folder.glob(f"{_REMOVING}*"))
    for path in left:
        _delete(path)
    return bool(left)


def remove_old(folder: Path, pattern: str) -> None:
    """Delete what killed processes left half written, once nobody can be at it any more."""
    for path in folder.glob(pattern):
        with suppress(OSError):  # another process deleted it, or it is another user's
            if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                _delete(path)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left of writing or removing in a folder."""
    for prefix in (_WRITING, _REMOVING):
        for path in list(folder.glob(f"{prefix}*")):
            _delete(path)


def remove_empty(folder: Path) -> None:
    """Take back the folders that Hydra made for a job that was refused; never one that we stand in."""
    here = Path.cwd()
    folder = folder.absolute()
    below = [path for path in folder.parents if here in path.parents]
    for path in (folder, *below):
        try:
            if path == here or path in here.parents or not path.is_dir() or any(path.iterdir()):
                return
            path.rmdir()
        except OSError:  # another job was faster, with this folder or with one in it
            return


def unwritable(path: Path, error: Exception) -> UserError:
    """What to say where a path cannot be written."""
    return UserError(
        f"Expected to be able to write {path}, found: {error}. What was written before is whole; make room or mend the "
        "folder's permissions and give the same command again, or write elsewhere."
    )


def map_file(path: Path) -> mmap.mmap:
    """A file's bytes, memory-mapped. Raises ValueError where it has none.

    Pages that were looked at count as resident until `madvise(mmap.MADV_DONTNEED)`, which takes nothing from the file.
    """
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
