import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from uda.data import sources
from uda.data.settings import DataSettings, Source
from uda.errors import UserError

FORMATS = [".csv", ".jsonl", ".parquet"]

# Values that a reader likes to turn into numbers, dates or nothing, and texts that a CSV has to quote.
AWKWARD = [
    "007",
    "1e5",
    "NA",
    "null",
    "None",
    "nan",
    "true",
    "2020-01-01",
    'a "b", c',
    "two\nlines",
    "café ☕ 电影",
    "-",
]


def refusal(settings: DataSettings, role: str = "labeled") -> str:
    with pytest.raises(UserError) as caught:
        sources.read(settings, role)
    return str(caught.value)


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_give_the_same_frame(write, suffix: str) -> None:
    rows = {"id": AWKWARD, "text": AWKWARD[::-1], "label": ["007", "NA", "null", "b"] * 3, "other": range(12)}
    path = write(rows, f"rows{suffix}")
    expected = pd.DataFrame({"text": rows["text"], "label": rows["label"], "key": rows["id"]}, dtype=object)
    pd.testing.assert_frame_equal(sources.read(DataSettings(labeled=path, id_column="id"), "labeled"), expected)


@pytest.mark.parametrize("suffix", FORMATS)
def test_missing_labels_are_none(write, suffix: str) -> None:
    path = write({"text": ["a", "b", "c"], "label": ["x", None, "y"]}, f"rows{suffix}")
    assert list(sources.read(DataSettings(labeled=path), "labeled").label) == ["x", None, "y"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_unlabelled_rows_need_no_label_column(write, suffix: str) -> None:
    path = write({"text": ["a", "b"]}, f"rows{suffix}")
    frame = sources.read(DataSettings(unlabeled=path), "unlabeled")
    assert list(frame.text) == ["a", "b"]
    assert list(frame.label) == [None, None]


@pytest.mark.parametrize("suffix", FORMATS)
def test_integer_ids_are_strings(write, suffix: str) -> None:
    path = write({"text": ["a", "b"], "label": [0, 1], "id": [12, 7]}, f"rows{suffix}")
    frame = sources.read(DataSettings(labeled=path, id_column="id"), "labeled")
    assert list(frame.key) == ["12", "7"]
    assert [str(label) for label in frame.label] == ["0", "1"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "text,label,part\na,0,l\nb,1,l\nc,,u\n"),
        (
            "rows.jsonl",
            '{"text":"a","label":0,"part":"l"}\n{"text":"b","label":1,"part":"l"}\n{"text":"c","part":"u"}\n',
        ),
        ("rows.parquet", None),
    ],
)
def test_integers_beside_a_null_stay_integers(tmp_path: Path, name: str, content: str | None) -> None:
    """A table whose rows of one part have no label; `where` keeps the other part."""
    path = tmp_path / name
    if content is None:
        table = {"text": ["a", "b", "c"], "label": [0, 1, None], "part": ["l", "l", "u"]}
        pq.write_table(pa.table(table), path)
    else:
        path.write_text(content)
    frame = sources.read(DataSettings(labeled=str(path), where={"part": "l"}), "labeled")
    assert [str(label) for label in frame.label] == ["0", "1"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_empty_label_is_a_missing_one(write, suffix: str) -> None:
    path = write({"text": ["a", "b"], "label": ["", "pos"]}, f"rows{suffix}")
    assert list(sources.read(DataSettings(labeled=path), "labeled").label) == [None, "pos"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("labels", [[1.0, 0.0], [1.0, 0.0, None]])
def test_whole_numbers_are_integers(write, suffix: str, labels: list) -> None:
    path = write({"text": list("abc")[: len(labels)], "label": labels}, f"rows{suffix}")
    assert list(sources.read(DataSettings(labeled=path), "labeled").label) == ["1", "0", None][: len(labels)]


def test_version_numbers_are_no_integers(write) -> None:
    path = write({"text": list("abc"), "label": ["1.0", "2.0", "beta"]}, "rows.csv")
    assert list(sources.read(DataSettings(labeled=path), "labeled").label) == ["1.0", "2.0", "beta"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_numbers_with_a_fraction_are_no_classes(write, suffix: str) -> None:
    path = write({"text": list("abc"), "label": [1.0, None, 0.25]}, f"rows{suffix}")
    assert refusal(DataSettings(labeled=path)) == (
        f"Expected one class in every row of data.labeled ({path}, data.label_column 'label'), found 0.25: neither "
        "regression nor multi-label classification is supported. Give every row one class, as a string or an integer."
    )
    assert list(sources.read(DataSettings(unlabeled=path), "unlabeled").text) == list("abc")


@pytest.mark.parametrize("labels", [["0.5", "1", "2"], ["1", "2.5", "1.0"]])
def test_a_fraction_among_integers_of_a_csv_is_no_class(write, labels) -> None:
    with pytest.raises(UserError, match=r"found (0|2)\.5: neither regression"):
        sources.read(DataSettings(labeled=write({"text": list("abc"), "label": labels}, "rows.csv")), "labeled")


def test_integers_of_a_csv_are_classes_however_they_are_written(write) -> None:
    path = write({"text": list("abc"), "label": ["1.0", "2", "1"]}, "rows.csv")
    assert list(sources.read(DataSettings(labeled=path), "labeled").label) == ["1", "2", "1"]
    path = write({"text": list("abc"), "label": ["01", "2", "1"]}, "codes.csv")
    assert list(sources.read(DataSettings(labeled=path), "labeled").label) == ["01", "2", "1"]


def test_lines_of_text_are_named_by_their_number_whatever_column_names_the_others(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    settings = DataSettings(unlabeled=str(tmp_path / "texts.txt"), id_column="Nr.", text_column="Text")
    assert list(sources.read(settings, "unlabeled").key) == ["0", "1"]


@pytest.mark.parametrize("suffix", FORMATS[1:])
def test_lists_are_no_classes(write, suffix: str) -> None:
    path = write({"text": list("ab"), "label": [["x"], ["x", "y"]]}, f"rows{suffix}")
    assert "found ['x']: neither regression nor multi-label classification is supported." in refusal(
        DataSettings(test=path), "test"
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_integer_ids_beside_a_null_and_where_are_integers(write, suffix: str) -> None:
    rows = {"text": list("abc"), "label": list("xyx"), "id": [12, 7, None], "part": [1, 2, None]}
    path = write(pd.DataFrame(rows).astype({"id": "Int64", "part": "Int64"}), f"rows{suffix}")
    frame = sources.read(DataSettings(labeled=path, id_column="id", where={"part": 1}), "labeled")
    assert list(frame.key) == ["12"]


def test_rows_count_on_over_several_files(write) -> None:
    first = write({"text": ["a", "b"], "label": ["x", "y"]}, "first.csv")
    second = write({"text": ["c"], "label": ["x"]}, "second.parquet")
    third = write({"text": ["d"], "label": [None], "id": ["q"]}, "third.jsonl")
    frame = sources.read(DataSettings(labeled=[first, second, third]), "labeled")
    assert list(frame.text) == ["a", "b", "c", "d"]
    assert list(frame.key) == ["0", "1", "2", "3"]
    assert list(frame.index) == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_that_where_leaves_out_count(write, suffix: str) -> None:
    first = write({"text": list("abc"), "label": list("xyx"), "part": list("uvu")}, f"first{suffix}")
    second = write({"text": list("de"), "label": list("yx"), "part": list("uv")}, f"second{suffix}")
    frame = sources.read(DataSettings(labeled=[first, second], where={"part": "v"}), "labeled")
    assert list(frame.text) == ["b", "e"]
    assert list(frame.index) == [1, 4]
    assert list(frame.key) == ["1", "4"]
    assert frame.attrs["num_source_rows"] == 5


def test_row_of_a_blank_text_counts_on_over_several_files(write) -> None:
    files = [write({"text": ["a", text], "label": ["x", "y"]}, f"rows{text}.csv") for text in ("b", "")]
    assert f"({files[1]}), found 1 rows" in refusal(DataSettings(labeled=files))
    assert "first at row 3 (counted from 0)" in refusal(DataSettings(labeled=files))


@pytest.mark.filterwarnings("error")
def test_categorical_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"text": ["a", "b", "a"], "label": ["x", None, "y"]}, dtype="category").to_parquet(path)
    frame = sources.read(DataSettings(labeled=str(path), where={"text": "a"}), "labeled")
    assert frame.to_dict("list") == {"text": ["a", "a"], "label": ["x", "y"], "key": ["0", "2"]}


def test_ids_of_several_files_are_kept(write) -> None:
    first = write({"text": ["a", "b"], "label": ["x", "y"], "id": ["p", "q"]}, "first.csv")
    second = write({"text": ["c"], "label": ["x"], "id": ["r"]}, "second.parquet")
    frame = sources.read(DataSettings(labeled=[first, second], id_column="id"), "labeled")
    assert list(frame.key) == ["p", "q", "r"]
    assert list(frame.index) == [0, 1, 2]


def test_other_column_names(write) -> None:
    path = write({"review": ["a"], "stars": ["5"], "text": ["no"], "label": ["no"]}, "rows.csv")
    frame = sources.read(DataSettings(labeled=path, text_column="review", label_column="stars"), "labeled")
    assert frame.iloc[0].to_dict() == {"text": "a", "label": "5", "key": "0"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_where_keeps_the_rows_with_a_value(write, suffix: str) -> None:
    rows = {"text": list("abcd"), "label": list("xyxy"), "source": ["imdb", "rt", "imdb", "imdb"], "part": [1, 1, 2, 1]}
    path = write(rows, f"rows{suffix}")
    frame = sources.read(DataSettings(labeled=path, where={"source": "imdb", "part": "1"}), "labeled")
    assert list(frame.text) == ["a", "d"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_where_with_a_number(write, suffix: str) -> None:
    path = write({"text": list("abc"), "label": list("xyx"), "part": [1, 2, 10]}, f"rows{suffix}")
    assert list(sources.read(DataSettings(labeled=path, where={"part": 1}), "labeled").text) == ["a"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_columns_whose_names_speak_of_time(write, suffix: str) -> None:
    """By default pandas makes dates of JSONL columns that are called `date`, `created_at` or `timestamp`."""
    rows = {"created_at": list("ab"), "timestamp": ["2", "3"], "date": ["2020-01-01", "2021-01-01"], "modified": [5, 6]}
    path = write(rows, f"rows{suffix}")
    columns = {"text_column": "created_at", "label_column": "timestamp", "id_column": "modified"}
    frame = sources.read(DataSettings(labeled=path, where={"date": "2021-01-01"}, **columns), "labeled")
    assert frame.to_dict("list") == {"text": ["b"], "label": ["3"], "key": ["6"]}


def test_where_hides_blank_texts_of_other_rows(write) -> None:
    path = write({"text": ["a", None], "label": ["x", "y"], "source": ["imdb", "rt"]}, "rows.csv")
    assert list(sources.read(DataSettings(labeled=path, where={"source": "imdb"}), "labeled").text) == ["a"]


def test_variables_and_home_in_paths(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"text": ["a"], "label": ["x"]}, "rows.csv")
    monkeypatch.setenv("REVIEWS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for location in ("$REVIEWS/rows.csv", "${REVIEWS}/rows.csv", "~/rows.csv"):
        assert list(sources.read(DataSettings(labeled=location), "labeled").text) == ["a"]
    monkeypatch.setenv("REVIEWS", "~")
    assert list(sources.read(DataSettings(labeled="$REVIEWS/rows.csv"), "labeled").text) == ["a"]


def test_relative_path_and_capital_suffix(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(write({"text": ["a"], "label": ["x"]}, "rows.csv")).rename(tmp_path / "ROWS.CSV")
    monkeypatch.chdir(tmp_path)
    assert list(sources.read(DataSettings(labeled="ROWS.CSV"), "labeled").text) == ["a"]


# What the user is told, by the whole text.


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    assert refusal(DataSettings(labeled=str(path))) == f"Expected a file at {path}, found none. Check the path."


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    assert refusal(DataSettings(labeled=str(tmp_path))) == (
        f"data.labeled: expected files that can be read below the folder {tmp_path}, found no files. Convert them to "
        "CSV, JSONL or Parquet, or name another folder."
    )


def test_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REVIEWS", raising=False)
    assert refusal(DataSettings(labeled="$REVIEWS/rows.csv")) == (
        "Expected a file at $REVIEWS/rows.csv, found none. The variable in it is not set. Check the path."
    )


@pytest.mark.parametrize("name", ["rows.json", "rows.zip", "rows.parquet.gz", "rows"])
def test_wrong_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text\na\n")
    assert refusal(DataSettings(labeled=str(tmp_path / name))) == (
        "Expected a file ending in .csv, .tsv, .tab, .jsonl, .ndjson, .txt, .parquet, .arrow, .feather, or one of text "
        f"with .gz or .zst after that, found {tmp_path / name}. Convert or rename the file, or set data.format."
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cells.csv", b"text,label\ngood,pos\na, film,neg\n"),  # an unquoted comma
        ("quote.csv", b'text,label\n"good,pos\n'),
        ("empty.csv", b""),
        ("line.jsonl", b'{"text": "a", "label": "x"}\n{"text": oops\n'),
        ("cut.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b", "la'),
        ("text.parquet", b"no parquet at all"),
        ("cut.parquet", b"PAR1\x00\x00"),
    ],
)
def test_broken_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    pattern = rf"Expected {re.escape(str(path))} to be a readable \{path.suffix} file, found: (.+)\. Check the file\."
    found = re.fullmatch(pattern, refusal(DataSettings(labeled=str(path))), re.DOTALL)
    assert found is not None
    assert found[1].strip()


def test_unquoted_comma_in_every_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na film, good,pos\na film, bad,neg\n")
    assert refusal(DataSettings(labeled=str(path))).startswith(f"Expected {path} to be a readable .csv file, found: ")


def test_comma_at_the_end_of_every_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na film,pos,\n")
    assert refusal(DataSettings(labeled=str(path))) == (
        f"Expected {path} to be a readable .csv file, found: row 0 (counted from 0) has more cells "
        "than its header: 3 for 2. Check the file."
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("role", ["labeled", "unlabeled", "test", "dev"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_file_without_rows(write, suffix: str, role: str) -> None:
    full = write({"text": ["a"], "label": ["x"]}, f"full{suffix}")
    path = write({"text": [], "label": []}, f"rows{suffix}")
    assert refusal(DataSettings(**{role: [full, path]}), role) == (
        f"Expected rows in data.{role} ({path}), found none. Add some, or name other files."
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", FORMATS)
def test_where_that_matches_nothing(write, suffix: str) -> None:
    path = write({"text": ["a", "b"], "label": ["x", "y"], "part": ["u", "v"]}, f"rows{suffix}")
    assert refusal(DataSettings(labeled=path, where={"part": "w"})) == (
        "Expected rows of data.labeled that match data.where ({'part': 'w'}), found none among 2. Correct data.where."
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"text_column": "txt"},
            "Expected a column 'txt' (data.text_column) in {path}, found id, text, label. Did you mean 'text'? "
            "Set data.text_column to the right column.",
        ),
        (
            {"label_column": "labels"},
            "Expected a column 'labels' (data.label_column) in {path}, found id, text, label. Did you mean 'label'? "
            "Set data.label_column to the right column.",
        ),
        (
            {"id_column": "idx"},
            "Expected a column 'idx' (data.id_column) in {path}, found id, text, label. Did you mean 'id'? "
            "Set data.id_column to the right column.",
        ),
        (
            {"where": {"lable": "x"}},
            "Expected a column 'lable' (data.where.lable) in {path}, found id, text, label. Did you mean 'label'? "
            "Set data.where.lable to the right column.",
        ),
        (
            {"text_column": "review"},  # nothing is near
            "Expected a column 'review' (data.text_column) in {path}, found id, text, label. "
            "Set data.text_column to the right column.",
        ),
    ],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_misspelt_column(write, suffix: str, wrong: dict, message: str) -> None:
    path = write({"id": ["p"], "text": ["a"], "label": ["x"]}, f"rows{suffix}")
    assert refusal(DataSettings(labeled=path, **wrong)) == message.format(path=path)


@pytest.mark.parametrize("role", ["labeled", "unlabeled", "test", "dev"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_null_and_blank_texts(write, suffix: str, role: str) -> None:
    rows = {"text": ["a", None, "b", "", " \t\n\u00a0"], "label": list("xyxyx")}
    path = write(rows, f"rows{suffix}")
    assert refusal(DataSettings(**{role: path}), role) == (
        f"Expected a text in every row of data.{role} ({path}), found 3 rows whose 'text' is null, blank or no text; "
        "first at row 1, 3, 4 (counted from 0). Remove or fill these rows."
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_number_in_place_of_a_text(write, suffix: str) -> None:
    path = write({"text": [1, 2], "label": ["x", "y"]}, f"rows{suffix}")
    assert "found 2 rows whose 'text' is null, blank or no text; first at row 0, 1 (" in refusal(
        DataSettings(labeled=path)
    )


def test_row_of_a_blank_text_counts_the_rows_that_where_drops(write) -> None:
    path = write({"text": ["a", "b", None], "label": list("xyx"), "part": list("uvv")}, "rows.csv")
    message = refusal(DataSettings(labeled=path, where={"part": "v"}))
    assert "found 1 rows whose 'text' is null, blank or no text; first at row 2 (counted from 0)" in message


def test_line_of_an_empty_text_in_a_csv_of_one_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text\nfirst\n""\nthird\n')
    assert "first at row 1 (counted from 0)" in refusal(DataSettings(unlabeled=str(path)), "unlabeled")


def test_empty_line_in_a_csv_of_one_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\nfirst\n\nthird\n")
    assert "first at row 1 (counted from 0)" in refusal(DataSettings(unlabeled=str(path)), "unlabeled")


@pytest.mark.parametrize("index", [[10, 20, 30], ["p", "q", "r"]])
def test_row_of_a_blank_text_in_a_parquet_file_with_an_index(tmp_path: Path, index: list) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"text": ["a", " ", "c"], "label": list("xyx")}, index=index).to_parquet(path)
    assert "first at row 1 (counted from 0)" in refusal(DataSettings(labeled=str(path)))


@pytest.mark.parametrize("locations", [[], 5, [5]])
def test_location_that_is_none(locations: object) -> None:
    assert refusal(DataSettings(labeled=locations)) == (
        f"data.labeled: expected the name of a file or split, or a list of such names, found {locations!r}. "
        "Set data.labeled to where the rows are."
    )


# Packages.


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path in which the pip package `tiny-reviews` is installed."""
    site = tmp_path / "site"
    (site / "tiny_reviews").mkdir(parents=True)
    (site / "tiny_reviews" / "reviews.csv").write_text("text,label\ngood,pos\nbad,neg\n")
    info = site / "tiny_reviews-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-reviews\nVersion: 1.2\n")
    (info / "RECORD").write_text(f"tiny_reviews/reviews.csv,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_package(site: Path) -> None:
    settings = DataSettings(source=Source.package, package="tiny-reviews", labeled="tiny_reviews/reviews.csv")
    frame = sources.read(settings, "labeled")
    assert frame.to_dict("list") == {"text": ["good", "bad"], "label": ["pos", "neg"], "key": ["0", "1"]}


def test_package_whose_file_was_altered(site: Path) -> None:
    name = "tiny_reviews/reviews.csv"
    settings = DataSettings(source=Source.package, package="tiny-reviews", labeled=name, sha256={name: "0" * 64})
    assert re.match(
        rf"Expected {name} of the pip package 'tiny-reviews' to have the SHA-256 {'0' * 64}, found [0-9a-f]{{64}}: ",
        refusal(settings),
    )


def test_package_without_a_name() -> None:
    assert refusal(DataSettings(source=Source.package, labeled="reviews.csv")) == (
        "data.source=package: expected the name of a pip package, found none. Set data.package."
    )


# The hub.


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set that `datasets` reads as it would read one of the hub: classes neg and pos, one row without label."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    folder = tmp_path / "repository"
    folder.mkdir()
    rows = datasets.Dataset.from_dict({"text": ["bad", "good", "unknown"], "label": [0, 1, -1]}, features=features)
    for split, part in (("train", [0, 1, 2]), ("test", [1])):
        rows.select(part).to_parquet(str(folder / f"{split}.parquet"))
    return folder


def test_hub_gives_labels_by_name(repository: Path) -> None:
    settings = DataSettings(source=Source.hub, repository=str(repository), labeled="train", unlabeled=["train", "test"])
    frame = sources.read(settings, "labeled")
    assert frame.to_dict("list") == {
        "text": ["bad", "good", "unknown"],
        "label": ["neg", "pos", None],
        "key": ["0", "1", "2"],
    }
    assert list(sources.read(settings, "unlabeled").text) == ["bad", "good", "unknown", "good"]


def test_hub_split_that_is_not_there(repository: Path) -> None:
    message = refusal(DataSettings(source=Source.hub, repository=str(repository), labeled="trian"))
    assert re.fullmatch(
        rf"Expected the data set '{repository}' \(split 'trian'\) from the hub, found: Unknown split \"trian\".*\. "
        r"Check data.repository, data.subset, data.revision and the network; `\+experiment=imdb` needs no network and "
        r"no hub\.",
        message,
    )


def test_hub_data_set_that_cannot_be_read(repository: Path) -> None:
    (repository / "train.parquet").unlink()
    (repository / "train.jsonl").write_text('{"text": "a", "label": 1}\n{"text": oops\n')
    (repository / "test.parquet").unlink()
    message = refusal(DataSettings(source=Source.hub, repository=str(repository), labeled="train"))
    assert message.startswith(f"Expected the data set '{repository}' (split 'train') from the hub, found: ")


def test_hub_label_that_is_null(repository: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = datasets.Dataset.from_dict({"text": ["bad", "good", "?"], "label": [0, 1, None]}, features=features)
    rows.to_parquet(str(repository / "train.parquet"))
    frame = sources.read(DataSettings(source=Source.hub, repository=str(repository), labeled="train"), "labeled")
    assert list(frame.label) == ["neg", "pos", None]


def test_hub_without_a_name() -> None:
    assert refusal(DataSettings(source=Source.hub, labeled="train")) == (
        "data.source=hub: expected the name of a data set on the hub, found none. Set data.repository."
    )


# The hub's settings apply when it is imported: a process of its own.
OUT_OF_REACH = """
from uda.data import sources
from uda.data.settings import DataSettings, Source
from uda.errors import UserError
try:
    sources.read(DataSettings(source=Source.hub, repository="stanfordnlp/imdb", labeled="train"), "labeled")
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (
            {"HF_HUB_OFFLINE": "1"},
            r"Expected the data set 'stanfordnlp/imdb' \(split 'train'\) from the hub, found: Couldn't reach "
            r"'stanfordnlp/imdb' on the Hub \(\w+\)\. "
            r"Check data.repository, data.subset, data.revision and the network; `\+experiment=imdb` needs no network "
            r"and no hub\.\n",
        ),
        (
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            r"Expected the data set 'stanfordnlp/imdb' from the hub, found the hub out of reach\. Check the network, "
            r"set HF_HUB_OFFLINE=1 to use what was downloaded before, or choose \+experiment=imdb, which needs "
            r"none\.\n",
        ),
    ],
    ids=["offline", "closed"],
)
def test_hub_out_of_reach(tmp_path: Path, variable: dict[str, str], message: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_REACH],
        env=environment | variable,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(message, done.stdout)
