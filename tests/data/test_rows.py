import hashlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from uda.data import frames, rows, sources, splits
from uda.data.rows import Rows, RowsWriter, stored_rows
from uda.data.settings import Cleaning, DataSettings
from uda.data.splits import Split, load_split
from uda.errors import UserError


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def frame_of(num_rows: int, pairs: bool = False) -> pd.DataFrame:
    texts = [f"text {number} é" for number in range(num_rows)]
    columns = {"text": texts} | ({"text_pair": [f"{text} too" for text in texts]} if pairs else {})
    hashes = [sha256(text) for text in texts]
    return pd.DataFrame({**columns, "key": [f"k{n}" for n in range(num_rows)], "raw_hash": hashes, "folded": hashes})


def made(frame: pd.DataFrame, place: str, cache: Path) -> Rows:
    """The rows of a frame in memory, or on the disk in chunks of 4."""
    if place == "memory":
        return Rows.of(frame)

    def write(writer: RowsWriter) -> dict[str, int]:
        for start in range(0, len(frame), 4):
            writer.append(frame.iloc[start : start + 4])
        return {"rows": len(frame)}

    stored, facts = stored_rows(cache, "these", "text_pair" in frame, write)
    assert facts == {"rows": len(frame)}
    return stored


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("pairs", [False, True])
def test_rows_give_back_what_they_were_made_of(tmp_path: Path, place: str, pairs: bool) -> None:
    frame = frame_of(11, pairs)
    found = made(frame, place, tmp_path)
    assert len(found) == 11
    assert found.paired == pairs
    assert list(found.text) == list(frame.text)
    assert list(found.key) == list(frame.key)
    if pairs:
        assert list(found.text_pair) == list(frame.text_pair)
    taken = found.take([10, 0, 5])
    assert taken.to_dict("list") == frame.loc[[10, 0, 5]].to_dict("list")
    assert list(taken.index) == [10, 0, 5]
    assert found.raw_sha256() == sha256("".join(frame.raw_hash))
    assert found.content == Rows.of(frame).content  # wherever they lie and however they were cut


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_rows_that_leave(tmp_path: Path, place: str) -> None:
    frame = frame_of(11)
    whole = made(frame, place, tmp_path)
    assert whole.without([sha256("another")]) is whole
    left = whole.without([sha256("another"), *frame.folded[[0, 4, 5, 6, 7]]]).without(frame.folded[[10]])
    kept = frame.loc[[1, 2, 3, 8, 9]]
    assert list(left.text) == list(kept.text)
    assert list(left.take([4, 0]).text) == [kept.text[9], kept.text[1]]
    assert left.raw_sha256() == sha256("".join(kept.raw_hash))
    assert list(left.head(2).text) == list(kept.text)[:2]
    assert left.numbers_without(frame.folded[[1, 9]]).tolist() == [
        number for number, text in enumerate(left.text) if text not in set(frame.text[[1, 9]])
    ]
    assert whole.numbers_without(frame.folded[[1, 9]]).tolist() == [0, *range(2, 9), 10]
    assert len(left.head(0)) == len(whole.without(frame.folded)) == 0
    assert list(whole.without(frame.folded).text) == []


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_chunks_have_at_most_the_size(tmp_path: Path, place: str) -> None:
    left = made(frame := frame_of(11), place, tmp_path).without(frame.folded[[2]])
    chunks = list(left.columns(["key", "text"], 3))
    assert max(len(keys) for keys, _ in chunks) == 3
    assert [pair for keys, texts in chunks for pair in zip(keys, texts, strict=True)] == [
        (f"k{number}", f"text {number} é") for number in range(11) if number != 2
    ]


def test_rows_with_the_lowest_hashes(tmp_path: Path) -> None:
    frame = pd.concat([frame_of(50), frame_of(9).assign(text="again")], ignore_index=True)
    for place in ("memory", "disk"):
        for count in (1, 10, 100):
            found = made(frame, place, tmp_path).lowest(count)
            expected = frame.sort_values("raw_hash", kind="stable").head(count)
            assert list(found.index) == list(expected.index)
            assert list(found.raw_hash) == list(expected.raw_hash)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.assign(text=frame.text + " "),
        lambda frame: frame.assign(key="k"),
        lambda frame: frame[::-1],
        lambda frame: frame[:-1],
        lambda frame: frame.assign(text_pair=frame.text),
    ],
    ids=["text", "key", "order", "fewer", "pair"],
)
def test_content_is_other_for_other_rows(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert Rows.of(change(frame_of(5))).content != Rows.of(frame_of(5)).content


def test_content_is_other_where_rows_left() -> None:
    whole, frame = Rows.of(frame_of(5)), frame_of(5)
    contents = {whole.without(frame.folded[[n]]).content for n in range(5)}
    assert len(contents | {whole.content, whole.head(4).content}) == 6  # without the last is the first four


# Reading


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    """Settings of 30 unlabelled rows in three files of three formats, and of what they are checked against."""
    labeled = pd.DataFrame({"text": [f"labelled <p>{n}" for n in range(6)], "label": ["neg", "pos"] * 3})
    labeled.assign(part=2, id=list("abcdef")).to_csv(tmp_path / "labeled.csv", index=False)
    test = pd.DataFrame({"text": ["row  number 4", "row number 17"], "label": ["neg", "pos"]})
    test.assign(part=2, id=["g", "h"]).to_csv(tmp_path / "test.csv", index=False)
    unlabeled = [f"row number {number}" for number in range(28)] + ["labelled  2", "short"]
    frame = pd.DataFrame({"text": unlabeled, "part": [1, 2, 3] * 10, "id": [f"i{n}" for n in range(30)]})
    frame[:10].to_csv(tmp_path / "a.csv", index=False)
    frame[10:20].to_parquet(tmp_path / "b.parquet")
    frame[20:].to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    return {
        "labeled": str(tmp_path / "labeled.csv"),
        "test": str(tmp_path / "test.csv"),
        "unlabeled": [str(tmp_path / name) for name in ("a.csv", "b.parquet", "c.jsonl")],
        "id_column": None,
        "cleaning": Cleaning.html,
        "min_characters": 6,
        "num_labeled": 6,
    }


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


@pytest.mark.parametrize("chunk_rows", [1, 3, 4_096])
def test_chunks_make_no_difference(source: dict[str, Any], monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    for module in (rows, splits):
        monkeypatch.setattr(module, "CHUNK_ROWS", chunk_rows)
    split = load_split(DataSettings(**source))
    kept = [number for number in range(28) if number not in (4, 17)]
    assert list(split.unlabeled.text) == [f"row number {number}" for number in kept]
    assert list(split.unlabeled.key) == [str(number) for number in kept]
    assert split.num_source_rows == 30
    assert split.dropped == {
        "short unlabelled rows": 1,
        "labelled rows that stand in test": 0,
        "unlabelled rows that stand in test": 2,
        "unlabelled rows that are labelled": 1,
    }
    parts = load_split(DataSettings(**source | {"where": {"part": 2}, "id_column": "id"}))
    assert list(parts.unlabeled.key) == [f"i{number}" for number in range(1, 28, 3) if number not in (4, 17)]


def equal(first: Split, second: Split) -> bool:
    return first.as_json() == second.as_json() and first.unlabeled.content == second.unlabeled.content


def test_the_second_start_reads_no_text(source: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MIN_CHARACTERS", 1)
    first = load_split(DataSettings(**source))

    def read_others(settings: DataSettings, role: str, *rest: Any) -> Any:
        raise AssertionError(f"the texts of {role} were read")

    monkeypatch.setattr(sources, "read_chunks", read_others)
    assert equal(load_split(DataSettings(**source)), first)
    load_split(DataSettings(**source | {"num_labeled": 2, "seed": 3, "max_length": 99, "test": None, "num_test": 2}))
    assert len(os.listdir(cache)) == 1
    with pytest.raises(AssertionError, match="the texts of labeled were read"):
        load_split(DataSettings(**source | {"min_characters": 12}))
    assert len(os.listdir(cache)) == 1  # nothing half made is left


@pytest.mark.parametrize(
    "change",
    [
        {"min_characters": 12},
        {"cleaning": Cleaning.none},
        {"where": {"part": 2}},
        {"id_column": "id"},
        {"text_column": "id", "min_characters": 0},
    ],
    ids=["min_characters", "cleaning", "where", "id_column", "text_column"],
)
def test_other_settings_read_anew(source: dict[str, Any], cache: Path, change: dict[str, Any]) -> None:
    load_split(DataSettings(**source))
    load_split(DataSettings(**source | change))
    assert len(os.listdir(cache)) == 2


@pytest.mark.parametrize("change", ["content", "time"])
def test_a_changed_file_is_read_anew(source: dict[str, Any], cache: Path, change: str) -> None:
    first = load_split(DataSettings(**source))
    path = Path(source["unlabeled"][0])
    found = path.stat()
    path.write_text(path.read_text().replace("number 0", "number X" if change == "time" else "number one hundred"))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + (change == "time")))
    second = load_split(DataSettings(**source))
    assert next(second.unlabeled.text) == ("row number X" if change == "time" else "row number one hundred")
    assert next(first.unlabeled.text) == "row number 0"
    assert len(os.listdir(cache)) == 2


def test_standard_input_goes_by_its_content(
    source: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for content in (b"one\ntwo\n", b"one\ntwo\n", b"one\nthree\n"):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))
        split = load_split(DataSettings(**source | {"unlabeled": "-", "min_characters": 0}))
        found.append((list(split.unlabeled.text), len(os.listdir(cache))))
    assert found == [(["one", "two"], 1), (["one", "two"], 1), (["one", "three"], 2)]


@pytest.mark.parametrize("chunk_rows", [2, 4_096])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_all_blank_rows_are_counted(
    source: dict[str, Any], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, chunk_rows: int, suffix: str
) -> None:
    monkeypatch.setattr(splits, "CHUNK_ROWS", chunk_rows)
    path = tmp_path / f"blank{suffix}"
    texts = ["a", None, "b", " ", "c", "", "d", None, None, None, "e"]
    frame = pd.DataFrame({"text": texts})
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_json(path, orient="records", lines=True)
    with pytest.raises(UserError) as caught:
        load_split(DataSettings(**source | {"unlabeled": str(path)}))
    assert str(caught.value) == (
        f"Expected a text in every row of data.unlabeled ({path}), found 6 rows whose 'text' is null, blank or no "
        "text; first at row 1, 3, 5, 7, 8 (counted from 0). Remove or fill these rows."
    )
    assert os.listdir(cache) == []


def test_all_rows_without_text_after_cleaning_are_counted(
    source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "CHUNK_ROWS", 2)
    (tmp_path / "marks.txt").write_text("a\n<p>\nb\n<p>\n<br />\nc\n")
    with pytest.raises(UserError, match=r"data\.unlabeled after cleaning, found none in 3 rows, first at row 1 \("):
        load_split(DataSettings(**source | {"unlabeled": str(tmp_path / "marks.txt")}))


def test_keys_that_jsonl_has_only_later(tmp_path: Path) -> None:
    """A key that is asked for counts as null where an object lacks it, in whatever chunk that is."""
    path = tmp_path / "late.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c", "part": 2}\n{"part": 2, "text": "d"}')
    for chunk_rows in (4, 2, 1):
        settings = DataSettings(unlabeled=str(path), where={"part": 2})
        tables = sources.tables(settings, "unlabeled")
        chunks = list(sources.read_chunks(settings, "unlabeled", tables, chunk_rows))
        assert len(chunks) == 4 / chunk_rows
        found = pd.concat(chunks)
        assert found.to_dict("list") == {"text": ["c", "d"], "label": [None, None], "key": ["2", "3"]}
        pd.testing.assert_frame_equal(found, sources.read(settings, "unlabeled"))
        settings.where = {"prt": 2}
        with pytest.raises(UserError, match=r"Expected a column 'prt' \(data\.where\.prt\) in .*, found text, part\."):
            list(sources.read_chunks(settings, "unlabeled", tables, chunk_rows))
