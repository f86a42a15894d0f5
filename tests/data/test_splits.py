import hashlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from uda.data.draws import proportional_counts
from uda.data.settings import Cleaning, DataSettings
from uda.data.splits import Split, load_split, load_test
from uda.errors import UserError

NAMES = ["neg", "pos"]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def drawn_by_hand(rows: pd.DataFrame, per_class: int, salt: str) -> dict[str, list[str]]:
    """The texts of each class whose SHA-256 of (salt, NUL, SHA-256 of the text) is lowest, in that order."""
    return {
        label: sorted(group.text, key=lambda text: sha256(f"{salt}\0{sha256(text)}"))[:per_class]
        for label, group in rows.groupby("label")
    }


def reviews(num_rows: int, prefix: str = "review", labels: tuple[str, ...] = ("neg", "pos")) -> pd.DataFrame:
    texts = [f"{prefix} number {number}" for number in range(num_rows)]
    ids = [f"{prefix}-{number}" for number in range(num_rows)]
    return pd.DataFrame({"id": ids, "text": texts, "label": [labels[n % len(labels)] for n in range(num_rows)]})


@pytest.fixture
def split(write, tmp_path: Path):
    """`split(labeled, test=…, num_labeled=…, …)`: frames become files, the rest are settings."""

    def split(labeled: Any, **settings: Any) -> Split:
        files = {"labeled": labeled}
        files |= {role: settings.pop(role) for role in ("unlabeled", "test", "dev") if role in settings}
        return load_split(
            DataSettings(**{role: write(rows, f"{role}.jsonl") for role, rows in files.items()}, **settings)
        )

    return split


@pytest.fixture
def refusal(split):
    def refusal(labeled: Any, **settings: Any) -> str:
        with pytest.raises(UserError) as caught:
            split(labeled, **settings)
        return str(caught.value)

    return refusal


def texts_by_class(frame: pd.DataFrame, names: list[str] = NAMES) -> dict[str, list[str]]:
    return {names[label]: list(group.text) for label, group in frame.groupby("label")}


# The draw


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_labelled_rows_have_the_lowest_ranks(split, seed: int) -> None:
    rows = reviews(40)
    drawn = split(rows, num_labeled=6, seed=seed)
    assert texts_by_class(drawn.labeled) == drawn_by_hand(rows, 3, str(seed))
    assert list(drawn.labeled.label) == [0, 0, 0, 1, 1, 1]
    assert list(rows.text[drawn.labeled.index]) == list(drawn.labeled.text)


def test_every_seed_draws_others(split) -> None:
    draws = {frozenset(split(reviews(40), num_labeled=6, seed=seed).labeled.text) for seed in range(5)}
    assert len(draws) == 5


def test_draw_does_not_depend_on_the_order_of_rows(split) -> None:
    rows = reviews(40)
    expected = split(rows, num_labeled=6, num_test=10)
    for shuffle in range(3):
        drawn = split(rows.sample(frac=1, random_state=shuffle), num_labeled=6, num_test=10)
        assert list(drawn.labeled.text) == list(expected.labeled.text)
        assert list(drawn.labeled.label) == list(expected.labeled.label)
        assert list(drawn.test.text) == list(expected.test.text)


def test_draw_does_not_depend_on_ids_and_other_columns(split) -> None:
    rows = reviews(40)
    renamed = rows.assign(id=rows.id.str.upper(), stars=3)
    assert list(split(rows, num_labeled=6, id_column="id").labeled.text) == list(
        split(renamed, num_labeled=6, id_column="id").labeled.text
    )


def test_rows_that_are_not_drawn_do_not_matter(split) -> None:
    rows = reviews(40)
    drawn = split(rows, num_labeled=6).labeled
    rest = rows[~rows.text.isin(drawn.text)]
    fewer = pd.concat([rest.iloc[::2], rows.loc[drawn.index]])
    assert list(split(fewer, num_labeled=6).labeled.text) == list(drawn.text)


def test_draw_does_not_depend_on_python_or_numpy_generators(split) -> None:
    draws = []
    for seed in range(2):
        random.seed(seed)
        np.random.seed(seed)
        draws.append(list(split(reviews(40), num_labeled=6).labeled.text))
    assert draws[0] == draws[1]


def test_equally_many_of_unequal_classes(split) -> None:
    rows = pd.concat([reviews(37, "a", ("neg",)), reviews(3, "b", ("pos",))])
    assert list(split(rows, num_labeled=6).labeled.label) == [0, 0, 0, 1, 1, 1]


def test_three_classes(split) -> None:
    rows = reviews(30, labels=("sport", "art", "news"))
    drawn = split(rows, num_labeled=6, num_test=9)
    assert drawn.label_names == ["art", "news", "sport"]
    test = drawn_by_hand(rows, 3, "uda test")
    rest = rows[~rows.text.isin([*itertools.chain(*test.values())])]
    assert texts_by_class(drawn.test, drawn.label_names) == test
    assert texts_by_class(drawn.labeled, drawn.label_names) == drawn_by_hand(rest, 2, "0")


def test_equal_texts_are_drawn_once(split) -> None:
    """Every text stands there in five ways; all six that there are can be drawn, and nothing is left of them."""
    words = [text.split() for text in reviews(6).text]
    variants = ["{} {} {}", " {} {} {}", "{}\n{}\t{}", "{}<br />{} {}", "{} {}  {} "]
    rows = [
        {"text": variant.format(*words[number]), "label": NAMES[number % 2]}
        for number in range(6)
        for variant in variants
    ]
    drawn = split(rows, num_labeled=6, cleaning=Cleaning.html)
    assert sorted(" ".join(text.split()) for text in drawn.labeled.text) == sorted(reviews(6).text)
    assert len(drawn.unlabeled) == 0
    assert drawn.dropped == {"unlabelled rows that are labelled": 30}


def test_equal_texts_do_not_count_twice(refusal) -> None:
    rows = pd.concat([reviews(6), reviews(6)])
    assert refusal(rows, num_labeled=8) == (
        "data.num_labeled: expected 4 rows of each class, found 3 of 'neg'. Lower data.num_labeled or add rows."
    )


def test_text_with_two_labels_does_not_make_the_order_matter(split) -> None:
    rows = pd.concat([pd.DataFrame({"text": ["same", "same"], "label": NAMES}), reviews(2)])
    for seed in range(6):
        one, other = (split(order, num_labeled=2, seed=seed).labeled for order in (rows, rows[::-1]))
        assert sorted(zip(one.text, one.label, strict=True)) == sorted(zip(other.text, other.label, strict=True))


def test_texts_with_two_labels_are_in_no_draw(split, write, caplog: pytest.LogCaptureFixture) -> None:
    """They stay among the unlabelled rows."""
    caplog.set_level("INFO", logger="uda.data.splits")
    rows = pd.concat([pd.DataFrame({"text": ["same one", "same  one", "twice", "twice"], "label": NAMES * 2})] * 2)
    rows = pd.concat([rows, reviews(8), reviews(2)])
    parts = split(rows, num_labeled=2, num_test=4)
    assert sorted([*parts.test.text, *parts.labeled.text]) == sorted({*parts.test.text, *parts.labeled.text})
    assert not {"same one", "same  one", "twice"} & {*parts.test.text, *parts.labeled.text}
    assert list(parts.unlabeled.text)[:8] == list(rows.text)[:8]
    assert parts.dropped["labelled rows of texts with several labels from the draw"] == 8
    assert "dropped 8 labelled rows of texts with several labels from the draw" in caplog.messages
    alone = load_test(DataSettings(labeled=write(rows, "rows.csv"), num_test=4), NAMES)
    assert list(alone.text) == list(parts.test.text)


# The test part


def test_test_part_is_the_same_for_all_seeds(split) -> None:
    rows = reviews(60)
    tests = [split(rows, num_labeled=6, num_test=20, seed=seed).test for seed in range(4)]
    assert all(list(test.text) == list(tests[0].text) for test in tests)
    assert texts_by_class(tests[0]) == drawn_by_hand(rows, 10, "uda test")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("keep_labeled", [False, True])
def test_drawn_test_part_is_apart_from_training(split, seed: int, keep_labeled: bool) -> None:
    rows = reviews(60)
    parts = split(rows, num_labeled=6, num_test=20, seed=seed, keep_labeled=keep_labeled)
    labeled, unlabeled, test = (set(part.text) for part in (parts.labeled, parts.unlabeled, parts.test))
    assert (len(labeled), len(test)) == (6, 20)
    assert not test & (labeled | unlabeled)
    assert labeled | unlabeled | test == set(rows.text)
    assert unlabeled & labeled == (labeled if keep_labeled else set())


def test_copies_of_drawn_test_rows_leave_training(split) -> None:
    rows = reviews(20)
    copies = rows.assign(text=rows.text.str.replace(" ", "  "))
    parts = split(pd.concat([rows, copies]), num_labeled=2, num_test=10)
    assert parts.dropped == {
        "labelled rows that stand in test": 10,
        "unlabelled rows that stand in test": 10,
        "unlabelled rows that are labelled": 4,  # two rows and their copies
    }
    assert len(parts.unlabeled) == 40 - 10 - 10 - 4


@pytest.mark.parametrize("labels", [("neg", "pos"), (0, 1)])
def test_test_part_alone(write, labels: tuple) -> None:
    """What is drawn for a model's evaluation is what was held out when it was trained."""
    rows = reviews(60, labels=labels)
    settings = DataSettings(labeled=write(rows, "rows.csv"), num_labeled=6, num_test=20, label_names=NAMES)
    alone = load_test(settings, NAMES)
    held_out = load_split(settings).test
    pd.testing.assert_frame_equal(alone, held_out)


def test_test_part_alone_of_a_file(write) -> None:
    """The labels count as the model's do; the labelled rows are not looked at."""
    test = reviews(4, "test")
    alone = load_test(DataSettings(test=write(test, "test.csv"), labeled="none.csv"), ["pos", "mixed", "neg"])
    assert list(alone.text) == list(test.text)
    assert list(alone.label) == [2, 0, 2, 0]


def test_test_part_alone_with_a_label_that_the_model_lacks(write) -> None:
    with pytest.raises(UserError) as caught:
        load_test(DataSettings(test=write(reviews(4), "test.csv")), ["neg", "positive"])
    assert str(caught.value) == (
        "Expected the labels of data.test to be among ['neg', 'positive'], found also ['pos']. "
        "Correct them, or give all classes in data.label_names."
    )


def test_no_test_part(write) -> None:
    with pytest.raises(UserError) as caught:
        load_test(DataSettings(labeled=write(reviews(4), "rows.csv")), NAMES)
    assert str(caught.value) == ("Expected test rows, found neither data.test nor data.num_test. Set data.test=FILE.")


# Leaks

LEAKED = "leaked number 0"
LEAKS = [
    LEAKED,
    "  leaked\tnumber\n0 ",
    "leaked<br />number<p>0",
    r"leaked \ number\n0",
    'leaked <a href="x">number</a> 0',
]


def one(text: str, label: str = "pos") -> pd.DataFrame:
    return pd.DataFrame({"id": ["leak"], "text": [text], "label": [label]})


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("role", ["test", "dev"])
@pytest.mark.parametrize("place", ["labeled", "unlabeled"])
def test_planted_leak_is_dropped_and_counted(split, leak: str, role: str, place: str) -> None:
    files = {
        "labeled": reviews(8, "labelled"),
        "unlabeled": reviews(8, "unlabelled").drop(columns="label"),
        "test": reviews(4, "test"),
        "dev": reviews(4, "dev"),
    }
    planted = one(leak) if place == "labeled" else one(leak).drop(columns="label")
    files[place] = pd.concat([files[place].iloc[:4], planted, files[place].iloc[4:]])
    files[role] = pd.concat([files[role], one(LEAKED)])
    parts = split(files.pop("labeled"), **files, cleaning=Cleaning.html)
    assert list(parts.labeled.text) == list(reviews(8, "labelled").text)
    assert list(parts.unlabeled.text) == list(reviews(8, "unlabelled").text)
    assert list(parts.unlabeled.key) == [str(n) for n in range(9) if (place, n) != ("unlabeled", 4)][:8]
    assert (len(parts.test), len(parts.dev)) == ((5, 4) if role == "test" else (4, 5))
    counts = {
        f"{part} rows that stand in {other}": 0 for part in ("labelled", "unlabelled") for other in ("test", "dev")
    }
    counts["dev rows that stand in test"] = 0
    counts[f"{'labelled' if place == 'labeled' else 'unlabelled'} rows that stand in {role}"] = 1
    assert parts.dropped == counts | {"unlabelled rows that are labelled": 0}


@pytest.mark.parametrize("text", ["Leaked number 0", "leaked number 0.", "leaked number", "leakednumber 0"])
def test_other_texts_are_no_leaks(split, text: str) -> None:
    parts = split(pd.concat([reviews(4), one(text)]), test=pd.concat([reviews(2, "test"), one(LEAKED)]))
    assert text in set(parts.labeled.text)


def test_markup_is_no_leak_without_cleaning(split) -> None:
    parts = split(pd.concat([reviews(4), one(LEAKS[2])]), test=one(LEAKED))
    assert LEAKS[2] in set(parts.labeled.text)


def test_leaks_are_gone_before_the_draw(split) -> None:
    """A leak is never drawn, and the next in rank takes its place."""
    rows = reviews(40)
    first = split(rows, num_labeled=6).labeled
    leak = first.iloc[0]
    parts = split(rows, num_labeled=6, test=pd.concat([one(leak.text, "neg"), reviews(3, "test")]))
    kept = rows[rows.text != leak.text]
    assert texts_by_class(parts.labeled) == drawn_by_hand(kept, 3, "0")


def test_leaks_are_logged(split, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="uda.data.splits")
    split(pd.concat([reviews(4), one(LEAKED)]), test=one(LEAKED), unlabeled=reviews(2, "u"))
    assert caplog.messages == ["dropped 1 labelled rows that stand in test"]  # what dropped nothing says nothing


def test_test_rows_leave_dev(split) -> None:
    parts = split(reviews(4), test=reviews(4, "test"), dev=pd.concat([reviews(4, "dev"), reviews(1, "test")]))
    assert list(parts.dev.text) == list(reviews(4, "dev").text)
    assert parts.dropped["dev rows that stand in test"] == 1


def test_drawn_test_rows_leave_dev(split) -> None:
    rows = reviews(20)
    parts = split(rows, num_test=6, dev=rows[:10])
    assert list(parts.dev.text) == [text for text in rows.text[:10] if text not in set(parts.test.text)]
    assert 0 < parts.dropped["dev rows that stand in test"] == 10 - len(parts.dev)


def test_dev_rows_that_are_all_test_rows(refusal) -> None:
    assert refusal(reviews(4), test=reviews(4, "test"), dev=reviews(2, "test")) == (
        "Expected rows of data.dev that are no test rows, found none. Give other rows in data.dev."
    )


# The unlabelled rows


def test_without_a_file_the_rows_that_are_not_drawn_are_unlabelled(split) -> None:
    rows = reviews(20)
    parts = split(rows, num_labeled=4)
    assert list(parts.unlabeled.text) == [text for text in rows.text if text not in set(parts.labeled.text)]
    assert parts.dropped == {"unlabelled rows that are labelled": 4}


def test_all_rows_are_labelled_without_a_number(split) -> None:
    rows = reviews(20)
    parts = split(rows)
    assert list(parts.labeled.text) == list(rows.text)
    assert len(parts.unlabeled) == 0


def test_labelled_rows_stay_with_keep_labeled(split) -> None:
    rows = reviews(20)
    parts = split(rows, num_labeled=4, keep_labeled=True)
    assert list(parts.unlabeled.text) == list(rows.text)
    assert parts.dropped == {}


def test_labelled_rows_leave_a_file_of_their_own(split) -> None:
    rows = reviews(6)
    unlabeled = pd.concat([reviews(3, "more"), rows.assign(text=rows.text + " ")])[["text"]]
    parts = split(rows, unlabeled=unlabeled)
    assert list(parts.unlabeled.text) == list(reviews(3, "more").text)
    assert parts.dropped == {"unlabelled rows that are labelled": 6}
    assert len(split(rows, unlabeled=unlabeled, keep_labeled=True).unlabeled) == 9


def test_short_rows_without_label_are_left_out(split) -> None:
    unlabeled = [
        {"text": "x" * 9, "label": None},
        {"text": "y" * 10, "label": None},
        {"text": "short", "label": "pos"},
        {"text": "z" * 11, "label": None},
    ]
    parts = split(reviews(4), unlabeled=unlabeled, min_characters=10)
    assert list(parts.unlabeled.text) == ["y" * 10, "short", "z" * 11]
    assert parts.dropped == {"short unlabelled rows": 1, "unlabelled rows that are labelled": 0}


def test_characters_are_those_of_the_raw_text(split) -> None:
    unlabeled = [{"text": "nine<br />"}, {"text": "<p>" * 2 + "nin"}]
    parts = split(reviews(4), unlabeled=unlabeled, min_characters=10, cleaning=Cleaning.html)
    assert list(parts.unlabeled.text) == ["nine "]


def test_short_labelled_and_test_rows_stay(split) -> None:
    parts = split(reviews(4, "r"), test=reviews(4, "t"), dev=reviews(4, "d"), min_characters=1000)
    assert (len(parts.labeled), len(parts.test), len(parts.dev)) == (4, 4, 4)


def test_source_rows_count_before_any_is_dropped(split) -> None:
    unlabeled = [{"text": text} for text in ["short", *reviews(8, "u").text, "test number 0"]]
    parts = split(reviews(4), unlabeled=unlabeled, test=reviews(2, "test"), min_characters=8)
    assert parts.num_source_rows == 10
    assert list(parts.unlabeled.key) == [str(row) for row in range(1, 9)]


def test_source_rows_of_several_files(write) -> None:
    files = [write(reviews(count, f"u{count}"), f"{count}.csv") for count in (3, 5)]
    labeled = write(reviews(4), "labeled.csv")
    assert load_split(DataSettings(labeled=labeled, unlabeled=files)).num_source_rows == 8


def test_source_rows_where_labelled_rows_are_the_source(split) -> None:
    assert split(reviews(20), num_labeled=4).num_source_rows == 20
    assert split(reviews(20)).num_source_rows == 20


def test_source_rows_where_the_last_rows_are_drawn_as_test(split) -> None:
    rows = reviews(20)
    test = [*itertools.chain(*drawn_by_hand(rows, 3, "uda test").values())]
    parts = split(rows.sort_values("text", key=lambda texts: texts.isin(test)), num_labeled=4, num_test=6)
    assert set(parts.test.index) == set(range(14, 20))
    assert parts.num_source_rows == 20


def test_source_rows_that_where_leaves_out_count(split) -> None:
    rows = reviews(12).assign(part=["u", "v", "v"] * 4)
    parts = split(rows, where={"part": "v"}, num_labeled=2)
    assert parts.num_source_rows == 12
    kept = [row for row in range(12) if row % 3 and row not in set(parts.labeled.index)]
    assert list(parts.unlabeled.key) == list(map(str, kept))
    assert [row["index"] for row in parts.as_json()["labeled"]] == list(parts.labeled.index)
    assert list(rows.text[parts.labeled.index]) == list(parts.labeled.text)


def test_texts_are_cleaned_and_hashes_are_of_the_raw_ones(split) -> None:
    rows = pd.DataFrame({"text": ["so<br />bad", "a &quot;gem&quot;"], "label": NAMES})
    parts = split(rows, unlabeled=[{"text": r"one\two"}], cleaning=Cleaning.html)
    assert list(parts.labeled.text) == ["so bad", 'a "gem"']
    assert list(parts.labeled.raw_hash) == [sha256(text) for text in rows.text]
    assert list(parts.unlabeled.text) == ["one two"]


# Labels


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_integer_labels(write, suffix: str) -> None:
    path = write({"text": list("abcdef"), "label": [1, 0, 2, 1, 0, 2]}, f"rows{suffix}")
    parts = load_split(DataSettings(labeled=path))
    assert parts.label_names == ["0", "1", "2"]
    assert list(parts.labeled.label) == [1, 0, 2, 1, 0, 2]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_integers_are_sorted_as_numbers(write, suffix: str) -> None:
    path = write({"text": list("abcd"), "label": [10, 2, 0, 1]}, f"rows{suffix}")
    parts = load_split(DataSettings(labeled=path))
    assert parts.label_names == ["0", "1", "2", "10"]
    assert list(parts.labeled.label) == [3, 2, 0, 1]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_integer_labels_count_into_the_names(write, suffix: str) -> None:
    path = write({"text": list("abcdef"), "label": [1, 0, 2, 1, 0, 2]}, f"rows{suffix}")
    test = write({"text": ["x", "y"], "label": [2, 0]}, f"test{suffix}")
    parts = load_split(DataSettings(labeled=path, test=test, label_names=["sport", "news", "art"]))
    assert parts.label_names == ["sport", "news", "art"]
    assert list(parts.labeled.label) == [1, 0, 2, 1, 0, 2]
    assert list(parts.test.label) == [2, 0]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_found_names_are_sorted(write, suffix: str) -> None:
    path = write({"text": list("abc"), "label": ["pos", "neg", "mixed"]}, f"rows{suffix}")
    parts = load_split(DataSettings(labeled=path))
    assert parts.label_names == ["mixed", "neg", "pos"]
    assert list(parts.labeled.label) == [2, 1, 0]
    assert parts.labeled.label.dtype == np.int64


def test_given_names_keep_their_order(split) -> None:
    parts = split(reviews(4), label_names=["pos", "neg"])
    assert parts.label_names == ["pos", "neg"]
    assert list(parts.labeled.label) == [1, 0, 1, 0]


def test_names_and_numbers_may_mix(split) -> None:
    test = reviews(4, "test").assign(label=[0, 1, 0, 1])
    parts = split(reviews(4), test=test, label_names=NAMES)
    assert list(parts.labeled.label) == list(parts.test.label) == [0, 1, 0, 1]


def test_given_names_that_are_numbers(split) -> None:
    parts = split(reviews(4).assign(label=[5, 3, 5, 3]), label_names=["5", "3"])
    assert list(parts.labeled.label) == [0, 1, 0, 1]


def test_labels_counted_from_0_and_names_counted_from_1(split) -> None:
    rows = reviews(6).assign(label=[0, 1, 2, 0, 1, 2])
    assert list(split(rows, label_names=["1", "2", "3"]).labeled.label) == [0, 1, 2, 0, 1, 2]


def test_labels_and_names_counted_from_1(split) -> None:
    rows = reviews(6).assign(label=[1, 2, 3] * 2)
    assert list(split(rows, label_names=["1", "2", "3"]).labeled.label) == [0, 1, 2, 0, 1, 2]


def test_names_and_numbers_in_one_place(refusal) -> None:
    assert "found also ['0']" in refusal(reviews(4).assign(label=["0", "pos"] * 2), label_names=NAMES)


def test_labels_that_may_be_names_or_numbers(refusal) -> None:
    """Test rows of two of the three classes: 1 may be the second class or the first."""
    rows, test = reviews(6).assign(label=[0, 1, 2] * 2), reviews(4, "test").assign(label=[1, 2] * 2)
    assert refusal(rows, test=test, label_names=["1", "2", "3"]) == (
        "Expected labels of data.test that are either names of data.label_names (['1', '2', '3']) or numbers that "
        "count into them, found ['1', '2'], which may be both. Rename the classes in data.label_names, or set it to "
        "null where the labels are the names."
    )


@pytest.mark.parametrize("role", ["test", "dev"])
def test_label_only_in_test(refusal, role: str) -> None:
    rows = {role: pd.concat([reviews(4, role), one("so so", "mixed")])}
    assert refusal(reviews(8), **rows, num_labeled=2) == (
        f"Expected the labels of data.{role} to be among ['neg', 'pos'], found also ['mixed']. "
        "Correct them, or give all classes in data.label_names."
    )


def test_label_that_is_not_in_the_names(refusal) -> None:
    assert refusal(reviews(4), label_names=["neg", "positive"]) == (
        "Expected the labels of data.labeled to be among ['neg', 'positive'], found also ['pos']. "
        "Correct them, or give all classes in data.label_names."
    )


@pytest.mark.parametrize("role", ["labeled", "test", "dev"])
def test_row_without_label(refusal, role: str) -> None:
    files = {"labeled": reviews(4), role: reviews(4, role)}
    files[role].loc[2, "label"] = None
    assert refusal(files.pop("labeled"), **files) == (
        f"Expected a label in every row of data.{role}, found none in row 2 (counted from 0). "
        "Label the row, or move it to data.unlabeled."
    )


def test_single_class(refusal) -> None:
    assert refusal(reviews(4, labels=("pos",))) == (
        "Expected at least 2 classes in data.labeled, found ['pos']. Check data.label_column ('label')."
    )


@pytest.mark.parametrize("names", [["pos"], ["pos", "pos"]])
def test_single_class_by_name(refusal, names: list[str]) -> None:
    assert refusal(reviews(4, labels=("pos",)), label_names=names) == (
        f"data.label_names: expected at least 2 classes, none of them twice, found {names}. Correct it, or set "
        "data.label_names=null to take the labels of data.labeled."
    )


def test_class_without_rows(refusal) -> None:
    assert refusal(reviews(4), label_names=["neg", "pos", "mixed"]) == (
        "Expected labelled rows of every class, found none of ['mixed']. Add some, or correct data.label_names."
    )


def test_class_whose_rows_all_leak(refusal) -> None:
    rows = reviews(4)
    assert refusal(rows, test=rows[rows.label == "pos"]) == (
        "Expected labelled rows of every class, found none of ['pos']. Left out were 2 labelled rows that stand in "
        "test. Add others, take these out of there, or correct data.label_names."
    )


# Numbers of rows that cannot be


@pytest.mark.parametrize(
    ("num_labeled", "labels", "message"),
    [
        (
            1,
            NAMES,
            "expected a multiple of the number of classes (2), found 1. Set {key} to such a number, for example 2.",
        ),
        (
            7,
            NAMES,
            "expected a multiple of the number of classes (2), found 7. Set {key} to such a number, for example 6.",
        ),
        (
            4,
            ["a", "b", "c", "d", "e"],
            "expected a multiple of the number of classes (5), found 4. Set {key} to such a number, for example 5.",
        ),
    ],
)
@pytest.mark.parametrize("key", ["num_labeled", "num_test"])
def test_fewer_labels_than_classes_or_no_multiple(
    refusal, key: str, num_labeled: int, labels: list[str], message: str
) -> None:
    assert refusal(reviews(20, labels=tuple(labels)), **{key: num_labeled}) == (
        f"data.{key}: {message.format(key=f'data.{key}')}"
    )


@pytest.mark.parametrize("key", ["num_labeled", "num_test"])
def test_more_rows_than_a_class_has(refusal, key: str) -> None:
    rows = pd.concat([reviews(10, "a", ("neg",)), reviews(3, "b", ("pos",))])
    assert refusal(rows, **{key: 8}) == (
        f"data.{key}: expected 4 rows of each class, found 3 of 'pos'. Lower data.{key} or add rows."
    )


def test_test_rows_are_no_longer_there_to_be_labelled(refusal) -> None:
    assert refusal(reviews(10), num_test=8, num_labeled=4) == (
        "data.num_labeled: expected 2 rows of each class, found 1 of 'neg'. Lower data.num_labeled or add rows."
    )


# Settings that cannot be


def test_no_labelled_rows(refusal) -> None:
    with pytest.raises(UserError) as caught:
        load_split(DataSettings())
    assert str(caught.value) == ("data.labeled: expected where the labelled rows are, found nothing. Set data.labeled.")


def test_two_test_parts(write) -> None:
    path = write(reviews(4), "rows.csv")
    with pytest.raises(UserError) as caught:
        load_split(DataSettings(labeled=path, test=path, num_test=2))
    assert str(caught.value) == (
        f"Expected either data.test or data.num_test, found both ({path}, 2). Set data.num_test=0 to use data.test, or "
        "data.test=null to hold labelled rows back."
    )


def test_two_draws(write) -> None:
    path = write(reviews(4), "rows.csv")
    with pytest.raises(UserError) as caught:
        load_split(DataSettings(labeled=path, num_labeled=2, labeled_ids="ids.csv"))
    assert str(caught.value) == (
        "Expected either data.num_labeled or data.labeled_ids, found both (2, ids.csv). Set one of them to null."
    )


@pytest.mark.parametrize("role", ["labeled", "unlabeled", "test", "dev"])
def test_row_of_nothing_but_markup(refusal, role: str) -> None:
    files = {"labeled": reviews(4), role: reviews(4, role)}
    files[role].loc[1:2, "text"] = "<br /><p> \\n"
    assert refusal(files.pop("labeled"), **files, cleaning=Cleaning.html) == (
        f"Expected some text in every row of data.{role} after cleaning, found none in 2 rows, first at row 1 "
        "(counted from 0). Remove these rows or set data.cleaning=none."
    )


def test_row_of_nothing_but_markup_counts_the_rows_that_where_drops(refusal) -> None:
    rows = reviews(6).assign(part=["u", "u", "v", "v", "v", "v"])
    rows.loc[3, "text"] = "<br />"
    assert "first at row 3 (counted from 0)" in refusal(rows, where={"part": "v"}, cleaning=Cleaning.html)


@pytest.mark.parametrize("role", ["test", "dev"])
def test_file_without_rows(write, role: str) -> None:
    labeled, empty = write(reviews(4), "labeled.csv"), write(reviews(0), "empty.csv")
    with pytest.raises(UserError, match=rf"data\.{role}"):
        load_split(DataSettings(labeled=labeled, **{role: empty}))


@pytest.mark.parametrize("settings", [{}, {"label_names": NAMES, "num_labeled": 2}])
def test_where_that_matches_no_row(refusal, settings: dict[str, Any]) -> None:
    assert "data.where" in refusal(reviews(4).assign(source="imdb"), where={"source": "imbd"}, **settings)


# Explicit draws


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("hashes", [False, True])
def test_labelled_ids(write, suffix: str, hashes: bool) -> None:
    rows = reviews(20)
    wanted = rows.iloc[[7, 2, 12, 5]]
    file = wanted[["id"]].assign(**({"text_sha256": [sha256(text) for text in wanted.text]} if hashes else {}))
    settings = DataSettings(labeled=write(rows, "rows.csv"), id_column="id", labeled_ids=write(file, f"ids{suffix}"))
    parts = load_split(settings)
    assert list(parts.labeled.text) == list(wanted.text)
    assert list(parts.labeled.label) == [1, 0, 0, 1]
    assert list(parts.labeled.key) == list(wanted.id)
    assert list(parts.labeled.index) == [7, 2, 12, 5]
    assert len(parts.unlabeled) == 16
    settings.seed = 1
    assert list(load_split(settings).labeled.text) == list(wanted.text)


def test_labelled_ids_that_are_integers(write) -> None:
    rows = reviews(4).assign(id=[10, 11, 12, 13])
    settings = DataSettings(
        labeled=write(rows, "rows.parquet"), id_column="id", labeled_ids=write({"id": ["12", "11"]}, "ids.csv")
    )
    assert list(load_split(settings).labeled.index) == [2, 1]


def test_blank_lines_among_labelled_ids_name_no_row(write, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id\nreview-3\n\nreview-0\n\n")
    labeled = write(reviews(4), "rows.csv")
    settings = DataSettings(labeled=labeled, id_column="id", labeled_ids=str(tmp_path / "ids.csv"))
    assert list(load_split(settings).labeled.index) == [3, 0]


def test_path_of_labelled_ids_knows_variables(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWS", str(tmp_path))
    labeled = write(reviews(4), "rows.csv")
    write({"id": ["review-0", "review-1"]}, "ids.csv")
    settings = DataSettings(labeled=labeled, id_column="id", labeled_ids="$REVIEWS/ids.csv")
    assert list(load_split(settings).labeled.index) == [0, 1]


def ids_refusal(write, rows: pd.DataFrame, file: Any, **settings: Any) -> tuple[str, str]:
    path = write(file, "ids.csv")
    settings = {"labeled": write(rows, "rows.csv"), "id_column": "id", "labeled_ids": path} | settings
    with pytest.raises(UserError) as caught:
        load_split(DataSettings(**settings))
    return str(caught.value), path


def test_labelled_ids_of_other_texts(write) -> None:
    rows = reviews(4)
    file = {"id": ["review-0", "review-1"], "text_sha256": [sha256(rows.text[0]), sha256(rows.text[2])]}
    message, path = ids_refusal(write, rows, file)
    assert message == (
        f"data.labeled_ids: expected the texts of data.labeled to have the text_sha256 of {path}, found others. "
        "Use the data that the file was made for."
    )


def test_labelled_ids_that_no_row_has(write) -> None:
    message, path = ids_refusal(write, reviews(4), {"id": ["review-0", "review-9", "review-8"]})
    assert message == (
        f"data.labeled_ids: expected the ids of {path} among the rows of data.labeled that are in no test part, "
        "found no row for 2 of them, first 'review-9'. Check the file and data.id_column."
    )


def test_labelled_id_of_a_test_row(write) -> None:
    rows = reviews(4)
    message, _ = ids_refusal(write, rows, {"id": ["review-0", "review-1"]}, test=write(rows.iloc[1:2], "test.csv"))
    assert "found no row for 1 of them, first 'review-1'" in message


@pytest.mark.parametrize(("column", "id_column"), [("key", "id"), ("id", None)])
def test_labelled_ids_without_an_id_column(write, column: str, id_column: str | None) -> None:
    message, path = ids_refusal(write, reviews(4), {column: ["review-0"], "label": ["neg"]}, id_column=id_column)
    assert message == (
        f"data.labeled_ids: expected a column 'id' in {path} and data.id_column set, found the columns {column}, label "
        f"and data.id_column={id_column}. Give both."
    )


def test_labelled_ids_of_one_class(write) -> None:
    message, _ = ids_refusal(write, reviews(4), {"id": ["review-1", "review-3"]})
    assert "['neg']" in message


def test_labelled_id_that_is_given_twice(write) -> None:
    message, path = ids_refusal(write, reviews(4), {"id": ["review-0", "review-1", "review-0"]})
    assert message == (
        f"data.labeled_ids: expected every id once in {path}, found 'review-0' more than once. Correct the file, or "
        "name a column of unique ids in data.id_column."
    )


def test_labelled_id_of_two_rows(write) -> None:
    rows = reviews(4).assign(id=["a", "b", "c", "a"])
    message, _ = ids_refusal(write, rows, {"id": ["a", "b"]})
    assert "expected every id once in data.labeled, found 'a' more than once" in message
    ids = write({"id": ["b", "c"]}, "ids.csv")  # other ids may stand there twice
    settings = DataSettings(labeled=write(rows, "rows.csv"), id_column="id", labeled_ids=ids)
    assert list(load_split(settings).labeled.index) == [1, 2]


# split.json


def test_as_json(split) -> None:
    rows = reviews(10).assign(text=lambda frame: frame.text + "<br />")
    test, dev = reviews(2, "test"), reviews(4, "dev")
    parts = split(rows, test=test, dev=dev, num_labeled=4, cleaning=Cleaning.html)
    written = json.loads(json.dumps(parts.as_json()))
    drawn = [*itertools.chain(*drawn_by_hand(rows, 2, "0").values())]
    kept = [text for text in rows.text if text not in drawn]
    assert written == {
        "label_names": ["neg", "pos"],
        "dropped": {
            "dev rows that stand in test": 0,
            "labelled rows that stand in test": 0,
            "unlabelled rows that stand in test": 0,
            "labelled rows that stand in dev": 0,
            "unlabelled rows that stand in dev": 0,
            "unlabelled rows that are labelled": 4,
        },
        "labeled": [{"index": list(rows.text).index(text), "sha256": sha256(text)} for text in drawn],
        "test": [{"index": row, "sha256": sha256(text)} for row, text in enumerate(test.text)],
        "dev": [{"index": row, "sha256": sha256(text)} for row, text in enumerate(dev.text)],
        "unlabeled": {"num_rows": 6, "sha256": sha256("".join(map(sha256, kept)))},
    }


def test_as_json_without_dev(split) -> None:
    written = split(reviews(10), num_labeled=2, num_test=4).as_json()
    assert set(written) == {"label_names", "dropped", "labeled", "test", "unlabeled"}
    assert [len(written[role]) for role in ("labeled", "test")] == [2, 4]


# A draw that follows the data


@pytest.mark.parametrize(
    ("num_rows", "frequencies", "counts"),
    [
        (10, [50, 30, 20], [5, 3, 2]),  # exact
        (10, [60, 25, 15], [6, 3, 1]),  # 6, 2.5, 1.5: the one row left goes to the first of equal remainders
        (7, [3, 2, 2], [3, 2, 2]),  # all of them
        (8, [45, 35, 20], [4, 3, 1]),  # 3.6, 2.8, 1.6: two rows left, for the remainders 0.8 and then the first 0.6
        (20, [960, 30, 10], [18, 1, 1]),  # 19.2, 0.6, 0.2: the small ones get 1, the rest 18 of 960
        (10, [900, 70, 30], [8, 1, 1]),  # 9, 0.7, 0.3
        (3, [1000, 1, 1], [1, 1, 1]),  # as many rows as classes
        (6, [100, 16, 15, 1], [3, 1, 1, 1]),  # 4.54, 0.73, 0.68, 0.05
        # 5.09, 1.02, 0.84, 0.04: two get 1, which leaves 5 for 50 and 10: 4.17 and 0.83, so that the third gets 1 too.
        (7, [50, 10, 8, 1], [4, 1, 1, 1]),
        (4, [7, 7], [2, 2]),
        (5, [7, 7], [3, 2]),  # ties: the first class
    ],
)
def test_proportional_counts_by_hand(num_rows: int, frequencies: list[int], counts: list[int]) -> None:
    assert proportional_counts(num_rows, frequencies) == counts


def test_proportional_counts_add_up_and_can_be_had() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        frequencies = rng.integers(1, 50, size=rng.integers(2, 9)).tolist()
        num_rows = int(rng.integers(len(frequencies), sum(frequencies) + 1))
        counts = proportional_counts(num_rows, frequencies)
        assert sum(counts) == num_rows
        assert all(1 <= count <= available for count, available in zip(counts, frequencies, strict=True))
        larger = sorted(range(len(counts)), key=lambda one: frequencies[one])
        assert sorted(counts) == [counts[one] for one in larger] or len(set(frequencies)) < len(frequencies)


def test_an_unbalanced_draw_follows_the_data_by_the_same_rank(split) -> None:
    """24, 9 and 3 rows: 12 of them are 8, 3 and 1, those of the lowest ranks."""
    labels = ("a",) * 8 + ("b",) * 3 + ("c",)
    rows = reviews(36, labels=labels)
    drawn = split(rows, num_labeled=12, seed=5, balanced=False)
    found = texts_by_class(drawn.labeled, ["a", "b", "c"])
    by_rank = drawn_by_hand(rows, 36, "5")
    assert found == {name: by_rank[name][:count] for name, count in (("a", 8), ("b", 3), ("c", 1))}
    assert list(drawn.labeled.label) == [0] * 8 + [1] * 3 + [2]


def test_an_unbalanced_draw_counts_what_can_be_drawn(split) -> None:
    """Copies, and texts of two labels, count for nothing: of 6 texts of neg and 3 of pos 6 rows are 4 and 2."""
    rows = reviews(9, labels=("neg", "neg", "pos"))
    copies = pd.concat([rows[rows.label == "pos"]] * 4)
    both = pd.DataFrame({"id": ["x", "y"], "text": ["both"] * 2, "label": ["neg", "pos"]})
    drawn = split(pd.concat([rows, copies, both]), num_labeled=6, balanced=False)
    assert list(drawn.labeled.label) == [0] * 4 + [1] * 2


def test_unbalanced_draws_that_cannot_be(refusal) -> None:
    rows = reviews(9, labels=("a", "b", "b"))
    assert refusal(rows, num_labeled=1, balanced=False) == (
        "data.num_labeled: expected at least one row for each of the classes (2), found 1. "
        "Set data.num_labeled to such a number, for example 2."
    )
    assert refusal(rows, num_labeled=11, balanced=False) == (
        "data.num_labeled: expected 4 rows of the class 'a', found 3 of 'a'. Lower data.num_labeled or add rows."
    )
    assert refusal(rows, num_labeled=4, balanced=False, label_names=["a", "b", "c"]) == (
        "data.num_labeled: expected 1 rows of the class 'c', found 0 of 'c'. Lower data.num_labeled or add rows."
    )
