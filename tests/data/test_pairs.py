"""Rows of two texts: read, hashed, split, tokenised and batched."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

from uda.data.batches import PairedRows, StepRows, Tokens, pad_rows
from uda.data.cleaning import content_hash
from uda.data.settings import Cleaning, DataSettings, Truncation
from uda.data.splits import load_split
from uda.data.tokens import TokenStore, tokenize, tokenize_in_memory
from uda.errors import UserError

KINDS = ["bert", "roberta", "distilbert", "deberta-v2", "electra", "mpnet", "modernbert"]
WORDS = "the film was a very good bad great awful plot actor scene music end story long short funny sad dull".split()  # noqa: SIM905 — one line
LENGTHS = [(1, 1), (5, 4), (6, 4), (20, 1), (1, 20), (9, 20), (20, 20)]
FIRST = [" ".join(WORDS[:first]) for first, _ in LENGTHS]
SECOND = [" ".join(WORDS[::-1][:second]) for _, second in LENGTHS]


def as_lists(store: TokenStore) -> list[list[int]]:
    return [store[row].tolist() for row in range(len(store))]


@pytest.mark.parametrize("max_length", [8, 13, 64])
@pytest.mark.parametrize(("truncation", "side"), [(Truncation.head, "right"), (Truncation.tail, "left")])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_pairs_are_those_of_transformers(
    tiny_encoder: Callable[[str], Path], tmp_path: Path, kind: str, truncation: Truncation, side: str, max_length: int
) -> None:
    theirs = AutoTokenizer.from_pretrained(tiny_encoder(kind), truncation_side=side)
    expected = theirs(FIRST, SECOND, truncation=True, max_length=max_length)
    ours = AutoTokenizer.from_pretrained(tiny_encoder(kind))
    for _ in range(2):  # made, then read
        store = tokenize(FIRST, ours, max_length, truncation, tmp_path, SECOND)
        assert as_lists(store) == expected["input_ids"]
        assert store.lengths.max() == max_length or max_length == 64
        if "token_type_ids" in expected:
            assert [store.types_of(row).tolist() for row in range(len(store))] == expected["token_type_ids"]
        else:
            assert store.types is None
    assert ours.backend_tokenizer.truncation is None  # nothing that save_pretrained would keep
    assert tokenize(FIRST, ours, max_length, truncation, tmp_path).types is None


@pytest.mark.parametrize(
    ("first", "second", "head", "tail"),
    [
        # Room for 5 words beside [CLS], [SEP] and [SEP]. 1 + 6: the longer one gives all; 3 + 4: both give, and the
        # odd word is the longer one's; 5 + 1: the first is the longer.
        ("the", "bad awful plot end sad dull", ("the", "bad awful plot end"), ("the", "plot end sad dull")),
        ("the film was", "bad awful plot end", ("the film", "bad awful plot"), ("film was", "awful plot end")),
        ("the film was very good", "bad", ("the film was very", "bad"), ("film was very good", "bad")),
    ],
)
def test_the_longer_text_loses_tokens_first_by_hand(
    tiny_encoder: Callable[[str], Path], first: str, second: str, head: tuple[str, str], tail: tuple[str, str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder("bert"))
    for truncation, (kept_first, kept_second) in ((Truncation.head, head), (Truncation.tail, tail)):
        store = tokenize_in_memory([first], tokenizer, 8, truncation, [second])
        words = f"[CLS] {kept_first} [SEP] {kept_second} [SEP]".split()
        assert store[0].tolist() == tokenizer.convert_tokens_to_ids(words)
        num_first = len(kept_first.split()) + 2
        assert store.types_of(0).tolist() == [0] * num_first + [1] * (8 - num_first)


def test_in_memory_tokens_are_those_of_the_cache(tiny_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder("bert"))
    for pairs in (None, SECOND):
        for truncation in (Truncation.head, Truncation.tail):
            ours = tokenize_in_memory(FIRST, tokenizer, 9, truncation, pairs)
            assert as_lists(ours) == as_lists(tokenize(FIRST, tokenizer, 9, truncation, tmp_path, pairs))
    assert len(list((tmp_path / "tokens").iterdir())) == 4


def test_cached_pairs_are_told_apart(tiny_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder("bert"))
    rows = [(["a", "b"], None), (["a"], ["b"]), (["b"], ["a"]), (["ab"], [""])]
    for texts, pairs in rows:
        tokenize(texts, tokenizer, 9, Truncation.head, tmp_path, pairs)
    assert len(list((tmp_path / "tokens").iterdir())) == len(rows)


def test_a_cached_single_text_keeps_its_name(tiny_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    """The name of version 1: the settings, then each text after its length; what was cached before pairs stays so."""
    from uda.data.tokens import _fingerprint

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder("bert"))
    tokenize(["good", "bad"], tokenizer, 9, Truncation.head, tmp_path)
    content = f"1 9 head {_fingerprint(tokenizer)}".encode()
    content += (4).to_bytes(8, "little") + b"good" + (3).to_bytes(8, "little") + b"bad"
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == [hashlib.sha256(content).hexdigest()[:32]]


def test_tokens_of_pairs_are_cut_joined_and_padded() -> None:
    first = pad_rows([np.array([2, 7, 3, 8, 3]), np.array([2, 3])], 9, [np.array([0, 0, 0, 1, 1]), np.array([0, 1])])
    assert first.types.tolist() == [[0, 0, 0, 1, 1], [0, 1, 0, 0, 0]]
    assert first.select([1]).types.tolist() == [[0, 1]]
    joined = first.select([1]).followed_by(first, 9)
    assert joined.ids.tolist() == [[2, 3, 9, 9, 9], [2, 7, 3, 8, 3], [2, 3, 9, 9, 9]]
    assert joined.types.tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 1, 0, 0, 0]]
    nothing = pad_rows([], 9)  # no unlabelled row: it has no types
    assert first.followed_by(nothing, 9).types.tolist() == first.types.tolist()
    assert nothing.followed_by(first, 9).types.tolist() == first.types.tolist()
    assert first.to(torch.device("cpu")).types.tolist() == first.types.tolist()
    single = pad_rows([np.array([1, 2])], 9)
    assert single.followed_by(single, 9).types is None


def test_batches_of_pairs(tiny_encoder: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder("bert"))

    def store(first: list[str], second: list[str]) -> TokenStore:
        return tokenize_in_memory(first, tokenizer, 16, Truncation.head, second)

    labeled, weak = store(["good"], ["bad film"]), store(["a", "the plot"], ["film", "was"])
    strong = store(["a very", "sad"], ["dull", "long story"])
    rows = PairedRows(labeled, np.array([1]), weak, [strong], tokenizer.pad_token_id, 0)
    batch = rows[StepRows(0, np.array([0]), np.array([1, 0]))]
    for tokens, first, second in (
        (batch.labeled, ["good"], ["bad film"]),
        (batch.weak, ["the plot", "a"], ["was", "film"]),
        (batch.strong, ["sad", "a very"], ["long story", "dull"]),
    ):
        expected = tokenizer(first, second, padding=True)
        assert isinstance(tokens, Tokens)
        assert tokens.ids.tolist() == expected["input_ids"]
        assert tokens.types.tolist() == expected["token_type_ids"]
        assert tokens.mask.tolist() == expected["attention_mask"]


def frame(rows: list[tuple[Any, ...]], *columns: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))


def split_of(write: Callable[..., str], labeled: Any, unlabeled: Any, test: Any, **changes: Any) -> Any:
    return load_split(
        DataSettings(
            labeled=write(labeled, "labeled.csv"),
            unlabeled=write(unlabeled, "unlabeled.csv"),
            test=write(test, "test.csv"),
            text_column="question",
            text_pair_column="answer",
            **changes,
        )
    )


def test_rows_are_pairs_in_every_role(write) -> None:
    labeled = frame([("a<br />b", "x<br />y", "no"), ("c", "z", "yes")], "question", "answer", "label")
    unlabeled = frame([("d<p>", "u"), ("e", "v")], "question", "answer")
    test = frame([("f", "w", "no"), ("g", "t", "yes")], "question", "answer", "label")
    split = split_of(write, labeled, unlabeled, test, cleaning=Cleaning.html)
    assert list(split.labeled.text) == ["a b", "c"]
    assert list(split.labeled.text_pair) == ["x y", "z"]
    assert list(split.unlabeled.text_pair) == ["u", "v"]
    assert list(split.test.text_pair) == ["w", "t"]
    hashes = [content_hash("a<br />b"), content_hash("x<br />y")]
    assert split.labeled.raw_hash.iloc[0] == hashlib.sha256("".join(hashes).encode()).hexdigest()


def test_leaks_and_contradictions_are_of_whole_pairs(write) -> None:
    """A pair of the test set leaves training, white space aside; one that shares a text with it, or both in the other
    order, does not. A question with two answers may have two labels."""
    test = frame([("q", "a", "no"), ("q", "b", "yes")], "question", "answer", "label")
    labeled = frame(
        [("q", "a", "no"), ("r", "a", "no"), ("q", "c", "yes"), ("q", "d", "no")], "question", "answer", "label"
    )
    unlabeled = frame([("q", " a"), ("a", "q"), ("qa", "-"), ("q", "c"), ("new", "new")], "question", "answer")
    split = split_of(write, labeled, unlabeled, test)
    assert list(zip(split.labeled.text, split.labeled.text_pair, strict=True)) == [("r", "a"), ("q", "c"), ("q", "d")]
    assert list(zip(split.unlabeled.text, split.unlabeled.text_pair, strict=True)) == [
        ("a", "q"),
        ("qa", "-"),
        ("new", "new"),
    ]


def test_pairs_are_drawn_by_both_texts(write) -> None:
    """The rank is SHA-256(seed, NUL, pair hash): by hand."""
    rows = [(f"q{number // 4}", f"a{number}", ("no", "yes")[number % 2]) for number in range(16)]
    labeled = frame(rows, "question", "answer", "label")
    test = frame([("f", "w", "no"), ("g", "t", "yes")], "question", "answer", "label")
    split = split_of(write, labeled, labeled, test, num_labeled=4, seed=3)

    def rank(row: tuple[str, str, str]) -> str:
        pair = hashlib.sha256("".join(hashlib.sha256(text.encode()).hexdigest() for text in row[:2]).encode())
        return hashlib.sha256(f"3\0{pair.hexdigest()}".encode()).hexdigest()

    expected = [row for label in ("no", "yes") for row in sorted((r for r in rows if r[2] == label), key=rank)[:2]]
    assert list(split.labeled.text_pair) == [row[1] for row in expected]
    assert len(split.unlabeled) == 12


@pytest.mark.parametrize("value", [None, "  "])
def test_a_missing_second_text_is_named(write, value: str | None) -> None:
    labeled = frame([("a", "x", "no"), ("b", value, "yes")], "question", "answer", "label")
    with pytest.raises(UserError, match=r"found 1 rows whose 'answer' is null, blank or no text; first at row 1"):
        split_of(write, labeled, labeled, labeled)


def test_a_missing_column_is_named(write) -> None:
    labeled = frame([("a", "x", "no"), ("b", "y", "yes")], "question", "answers", "label")
    with pytest.raises(
        UserError, match=r"Expected a column 'answer' \(data\.text_pair_column\) in .* Did you mean 'answers'\?"
    ):
        split_of(write, labeled, labeled, labeled)
