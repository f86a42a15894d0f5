"""`uda.predict`: any file in, the same rows with predictions out, or nothing."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import uda.predict
import uda.train
from uda import row_files
from uda.cli import Interrupted
from uda.config import RowsConfig, compose
from uda.engine.labelling import Labeller
from uda.errors import UserError

TEXTS = ["a great film", 'the plot, "awful"', "two\nlines<br />very good", "", "sad " * 40, "电影 ☕", "great"]


def train(folder: Path, tiny_bert: Path, *others: str) -> Path:
    overrides = [
        "+experiment=imdb",
        "data=files",
        f"data.labeled={folder}/train.csv",
        f"data.test={folder}/test.csv",
        "data.cleaning=html",
        "data.max_length=12",
        "data.truncation=tail",
        "model=local",
        f"model.name_or_path={tiny_bert}",
        "train.num_steps=4",
        "train.eval_every=null",
        "train.precision=fp32",
        *others,
    ]
    uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}/run"]))
    return folder / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_bert, reviews) -> Path:
    """A finished run; beside it the file of its test rows."""
    folder = tmp_path_factory.mktemp("predict")
    reviews(12, 1).to_csv(folder / "train.csv", index=False)
    reviews(10, 2).to_csv(folder / "test.csv", index=False)
    return train(folder, tiny_bert, "model.pooling=mean", "data.num_labeled=4", "objective.supervised_steps=2")


def run(trained: Path, source: Any, output: Any, *others: str) -> uda.predict.Summary:
    return uda.predict.run(compose("predict", [f"run={trained}", f"input={source}", f"output={output}", *others]))


def refusal(trained: Path, source: Any, output: Any, *others: str) -> str:
    with pytest.raises(UserError) as caught:
        run(trained, source, output, *others)
    return str(caught.value)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def expected(trained) -> list[dict[str, float] | None]:
    """The pipeline's probabilities of the cleaned TEXTS; None where there is no text."""
    from transformers import pipeline

    from uda.data.cleaning import clean
    from uda.data.settings import Cleaning

    classify = pipeline("text-classification", str(trained / "model"), top_k=None, truncation=True)
    return [
        {entry["label"]: entry["score"] for entry in classify([clean(text, Cleaning.html)])[0]} if text else None
        for text in TEXTS
    ]


def check(rows: list[dict[str, Any]], expected: list[dict[str, float] | None]) -> None:
    assert len(rows) == len(expected)
    for row, probs in zip(rows, expected, strict=True):
        if probs is None:
            added = [row[name] for name in ("prediction", "confidence", "probability_neg", "probability_pos")]
            assert added == [None] * 4
            continue
        assert row["probability_neg"] == pytest.approx(probs["neg"], abs=1e-4)
        assert row["probability_pos"] == pytest.approx(probs["pos"], abs=1e-4)
        assert row["confidence"] == pytest.approx(max(probs.values()), abs=1e-4)
        assert row["prediction"] == max(probs, key=lambda name: probs[name])


@pytest.mark.parametrize("chunk_rows", [2, 100])
def test_probabilities_are_the_pipelines_in_the_order_of_the_input(
    trained, tmp_path, expected, chunk_rows, monkeypatch
) -> None:
    monkeypatch.setattr(uda.predict, "_CHUNK_ROWS", chunk_rows)
    source = jsonl(tmp_path / "in.jsonl", [{"id": number, "text": text} for number, text in enumerate(TEXTS)])
    summary = run(trained, source, tmp_path / "out.jsonl")
    rows = rows_of(tmp_path / "out.jsonl")
    assert [(row["id"], row["text"]) for row in rows] == list(enumerate(TEXTS))
    assert list(rows[0]) == ["id", "text", "prediction", "confidence", "probability_neg", "probability_pos"]
    check(rows, expected)
    assert (summary.rows, summary.blank, sum(summary.classes.values())) == (7, 1, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_probabilities_are_those_of_the_run(trained, tmp_path) -> None:
    run(trained, trained.parent / "test.csv", tmp_path / "out.parquet")
    ours, theirs = pd.read_parquet(tmp_path / "out.parquet"), pd.read_parquet(trained / "predictions.parquet")
    assert list(ours.prediction) == list(theirs.prediction)
    assert ours.probability_neg.dtype == np.float32
    names = ["confidence", "probability_neg", "probability_pos"]
    np.testing.assert_allclose(ours[names], theirs[names], atol=1e-6)


FORMATS = ["csv", "tsv", "jsonl", "csv.gz", "tsv.zst", "jsonl.zst", "parquet", "arrow", "feather"]


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of an output, by readers that are not ours."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix in (".arrow", ".feather"):
        return pa.ipc.open_file(path).read_all().to_pylist()
    with pa.input_stream(str(path), compression="detect") as file:
        content = io.StringIO(file.read().decode(), newline="")
    if ".jsonl" in path.name:
        return [json.loads(line) for line in content]
    frame = pd.read_csv(content, sep="\t" if ".tsv" in path.name else ",", dtype={"text": str, "n": str})
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


@pytest.mark.parametrize("to", FORMATS)
def test_from_csv_to_every_format(trained, tmp_path, expected, to) -> None:
    source = tmp_path / "in.csv"
    pd.DataFrame({"n": ["007", "1e5", "NA", "", "x", "true", "-"], "text": TEXTS}).to_csv(source, index=False, sep=";")
    run(trained, source, tmp_path / f"out.{to}")
    rows = read(tmp_path / f"out.{to}")
    check(rows, expected)
    assert [row["text"] for row in rows] == [text or None for text in TEXTS]
    if "csv" not in to and "tsv" not in to:  # pandas takes NA for a null
        assert [row["n"] for row in rows] == ["007", "1e5", "NA", None, "x", "true", "-"]


def write_packed(path: Path, content: bytes) -> None:
    with pa.output_stream(str(path), compression="detect") as file:
        file.write(content)


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.jsonl.zst"])
def test_packed_input(trained, tmp_path, name, monkeypatch) -> None:
    monkeypatch.setattr(uda.predict, "_CHUNK_ROWS", 2)
    write_packed(tmp_path / name, b'{"text": "great"}\n' * 5)
    assert run(trained, tmp_path / name, tmp_path / "out.jsonl").rows == 5
    assert len(rows_of(tmp_path / "out.jsonl")) == 5


@pytest.mark.parametrize("to", ["parquet", "arrow"])
def test_types_of_parquet_are_kept(trained, tmp_path, to, monkeypatch) -> None:
    monkeypatch.setattr(uda.predict, "_CHUNK_ROWS", 1)
    table = pa.table(
        {
            "text": ["great", "sad", None],
            "n": pa.array([None, 2**60 + 1, 3], pa.int64()),
            "day": pa.array([None, 1, 2], pa.date32()),
            "tags": [["a"], None, []],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    run(trained, tmp_path / "in.parquet", tmp_path / f"out.{to}")
    back = pa.Table.from_pylist(read(tmp_path / f"out.{to}"))
    assert back.select(table.column_names).cast(table.schema).equals(table)
    path = tmp_path / f"out.{to}"
    written = pq.read_schema(path) if to == "parquet" else pa.ipc.open_file(path).schema
    assert [written.field(name).type for name in table.column_names] == table.schema.types
    assert [row["prediction"] is None for row in back.to_pylist()] == [False, False, True]
    run(trained, tmp_path / "in.parquet", tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.split(",probability")[0].rsplit(",", 4)[0] for line in lines[1:]] == [
        'great,,,"[""a""]"',
        "sad,1152921504606846977,1970-01-02,",
        ",3,1970-01-03,[]",
    ]


def test_cells_with_any_line_break_come_back(trained, tmp_path) -> None:
    from uda.data.formats import TableOptions, read_table

    texts = ["a\rb", "a\nb", "a\r\nb", 'a"b', "a\tb", " a "]
    run(trained, jsonl(tmp_path / "in.jsonl", [{"text": text} for text in texts]), tmp_path / "out.tsv")
    assert list(read_table(tmp_path / "out.tsv", TableOptions()).text) == texts


def test_min_confidence_empties_predictions_below_it(trained, tmp_path) -> None:
    source = jsonl(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    run(trained, source, tmp_path / "all.jsonl")
    confidences = sorted(row["confidence"] for row in rows_of(tmp_path / "all.jsonl") if row["confidence"])
    bound = float(np.mean(confidences[2:4]))
    for to in ("jsonl", "csv", "parquet"):
        summary = run(trained, source, tmp_path / f"out.{to}", f"min_confidence={bound}")
        rows = read(tmp_path / f"out.{to}")
        assert summary.unsure == sum(1 for each in confidences if each < bound) == 3
        assert sum(row["prediction"] is None for row in rows) == 3 + 1
        predicted = [row["prediction"] for row in rows]
        assert summary.classes == {name: predicted.count(name) for name in ("neg", "pos")}
        for row in rows:
            assert (row["prediction"] is None) == (row["confidence"] is None or row["confidence"] < bound)
            assert (row["probability_neg"] is None) == (row["confidence"] is None)


def test_rows_without_a_text_are_kept_and_counted(trained, tmp_path, caplog) -> None:
    rows = [{"text": None}, {"text": " \n"}, {"n": 1}, {"text": 5}, {"text": "<br />"}, {"text": "great"}]
    summary = run(trained, jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    written = rows_of(tmp_path / "out.jsonl")
    assert [row["prediction"] is None for row in written] == [True] * 5 + [False]
    assert [row["text"] for row in written] == [None, " \n", None, 5, "<br />", "great"]
    assert summary.blank == 5
    assert "5 of 6 rows have no text in 'text': they are kept, without a prediction" in caplog.text


def test_other_columns_and_the_encoding(trained, tmp_path) -> None:
    (tmp_path / "in.csv").write_bytes("café;1\nsad;2\n".encode("cp1252"))
    options = ["text_column=column_0", "header=false", "encoding=cp1252", "delimiter=';'"]
    run(trained, tmp_path / "in.csv", tmp_path / "out.jsonl", *options)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [(row["column_0"], row["column_1"]) for row in rows] == [("café", "1"), ("sad", "2")]


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> io.BytesIO:
    """Standard input with this content; what is returned takes standard output."""
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    return out


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"a great film\nsad\n", []),
        (b'{"text": "a great film"}\n{"text": "sad"}\n', []),
        (b"text,n\na great film,1\nsad,2\n", ["format=csv"]),
    ],
)
def test_standard_input_to_standard_output(trained, monkeypatch, content, options) -> None:
    out = feed(monkeypatch, content)
    run(trained, "-", "-", *options)
    text = out.getvalue().decode()
    if options:
        assert text.splitlines()[0] == "text,n,prediction,confidence,probability_neg,probability_pos"
        assert [line.split(",")[0] for line in text.splitlines()[1:]] == ["a great film", "sad"]
    else:
        assert [json.loads(line)["text"] for line in text.splitlines()] == ["a great film", "sad"]


def test_pairs(tmp_path, tiny_bert, reviews) -> None:
    from transformers import pipeline

    for name, seed in (("train", 1), ("test", 2)):
        frame = reviews(12, seed)
        frame.assign(other=frame.text[::-1].to_numpy()).to_csv(tmp_path / f"{name}.csv", index=False)
    folder = train(
        tmp_path, tiny_bert, "objective=supervised", "data.text_pair_column=other", "data.cleaning=none",
        "data.truncation=head", "data.label_descriptions=null", "model.pooling=head",
    )  # fmt: skip
    rows = [{"text": "great film", "b": "sad"}, {"text": "good", "b": None}, {"text": "plot " * 20, "b": "a " * 20}]
    source = jsonl(tmp_path / "in.jsonl", rows)
    summary = run(folder, source, tmp_path / "out.jsonl", "text_pair_column=b")
    assert summary.blank == 1
    written = rows_of(tmp_path / "out.jsonl")
    assert written[1]["prediction"] is None
    classify = pipeline("text-classification", str(folder / "model"), top_k=None, truncation=True)
    for row in (written[0], written[2]):
        for entry in classify({"text": row["text"], "text_pair": row["b"]}):
            assert row[f"probability_{entry['label']}"] == pytest.approx(entry["score"], abs=1e-4)
    assert refusal(folder, source, tmp_path / "no.jsonl") == (
        f"text_pair_column: expected a column 'other' in {source}, found text, b. Set text_pair_column to the right "
        "column."
    )


# Nothing is left where something is wrong.


def test_what_is_refused_before_any_work(trained, tmp_path, monkeypatch) -> None:
    source = jsonl(tmp_path / "in.jsonl", [{"text": "great", "prediction": 1}])
    there = jsonl(tmp_path / "there.jsonl", [])
    out = tmp_path / "out.jsonl"

    def missing(key: str) -> str:
        overrides = [f"run={trained}", f"input={source}", f"output={out}"]
        with pytest.raises(UserError) as caught:
            uda.predict.run(compose("predict", [each for each in overrides if not each.startswith(key)]))
        return str(caught.value)

    assert missing("run") == "run: expected a run directory, found none. Set run=…."
    assert missing("input") == "input: expected a file, or -, found none. Set input=…."
    assert missing("output") == "output: expected a file, or -, found none. Set output=…."
    assert refusal(trained, source, out) == (
        f"input: expected no column of the names that predictions have, found 'prediction' in {source}. Rename or "
        "remove it."
    )
    assert refusal(trained, tmp_path / "no.csv", out) == (
        f"input: expected a file at {tmp_path}/no.csv, found none. Check the path."
    )
    assert refusal(trained, source, there) == (
        f"output: expected a file that is not there yet, found {there}. Name another one, or set overwrite=true to "
        "replace a file."
    )
    monkeypatch.chdir(tmp_path)
    assert refusal(trained, source, "in.jsonl", "overwrite=true") == (
        "output: expected another file than the input, found in.jsonl for both. Name another output."
    )
    assert refusal(trained, source, tmp_path / "no/out.csv") == (
        f"output: expected a folder that can be written to, found {tmp_path}/no, which cannot. Make the folder, or "
        "write elsewhere."
    )
    for name in ("out.txt", "out", "out.parquet.gz"):
        assert refusal(trained, source, tmp_path / name) == (
            "output: expected a file ending in .csv, .tsv, .jsonl, .ndjson, .parquet, .arrow, .feather, or one of text "
            f"with .gz or .zst after that, found {tmp_path}/{name}. Name such a file."
        )
    assert refusal(trained, source, out, "text_column=txt") == (
        f"text_column: expected a column 'txt' in {source}, found text, prediction. Did you mean 'text'? Set "
        "text_column to the right column."
    )
    assert refusal(trained, source, out, "text_pair_column=b") == (
        "text_pair_column: expected none, as the run was trained on single texts, found 'b'. Leave it out."
    )
    assert refusal(trained, source, out, "min_confidence=80") == (
        "min_confidence: expected a number above 0 and at most 1, found 80.0. Correct it, or leave it out to have "
        "every prediction."
    )
    assert refusal(trained, source, out, "batch_size=0") == (
        "batch_size: expected at least 1, found 0. Correct it."
    )  # fmt: skip
    (tmp_path / "empty.jsonl").write_text("")
    assert refusal(trained, tmp_path / "empty.jsonl", out) == (
        f"input: expected rows in {tmp_path}/empty.jsonl, found none. Give a file with rows."
    )
    assert "format: expected one of csv, tsv, " in refusal(trained, source, out, "format=json")
    assert "Expected a run directory with a config.yaml" in refusal(tmp_path, source, out)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refusal(trained, source, out) == (
        "Expected one process, found 2: the rows are written in their order. Start `python -m uda.predict` without a "
        "launcher, or once for each part of the input."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "in.jsonl", "there.jsonl"]


@pytest.mark.parametrize(
    ("late", "to", "message"),
    [
        (
            {"text": "a", "n": 1.5},
            "parquet",
            "Expected values of one type in column 'n', as Parquet and Arrow need, found: double after int64. Write "
            "JSONL or CSV, or make them one type.",
        ),
        ({"text": "a", "n": {"x": 1}}, "arrow", "found: struct<x: int64> after int64."),
        (
            {"text": "a", "late": 1},
            "csv",
            "Expected the columns of the first rows in all rows, found 'late' later on, for which the output has no "
            "place. Write JSONL, whose rows may differ, or give every row this key.",
        ),
        ({"text": "a", "confidence": 1}, "jsonl", "found 'confidence' in "),
        ([1], "jsonl", "found: line 2, which is no JSON object. Check the file."),
    ],
)
def test_rows_that_do_not_fit_leave_nothing_behind(trained, tmp_path, monkeypatch, late, to, message) -> None:
    monkeypatch.setattr(uda.predict, "_CHUNK_ROWS", 1)
    source = jsonl(tmp_path / "in.jsonl", [{"text": "great", "n": 1}, late])
    assert message in refusal(trained, source, tmp_path / f"out.{to}")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_output_that_exists_stays_until_the_new_one_is_whole(trained, tmp_path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    (tmp_path / "in.csv").write_text("text,n\ngreat,1\nsad\n")
    assert "row 1 (counted from 0) has fewer cells" in refusal(trained, tmp_path / "in.csv", out, "overwrite=true")
    assert out.read_text() == "old"
    (tmp_path / "in.csv").write_text("text,n\ngreat,1\n")
    run(trained, tmp_path / "in.csv", out, "overwrite=true")
    assert out.read_text().startswith("text,n,prediction,")


def test_shares_are_of_the_predictions(capsys) -> None:
    summary = uda.predict.Summary(rows=50, unsure=34, classes={"food": 12, "sport": 4}, seconds=2.0)
    uda.predict.show(summary)
    assert capsys.readouterr().err == (
        "50 rows, 25.0 rows/s: food 75.0 %, sport 25.0 % of 16 predictions; 34 rows left without one, below "
        "min_confidence\n"
    )


def test_a_second_command_with_the_same_output_is_refused_before_its_work(trained, tmp_path, monkeypatch) -> None:
    """And one whose output was completed after its first look does not replace it."""
    source, out = jsonl(tmp_path / "in.jsonl", [{"text": "great"}, {"text": "sad"}]), tmp_path / "out.jsonl"
    label = Labeller.probabilities
    told = []

    def second(self: Labeller, columns: Any) -> np.ndarray:
        monkeypatch.setattr(Labeller, "probabilities", label)
        told.append(refusal(trained, source, out, "overwrite=true"))
        return label(self, columns)

    monkeypatch.setattr(Labeller, "probabilities", second)
    run(trained, source, out)
    assert told == [
        f"output: expected a file that no other command writes, found {out} being written. Wait for its end, or name "
        "another one."
    ]
    assert len(out.read_text().splitlines()) == 2
    before = out.read_bytes()
    with row_files.held_output(RowsConfig(input=str(source), output=str(out), overwrite=True)):
        pass
    with (
        pytest.raises(UserError, match="expected a file that is not there yet"),
        row_files.held_output(RowsConfig(input=str(source), output=str(out), overwrite=False)),
    ):
        pytest.fail("held")
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_what_a_killed_command_left_is_written_over(trained, tmp_path) -> None:
    source = jsonl(tmp_path / "in.jsonl", [{"text": "great"}])
    (tmp_path / ".writing-out.jsonl").write_text("half of a line")
    run(trained, source, tmp_path / "out.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_a_full_disk_is_named(trained, tmp_path, monkeypatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    source = jsonl(tmp_path / "in.jsonl", [{"text": "great"}])
    monkeypatch.setattr("uda.engine.labelling.Labeller.probabilities", full)
    message = refusal(trained, source, tmp_path / "out.csv")
    assert f"Expected to be able to write {tmp_path}/out.csv, found: [Errno 28] No space left on device." in message
    assert "make room" in message
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_memory_that_is_refused_names_the_setting(trained, tmp_path, monkeypatch) -> None:
    source = jsonl(tmp_path / "in.jsonl", [{"text": "great"}])
    monkeypatch.setattr("uda.engine.labelling.Labeller.probabilities", lambda *_: np.empty(1 << 57))
    message = refusal(trained, source, tmp_path / "out.csv")
    assert "Expected enough memory, found: " in message
    assert "No output was completed. Lower batch_size (" in message
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


# The command itself.


@pytest.mark.slow
def test_pipe_from_the_command_line(trained: Path, tmp_path: Path, zygote: Any) -> None:
    (tmp_path / "texts").write_bytes(b"a great film\n\nsad\n")
    arguments = ["-m", "uda.predict", f"run={trained}", "input=-", "output=-"]
    done = zygote.run(*arguments, input=tmp_path / "texts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a great film", "", "sad"]
    assert "1 of 3 rows have no text" in done.stderr
    assert "3 rows, " in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_takes_back_what_was_begun(trained, tmp_path, monkeypatch, number) -> None:
    labels = Labeller.probabilities
    seen: list[list[str]] = []

    def slow(self: Labeller, columns: Any) -> np.ndarray:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        if len(seen) == 3:
            os.kill(os.getpid(), number)
        return labels(self, columns)

    monkeypatch.setattr(Labeller, "probabilities", slow)
    monkeypatch.setattr(uda.predict, "_CHUNK_ROWS", 1)
    source = jsonl(tmp_path / "in.jsonl", [{"text": "great"}] * 9)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        run(trained, source, tmp_path / "out.parquet")
    assert caught.value.exit_code == 128 + number
    assert seen == [[".writing-out.parquet", "in.jsonl"]] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


@pytest.mark.slow
def test_a_signal_ends_the_command(trained: Path, tmp_path: Path, zygote: Any) -> None:
    """The input is a pipe that stays open, so that the command is at work for as long as it takes."""
    folder, log, pipe = tmp_path / "out", tmp_path / "log", tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)
    arguments = ["-m", "uda.predict", f"run={trained}", "input=-", "output=out.csv"]
    command = zygote.start(*arguments, cwd=folder, input=pipe, log=log)
    with pipe.open("wb") as texts:
        texts.write(b"a great film\n" * 60_000)
        texts.flush()
        while not (folder / ".writing-out.csv").exists():
            assert command.poll() is None, log.read_text()
            time.sleep(0.05)
        command.terminate()
        assert command.wait() == 143
    assert "stopped by SIGTERM; no output was completed" in log.read_text()
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(trained, tmp_path) -> None:
    """The highest resident memory of 10,000 and of 100,000 rows, each in a process of its own."""
    code = (  # VmHWM, as ru_maxrss begins with what the process that started this one holds
        "import sys, uda.predict as p; from uda.config import compose;"
        "p.run(compose('predict', sys.argv[1:]));"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    peaks = []
    for number in (10_000, 100_000):
        source = tmp_path / f"{number}.csv"
        source.write_text("text,n\n" + f"{'great film ' * 6},{'x' * 1_000}\n" * number)
        arguments = [f"run={trained}", f"input={source}", f"output={tmp_path}/{number}.parquet", "batch_size=512"]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert pq.read_metadata(tmp_path / "100000.parquet").num_rows == 100_000
    assert peaks[1] < peaks[0] + 30  # MB; 90,000 rows more have 100


def test_a_model_that_gives_no_numbers_is_refused(trained, tmp_path, monkeypatch) -> None:
    """Its rows have a text, so they are not to be counted as blank."""
    from uda.engine import labelling

    source, output = tmp_path / "texts.csv", tmp_path / "labels.csv"
    pd.DataFrame({"text": ["good film", "bad film"]}).to_csv(source, index=False)
    monkeypatch.setattr(labelling, "predict", lambda model, store, *rest: np.full((len(store), 2), np.nan))
    with pytest.raises(UserError, match=r"found others than finite ones: its weights are damaged\. Restore"):
        run(trained, source, output)
    assert not output.exists()


def test_home_is_expanded(trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pd.DataFrame({"text": ["good film"]}).to_csv(tmp_path / "texts.csv", index=False)
    run(trained, "'~/texts.csv'", "'~/labels.csv'")
    assert len(pd.read_csv(tmp_path / "labels.csv")) == 1
