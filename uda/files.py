"""Files and folders that are whole or not there: written aside, synced, renamed into place."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file or folder under another name, then put it in the place of what was there."""
    aside = path.with_name(f".writing-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    write(aside)
    if aside.is_dir():
        for part in aside.iterdir():
            sync(part)
        shutil.rmtree(path, ignore_errors=True)
    sync(aside)
    aside.rename(path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or as it was before."""
    write_aside(path, lambda aside: aside.write_text(text))


def sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
