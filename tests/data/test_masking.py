"""Which tokens are hidden, and behind what."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uda.data.masking import Corpus, Masker, make_masker, mask_rows
from uda.data.tokens import TokenStore
from uda.errors import UserError

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
SIZE = 105


def masker(share: float = 0.15, continues: np.ndarray | None = None) -> Masker:
    special = np.arange(SIZE) < 5
    return Masker(share, MASK, special, np.flatnonzero(~special), continues)


def store(*rows: list[int]) -> TokenStore:
    return TokenStore(np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)]))


def tokenizer(tmp_path: Path, pieces: list[str]) -> Any:
    from transformers import BertTokenizerFast

    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])}
    return BertTokenizerFast(vocab=vocabulary)


def test_fifteen_per_cent_are_chosen_and_of_these_80_10_10_hidden_replaced_and_kept() -> None:
    ids = np.tile(np.arange(5, SIZE), 1_000).astype(np.int32)
    hidden, places = masker()(ids, np.random.default_rng(0))
    assert len(places) / len(ids) == pytest.approx(0.15, abs=0.005)
    assert (np.delete(hidden, places) == np.delete(ids, places)).all()
    now, before = hidden[places], ids[places]
    kept = (now == before).mean()
    assert (now == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1 + 0.1 / 100, abs=0.01)  # a random token is the old one once in a hundred
    others = now[(now != MASK) & (now != before)]
    assert set(others.tolist()) == set(range(5, SIZE))


def test_special_tokens_are_never_chosen_and_every_text_with_others_has_a_place() -> None:
    for seed in range(50):
        hidden, places = masker(share=1e-9)(np.array([CLS, 9, UNKNOWN, 8, SEP]), np.random.default_rng(seed))
        assert len(places) == 1
        assert places[0] in (1, 3)
        assert hidden[[0, 2, 4]].tolist() == [CLS, UNKNOWN, SEP]
    hidden, places = masker()(np.array([CLS, UNKNOWN, SEP]), np.random.default_rng(0))
    assert (hidden.tolist(), places.tolist()) == ([CLS, UNKNOWN, SEP], [])


def test_whole_words_are_chosen_with_all_of_their_tokens(tmp_path: Path) -> None:
    found = make_masker(tokenizer(tmp_path, ["a", "b", "##c", "##d"]), 0.5, whole_words=True)
    a, b, c, d = 5, 6, 7, 8
    ids = np.array([CLS, a, b, c, d, SEP, c, a])  # a, bcd, c (at a start, so a word of its own), a
    seen = set()
    for seed in range(100):
        _, places = found(ids, np.random.default_rng(seed))
        assert len({2, 3, 4} & set(places.tolist())) in (0, 3)
        seen.add(tuple(places.tolist()))
    assert {(1,), (2, 3, 4), (6,), (7,), (2, 3, 4, 7)} <= seen


def test_marks_of_byte_pair_and_unigram_vocabularies_begin_words(tmp_path: Path) -> None:
    for mark in "Ġ▁":
        found = make_masker(tokenizer(tmp_path, [f"{mark}the", "atre", "!", "'s"]), 0.15, whole_words=True)
        assert found.continues is not None
        assert found.continues[5:].tolist() == [False, True, False, True]


def test_a_tokenizer_without_a_mask_token_or_marks_of_words_is_refused(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, ["the", "film"])
    with pytest.raises(UserError) as error:
        make_masker(made, 0.15, whole_words=True)
    assert str(error.value) == (
        "adapt.whole_words=true: expected a tokenizer that marks where words begin or go on (##, Ġ or ▁), found no "
        "such mark in its vocabulary. Set adapt.whole_words=false."
    )
    made.mask_token = None
    with pytest.raises(UserError) as error:
        make_masker(made, 0.15, whole_words=False)
    assert str(error.value) == (
        "model.name_or_path: expected an encoder whose tokenizer has a mask token, which masked-language-model "
        "training hides words behind, found none. Choose one such as BERT, RoBERTa or ModernBERT."
    )


def test_replacements_come_from_the_vocabulary_alone(tmp_path: Path) -> None:
    found = make_masker(tokenizer(tmp_path, ["a", "b"]), 0.15, whole_words=False)
    assert found.ordinary.tolist() == [5, 6]


def test_a_block_holds_the_places_and_what_they_were() -> None:
    rows = store([CLS, 10, 11, SEP], [CLS, 12, SEP])
    generators = [np.random.default_rng(seed) for seed in (1, 2)]
    block = mask_rows([(rows, 0), (rows, 1)], generators, masker(share=0.999), PAD)
    assert block.places.tolist() == [1, 2, 5]  # rows of four slots
    assert block.targets.tolist() == [10, 11, 12]
    assert block.tokens.mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_a_corpus_is_chosen_rows_of_several_stores_and_masks_depend_on_the_row_alone() -> None:
    first = store([CLS, 10, SEP], [CLS, 11, 12, SEP], [CLS, SEP])
    second = store([CLS, 20, 21, 22, SEP])
    corpus = Corpus([first, second], np.array([1, 3], dtype=np.int32), masker(share=0.999), PAD)
    assert len(corpus) == 2
    assert corpus[np.array([0, 1, 0])].tolist() == [4, 5, 4]
    block = corpus.masked(np.array([1, 0]), np.random.default_rng)
    assert block.targets.tolist() == [20, 21, 22, 11, 12]
    alone = corpus.masked(np.array([0]), np.random.default_rng)
    assert alone.tokens.ids[0].tolist() == block.tokens.ids[1, :4].tolist()
