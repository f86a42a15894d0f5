"""Bytes to lines of text: compression undone, the encoding found or as the user says, a wrong byte named."""

import codecs
import io
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

import pyarrow as pa

_BLOCK = 1 << 18  # bytes read at a time
_UTF8 = "utf-8-sig"  # which drops the byte order mark, and needs none
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # starts with UTF-16's, so it comes first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LONGEST_MARK = max(map(len, _MARKS))


class WrongEncoding(ValueError):
    """Bytes that are no text in the encoding; the message says which and where."""


def decompressed(file: BinaryIO, compression: str | None) -> Any:
    """The bytes of a stream as one that can be read; compression: gzip, zstd or None."""
    return file if compression is None else pa.CompressedInputStream(file, compression)


def decoded_lines(file: Any, encoding: str | None) -> Iterator[str]:
    """The lines with their ends (\\n, \\r\\n or \\r), as the csv module wants them; encoding None: found.

    Raises WrongEncoding.
    """
    # As they come: Python heeds a signal between two reads, while one that waits for a whole block may miss it.
    blocks = chain([file.read(_LONGEST_MARK)], iter(lambda: file.read1(_BLOCK), b""))
    pending: list[str] = []
    for text in _decoded(blocks, encoding):
        pending.append(text)
        if "\n" not in text and "\r" not in text:
            continue  # a line longer than a block
        lines = list(io.StringIO("".join(pending), newline=""))
        pending = [] if lines[-1].endswith("\n") else [lines.pop()]  # a \n may follow its \r
        yield from lines
    if rest := "".join(pending):
        yield from io.StringIO(rest, newline="")


def _decoded(blocks: Iterator[bytes], encoding: str | None) -> Iterator[str]:
    block = next(blocks, b"")
    if encoding is None:
        encoding = next((name for mark, name in _MARKS.items() if block.startswith(mark)), _UTF8)
    elif codecs.lookup(encoding).name == "utf-8":
        encoding = _UTF8
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    while True:
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = bytes(error.object[: error.start]).decode(error.encoding, errors="ignore")
            name = "UTF-8" if encoding == _UTF8 else encoding
            raise WrongEncoding(
                f"byte 0x{error.object[error.start]:02x} in line {line + before.count(chr(10))}, which is no {name}"
            ) from error
        line += text.count("\n")
        if text:
            yield text
        if not block:
            return
        block = next(blocks, b"")
