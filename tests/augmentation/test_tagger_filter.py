import subprocess
import sys
from pathlib import Path

import pytest

from uda.augmentation import tagger_filter
from uda.augmentation.tagger_filter import changes_tagger, read_classes

# Answers with the number of records that it has had; says so where one has a word of a new class; dies of "die".
TAGGER = r"""
import sys
assert sys.argv[1:3] == ["-d", "-g"]
count = 0
record = b""
while byte := sys.stdin.buffer.read(1):
    record += byte
    if byte == b"\0":
        if b"die" in record:
            sys.exit(1)
        if b"ab" in record:
            print("Word 'x'.\nNew ambiguity class: {A,B}", file=sys.stderr, flush=True)
        if b"cd" in record:
            print("New ambiguity class: {C,DD}", file=sys.stderr, flush=True)
        count += 1
        sys.stdout.buffer.write(b"%d " % count + record)
        sys.stdout.buffer.flush()
        record = b""
"""


def number(value: int) -> bytes:
    """A number as .prob files have it: 6 bits in one byte, or 14 in two."""
    return bytes([value]) if value < 64 else bytes([0x40 | value >> 8, value & 0xFF])


def text(value: str) -> bytes:
    return number(len(value)) + b"".join(number(ord(letter)) for letter in value)


def prob_file() -> bytes:
    """Names A, B, C, DD; unknown words have the class of the first three; known are {A,B,C}, {C,DD} and {A}."""
    names = ["A", "B", "C", "DD"]
    parts = [number(3), number(0), number(1), number(1)]  # {0, 1, 2} by differences
    parts += [number(1), number(0), number(300)]  # a forbidden pair
    parts += [number(4), *(text(name) for name in names)]
    parts += [number(4), *(text(name) + number(place) for place, name in enumerate(names))]
    parts += [number(1), number(2), number(2), number(0), number(1)]  # an enforced pair
    parts += [number(1), text("<x>")]
    parts += [number(1), text("kMOT"), number(7)]
    parts += [
        number(3),
        number(3),
        number(0),
        number(1),
        number(2),
        number(2),
        number(2),
        number(3),
        number(1),
        number(0),
    ]
    return b"".join(parts) + b"and the rest"


def test_the_classes_of_a_file() -> None:
    classes = read_classes(prob_file())
    assert classes == ([frozenset({b"A", b"B", b"C"}), frozenset({b"C", b"DD"}), frozenset({b"A"})], 3)


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        ([b"A", b"B"], False),  # {A,B,C} has it, but is no smaller than that of unknown words
        ([b"C", b"DD"], True),
        ([b"DD"], True),
        ([b"B", b"DD"], False),
    ],
)
def test_what_changes_a_tagger(names: list[bytes], changes: bool) -> None:
    assert changes_tagger(names, read_classes(prob_file())) is changes


def filtered(tmp_path: Path, records: bytes) -> "subprocess.CompletedProcess[bytes]":
    (tmp_path / "tagger").write_text(f"#!{sys.executable}\n{TAGGER}")
    (tmp_path / "tagger").chmod(0o755)
    (tmp_path / "x.prob").write_bytes(prob_file())
    command = [sys.executable, tagger_filter.__file__, str(tmp_path / "tagger"), "-g", str(tmp_path / "x.prob")]
    return subprocess.run(command, input=records, capture_output=True)


def test_a_changed_tagger_is_replaced(tmp_path: Path) -> None:
    done = filtered(tmp_path, b"one\0ab\0three\0cd\0five\0" + b"x" * 70_000 + b"\0cd\0end\0")
    assert done.returncode == 0, done.stderr
    counts = [answer.split(b" ")[0] for answer in done.stdout.split(b"\0")[:-1]]
    assert counts == [b"1", b"2", b"3", b"4", b"1", b"2", b"3", b"1"]
    assert done.stdout.split(b"\0")[5] == b"2 " + b"x" * 70_000


def test_a_tagger_that_dies_ends_the_filter(tmp_path: Path) -> None:
    done = filtered(tmp_path, b"one\0die\0three\0")
    assert done.returncode == 1
    assert done.stdout == b"1 one\0"
