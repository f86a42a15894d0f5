import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from uda.augmentation.files import Paraphrases
from uda.errors import UserError

SUFFIXES = ["csv", "jsonl", "parquet"]
TEXTS = ['Un, "deux"\ntrois', "NA", "2020-01-01", "  ça 👍 "]
IDS = ["007", "b", "1", "2019-05-06"]


def write(path: Path, columns: dict[str, list]) -> str:
    """Writes the columns in the format that the file's name says."""
    frame = pd.DataFrame(columns)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame.to_parquet(path, index=False)
    return str(path)


def message(path: str, column: str, id_column: str | None, keys: list[str], num_rows: int, copy: int = 0) -> str:
    """The text of the UserError that building, preparing or using the method raises."""
    try:
        augmenter = Paraphrases(path, column, id_column)
        augmenter.prepare([""] * len(keys), keys, num_rows)
        augmenter.augment([""] * len(keys), keys, copy)
    except UserError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_by_row(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"new.{suffix}", {"other": [1, 2, 3, 4], "new": TEXTS})
    augmenter = Paraphrases(path, "new", None)
    # Row 1 of 4 was dropped from the unlabelled set; keys keep the numbers of the source.
    augmenter.prepare(["x", "y", "z"], ["0", "2", "3"], num_source_rows=4)
    assert augmenter.augment(["x", "y", "z"], ["0", "2", "3"], copy=0) == [TEXTS[0], TEXTS[2], TEXTS[3]]
    assert augmenter.augment(["z", "x"], ["3", "0"], copy=0) == [TEXTS[3], TEXTS[0]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_by_id(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"new.{suffix}", {"key": IDS, "new": TEXTS})
    augmenter = Paraphrases(path, "new", "key")
    keys = ["1", "2019-05-06", "007"]  # the file may hold more
    augmenter.prepare(["x", "y", "z"], keys, num_source_rows=99)
    assert augmenter.augment(["x", "y", "z"], keys, copy=0) == [TEXTS[2], TEXTS[3], TEXTS[0]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_that_are_numbers(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"new.{suffix}", {"key": [30, 12345678901234567], "new": ["x", "y"]})
    augmenter = Paraphrases(path, "new", "key")
    augmenter.prepare(["a"], ["12345678901234567"], num_source_rows=1)
    assert augmenter.augment(["a"], ["12345678901234567"], copy=0) == ["y"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_that_are_numbers_beside_nulls(tmp_path: Path, suffix: str) -> None:
    """pandas reads such a column as floats; rows without an id belong to no text, and are no repetition."""
    path = tmp_path / f"new.{suffix}"
    if suffix == "csv":
        path.write_text("key,new\n12,x\n,y\n,z\n7,w\n")
    else:
        write(path, {"key": [12, None, None, 7], "new": ["x", "y", "z", "w"]})
    augmenter = Paraphrases(str(path), "new", "key")
    augmenter.prepare(["a", "b"], ["7", "12"], num_source_rows=2)
    assert augmenter.augment(["a", "b"], ["7", "12"], copy=0) == ["w", "x"]
    assert "found none for 'None' (1 in all)" in message(str(path), "new", "key", ["None"], 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("ids", [["007", "7"], ["2019-05-06", "2019-05-07"], ["1.0", "1e0"]])
def test_ids_and_texts_stay_strings(tmp_path: Path, suffix: str, ids: list[str]) -> None:
    path = write(tmp_path / f"new.{suffix}", {"key": ids, "new": ids})
    augmenter = Paraphrases(path, "new", "key")
    augmenter.prepare(["a", "b"], ids, num_source_rows=2)
    assert augmenter.augment(["a", "b"], ids, copy=0) == ids


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_several_chunks(tmp_path: Path, suffix: str) -> None:
    texts = [f"text {row}" for row in range(25_000)]
    path = write(tmp_path / f"new.{suffix}", {"new": texts})
    augmenter = Paraphrases(path, "new", None)
    keys = ["0", "9999", "10000", "24999"]
    augmenter.prepare([""] * 4, keys, num_source_rows=25_000)
    assert augmenter.augment([""] * 4, keys, copy=0) == [texts[int(key)] for key in keys]


def test_texts_lie_on_the_disk(tmp_path: Path) -> None:
    path = write(tmp_path / "new.parquet", {"new": ["x" * 1000] * 30_000})
    augmenter = Paraphrases(path, "new", None)
    before = pa.total_allocated_bytes()
    augmenter.prepare([], [], num_source_rows=30_000)
    assert pa.total_allocated_bytes() - before < 1_000_000  # of 30 million


def test_wrong_number_of_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "new.csv", {"new": ["x", "y"]})
    assert message(path, "new", None, ["0", "2"], num_rows=3) == (
        f"{path}: expected 3 rows, one for each row of the unlabelled source in its order, found 2. Give "
        "augment.path such a file, or match rows by id with augment.id_column and data.id_column."
    )


@pytest.mark.parametrize("key", ["r-1", "2", "-1"])
def test_ids_where_row_numbers_are_due(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "new.csv", {"new": ["x", "y"]})
    assert message(path, "new", None, ["0", key], num_rows=2) == (
        f"augment.id_column: expected the name of the id column in {path}, because the unlabelled rows go by ids "
        f"(data.id_column) such as '{key}', found none. Set augment.id_column, or data.id_column=null to match by "
        "row."
    )


def test_ids_of_no_row_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "new.csv", {"key": ["a", "typo", "b"], "new": ["x", "y", "z"]})
    with caplog.at_level("INFO", "uda"):
        Paraphrases(path, "new", "key").prepare(["a", "b"], ["b", "a"], num_source_rows=2)
    assert caplog.messages == [f"{path}: paraphrases of no unlabelled row are left out, of the ids 'typo' (1 in all)"]


def test_missing_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "new.csv", {"key": ["a", "b"], "new": ["x", "y"]})
    keys = ["a", *(f"m{number}" for number in range(7))]
    assert message(path, "new", "key", keys, num_rows=8) == (
        f"{path}: expected a row for the id of every unlabelled row, found none for 'm0', 'm1', 'm2', 'm3', 'm4', … "
        "(7 in all). Add these rows, or make augment.id_column (now 'key') and data.id_column name columns of the "
        "same ids."
    )


def test_repeated_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "new.csv", {"key": ["a", "b", "a"], "new": ["x", "y", "z"]})
    assert message(path, "new", "key", ["a"], num_rows=1) == (
        f"{path}: expected unique ids in column 'key' (augment.id_column), found 'a' (1 in all) more than once. "
        "Keep one row for each id, or name another column."
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("blank", ["", " \t", None])
def test_blank_paraphrase(tmp_path: Path, suffix: str, blank: str | None) -> None:
    # In the second chunk, so that the row is counted over the whole file.
    path = write(tmp_path / f"new.{suffix}", {"new": [*["x"] * 10_001, blank, "z"], "b": range(10_003)})
    text = message(path, "new", None, ["0"], num_rows=10_003)
    assert text.startswith(f"{path}: expected a text in column 'new' (augment.column) of every row, found ")
    assert text.endswith(
        " in row 10001 (the first row of data is row 0). Fill it in, with the original text if there is no paraphrase."
    )


def test_blank_lines_of_a_csv_count_as_rows(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("new\nx\n\nz\n")
    assert "found '' in row 1 " in message(str(path), "new", None, ["0"], num_rows=3)


def test_key_missing_in_a_whole_chunk_of_a_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text('{"new": "x"}\n' * 10_000 + '{"old": "x"}\n')
    assert "found nan in row 10000 " in message(str(path), "new", None, ["0"], num_rows=10_001)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    assert message(str(path), "new", None, [], num_rows=0) == (
        f"augment.path: expected a file of paraphrases, found none at {path}. Set augment.path to an existing CSV, "
        "JSONL or Parquet file."
    )


def test_unknown_format(tmp_path: Path) -> None:
    path = tmp_path / "new.xlsx"
    path.touch()
    assert message(str(path), "new", None, [], num_rows=0) == (
        "augment.path: expected a file whose name ends in .csv, .jsonl, .parquet, found 'new.xlsx'. Convert or rename "
        "the file."
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_columns(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"new.{suffix}", {"key": ["a"], "paraphrase": ["x"]})
    assert message(path, "paraphrases", None, [], num_rows=1) == (
        f"augment.column: expected a column 'paraphrases' in {path}, found 'key', 'paraphrase'. Did you mean "
        "'paraphrase'? Set augment.column to one of them."
    )
    assert message(path, "paraphrase", "keys", [], num_rows=1) == (
        f"augment.id_column: expected a column 'keys' in {path}, found 'key', 'paraphrase'. Did you mean 'key'? Set "
        "augment.id_column to one of them."
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unreadable_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"new.{suffix}"
    path.write_bytes(b'{"new": \xff\xfe,\n"')
    text = message(str(path), "new", None, [], num_rows=1)
    assert text.startswith(f"{path}: expected a readable {suffix.upper()} file, found: ")
    assert text.endswith(". Mend the file, or give augment.path another.")


def test_csv_with_one_cell_too_many_in_every_row(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("b,new\n1,good, very good\n")
    assert message(str(path), "new", None, ["0"], num_rows=1) == (
        f"{path}: expected a readable CSV file, found: its rows have more cells than its header. Mend the file, or "
        "give augment.path another."
    )


def test_csv_broken_further_down(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("new,b\nx,1\ny,2,3,4\n")
    text = message(str(path), "new", None, [], num_rows=2)
    assert text.startswith(f"{path}: expected a readable CSV file, found: ")
    assert "line 3" in text


def test_more_than_one_copy(tmp_path: Path) -> None:
    path = write(tmp_path / "new.csv", {"new": ["x"]})
    assert message(path, "new", None, ["0"], num_rows=1, copy=1) == (
        f"augment.num_copies: expected 1, because {path} holds one paraphrase a text; copy 2 was asked for. Set "
        "augment.num_copies=1."
    )
