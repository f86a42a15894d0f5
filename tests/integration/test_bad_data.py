"""Data that cannot be trained on: one message each, with what was expected, what was found and what to do.

And data that looks bad but is not, which must go through.
"""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import uda.train
from uda.config import compose, read_train
from uda.data import sources
from uda.data.settings import DataSettings
from uda.data.splits import load_split
from uda.errors import UserError

GOOD = "text,label\n" + "".join(f"film number {n},{('neg', 'pos')[n % 2]}\n" for n in range(20))
LABELED: dict[str, Any] = {"labeled": "rows.csv"}

# What is written, the settings, and the three parts of the message.
Case = tuple[dict[str, str | bytes], dict[str, Any], tuple[str, str, str]]

FILES: dict[str, Case] = {
    "missing file": ({}, LABELED, ("Expected a file at", "found none", "Check the path")),
    "unset variable": (
        {},
        {"labeled": "$UDA_NOWHERE/rows.csv"},
        ("Expected a file at", "found none. The variable in it is not set", "Check the path"),
    ),
    "glob of nothing": (
        {"rows.csv": GOOD},
        {"labeled": "*.parquet"},
        ("data.labeled: expected files that match", "found none", "Correct the pattern"),
    ),
    "glob below an unset variable": (
        {},
        {"labeled": "$UDA_NOWHERE/*.csv"},
        ("data.labeled: expected files that match", "found none. The variable in it is not set", "Correct the pattern"),
    ),
    "empty folder": (
        {"rows/.hidden.csv": GOOD},
        {"labeled": "rows"},
        ("data.labeled: expected files that can be read below", "found no files", "Convert them"),
    ),
    "folder without readable files": (
        {"rows/report.docx": b"x", "rows/more/scan.pdf": b"x"},
        {"labeled": "rows"},
        ("data.labeled: expected files that can be read below", "found 2 others, such as scan.pdf", "Convert them"),
    ),
    "folder of tables and texts": (
        {"rows/rows.csv": GOOD, "rows/README.txt": "about these rows"},
        {"labeled": "rows"},
        ("expected tables or text files below", "found both (rows.csv and README.txt)", "Name the ones that are meant"),
    ),
    "texts without sub-folders": (
        {"rows/one.txt": "a film", "rows/two.txt": "a plot"},
        {"labeled": "rows"},
        ("expected a sub-folder for each class", "found one.txt in none", "Move it into"),
    ),
    "texts of one class": (
        {"rows/pos/one.txt": "a film", "rows/pos/two.txt": "a plot"},
        {"labeled": "rows"},
        ("Expected at least 2 classes in data.labeled", "found ['pos']", "Check data.label_column"),
    ),
    "empty text file": (
        {"rows/pos/one.txt": "a film", "rows/neg/two.txt": "\n"},
        {"labeled": "rows"},
        ("expected a text in", "found none", "Remove the file or fill it"),
    ),
    "text file in another encoding": (
        {"rows/pos/one.txt": "café".encode("cp1252"), "rows/neg/two.txt": "a plot"},
        {"labeled": "rows"},
        ("to be text that can be read", "found byte 0xe9 in line 1, which is no UTF-8", "data.encoding=cp1252"),
    ),
    "a file twice": (
        {"rows.csv": GOOD},
        {"labeled": ["rows.csv", "*.csv"]},
        ("data.labeled: expected every file once", "more than once", "Name it once"),
    ),
    "unknown ending": (
        {"rows.xlsx": b"PK"},
        {"labeled": "rows.xlsx"},
        ("Expected a file ending in .csv", "found", "data.format"),
    ),
    "unknown format": (
        {"rows.csv": GOOD},
        {**LABELED, "format": "cvs"},
        ("data.format: expected one of csv", "found 'cvs'. Did you mean 'csv'?", "Correct it"),
    ),
    "empty file": (
        {"rows.csv": ""},
        LABELED,
        ("to be a readable .csv file", "found: no columns", "Check the file"),
    ),
    "header alone": (
        {"rows.csv": "text,label\n"},
        LABELED,
        ("Expected rows in data.labeled", "found none", "Add some"),
    ),
    "mis-encoded": (
        {"rows.csv": "text,label\ncafé,pos\n".encode("latin-1")},
        LABELED,
        ("to be text that can be read", "found byte 0xe9 in line 2, which is no UTF-8", "Set data.encoding"),
    ),
    "unknown encoding": (
        {"rows.csv": GOOD},
        {**LABELED, "encoding": "utf-99"},
        ("data.encoding: expected an encoding", "found 'utf-99'", "Set one such as utf-8"),
    ),
    "ragged: too many cells": (
        {"rows.csv": "text,label\na film, good,pos\nbad,neg\n"},
        LABELED,
        ("to be a readable .csv file", "found: row 0 (counted from 0) has more cells", "Check the file"),
    ),
    "ragged: too few cells": (
        {"rows.csv": "text,label\ngood,pos\nbad\n"},
        LABELED,
        ("to be a readable .csv file", "found: row 1 (counted from 0) has fewer cells", "Check the file"),
    ),
    "a quote that does not end": (
        {"rows.csv": 'text,label\n"good,pos\nbad,neg\n'},
        LABELED,
        ("to be a readable .csv file", "in the record that starts in line 2", "Check the file"),
    ),
    "another delimiter than said": (
        {"rows.csv": GOOD},
        {**LABELED, "delimiter": ";"},
        ("Expected a column 'text' (data.text_column)", "found text,label", "Set data.text_column"),
    ),
    "delimiter of two characters": (
        {"rows.csv": GOOD},
        {**LABELED, "delimiter": "::"},
        ("data.delimiter: expected one character or tab", "found '::'", "Set it to what stands"),
    ),
    "a header that is said not to be one": (
        {"rows.csv": GOOD},
        {**LABELED, "header": False},
        ("Expected a column 'text' (data.text_column)", "found column_0, column_1", "Set data.text_column"),
    ),
    "two columns of one name": (
        {"rows.csv": "text,label,text\na,pos,b\n"},
        LABELED,
        ("to be a readable .csv file", "found: two columns of the name 'text'", "Check the file"),
    ),
    "JSONL with a broken line": (
        {"rows.jsonl": '{"text": "a", "label": "x"}\n{"text": oops\n'},
        {"labeled": "rows.jsonl"},
        ("to be a readable .jsonl file", "found: line 2", "Check the file"),
    ),
    "Parquet cut off": (
        {"rows.parquet": b"PAR1\x00\x00"},
        {"labeled": "rows.parquet"},
        ("to be a readable .parquet file", "found:", "Check the file"),
    ),
    "gzip that is none": (
        {"rows.csv.gz": GOOD},
        {"labeled": "rows.csv.gz"},
        ("to be a readable .csv.gz file", "found:", "Check the file"),
    ),
    "plain text has no labels": (
        {"rows.txt": "a film\na plot\n"},
        {"labeled": "rows.txt"},
        ("Expected a column 'label' (data.label_column)", "found text", "Set data.label_column"),
    ),
    "text of no characters": (
        {"rows.csv": "text,label\ngood,pos\n,neg\n"},
        LABELED,
        ("Expected a text in every row of data.labeled", "found 1 rows", "Remove or fill these rows"),
    ),
    "missing column": (
        {"rows.csv": GOOD.replace("text,label", "review,label")},
        LABELED,
        ("Expected a column 'text' (data.text_column)", "found review, label", "Set data.text_column"),
    ),
}

LABELS: dict[str, Case] = {
    "labels missing": (
        {"rows.csv": "text,label\ngood,pos\nbad,\nso,neg\n"},
        LABELED,
        ("Expected a label in every row of data.labeled", "found none in row 1", "move it to data.unlabeled"),
    ),
    "one class only": (
        {"rows.csv": "text,label\ngood,pos\nfine,pos\n"},
        LABELED,
        ("Expected at least 2 classes in data.labeled", "found ['pos']", "Check data.label_column"),
    ),
    "too few for the draw": (
        {"rows.csv": GOOD},
        {**LABELED, "num_labeled": 40},
        ("data.num_labeled: expected 20 rows of each class", "found 10 of 'neg'", "Lower data.num_labeled"),
    ),
    "unknown in the test set": (
        {"rows.csv": GOOD, "test.csv": "text,label\nso,neutral\n"},
        {**LABELED, "test": "test.csv"},
        ("Expected the labels of data.test to be among ['neg', 'pos']", "found also ['neutral']", "Correct them"),
    ),
    "of another case in the test set": (
        {"rows.csv": GOOD, "test.csv": "text,label\nso,Pos\n"},
        {**LABELED, "test": "test.csv"},
        ("Expected the labels of data.test", "'Pos' differs from 'pos' only by case or blanks", "Correct them"),
    ),
    "differing only by case": (
        {"rows.csv": GOOD + "also good,Pos\n"},
        LABELED,
        ("labels of data.labeled that differ in more", "found 'Pos' (1 rows) and 'pos' (10 rows)", "data.label_names"),
    ),
    "differing only by blanks": (
        {"rows.csv": GOOD + "also good, pos \n"},
        LABELED,
        ("labels of data.labeled that differ in more", "found ' pos ' (1 rows) and 'pos' (10", "Write each class in"),
    ),
    "fractions": (
        {"rows.csv": "text,label\ngood,0.5\nbad,0.25\n"},
        LABELED,
        ("Expected one class in every row", "found 0.5", "Give every row one class"),
    ),
    "several labels a row": (
        {"rows.jsonl": '{"text": "a", "label": ["x", "y"]}\n'},
        {"labeled": "rows.jsonl"},
        ("Expected one class in every row", "found ['x', 'y']", "Give every row one class"),
    ),
    "names that lack one": (
        {"rows.csv": GOOD},
        {**LABELED, "label_names": ["neg", "neutral"]},
        ("Expected the labels of data.labeled to be among ['neg', 'neutral']", "found also ['pos']", "Correct them"),
    ),
    "a name twice": (
        {"rows.csv": GOOD, "names.txt": "neg\nneg\npos\n"},
        {**LABELED, "label_names": "names.txt"},
        ("data.label_names: expected at least 2 classes", "found ['neg', 'neg', 'pos']", "Correct it"),
    ),
    "names in a file that is missing": (
        {"rows.csv": GOOD},
        {**LABELED, "label_names": "names.txt"},
        ("data.label_names: expected a list, or the path", "found 'names.txt'", "Correct the path"),
    ),
    "names in JSON that is no list": (
        {"rows.csv": GOOD, "names.json": '{"neg": 0, "pos": 1}'},
        {**LABELED, "label_names": "names.json"},
        ("data.label_names: expected at least 2 classes", "found {'neg': 0, 'pos': 1}", "Correct it"),
    ),
    "all labelled rows in the test set": (
        {"rows.csv": GOOD},
        {**LABELED, "test": "rows.csv"},
        ("Expected labelled rows of every class", "Left out were 20 labelled rows that stand in test", "Add others"),
    ),
    "too few to hold some out": (
        {"rows.csv": "text,label\ngood,pos\nbad,neg\n"},
        {**LABELED, "test_share": 0.2},
        ("data.test_share: expected enough labelled rows", "found 2 rows of 2 classes", "Set data.test"),
    ),
    "standard input twice": (
        {},
        {"labeled": "-", "unlabeled": "-"},
        ("Expected standard input (-) for one", "found it for data.labeled and data.unlabeled", "Write the others"),
    ),
}


def write(files: dict[str, str | bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def assert_three_parts(message: str, parts: tuple[str, str, str]) -> None:
    """Expected, found and do, each once and in this order."""
    places = [message.find(part) for part in parts]
    assert -1 not in places, (message, parts)
    assert places == sorted(places), message


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UDA_NOWHERE", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", [*FILES, *LABELS])
def test_bad_data_is_refused_in_three_parts(here: Path, name: str) -> None:
    files, options, parts = {**FILES, **LABELS}[name]
    write(files, here)
    with pytest.raises(UserError) as caught:
        load_split(DataSettings(**options))
    assert_three_parts(str(caught.value), parts)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["data.test_share=1.5"], ("data.test_share: expected a share", "found 1.5", "Set it to 0.2")),
        (["data.test_share=0"], ("data.test_share: expected a share", "found 0", "Set it to 0.2")),
        (["data.label_names=3"], ("data.label_names: expected a list", "found 3", "Give them like")),
        (["train.eval_every=1.5"], ("train.eval_every: expected a whole number", "found 1.5", "Set it to null")),
        (["train.eval_every=0"], ("train.eval_every: expected a whole number", "found 0", "Set it to null")),
        (["train.num_steps=-1"], ("train.num_steps: expected at least 0", "found -1", "Set train.num_steps")),
        (["data.max_length=3"], ("data.max_length: expected at least 8", "found 3", "Set data.max_length")),
    ],
)
def test_bad_values_are_refused_before_any_file_is_read(overrides: list[str], parts: tuple[str, str, str]) -> None:
    with pytest.raises(UserError) as caught:
        read_train(compose("train", ["+experiment=files", "data.labeled=nowhere.csv", *overrides]))
    assert_three_parts(str(caught.value), parts)


def test_without_labelled_rows_the_key_is_named(here: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_split(read_train(compose("train", ["+experiment=files"])).data)
    assert str(caught.value) == ("data.labeled: expected where the labelled rows are, found nothing. Set data.labeled.")


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes, terminal: bool = False) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: terminal))


@pytest.mark.parametrize(
    ("terminal", "found"), [(False, "found it empty. Check what is piped in"), (True, "found a terminal. Pipe them in")]
)
def test_standard_input_with_nothing_in_it(monkeypatch: pytest.MonkeyPatch, terminal: bool, found: str) -> None:
    piped(monkeypatch, b"", terminal)
    with pytest.raises(UserError) as caught:
        load_split(DataSettings(labeled="-"))
    assert str(caught.value).startswith("data.labeled=-: expected rows on standard input, ")
    assert found in str(caught.value)


# What is not bad.


@pytest.mark.parametrize(
    "text",
    ["x" * 1_000_000, "word " * 200_000, "🎬🍿🎉", "a\0b", "\u202eright to left", "one\r\ntwo", "'\"\\,;\t|", "𝔘𝔫𝔦"],
    ids=["1 MB word", "1 MB text", "emoji", "NUL", "direction", "line break", "delimiters", "astral"],
)
def test_an_odd_text_comes_out_as_it_went_in(here: Path, text: str) -> None:
    rows = pd.DataFrame({"text": ["a film", text, "a plot"], "label": ["x", "y", "x"]})
    rows.to_csv("rows.csv", index=False, lineterminator="\n")
    rows.to_json("rows.jsonl", orient="records", lines=True)
    rows.to_parquet("rows.parquet")
    for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
        assert list(sources.read(DataSettings(labeled=name), "labeled").text) == list(rows.text), name


def test_labels_that_differ_by_case_pass_where_they_are_named(here: Path) -> None:
    write({"rows.csv": GOOD + "also good,Pos\n", "names.txt": "neg\npos\nPos\n"}, here)
    split = load_split(DataSettings(labeled="rows.csv", label_names="names.txt"))
    assert split.label_names == ["neg", "pos", "Pos"]
    assert np.bincount(split.labeled.label).tolist() == [10, 10, 1]


def run(folder: Path, tiny_bert: Path, *overrides: str) -> uda.train.Result:
    shared = ["model=local", f"model.name_or_path={tiny_bert}", "model.pooling=mean", "train.precision=fp32"]
    small = ["train.num_steps=4", "train.eval_every=null"]
    if "objective=supervised" not in overrides:
        small += ["objective.supervised_steps=2", "objective.prefill_rows=0"]
    files = [f"data.labeled={folder}/rows.csv", f"hydra.run.dir={folder}/run"]
    return uda.train.run(compose("train", ["+experiment=files", *shared, *small, *files, *overrides]))


@pytest.mark.slow
def test_two_thousand_classes(here: Path, tiny_bert: Path) -> None:
    rows = [f"film number {number} {turn},class {number}" for number in range(2_000) for turn in ("a", "b")]
    write({"rows.csv": "text,label\n" + "\n".join(rows), "texts.txt": "a film\na plot\n" * 30}, here)
    options = (f"data.unlabeled={here}/texts.txt", "data.test_share=0.5", "train.eval_batch_size=512")
    result = run(here, tiny_bert, *options)
    assert result.final["num_rows"] == 2_000
    assert len(pd.read_parquet(here / "run/predictions.parquet").columns) == 4 + 2_000
    assert len(json.loads((here / "run/model/config.json").read_text())["id2label"]) == 2_000


@pytest.mark.slow
def test_no_unlabelled_rows(here: Path, tiny_bert: Path) -> None:
    write({"rows.csv": GOOD}, here)
    with pytest.raises(UserError) as caught:
        run(here, tiny_bert)
    parts = ("Expected unlabelled rows for UDA", "found 0", "choose objective=supervised")
    assert_three_parts(str(caught.value), parts)
    assert not (here / "run").exists()
    assert run(here, tiny_bert, "objective=supervised")


@pytest.mark.slow
def test_fewer_unlabelled_rows_than_a_batch(here: Path, tiny_bert: Path) -> None:
    """A step's 48 unlabelled rows are the five that there are, over and over."""
    write({"rows.csv": GOOD, "texts.txt": "".join(f"a film {n}\n" for n in range(5))}, here)
    result = run(here, tiny_bert, f"data.unlabeled={here}/texts.txt")
    assert result.final["step"] == 4
    assert json.loads((here / "run/metrics.json").read_text())["num_unlabeled"] == 5


# Whatever a file holds: the rows that went in come out, or a UserError.

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
LABELS_IN = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(["a", "b", " b", "B", "x,y", '"']))
MANY = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
ENOUGH = settings(max_examples=60, suppress_health_check=MANY)
WRITERS: dict[str, Callable[[list[dict[str, Any]], Path], Any]] = {
    "jsonl": lambda rows, path: path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"),
    "csv": lambda rows, path: pd.DataFrame(rows).to_csv(path, index=False, quoting=csv.QUOTE_ALL),
    "tsv": lambda rows, path: pd.DataFrame(rows).to_csv(path, index=False, sep="\t", quoting=csv.QUOTE_ALL),
}


def read_or_refusal(**location: str) -> tuple[pd.DataFrame | None, str]:
    (role,) = location
    try:
        return sources.read(DataSettings(**location), role), ""
    except UserError as error:
        return None, str(error)


@ENOUGH
@given(rows=st.lists(st.tuples(WORDS, LABELS_IN), min_size=1, max_size=8), kind=st.sampled_from(sorted(WRITERS)))
def test_the_rows_that_went_in_come_out(tmp_path: Path, rows: list[tuple[str, Any]], kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    WRITERS[kind]([{"text": text, "label": label} for text, label in rows], path)
    expected = [None if label is None or not str(label).strip() else label for _, label in rows]
    expected = [str(label).lower() if isinstance(label, bool) else label and str(label) for label in expected]
    expected = ["0" if label == 0 and not isinstance(label, str) else label for label in expected]
    frame, message = read_or_refusal(labeled=str(path))
    if frame is None:
        assert not all(text.strip() for text, _ in rows) or "part alike" in message
        return
    assert list(frame.text) == [text for text, _ in rows]
    assert list(frame.label) == expected


@ENOUGH
@given(
    content=st.binary(max_size=200), ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".txt", ".parquet", ".csv.gz"])
)
def test_any_bytes_give_rows_or_a_user_error(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    path.write_bytes(content)
    frame, message = read_or_refusal(unlabeled=str(path))
    if frame is None:
        assert "xpected" in message
        return
    assert len(frame)
    assert all(isinstance(text, str) and text.strip() for text in frame.text)


@ENOUGH
@given(files=st.dictionaries(st.sampled_from(["a/x.txt", "a/y.txt", "b/x.txt", "b/z/y.txt"]), WORDS, min_size=1))
def test_a_folder_of_texts_gives_one_row_a_file(tmp_path_factory, files: dict[str, str]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    write(files, folder)
    frame, _ = read_or_refusal(labeled=str(folder))
    if frame is None:
        assert not all(text.strip() for text in files.values())
        return
    names = sorted(files)
    assert list(frame.label) == [name[0] for name in names]
    assert list(frame.text) == [files[name].rstrip("\r\n") for name in names]
