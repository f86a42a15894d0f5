"""Commands and paths as people can paste them."""

import os
import shutil
import sys


def shorter(path: str) -> str:
    """A path as it is, or relative to where we stand, whichever is shorter."""
    return min(path, os.path.relpath(path), key=len)


def python() -> str:
    """What starts this Python: `python` where that is the one, else its path."""
    return "python" if shutil.which("python") == sys.executable else shorter(sys.executable)
