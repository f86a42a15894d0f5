import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from uda.augmentation.eda import Eda
from uda.augmentation.words import split_words
from uda.errors import UserError

OFF = {"alpha_sr": 0.0, "alpha_ri": 0.0, "alpha_rs": 0.0, "p_rd": 0.0}


def eda(wordnet: Path | None, **changes: Any) -> Eda:
    return Eda(**({**OFF, "wordnet": wordnet and str(wordnet), "seed": 0} | changes))


def results(augmenter: Eda, text: str, copies: int = 200) -> set[str]:
    return {augmenter.augment([text], ["0"], copy)[0] for copy in range(copies)}


def test_synonyms_replace_words_in_place(wordnet: Path) -> None:
    # n = max(1, ⌊0.1 · 4⌋) = 1 of the two words with synonyms; "The" is a stop word, "was" too.
    assert results(eda(wordnet, alpha_sr=0.1), "The  FILM (was bad)!\n") == {
        "The  Movie (was bad)!\n",
        "The  Motion picture (was bad)!\n",
        "The  FILM (was awful)!\n",
    }


def test_share_of_replaced_words(wordnet: Path) -> None:
    # ⌊0.3 · 10⌋ = 3 of the ten words.
    text = " ".join(["bad"] * 10)
    for result in results(eda(wordnet, alpha_sr=0.3), text, 20):
        assert Counter(result.split()) == {"bad": 7, "awful": 3}


def test_synonyms_are_inserted_anywhere(wordnet: Path) -> None:
    assert results(eda(wordnet, alpha_ri=0.1), "The plan, bad!") == {
        "awful The plan, bad!",
        "The awful plan, bad!",
        "The plan, awful bad!",
        "The plan, bad awful!",
    }
    # ⌊0.5 · 4⌋ = 2 insertions.
    for result in results(eda(wordnet, alpha_ri=0.5), "a bad bad x", 50):
        assert Counter(result.split()) == {"a": 1, "bad": 2, "awful": 2, "x": 1}


def test_swaps_keep_punctuation_where_it_is(wordnet: Path) -> None:
    assert results(eda(wordnet, alpha_rs=0.1), "One, Two three.") == {
        "Two, One three.",
        "three, Two One.",
        "One, three Two.",
    }
    assert results(eda(wordnet, alpha_rs=0.1), "One.", 5) == {"One."}


def test_deletions_take_the_blank_along(wordnet: Path) -> None:
    found = results(eda(wordnet, p_rd=0.5), "One two, three.")
    assert found == {
        *("One two, three.", "two, three.", "One, three.", "One two,.", "One,.", "two,.", ", three."),
    }
    assert results(eda(wordnet, p_rd=1.0), "One two three") == {"One", "two", "three"}


def test_deletions_follow_the_probability(wordnet: Path) -> None:
    text = " ".join(["word"] * 10_000)
    left = len(eda(wordnet, p_rd=0.1).augment([text], ["0"], 0)[0].split())
    assert abs(left - 9_000) <= 4 * 30  # standard deviation √(10,000 · 0.1 · 0.9) = 30


def test_each_of_the_operations_is_drawn(wordnet: Path) -> None:
    augmenter = eda(wordnet, alpha_sr=0.1, alpha_ri=0.1, alpha_rs=0.1, p_rd=0.4)
    text = "bad x"
    kinds: Counter[str] = Counter()
    for copy in range(2000):
        words = augmenter.augment([text], ["0"], copy)[0].split()
        kinds["replaced" if words == ["awful", "x"] else "inserted" if len(words) == 3 else str(words)] += 1
    # A quarter each; deletion leaves both words with 0.6² = 0.36. Standard deviation √(2000 · 0.25 · 0.75) < 20.
    assert abs(kinds["replaced"] - 500) <= 80
    assert abs(kinds["inserted"] - 500) <= 80
    assert abs(kinds["['x', 'bad']"] - 500) <= 80
    assert abs(kinds["['bad', 'x']"] - 180) <= 60


@pytest.mark.parametrize("text", ["", " \n", "?!", "👍", "the of", "zzz"])
def test_texts_without_such_words_stay(wordnet: Path, text: str) -> None:
    assert results(eda(wordnet, alpha_sr=0.5, alpha_ri=0.5), text, 5) == {text}


@pytest.mark.parametrize("key", ["alpha_sr", "alpha_ri", "alpha_rs", "p_rd"])
def test_result_depends_on_text_seed_and_copy_alone(wordnet: Path, key: str) -> None:
    texts = ["A bad film with a good plot, a bad big man", "Cafe\u0301 film", "the film? Don't like it: bad plot"]
    together = eda(wordnet, **{key: 0.3}).augment(texts, ["0", "1", "2"], 1)
    alone = eda(wordnet, **{key: 0.3})
    assert [alone.augment([text], ["x"], 1)[0] for text in texts[::-1]] == together[::-1]
    assert eda(wordnet, **{key: 0.3}, seed=1).augment(texts, ["0", "1", "2"], 1) != together


def test_words_never_grow_together(wordnet: Path) -> None:
    augmenter = eda(wordnet, alpha_sr=0.5, alpha_ri=0.5, alpha_rs=0.5, p_rd=0.3)
    text = "bad-film, a big(man) film/plot电影bad."
    known = {*split_words(text), "awful", "movie", "motion", "picture", "large", "adult", "male", "secret", "plan"}
    assert {word for result in results(augmenter, text) for word in split_words(result)} <= known


def test_missing_wordnet_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="apt-get install wordnet-base"):
        eda(tmp_path, alpha_sr=0.1)


@pytest.mark.parametrize("value", [-0.1, 1.5, "much"])
@pytest.mark.parametrize("key", list(OFF))
def test_strengths_outside_zero_and_one(wordnet: Path, key: str, value: object) -> None:
    with pytest.raises(UserError) as error:
        eda(wordnet, **{key: value})
    assert str(error.value) == (
        f"augment.{key}: expected a share of words from 0 to 1, found {value!r}. Set augment.{key}=0.1, or to 0 to "
        "leave this operation out."
    )


def test_no_operation_at_all(wordnet: Path) -> None:
    with pytest.raises(UserError) as error:
        eda(wordnet)
    assert str(error.value) == (
        "augment.alpha_sr: expected at least one of alpha_sr, alpha_ri, alpha_rs, p_rd above 0, found 0 for all of "
        "them. Set one, or choose augment=none."
    )


def test_fingerprint_follows_wordnets_content(wordnet: Path, tmp_path: Path) -> None:
    other = shutil.copytree(wordnet, tmp_path / "wordnet")
    assert eda(other, p_rd=0.1).fingerprint() == eda(wordnet, p_rd=0.1).fingerprint()
    third = shutil.copytree(wordnet, tmp_path / "third")
    (third / "adv.exc").write_text("worse badly\n")
    assert eda(third, p_rd=0.1).fingerprint() != eda(wordnet, p_rd=0.1).fingerprint()
