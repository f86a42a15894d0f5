"""Locks of run directories and of files that are being written: one process at a time."""

import errno
import fcntl
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uda.errors import TakenError, UserError

log = logging.getLogger(__name__)

_LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system that knows no locks


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run directory, made if it is missing, for this process alone; it is free as soon as the process ends.

    What a refused job made is taken away again. Raises UserError where another process holds the directory, or it
    cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        descriptor = _lock(folder)
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)
            os.close(descriptor)
    finally:
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()


def in_use(folder: Path) -> bool:
    """Whether another process holds the run directory."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(descriptor)
    return False


@contextmanager
def alone_at(path: Path, taken: str) -> Iterator[None]:
    """Hold a file, made if it is missing, for this process alone: to write it, then rename it.

    What still has the name at the end is deleted. Raises TakenError with `taken` where another process holds the file,
    and OSError where it cannot be made.
    """
    descriptor = _open_locked(lambda: _opened(path), path, lambda _: taken)
    try:
        yield
    finally:
        if _is_open(descriptor, path):
            path.unlink()
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """The descriptor that holds the lock, an flock on a file of the directory."""
    path = folder / _LOCK

    def taken(descriptor: int) -> str:
        return (
            f"Expected a run directory that no other process uses, found {folder} in use by {_owner(descriptor)}. Wait "
            "for its end or stop it (its next start goes on from the last checkpoint), or set hydra.run.dir=DIR to "
            "write elsewhere."
        )

    try:
        descriptor = _open_locked(lambda: _opened_in_folder(path), path, taken)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}, since {time.ctime()}".encode())
        except OSError:
            path.unlink()
            os.close(descriptor)
            raise
    except OSError as error:
        raise UserError(
            f"Expected a run directory that can be made and written, found {folder}: {error}. Make room or mend its "
            "permissions, or set hydra.run.dir=DIR to write elsewhere."
        ) from error
    return descriptor


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _opened_in_folder(path: Path) -> int:
    """The file's descriptor; its folder is made, as often as a refused process takes it away again."""
    for _ in range(9):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return _opened(path)
    return _opened(path)


def _open_locked(opened: Callable[[], int], path: Path, taken: Callable[[int], str]) -> int:
    """The descriptor, by `opened`, of a file that this process holds; `taken` says what is to be said of one that
    another holds.
    """
    while True:
        descriptor = opened()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = taken(descriptor)
            os.close(descriptor)
            raise TakenError(message) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            log.warning("%s lies on a file system without locks: let no second process write there", path.parent)
        if _is_open(descriptor, path):
            return descriptor
        os.close(descriptor)  # its owner took it away between our calls


def _owner(descriptor: int) -> str:
    """Who holds the lock; a process that has just taken it is given a second to write its name."""
    for _ in range(20):
        if name := os.pread(descriptor, 1_000, 0):
            return name.decode(errors="replace")
        time.sleep(0.05)
    return "another process"


def _is_open(descriptor: int, path: Path) -> bool:
    """Whether the descriptor's file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
