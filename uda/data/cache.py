"""Where caches live, and how a folder gets into one: whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from uda.errors import UserError
from uda.files import remove_old

_WRITING = ".writing-"
_HEADER_BYTES = 128  # of a .npy file


def cache_dir() -> Path:
    """Where caches live: $UDA_CACHE, else ~/.cache/uda."""
    return Path(os.environ.get("UDA_CACHE") or "~/.cache/uda").expanduser()


def cached_folder(folder: Path, what: str, write: Callable[[Path], object]) -> Path:
    """The folder, which `write` fills where there is none yet; `what` names its content in messages.

    Safe with several processes: each writes aside and renames, and any of the equal results may win.
    """
    if folder.exists():
        return folder
    aside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_old(folder.parent, f"{_WRITING}*")
        aside = folder.with_name(f"{_WRITING}{uuid.uuid4().hex}")
        aside.mkdir()  # with the permissions that others get by the umask, as mkdtemp does not
        write(aside)
        for path in aside.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # the folder's name must not reach the disk before its content
        aside.rename(folder)
    except OSError as error:
        if not folder.exists():  # no other process was faster
            raise UserError(
                f"Expected room and permission for {what} in the cache {folder.parents[1]}, found: {error}. Mend that, "
                "or set the environment variable UDA_CACHE to another folder."
            ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


class ArrayWriter:
    """A one-dimensional .npy file that is written piece by piece; a context manager."""

    def __init__(self, path: Path, dtype: type) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file = path.open("wb")
        self._write_header()

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._write_header()  # of the same size: NumPy leaves room for the longest length
        self._file.close()

    def append(self, array: np.ndarray) -> None:
        """Write the numbers after those that are there."""
        self._file.write(np.ascontiguousarray(array, dtype=self.dtype).data)
        self.length += len(array)

    def _write_header(self) -> None:
        description = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def mapped(path: Path) -> np.ndarray:
    """The array of a .npy file, memory-mapped; one without numbers, which cannot be, is read."""
    array = np.load(path, mmap_mode="r") if path.stat().st_size > _HEADER_BYTES else np.load(path)
    assert isinstance(array, np.ndarray)
    return array
