"""Which files a location stands for, and texts and rows that come from folders and from standard input."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from uda.data import sources
from uda.data.formats import TableOptions
from uda.data.labels import given_names
from uda.data.locations import files_of
from uda.data.settings import DataSettings
from uda.data.splits import load_split


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(folder: Path, *names: str, content: str = "text,label\na,x\n") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def names_of(value: object) -> list[str]:
    return [str(path) for path in files_of(value, "labeled", TableOptions())]


def test_a_glob_is_sorted_and_a_list_keeps_its_order(here: Path) -> None:
    make(here, "b.csv", "a.csv", "c.jsonl", "deep/er/a.csv")
    assert names_of("*.csv") == ["a.csv", "b.csv"]
    assert names_of(["c.jsonl", "*.csv"]) == ["c.jsonl", "a.csv", "b.csv"]
    assert names_of("**/*.csv") == ["a.csv", "b.csv", "deep/er/a.csv"]


def test_a_name_with_brackets_is_a_name_where_there_is_such_a_file(here: Path) -> None:
    make(here, "rows[1].csv", "rows1.csv")
    assert names_of("rows[1].csv") == ["rows[1].csv"]


def test_a_folder_is_all_tables_below_it(here: Path) -> None:
    make(here, "all/b.csv", "all/a/z.jsonl", "all/notes.docx", "all/.git/x.csv", "all/.x.csv")
    assert names_of("all") == ["all/a/z.jsonl", "all/b.csv"]


def test_a_folder_of_texts_a_class(here: Path) -> None:
    make(here, "reviews/pos/1.txt", "reviews/pos/old/0.txt", content="good\n\nfilm\n")
    make(here, "reviews/neg/2.TXT", content="bad, film")
    frame = sources.read(DataSettings(labeled="reviews", id_column="path"), "labeled")
    assert frame.to_dict("list") == {
        "text": ["bad, film", "good\n\nfilm", "good\n\nfilm"],
        "label": ["neg", "pos", "pos"],
        "key": ["neg/2.TXT", "pos/1.txt", "pos/old/0.txt"],
    }
    assert list(sources.read(DataSettings(unlabeled="reviews"), "unlabeled").label) == [None] * 3


def test_a_text_file_is_a_text_a_line_under_whatever_column(here: Path) -> None:
    make(here, "texts.txt", content="one film\nanother, film\n")
    frame = sources.read(DataSettings(unlabeled="texts.txt", text_column="review"), "unlabeled")
    assert list(frame.text) == ["one film", "another, film"]


@pytest.mark.parametrize(
    ("content", "role", "texts"),
    [
        (b"text,label\na,x\nb,y\n", "labeled", ["a", "b"]),
        (b'{"text": "a", "label": 1}\n', "labeled", ["a"]),
        (b"one film\nanother, film\n", "unlabeled", ["one film", "another, film"]),
        (b'id;text\n1;"one; two"\n', "unlabeled", ["one; two"]),
        ("\ufefftext\tlabel\na\tx\n".encode(), "labeled", ["a"]),
    ],
)
def test_standard_input_is_read_as_what_it_looks_like(
    monkeypatch: pytest.MonkeyPatch, content: bytes, role: str, texts: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))
    assert list(sources.read(DataSettings(**{role: "-"}), role).text) == texts


@pytest.mark.parametrize("ending", [".parquet", ".csv.gz", ".jsonl.gz"])
def test_packed_and_binary_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    rows = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    if ending == ".parquet":
        rows.to_parquet(path)
    elif ending == ".csv.gz":
        rows.to_csv(path, index=False)
    else:
        rows.to_json(path, orient="records", lines=True)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes()), isatty=lambda: False))
    assert list(sources.read(DataSettings(labeled="-"), "labeled").label) == ["x", "y"]


def test_what_the_user_says_of_a_file(here: Path) -> None:
    (here / "rows.dat").write_bytes("café|x\nthé|y\n".encode("cp1252"))
    said = {"format": "csv", "delimiter": "|", "encoding": "cp1252", "header": False}
    settings = DataSettings(labeled="rows.dat", text_column="column_0", label_column="column_1", **said)
    frame = sources.read(settings, "labeled")
    assert list(frame.text) == ["café", "thé"]
    assert list(frame.label) == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "text,label\na,True\nb,False\n"),
        ("rows.csv", "text,label\na,true\nb,false\n"),
        ("rows.csv", "text,label\na,TRUE\nb,FALSE\n"),
        ("rows.jsonl", '{"text": "a", "label": true}\n{"text": "b", "label": false}\n'),
        ("rows.jsonl", '{"text": "a", "label": "true"}\n{"text": "b", "label": "false"}\n'),
    ],
)
def test_booleans_are_the_same_labels_in_all_formats(here: Path, name: str, content: str) -> None:
    (here / name).write_text(content)
    pd.DataFrame({"text": ["c", "d"], "label": [True, False]}).to_parquet("test.parquet")
    split = load_split(DataSettings(labeled=name, test="test.parquet"))
    assert split.label_names == ["false", "true"]
    assert list(split.labeled.label) == list(split.test.label) == [1, 0]
    named = load_split(DataSettings(labeled=name, label_names=[True, False]))
    assert named.label_names == ["true", "false"]


@pytest.mark.parametrize(
    ("name", "content"), [("names.txt", "pos\r\n\nneg, or so\n"), ("names.json", '["pos", "neg, or so"]')]
)
def test_label_names_from_a_file(here: Path, name: str, content: str) -> None:
    (here / name).write_bytes(content.encode())
    assert given_names(name) == ["pos", "neg, or so"]
