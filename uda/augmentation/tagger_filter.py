"""A filter for pipelines: `tagger_filter.py apertium-tagger ARGUMENT… FILE.prob` treats all records like the first one.

apertium-tagger (3.8) forgets which readings an unknown word may have: where a word has a class of readings that the
tagger was not trained on, and a class that it knows contains these, it takes the latter for unknown words from then on.
What it makes of a text would depend on the texts before it. So a tagger to which that happens, which its messages and
the classes of its file tell, is replaced after the record. The next one starts beforehand.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_READ_BYTES = 1 << 16
_NEW_CLASS = re.compile(rb"^New ambiguity class: \{(.*)\}$", re.MULTILINE)

Classes = tuple[list[frozenset[bytes]], int]  # the classes that a tagger knows, and the size of that of unknown words


def main(command: list[str]) -> int:
    """Answers the NUL-terminated records of standard input until it ends; 1 where a tagger gives no answer."""
    classes = read_classes(Path(command[-1]).read_bytes())
    tagger, spare = _Tagger(command), _Tagger(command)
    try:
        for record in _records():
            answer = tagger.answer(record)
            if answer is None:
                return 1
            sys.stdout.buffer.write(answer)
            sys.stdout.buffer.flush()
            if any(changes_tagger(found.split(b","), classes) for found in _NEW_CLASS.findall(tagger.messages())):
                tagger.stop()
                tagger, spare = spare, _Tagger(command)
    finally:
        tagger.stop()
        spare.stop()
    return 0


def changes_tagger(names: list[bytes], classes: Classes) -> bool:
    """Whether a word with this new class of readings changes what the tagger takes unknown words for."""
    known, size = classes
    return any(len(one) < size and one.issuperset(names) for one in known)


def read_classes(content: bytes) -> Classes:
    """The classes of readings, by their names, of a .prob file (numbers have 6, 14, 22 or 30 bits, lengths first)."""
    numbers = _numbers(content)

    def several() -> range:
        return range(next(numbers))

    def text() -> bytes:
        return "".join([chr(next(numbers)) for _ in several()]).encode()

    size = len([next(numbers) for _ in several()])  # of the class of unknown words
    _ = [(next(numbers), next(numbers)) for _ in several()]  # forbidden pairs
    names = [text() for _ in several()]
    _ = [(text(), next(numbers)) for _ in several()]  # the names once more
    _ = [(next(numbers), [next(numbers) for _ in several()]) for _ in several()]  # enforced pairs
    _ = [text() for _ in several()]  # preferences
    _ = [(text(), next(numbers)) for _ in several()]  # constants
    return [frozenset(names[next(numbers)] for _ in several()) for _ in several()], size


class _Tagger:
    def __init__(self, command: list[str]) -> None:
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        program, *arguments = command
        self._process = subprocess.Popen(
            [program, "-d", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._messages, bufsize=0
        )

    def answer(self, record: bytes) -> bytes | None:
        """The record that comes back, NUL included; None where the tagger ends."""
        assert self._process.stdout is not None
        # Both pipes of a long record may be full at once.
        writer = threading.Thread(target=self._write, args=(record,))
        writer.start()
        answer = bytearray()
        while not answer.endswith(b"\0") and (received := os.read(self._process.stdout.fileno(), _READ_BYTES)):
            answer += received
        writer.join()
        return bytes(answer) if answer.endswith(b"\0") else None

    def messages(self) -> bytes:
        """What the tagger said to the last record."""
        self._messages.seek(0)
        said = self._messages.read()
        self._messages.seek(0)
        self._messages.truncate()
        return said

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._messages.close()

    def _write(self, record: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # `answer` sees the end too
            while record:
                record = record[self._process.stdin.write(record) :]


def _records() -> Iterator[bytes]:
    waiting = bytearray()
    while received := os.read(sys.stdin.fileno(), _READ_BYTES):
        waiting += received
        while (end := waiting.find(b"\0")) >= 0:
            yield bytes(waiting[: end + 1])
            del waiting[: end + 1]


def _numbers(content: bytes) -> Iterator[int]:
    place = 0
    while place < len(content):
        more = content[place] >> 6
        yield int.from_bytes(bytes([content[place] & 0x3F]) + content[place + 1 : place + 1 + more], "big")
        place += 1 + more


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
