"""Where rows are: a path, a glob, a list, a folder, or standard input, as the files that they stand for."""

import atexit
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from uda.data.decoding import WrongEncoding, decoded_lines, decompressed
from uda.data.formats import COMPRESSIONS, TableOptions, find_format
from uda.errors import UserError

STDIN = "-"
_TEXT = ".txt"
_STARTS = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrow"}
_PACKED = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
_HEAD = 65_536  # bytes of standard input in which its first line is looked for

log = logging.getLogger(__name__)


def as_list(value: Any, role: str) -> list[str]:
    """The locations of `data.<role>`: one name or a list of names."""
    locations = [value] if isinstance(value, str) else value
    if not isinstance(locations, Sequence) or not locations or not all(isinstance(one, str) for one in locations):
        raise UserError(
            f"data.{role}: expected the name of a file or split, or a list of such names, found {value!r}. "
            f"Set data.{role} to where the rows are."
        )
    return list(locations)


def files_of(value: Any, role: str, options: TableOptions) -> list[Path]:
    """The files of `data.<role>`, in the order given; those of a glob or a folder are sorted.

    A folder stands for all tables below it or, where all that is readable below it are text files, for itself: it
    is then read by `read_text_folder`. Hidden files and folders are passed over. Variables and ~ are expanded; `-`,
    which is standard input, stays. Raises UserError for a glob that matches nothing, a folder without readable files
    or with tables and text files, and a file that is named twice.
    """
    paths = [path for location in as_list(value, role) for path in _expanded(location, role, options)]
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise UserError(
                f"data.{role}: expected every file once, found {path} more than once. Name it once; a glob or folder "
                "may hold a file that is also named."
            )
        seen.add(path.resolve())
    return paths


def _expanded(location: str, role: str, options: TableOptions) -> list[Path]:
    path = Path(os.path.expandvars(location)).expanduser()
    if location == STDIN or path.is_file():
        return [path]
    if path.is_dir():
        return _in_folder(path, role, options)
    if not has_magic(str(path)):
        return [path]  # reading it says what is wrong
    found = sorted(Path(name) for name in glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        unset = " The variable in it is not set." if "$" in str(path) else ""
        raise UserError(
            f"data.{role}: expected files that match {path}, found none.{unset} Correct the pattern, and quote it so "
            "that the shell leaves it alone."
        )
    return found


def _in_folder(folder: Path, role: str, options: TableOptions) -> list[Path]:
    """The tables below a folder, or the folder itself where it holds texts."""
    files = list(files_below(folder))
    texts = [path for path in files if path.suffix.lower() == _TEXT and options.format is None]
    tables = [path for path in files if path not in texts and _is_readable(path, options)]
    if tables and texts:
        raise UserError(
            f"data.{role}: expected tables or text files below the folder {folder}, found both ({tables[0].name} and "
            f"{texts[0].name}). Name the ones that are meant by a glob, for example '{folder}/*{tables[0].suffix}'."
        )
    if not tables and not texts:
        found = f"{len(files)} others, such as {files[0].name}" if files else "no files"
        raise UserError(
            f"data.{role}: expected files that can be read below the folder {folder}, found {found}. Convert them to "
            "CSV, JSONL or Parquet, or name another folder."
        )
    return tables or [folder]


def _is_readable(path: Path, options: TableOptions) -> bool:
    try:
        find_format(path, options)
    except UserError:
        return False
    return True


def files_below(folder: Path) -> Iterator[Path]:
    """The files below a folder, sorted, without hidden ones."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def read_text_folder(
    folder: Path, role: str, text_column: str, label_column: str, encoding: str | None
) -> pd.DataFrame:
    """A folder of text files as a table, one text a file: text, path below the folder and, but for `unlabeled`, label.

    The label is the name of the sub-folder. The columns of text and label have the names that are asked for.
    Raises UserError for a labelled file in no sub-folder and a file that is not in the encoding (UTF-8 unless given).
    """
    rows = []
    for path in files_below(folder):
        if path.suffix.lower() != _TEXT:
            continue
        parts = path.relative_to(folder).parts
        if role != "unlabeled" and len(parts) < 2:
            raise UserError(
                f"data.{role}: expected a sub-folder for each class below {folder}, whose name is the label of the "
                f"text files in it, found {path.name} in none. Move it into {folder}/<label>/, or name a table."
            )
        try:
            with path.open("rb") as file:
                text = "".join(decoded_lines(file, encoding)).rstrip("\r\n")
        except (WrongEncoding, LookupError) as error:
            raise UserError(
                f"data.{role}: expected {path} to be text that can be read, found {error}. Set data.encoding to what "
                "it was written in, such as data.encoding=cp1252, or convert it to UTF-8."
            ) from error
        if not text.strip():
            raise UserError(f"data.{role}: expected a text in {path}, found none. Remove the file or fill it.")
        row = {text_column: text, "path": "/".join(parts)}
        rows.append(row if role == "unlabeled" else {**row, label_column: parts[0]})
    return pd.DataFrame(rows)


def check_standard_input(locations: dict[str, Any]) -> None:
    """Refuse standard input for more than one role: it can be read only once. locations: by role, None where unset."""
    found = [
        role for role, value in locations.items() if value is not None for one in as_list(value, role) if one == STDIN
    ]
    if len(found) > 1:
        raise UserError(
            f"Expected standard input (-) for one of the locations of data, found it for "
            f"{' and '.join(f'data.{role}' for role in found)}. Write the others to files and name these."
        )


def spooled_standard_input(role: str, text_column: str) -> Path:
    """What standard input holds, as a file that lives as long as this process and whose name tells its format.

    Parquet, Arrow, gzip and zstd are known by their first bytes, JSONL by a brace; else it is a CSV, or, for
    `unlabeled`, one text a line unless the first line names the text column. Raises UserError where it is empty.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(
            f"data.{role}=-: expected rows on standard input, found a terminal. Pipe them in: "
            "cat rows.csv | python -m uda.train …"
        )
    folder = Path(tempfile.mkdtemp(prefix="uda-stdin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "standard-input"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise UserError(
            f"data.{role}=-: expected rows on standard input, found it empty. Check what is piped in; it can be read "
            "only once."
        )
    ending = _ending(path, role, text_column)
    log.info("data.%s: standard input is read as %s; data.format says otherwise", role, ending)
    return path.rename(folder / f"standard-input{ending}")


def _ending(path: Path, role: str, text_column: str) -> str:
    with path.open("rb") as file:
        start = file.read(8)
        for magic, ending in _STARTS.items():
            if start.startswith(magic):
                return ending
        packing = next((ending for magic, ending in _PACKED.items() if start.startswith(magic)), "")
        file.seek(0)
        with suppress(OSError, pa.ArrowException):  # told when the rows are read
            start = decompressed(file, COMPRESSIONS.get(packing)).read(_HEAD)
    first = start.decode("utf-8-sig", errors="replace").lstrip().split("\n")[0]
    if first.startswith("{"):
        return f".jsonl{packing}"
    cells = [cell.strip(' "\r') for cell in re.split(r"[,;\t|]", first)]
    return f"{_TEXT if role == 'unlabeled' and text_column not in cells else '.csv'}{packing}"
