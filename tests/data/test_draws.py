"""The share of labelled rows that is held out: by the rank of a hash, class by class."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from uda.data.settings import DataSettings
from uda.data.splits import load_split, load_test


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rows_of(**counts: int) -> pd.DataFrame:
    return pd.DataFrame(
        [{"text": f"{name} {n}", "label": name} for name, count in counts.items() for n in range(count)]
    )


@pytest.fixture
def held_out(tmp_path: Path):
    """The settings for rows of which a share is held out."""

    def settings(rows: pd.DataFrame, share: float, **more: object) -> DataSettings:
        rows.to_csv(tmp_path / "rows.csv", index=False)
        return DataSettings(labeled=str(tmp_path / "rows.csv"), test_share=share, **more)

    return settings


def test_a_share_of_each_class_by_hand(held_out) -> None:
    """Of 10, 4, 3, 2 and 1 rows a fifth is 2, 0.8, 0.6, 0.4 and 0.2: rounded 2, 1, 1, 0 and 0."""
    rows = rows_of(a=10, b=4, c=3, d=2, e=1)
    split = load_split(held_out(rows, 0.2))
    expected = [
        text
        for name, count in {"a": 2, "b": 1, "c": 1}.items()
        for text in sorted(rows.text[rows.label == name], key=lambda text: sha256(f"uda test\0{sha256(text)}"))[:count]
    ]
    assert list(split.test.text) == expected
    assert set(split.labeled.text) == set(rows.text) - set(expected)
    assert list(load_test(held_out(rows, 0.2), split.label_names).text) == expected


def test_every_class_keeps_a_row(held_out) -> None:
    split = load_split(held_out(rows_of(a=8, b=2, c=1), 0.95))
    assert sorted(split.labeled.label) == [0, 1, 2]


def test_other_order_and_other_seed_same_rows(held_out) -> None:
    rows = rows_of(a=30, b=20)
    first = load_split(held_out(rows, 0.2))
    second = load_split(held_out(rows.sample(frac=1, random_state=0), 0.2, seed=7))
    assert set(first.test.text) == set(second.test.text)


def test_texts_of_two_labels_and_repeated_texts_are_not_drawn_twice(held_out) -> None:
    rows = rows_of(a=10, b=10)
    rows = pd.concat([rows, rows[:10], pd.DataFrame({"text": ["b 0"], "label": ["a"]})])
    split = load_split(held_out(rows, 0.3))
    assert split.test.text.is_unique
    assert "b 0" not in set(split.test.text)
    assert not set(split.test.text) & set(split.labeled.text)


def test_a_test_set_or_a_number_comes_before_the_share(held_out, tmp_path: Path) -> None:
    rows = rows_of(a=10, b=10)
    rows_of(c=1).assign(label="a").to_csv(tmp_path / "test.csv", index=False)
    assert list(load_split(held_out(rows, 0.5, test=str(tmp_path / "test.csv"))).test.text) == ["c 0"]
    assert len(load_split(held_out(rows, 0.5, num_test=4)).test) == 4
