"""The lock of a run directory: one process at a time."""

import errno
import fcntl
import logging
import os
import platform
import time
from collections.abc import Iterator
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


def _lock(folder: Path) -> int:
    """The descriptor that holds the lock, an flock on a file of the directory."""
    path = folder / _LOCK
    try:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            _take(descriptor, folder)
            if _is_open(descriptor, path):
                break
            os.close(descriptor)  # its owner took it away between our calls
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


def _take(descriptor: int, folder: Path) -> None:
    """Lock an open file, or say who has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _owner(descriptor)
        os.close(descriptor)
        raise TakenError(
            f"Expected a run directory that no other process uses, found {folder} in use by {owner}. Wait for its end "
            "or stop it (its next start goes on from the last checkpoint), or set hydra.run.dir=DIR to write elsewhere."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(descriptor)
            raise
        log.warning("%s lies on a file system without locks: let no second process use it", folder)


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
