import pytest
from transformers.models.bert.tokenization_bert_legacy import BasicTokenizer

from uda.augmentation.words import exchange_words, split_words, word_spans

CASES = {
    "": [],
    " \t\n\r ": [],
    "It's GREAT -- 10/10!": ["it", "'", "s", "great", "-", "-", "10", "/", "10", "!"],
    "a_b $5 x^y ~`": ["a", "_", "b", "$", "5", "x", "^", "y", "~", "`"],
    "Amélie CAFÉ Ångström": ["amelie", "cafe", "angstrom"],
    "cafe\u0301! nai\u0308ve": ["cafe", "!", "naive"],
    "\u0130stanbul «oui» “no” 5€": ["istanbul", "«", "oui", "»", "“", "no", "”", "5€"],
    "看电影movie好": ["看", "电", "影", "movie", "好"],
    "null\x00 tab\tbell\x07s soft\xadhyphen nb\xa0space vt\x0bx": [
        *("null", "tab", "bells", "softhyphen", "nb", "space", "vtx")
    ],
    "👍 yes👍": ["👍", "yes👍"],
}


@pytest.mark.parametrize("text", CASES)
def test_words_are_those_of_the_basic_tokenizer(text: str) -> None:
    assert split_words(text) == CASES[text]
    assert BasicTokenizer(do_lower_case=True).tokenize(text) == CASES[text]


def test_every_ascii_character_between_letters() -> None:
    reference = BasicTokenizer(do_lower_case=True)
    for character in map(chr, range(128)):
        text = f"Ab{character}cD {character} e"
        assert split_words(text) == reference.tokenize(text), repr(character)
        # The accented letter sends the same characters along the path of the tokenizers library.
        assert split_words(text + "é") == reference.tokenize(text + "é"), repr(character)


@pytest.mark.parametrize("text", CASES)
def test_spans_cut_the_words_out_of_the_text(text: str) -> None:
    words = [split_words(text[start:end]) for start, end in word_spans(text)]
    assert words == [[word] for word in CASES[text]]


def test_exchange_leaves_every_other_character() -> None:
    assert exchange_words("  It's  GREAT!\n", {3: "bad"}) == "  It's  bad!\n"
    assert exchange_words("Don't", {0: "can", 1: "’"}) == "can’t"
    assert exchange_words("Amélie, OUI", {}) == "Amélie, OUI"


def test_exchange_takes_a_words_accents_along() -> None:
    assert exchange_words("Cafe\u0301 É", {0: "bar"}) == "bar É"


def test_what_the_tokenizer_takes_away_stays_outside_of_words() -> None:
    text = "\x96 a\xad\x07b\x07 (\x07\x07c"
    assert word_spans(text) == [(2, 6), (8, 9), (11, 12)]
    assert exchange_words(text, {0: "x", 2: "y"}) == "\x96 x\x07 (\x07\x07y"


def test_exchange_parts_words_that_would_fuse() -> None:
    # Words: in 1967 . then, and 看 电 影; CJK characters are words on their own and need no blank.
    assert exchange_words("In 1967.Then", {2: "film"}) == "In 1967 film Then"
    assert exchange_words("a-b", {0: "x", 1: "y", 2: "z"}) == "x y z"
    assert exchange_words("看电影", {1: "好"}) == "看好影"
