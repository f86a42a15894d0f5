import codecs
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uda.data.formats import TableOptions, read_table, stream_tables
from uda.data.records import find_delimiter
from uda.errors import UserError

FOUND = TableOptions()
ROWS = {"text": ['a "b", c', "two\nlines", "", "café ☕ 电影; | \t", "end\r\nof"], "n": ["1", "007", "NA", "", "x,y"]}
EXPECTED = [[value or None for value in row] for row in zip(*ROWS.values(), strict=True)]


def rows_of(frame: pd.DataFrame) -> list[list[Any]]:
    return [[None if value is pd.NA or value != value else value for value in row] for row in frame.to_numpy(object)]


def both_ways(path: Path, options: TableOptions = FOUND, chunk_rows: int = 2) -> list[list[Any]]:
    """The rows of a file, read whole; streamed they are the same."""
    whole = read_table(path, options)
    frames = list(stream_tables(path, options, chunk_rows))
    assert all(len(frame) <= chunk_rows for frame in frames)
    assert [list(frame.columns) for frame in frames[:1]] in ([], [list(whole.columns)])
    assert [row for frame in frames for row in rows_of(frame)] == rows_of(whole)
    return rows_of(whole)


def refusal(path: Path, options: TableOptions = FOUND) -> str:
    with pytest.raises(UserError) as whole:
        read_table(path, options)
    with pytest.raises(UserError) as streamed:
        list(stream_tables(path, options, 2))
    assert str(streamed.value) == str(whole.value)
    return str(whole.value).replace(str(path), "PATH")


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_csv(rows: dict[str, list[str]], **options: Any) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, **options)
    writer.writerow(rows)
    writer.writerows(zip(*rows.values(), strict=True))
    return text.getvalue()


def packed(path: Path, content: bytes, compression: str) -> Path:
    with pa.CompressedOutputStream(str(path), compression) as file:
        file.write(content)
    return path


@pytest.mark.parametrize("delimiter", list(",;\t|"))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiter_is_found(tmp_path: Path, delimiter: str, end: str) -> None:
    path = written(tmp_path / "rows.csv", as_csv(ROWS, delimiter=delimiter, lineterminator=end))
    assert both_ways(path) == EXPECTED


def test_tsv_has_tabs_whatever_its_texts_hold(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.tsv", "text,a\tn,b\nx,y\t1,2\n")
    assert list(read_table(path, FOUND).columns) == ["text,a", "n,b"]
    assert both_ways(path) == [["x,y", "1,2"]]


ORANGE = "Category\tText\nd\tstring\nclass\t\n"


def test_orange_has_three_lines_before_its_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "posts.tab", ORANGE + '\nsci.med\ta post; with a, b\n\nsci.space\t"two\nlines"\nx\t\n')
    assert list(read_table(path, FOUND).columns) == ["Category", "Text"]
    assert both_ways(path) == [["sci.med", "a post; with a, b"], ["sci.space", "two\nlines"], ["x", None]]
    named_otherwise = written(tmp_path / "posts.data", "size\tx\nsmall large\tc\n\tmeta\nlarge\t0.5\n")
    assert both_ways(named_otherwise, TableOptions(format="orange")) == [["large", "0.5"]]
    assert both_ways(written(tmp_path / "none.tab", ORANGE)) == []


@pytest.mark.parametrize(
    "content", ["text\tlabel\nd\tx\nc\ty\n", "text\tlabel\n", "", "a\tb\nd\tstring\nclass\n", "a\tb\nd\nclass\t\n"]
)
def test_a_plain_table_is_no_orange(tmp_path: Path, content: str) -> None:
    assert refusal(written(tmp_path / "rows.tab", content)) == (
        "Expected PATH to be a readable .tab file, found: no lines of names, types (such as d, c, string) and flags at "
        "its start. Set the format to tsv where the first line alone has names. Check the file."
    )


def test_orange_rows_have_the_cells_of_the_header(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "rows.tab", ORANGE + "x\ta\tb\n")) == (
        "Expected PATH to be a readable .tab file, found: row 0 (counted from 0) has more cells than its header: 3 for "
        "2. Check the file."
    )
    assert refusal(written(tmp_path / "rows.tab", ORANGE.replace("Text", "Category"))) == (
        "Expected PATH to be a readable .tab file, found: two columns of the name 'Category'. Check the file."
    )


def test_delimiter_as_the_user_says(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", "text:n\nx,y:1,2\n")
    assert both_ways(path, TableOptions(delimiter=":")) == [["x,y", "1,2"]]
    path = written(tmp_path / "rows.csv", "text\tn\nx\t1\n")
    assert both_ways(path, TableOptions(delimiter="tab")) == [["x", "1"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text;label\nA film, good;pos\nBad, dull;neg\n", ";"),  # as many commas in each row, none in the header
        ("text\nA film; good\nBad; dull\n", ","),  # one column
        ("text,label\na film, good,pos\n", ","),  # nothing fits: the header's
        ("text;label\nmore;than;two\n", ";"),
        ("", ","),
        ('"a,b"|c\n"d|e"|f\n', "|"),  # quotes heeded
        ("a|b\n" + "x" * 70_000, "|"),  # a record that the sample cuts
    ],
)
def test_find_delimiter(text: str, expected: str) -> None:
    assert find_delimiter(text[:65_536].splitlines(keepends=True)) == expected


def test_two_delimiters_that_fit(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "rows.csv", "a,b;c\nd,e;f\n")) == (
        "Expected PATH to be a readable .csv file, found: a table that ',' and ';' part alike. Set the delimiter. "
        "Check the file."
    )


def test_no_header(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", "good,pos\nbad,neg\n")
    options = TableOptions(header=False)
    assert both_ways(path, options) == [["good", "pos"], ["bad", "neg"]]
    assert list(read_table(path, options).columns) == ["column_0", "column_1"]
    assert both_ways(path, TableOptions(header=True)) == both_ways(path) == [["bad", "neg"]]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.tab", "rows.jsonl", "rows.ndjson", "rows.txt"])
def test_packed_text(tmp_path: Path, name: str, suffix: str) -> None:
    content = {
        "csv": "text,n\nä,1\n",
        "tsv": "text\tn\nä\t1\n",
        "tab": "text\tn\nstring\tc\n\t\nä\t1\n",
        "txt": "ä\n",
    }.get(name[5:], '{"text": "ä", "n": "1"}\n')
    path = packed(tmp_path / f"{name}{suffix}", content.encode(), {".gz": "gzip", ".zst": "zstd"}[suffix])
    assert both_ways(path) == [["ä"] if name == "rows.txt" else ["ä", "1"]]


def test_gzip_of_several_parts_and_a_cut_one(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.txt.gz", gzip.compress(b"a\n") + gzip.compress(b"b\n"))
    assert both_ways(path) == [["a"], ["b"]]
    for compression in ("gz", "zst"):
        full = packed(tmp_path / f"rows.txt.{compression}", np.random.default_rng(0).bytes(9_999).hex().encode(),
                      {"gz": "gzip", "zst": "zstd"}[compression])  # fmt: skip
        cut = written(full, full.read_bytes()[:-2_000])
        assert refusal(cut).startswith(f"Expected PATH to be a readable .txt.{compression} file, found: ")
    assert "readable .txt.gz file, found: " in refusal(written(tmp_path / "rows.txt.gz", "no gzip"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_encodings_that_are_found(tmp_path: Path, encoding: str, name: str) -> None:
    content = "text,n\ncafé 电影 ☕,1\n" if name == "rows.csv" else '{"text": "café 电影 ☕", "n": "1"}\n'
    path = written(tmp_path / name, content.encode(encoding))
    assert both_ways(path) == [["café 电影 ☕", "1"]]
    assert both_ways(path, TableOptions(encoding=encoding)) == [["café 电影 ☕", "1"]]
    assert list(read_table(path, FOUND).columns) == ["text", "n"]


def test_big_endian_mark(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.txt", codecs.BOM_UTF16_BE + "é\n".encode("utf-16-be"))
    assert both_ways(path) == [["é"]]


class Drops(io.RawIOBase):
    """A pipe into which somebody writes a byte at a time, and which then stays open."""

    def __init__(self, content: bytes) -> None:
        self.rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        byte = self.rest.read(1)
        if not byte:
            raise OSError("more would be waited for")
        buffer[:1] = byte
        return 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_rows_are_there_as_soon_as_they_have_come(encoding: str) -> None:
    """And the encoding is found though its mark comes in pieces."""
    stream: Any = io.BufferedReader(Drops("é one\ntwo\nthr".encode(encoding)))
    tables = stream_tables(stream, TableOptions("text"), 1)
    assert [next(tables).text[0] for _ in range(2)] == ["é one", "two"]
    with pytest.raises(UserError, match="more would be waited for"):
        next(tables)


def test_wrong_encoding(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", b"text,label\ngood,pos\n" + "café,pos\n".encode("cp1252"))
    assert refusal(path) == (
        "Expected PATH to be text that can be read, found byte 0xe9 in line 3, which is no UTF-8. Set data.encoding to "
        "what it was written in, such as data.encoding=cp1252, or convert it to UTF-8."
    )
    assert both_ways(path, TableOptions(encoding="cp1252"))[1] == ["café", "pos"]
    long = written(tmp_path / "long.txt", (b"word " * 200 + b"\n") * 300 + b"\xff\n")
    assert "found byte 0xff in line 301, which" in refusal(long)
    assert "Set encoding to" in refusal(path, TableOptions(prefix=""))


def test_character_cut_off_at_the_end(tmp_path: Path) -> None:
    assert "found byte 0xc3 in line 1, which is no UTF-8" in refusal(written(tmp_path / "rows.txt", b"caf\xc3"))


def test_unknown_encoding(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "rows.txt", "a"), TableOptions(encoding="latin-99")) == (
        "data.encoding: expected an encoding of text that Python knows, found 'latin-99'. Set one such as utf-8, "
        "cp1252 or utf-16."
    )


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_delimiter_that_is_none(tmp_path: Path, delimiter: str) -> None:
    assert refusal(written(tmp_path / "rows.csv", "a,b\n"), TableOptions(delimiter=delimiter)) == (
        f"data.delimiter: expected one character or tab, found {delimiter!r}. Set it to what stands between two cells, "
        "or leave it to be found."
    )


def test_format_as_the_user_says(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.dat", '{"text": "a"}\n')
    assert both_ways(path, TableOptions(format="jsonl")) == [["a"]]
    assert refusal(path, TableOptions(format="json")) == (
        "data.format: expected one of csv, tsv, orange, jsonl, text, parquet, arrow, found 'json'. Did you mean "
        "'jsonl'? Correct it, or leave it to the file's ending."
    )


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("rows.csv", "", "no columns to read"),
        ("rows.csv", "\na,b\n", "a blank line in place of its first row"),
        ("rows.csv", "a,b\n1,2\n3,4,5\n", "row 1 (counted from 0) has more cells than its header: 3 for 2"),
        ("rows.csv", "a,b\n1,2\n3\n", "row 1 (counted from 0) has fewer cells than its header: 1 for 2"),
        ("rows.csv", "a,b\n1,2\n\n3,4\n", "a blank line in place of row 1 (counted from 0)"),
        ("rows.csv", "a,b,a\n1,2,3\n", "two columns of the name 'a'"),
        ("rows.csv", 'a,b\n1,2\n"3,4\n', "unexpected end of data in the record that starts in line 3"),
        ("rows.csv", 'a,b\n"1" 2,3\n', "',' expected after '\"' in the record that starts in line 2"),
        ("rows.jsonl", '{"a": 1}\n[1]\n', "line 2, which is no JSON object"),
        ("rows.jsonl", '{"a": 1}\n\n{"a": 1, "a": 2}\n', "line 3: two columns of the name 'a'"),
        ("rows.jsonl", '{"a": "\\ud800"}\n', "line 1: 'utf-8' codec can't encode"),
        ("rows.jsonl", "[" * 100_000, "line 1: "),
        ("rows.parquet", "no parquet at all", "Parquet magic bytes not found"),
        ("rows.arrow", "ARROW1 and no more", ""),
        ("rows.arrow", "no arrow at all", ""),
        ("rows.arrow", "", ""),
    ],
)
def test_content_that_is_no_table(tmp_path: Path, name: str, content: str, found: str) -> None:
    path = written(tmp_path / name, content)
    message = refusal(path)
    assert message.startswith(f"Expected PATH to be a readable {path.suffix} file, found: {found}")
    assert message.endswith(". Check the file.")
    assert len(message) > len(f"Expected PATH to be a readable {path.suffix} file, found: . Check the file.")


def test_blank_lines(tmp_path: Path) -> None:
    assert both_ways(written(tmp_path / "end.csv", "a,b\n1,2\n\n\r\n")) == [["1", "2"]]
    assert both_ways(written(tmp_path / "one.csv", "a\n1\n\n2\n")) == [["1"], [None], ["2"]]
    assert both_ways(written(tmp_path / "rows.jsonl", '\n{"a": 1}\n  \n{"a": 2}')) == [[1], [2]]
    assert both_ways(written(tmp_path / "rows.txt", "a\n\n b\r\nc")) == [["a"], [""], [" b"], ["c"]]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.txt", "rows.parquet", "rows.arrow"])
def test_table_without_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "rows.parquet":
        pq.write_table(pa.table({"a": pa.array([], pa.string())}), path)
    elif name == "rows.arrow":
        pa.RecordBatchFileWriter(path, pa.schema({"a": pa.string()})).close()
    else:
        written(path, "a,b\n" if name == "rows.csv" else "")
    assert both_ways(path) == []


def test_nul_and_a_text_of_a_million_characters(tmp_path: Path) -> None:
    long = "word " * 200_000
    path = written(tmp_path / "rows.csv", as_csv({"text": ["a\0b", long], "n": ["1", "2"]}))
    assert both_ways(path) == [["a\0b", "1"], [long, "2"]]
    assert both_ways(written(tmp_path / "rows.txt", f"a\0b\n{long}\n")) == [["a\0b"], [long]]


def test_jsonl_values_stay_as_they_are(tmp_path: Path) -> None:
    rows = [{"text": "a", "n": 1, "f": 1.0, "list": [1, {"b": None}]}, {"text": "b", "late": True, "n": 2**70}]
    path = written(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)))
    assert both_ways(path, chunk_rows=9) == [
        ["a", 1, 1.0, [1, {"b": None}], None],
        ["b", 2**70, None, None, True],
    ]
    first, second = stream_tables(path, FOUND, 1)
    assert list(first.columns) == ["text", "n", "f", "list"]
    assert list(second.columns) == ["text", "late", "n"]


ARROW = pa.table(
    {
        "text": ["a", None, "c"],
        "n": pa.array([1, None, 2**60 + 1], pa.int64()),
        "day": pa.array([1, 2, None], pa.date32()),
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "list": [[1], [], None],
    }
)


def write_arrow(path: Path, kind: str) -> Path:
    if kind == "parquet":
        pq.write_table(ARROW, path, row_group_size=2)
    else:
        writer = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with writer(path, ARROW.schema) as file:
            file.write_table(ARROW, max_chunksize=2)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("rows.parquet", "parquet"), ("rows.arrow", "file"), ("rows.arrow", "stream"), ("rows.feather", "file")],
)
def test_arrow_types(tmp_path: Path, name: str, kind: str) -> None:
    path = write_arrow(tmp_path / name, kind)
    whole = read_table(path, FOUND)
    assert list(whole.n) == [1, None, 2**60 + 1]
    assert list(whole.kind) == ["x", "y", "x"]
    frames = list(stream_tables(path, FOUND, 2))
    assert [len(frame) for frame in frames] == [2, 1]
    back = pa.Table.from_pandas(pd.concat(frames), preserve_index=False).replace_schema_metadata()
    plain = ARROW.set_column(3, "kind", ARROW["kind"].cast(pa.string()))
    assert back.equals(plain)
    with path.open("rb") as file:
        assert [len(frame) for frame in stream_tables(file, FOUND, 1)] == [1, 1, 1]


def test_two_parquet_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    assert "found: two columns of the name 'a'. Check the file." in refusal(path)


def test_stream_that_cannot_seek(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: Any) -> int:
            raise io.UnsupportedOperation("seek")

    arrow = write_arrow(tmp_path / "rows.arrow", "stream").read_bytes()
    frames = stream_tables(Pipe(arrow), TableOptions(format="arrow"), 2)
    assert [text for frame in frames for text in rows_of(frame[["text"]])] == [["a"], [None], ["c"]]
    [frame] = stream_tables(Pipe(b"a,b\n1,2\n"), TableOptions(format="csv"), 2)
    assert rows_of(frame) == [["1", "2"]]
    with pytest.raises(UserError, match="Expected standard input to be a readable parquet file, found: "):
        list(stream_tables(Pipe(write_arrow(tmp_path / "rows.parquet", "parquet").read_bytes()),
                           TableOptions(format="parquet"), 2))  # fmt: skip


def test_streaming_reads_no_further_than_it_must(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            row = b'{"text": "a"}\n'
            content = (row * (len(buffer) // len(row) + 2))[self.taken % len(row) :][: len(buffer)]
            buffer[:] = content
            self.taken += len(content)
            return len(content)

    endless = Endless()
    stream: Any = io.BufferedReader(endless)
    frames = stream_tables(stream, TableOptions(format="jsonl"), 1_000)
    assert [len(next(frames)) for _ in range(100)] == [1_000] * 100
    assert endless.taken < 100 * 1_000 * 14 + 2**19


# Whatever goes in comes out, or a UserError.

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MANY = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
property_test = settings(max_examples=25, suppress_health_check=MANY)


@property_test
@given(data=st.data(), width=st.integers(1, 4), delimiter=st.sampled_from(",;\t|"), chunk=st.sampled_from([1, 2, 100]))
def test_any_csv(tmp_path: Path, data: Any, width: int, delimiter: str, chunk: int) -> None:
    names = data.draw(st.lists(words.filter(bool), min_size=width, max_size=width, unique=True))
    rows = data.draw(st.lists(st.lists(words, min_size=width, max_size=width), max_size=5))
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([names, *rows])
    path = written(tmp_path / "rows.csv", text.getvalue())
    options = TableOptions(delimiter=delimiter, encoding="utf-8")
    marked = text.getvalue().startswith("\ufeff")  # which is then a byte order mark
    assert [[cell or None for cell in row] for row in rows] == both_ways(path, options, chunk)
    assert marked or list(read_table(path, options).columns) == names


@property_test
@given(content=st.one_of(st.binary(max_size=60), st.text('a,;"\n\r\t|\0é', max_size=40).map(str.encode)))
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.txt", "rows.parquet", "rows.arrow",
                                  "rows.csv.gz", "rows.txt.zst"])  # fmt: skip
def test_any_bytes_are_a_table_or_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = written(tmp_path / name, content)
    try:
        frame = read_table(path, FOUND)
    except UserError:
        refusal(path)
    else:
        assert both_ways(path) == rows_of(frame)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)


@property_test
@given(
    rows=st.lists(st.dictionaries(words, json_values, min_size=1, max_size=4), max_size=5),
    escaped=st.booleans(),
    chunk=st.sampled_from([1, 2, 100]),
)
def test_any_jsonl(tmp_path: Path, rows: list[dict[str, Any]], escaped: bool, chunk: int) -> None:
    lines = [json.dumps(row, ensure_ascii=escaped) for row in rows]
    path = written(tmp_path / "rows.jsonl", "\n".join(lines))
    names = list(dict.fromkeys(name for row in rows for name in row))
    expected = [[row.get(name) for name in names] for row in rows]
    assert rows_of(read_table(path, FOUND)) == expected
    streamed = stream_tables(path, FOUND, chunk)
    got = [dict(zip(frame.columns, row, strict=True)) for frame in streamed for row in rows_of(frame)]
    assert [[row.get(name) for name in names] for row in got] == expected


@property_test
@given(texts=st.lists(words.filter(lambda text: not set(text) & set("\r\n")), max_size=6))
def test_any_text(tmp_path: Path, texts: list[str]) -> None:
    path = written(tmp_path / "rows.txt", "".join(f"{text}\n" for text in texts).encode("utf-8-sig"))
    assert both_ways(path) == [[text] for text in texts]


@property_test
@given(texts=st.lists(st.none() | words, max_size=6), numbers=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_any_arrow(tmp_path: Path, name: str, texts: list[str | None], numbers: list[int | None]) -> None:
    numbers = [*numbers[: len(texts)], *[None] * (len(texts) - len(numbers))]
    table = pa.table({"text": pa.array(texts, pa.string()), "n": pa.array(numbers, pa.int64())})
    path = tmp_path / name
    if name == "rows.parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    assert (
        rows_of(read_table(path, FOUND)) == both_ways(path) == [list(row) for row in zip(texts, numbers, strict=True)]
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, which tells a process's memory")
def test_a_parquet_file_that_is_streamed_does_not_gather_in_memory(tmp_path: Path) -> None:
    """80 row groups of 1 MB that no codec makes smaller, of which each is let go of when the next one is read."""
    generator = np.random.default_rng(0)
    with pq.ParquetWriter(tmp_path / "rows.parquet", pa.schema([("text", pa.string())]), compression="none") as writer:
        for _ in range(80):
            texts = [generator.bytes(2_000).hex() for _ in range(250)]
            writer.write_batch(pa.record_batch([pa.array(texts)], names=["text"]))
    held = [anonymous_megabytes() for _ in stream_tables(tmp_path / "rows.parquet", FOUND, 250)]
    assert len(held) == 80
    assert held[-1] - held[10] < 25


def anonymous_megabytes() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024
