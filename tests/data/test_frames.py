"""Labelled rows in the cache: the frame that was made, to the value, and another one for other content."""

import os
from pathlib import Path

import pandas as pd
import pytest

from uda.data import frames, sources
from uda.data.frames import stored_frame
from uda.data.settings import Cleaning, DataSettings
from uda.data.splits import load_split
from uda.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(frames, "MIN_CHARACTERS", 1)
    return tmp_path / "cache" / "frames"


def test_what_comes_back_is_what_was_made(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"text": ["a", "ü\0 ", "c"], "label": ["0", None, "1"], "key": ["x", "y", "z"]}, index=[2, 5, 7], dtype=object
    ).assign(num_characters=[1, 3, 1])
    frame.attrs["num_source_rows"] = 9
    found = stored_frame(tmp_path, ["this"], lambda: frame)
    pd.testing.assert_frame_equal(found, frame, check_index_type=False)
    assert found.attrs == {"num_source_rows": 9}
    assert found.label[5] is None
    again = stored_frame(tmp_path, ["this"], lambda: pytest.fail("made again"))
    pd.testing.assert_frame_equal(again, found)
    other = stored_frame(tmp_path, ["that"], lambda: frame.head(1))
    assert len(other) == 1


def write(path: Path, texts: list[str]) -> str:
    pd.DataFrame({"text": texts, "label": [row % 2 for row in range(len(texts))]}).to_csv(path, index=False)
    return str(path)


def test_a_changed_file_and_other_cleaning_are_read_anew(tmp_path: Path, cache: Path) -> None:
    texts = [f"<p>text {number}" for number in range(8)]
    settings = {"labeled": write(tmp_path / "a.csv", texts), "num_test": 2, "num_labeled": 2}
    first = load_split(DataSettings(**settings))
    assert len(os.listdir(cache)) == 1
    assert load_split(DataSettings(**settings)).as_json() == first.as_json()
    cleaned = load_split(DataSettings(**settings, cleaning=Cleaning.html))
    assert all("<p>" not in text for text in cleaned.labeled.text)
    assert len(os.listdir(cache)) == 2
    write(tmp_path / "a.csv", [f"other text {number}" for number in range(8)])
    assert all(text.startswith("other") for text in load_split(DataSettings(**settings)).labeled.text)
    assert len(os.listdir(cache)) == 3


def test_rows_that_are_refused_leave_nothing(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.csv", ["fine", "<p>"])
    for _ in range(2):
        with pytest.raises(UserError, match="found none in 1 rows, first at row 1"):
            load_split(DataSettings(labeled=path, cleaning=Cleaning.html, num_test=1))
    assert not cache.exists()


def test_the_second_start_does_not_read_the_labelled_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", [f"text {number}" for number in range(8)])
    settings = DataSettings(labeled=path, num_test=2, num_labeled=2)
    first = load_split(settings)
    monkeypatch.setattr(sources, "read_chunks", lambda *arguments: pytest.fail("read"))
    assert load_split(settings).as_json() == first.as_json()


def test_a_small_frame_is_made_each_time(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MIN_CHARACTERS", 100)
    load_split(DataSettings(labeled=write(tmp_path / "a.csv", list("abcdefgh")), num_test=2, num_labeled=2))
    assert not cache.exists()
