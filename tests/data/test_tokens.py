import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from uda.data import tokens
from uda.data.cache import ArrayWriter, cache_dir, mapped
from uda.data.settings import Truncation
from uda.data.tokens import TokenStore, tokenize
from uda.engine.settings import ModelSettings
from uda.engine.tokenizer import load_tokenizer
from uda.errors import UserError

MAX_LENGTH = 8
ENDS = [(Truncation.head, "right"), (Truncation.tail, "left")]
# 5, 6 and 7 words are one below, at and one above the limit with [CLS] and [SEP].
WORDS = "the film was a very good bad great awful plot actor scene music end story long short funny sad dull".split()  # noqa: SIM905 — one line
TEXTS = [" ".join(WORDS[:count]) for count in (1, 5, 6, 7, 8, 20)] + ["unheard , film . great", ", " * 30]


@pytest.fixture
def tokenizer(tiny_bert: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_bert)


def as_lists(store: TokenStore) -> list[list[int]]:
    return [store[row].tolist() for row in range(len(store))]


def own_truncation(tokenizer: Any, texts: list[str], side: str, max_length: int = MAX_LENGTH) -> list[list[int]]:
    """What transformers itself makes of the texts."""
    tokenizer.truncation_side = side
    return tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]


def folders(cache: Path) -> list[str]:
    return sorted(os.listdir(cache / "tokens"))


@pytest.mark.parametrize("max_length", [8, 9, 16, 64])
@pytest.mark.parametrize(("truncation", "side"), ENDS)
def test_equal_to_the_tokenizers_own_truncation(
    tiny_bert: Path, tmp_path: Path, truncation: Truncation, side: str, max_length: int
) -> None:
    ours = tokenize(TEXTS, AutoTokenizer.from_pretrained(tiny_bert), max_length, truncation, tmp_path)
    theirs = own_truncation(AutoTokenizer.from_pretrained(tiny_bert), TEXTS, side, max_length)
    assert as_lists(ours) == theirs
    assert max(map(len, theirs)) == min(max_length, 32)  # the limit is met, and 30 commas fit into 64


# Other special tokens than BERT's: (template, how many).
TEMPLATES = [(None, 0), ("<s> $A", 1), ("$A </s>", 1), ("<s> $A </s> </s>", 3)]


def word_level_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *WORDS])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    if template is not None:
        backend.post_processor = TemplateProcessing(single=template, special_tokens=[("<s>", 2), ("</s>", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")


@pytest.mark.parametrize(("template", "num_special"), TEMPLATES)
@pytest.mark.parametrize(("truncation", "side"), ENDS)
def test_other_special_tokens(
    tmp_path: Path, truncation: Truncation, side: str, template: str | None, num_special: int
) -> None:
    texts = [" ".join(WORDS[:count]) for count in (1, 7 - num_special, 8 - num_special, 9 - num_special, 20)]
    ours = as_lists(tokenize(texts, word_level_tokenizer(template), MAX_LENGTH, truncation, tmp_path))
    assert ours == own_truncation(word_level_tokenizer(template), texts, side)
    assert [len(row) for row in ours] == [1 + num_special, 7, 8, 8, 8]


@pytest.mark.parametrize(
    ("max_length", "kept"),
    [
        (10, [0, 1, 14, 15, 16, 17, 18, 19]),  # room 8: 2 from the head, 6 from the tail
        (9, [0, 14, 15, 16, 17, 18, 19]),  # room 7: 7 // 4 = 1 and 6
        (16, [0, 1, 2, *range(9, 20)]),  # room 14: 14 // 4 = 3 and 11
        (21, [0, 1, 2, 3, *range(5, 20)]),  # room 19 for 20 words: 4 and 15
        (22, list(range(20))),
    ],
)
def test_head_and_tail_by_hand(tokenizer: Any, tmp_path: Path, max_length: int, kept: list[int]) -> None:
    words = tokenizer.convert_tokens_to_ids([WORDS[number] for number in kept])
    store = tokenize([" ".join(WORDS)], tokenizer, max_length, Truncation.head_tail, tmp_path)
    assert as_lists(store) == [[tokenizer.cls_token_id, *words, tokenizer.sep_token_id]]


def test_head_and_tail_leaves_what_fits(tokenizer: Any, tmp_path: Path) -> None:
    store = tokenize(TEXTS[:3], tokenizer, MAX_LENGTH, Truncation.head_tail, tmp_path)
    assert as_lists(store) == tokenizer(TEXTS[:3])["input_ids"]


def test_store(tokenizer: Any, tmp_path: Path) -> None:
    store = tokenize(TEXTS, tokenizer, 64, Truncation.tail, tmp_path)
    expected = tokenizer(TEXTS)["input_ids"]
    assert isinstance(store.ids, np.memmap)
    assert len(store) == len(TEXTS)
    assert store.lengths.tolist() == [len(row) for row in expected]
    assert as_lists(store) == expected


def test_texts_are_encoded_in_chunks(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CHUNK", 3)
    assert as_lists(tokenize(TEXTS, tokenizer, 64, Truncation.head, tmp_path)) == tokenizer(TEXTS)["input_ids"]


@pytest.mark.parametrize("pieces", [[], [[]], [[1], [2, 3], []], [list(range(500)), list(range(70_000))]])
def test_an_array_written_in_pieces_is_the_array(tmp_path: Path, pieces: list[list[int]]) -> None:
    with ArrayWriter(tmp_path / "pieces.npy", np.int32) as writer:
        for piece in pieces:
            writer.append(np.array(piece, dtype=np.int64))
    whole = np.array([number for piece in pieces for number in piece], dtype=np.int32)
    np.save(tmp_path / "whole.npy", whole)
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert mapped(tmp_path / "pieces.npy").tolist() == whole.tolist()


def test_ids_and_offsets_are_mapped(tokenizer: Any, tmp_path: Path) -> None:
    store = tokenize(TEXTS, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path)
    assert isinstance(store.ids, np.memmap)
    assert isinstance(store.offsets, np.memmap)
    rows = np.array([7, 0, 3])
    assert store.row_lengths[rows].tolist() == [len(store[row]) for row in (7, 0, 3)]
    assert len(store.row_lengths) == len(TEXTS)


def test_no_texts(tokenizer: Any, tmp_path: Path) -> None:
    for _ in range(2):  # made, then read
        store = tokenize([], tokenizer, MAX_LENGTH, Truncation.head, tmp_path)
        assert len(store) == 0
        assert store.lengths.tolist() == []
        assert store.ids.tolist() == []


class Wrapped:
    """A tokenizer with something to do before each call."""

    def __init__(self, tokenizer: Any, before: Callable[[], None]) -> None:
        self.tokenizer = tokenizer
        self.backend_tokenizer = tokenizer.backend_tokenizer
        self.before = before

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.before()
        return self.tokenizer(*args, **options)


def refuse() -> None:
    raise AssertionError("the tokenizer was called")


@pytest.mark.parametrize("texts", [TEXTS, []])
def test_second_call_reads_the_cache(tokenizer: Any, tmp_path: Path, texts: list[str]) -> None:
    first = tokenize(texts, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path)
    second = tokenize(texts, Wrapped(tokenizer, refuse), MAX_LENGTH, Truncation.tail, tmp_path)
    assert as_lists(second) == as_lists(first)
    assert len(folders(tmp_path)) == 1


def test_another_process_finds_the_cache(tiny_bert: Path, tmp_path: Path) -> None:
    """A tokenizer loaded anew, as the next run does, has the same key."""
    settings = ModelSettings(name_or_path=str(tiny_bert))
    first, second = (load_tokenizer(str(tiny_bert), settings, MAX_LENGTH, Truncation.tail) for _ in range(2))
    tokenize(TEXTS, first, MAX_LENGTH, Truncation.tail, tmp_path)
    tokenize(TEXTS, Wrapped(second, refuse), MAX_LENGTH, Truncation.tail, tmp_path)


def test_another_use_of_the_tokenizer_keeps_the_cache(tokenizer: Any, tmp_path: Path) -> None:
    tokenize(TEXTS, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path)
    tokenizer(TEXTS, truncation=True, max_length=4, padding=True)
    tokenize(TEXTS, Wrapped(tokenizer, refuse), MAX_LENGTH, Truncation.tail, tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"max_length": 9},
        {"truncation": Truncation.head},
        {"truncation": Truncation.head_tail},
        {"texts": TEXTS[::-1]},
        {"texts": [*TEXTS, "film"]},
        {"texts": [*TEXTS[:-1], TEXTS[-1] + " "]},
        {"texts": [TEXTS[0] + TEXTS[1], *TEXTS[2:]]},
        {"tokenizer": word_level_tokenizer(None)},
        {"tokenizer": word_level_tokenizer("<s> $A")},
    ],
    ids=["length", "head", "head_tail", "order", "one more", "white space", "joined", "vocabulary", "special tokens"],
)
def test_other_input_has_another_key(tokenizer: Any, tmp_path: Path, other: dict[str, Any]) -> None:
    arguments = {"texts": TEXTS, "tokenizer": tokenizer, "max_length": 8, "truncation": Truncation.tail}
    before = tokenize(**arguments, cache=tmp_path)
    stored = as_lists(before)
    after = tokenize(**(arguments | other), cache=tmp_path)
    assert len(folders(tmp_path)) == 2
    assert len(after) == len(other.get("texts", TEXTS))
    assert as_lists(before) == stored


def test_where_a_text_ends_is_part_of_the_key(tokenizer: Any, tmp_path: Path) -> None:
    for texts in (["the film", "was"], ["the", " filmwas"], ["the film", "", "was"], ["the filmwas"]):
        tokenize(texts, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path)
    assert len(folders(tmp_path)) == 4


def test_two_tokenizers_that_differ_in_lower_casing_have_two_keys(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    vocabulary = tokenizer.get_vocab()
    stores = [
        tokenize(["The Film"], BertTokenizerFast(vocab=vocabulary, do_lower_case=lower), 8, Truncation.head, tmp_path)
        for lower in (True, False)
    ]
    the, film, unknown = tokenizer.convert_tokens_to_ids(["the", "film", "[UNK]"])
    assert [store[0].tolist()[1:-1] for store in stores] == [[the, film], [unknown, unknown]]


class PythonTokenizer:
    """A tokenizer without a backend: words by their number, the special tokens 1 and 2."""

    def __init__(self, **options: Any) -> None:
        self.init_kwargs = options

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(WORDS, start=3)}

    def __call__(self, texts: Any, add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
        if isinstance(texts, str):
            ids = [self.get_vocab().get(word, 0) for word in texts.split()]
            return {"input_ids": [1, *ids, 2] if add_special_tokens else ids}
        return {"input_ids": [self(text)["input_ids"] for text in texts]}


def test_options_of_a_tokenizer_in_python_are_part_of_the_key(tmp_path: Path) -> None:
    for options in ({"lower": True}, {"lower": False}, {"lower": True}):
        store = tokenize(["the film"], PythonTokenizer(**options), MAX_LENGTH, Truncation.head, tmp_path)
        assert as_lists(store) == [[1, 3, 4, 2]]
    assert len(folders(tmp_path)) == 2


def test_two_at_once(tiny_bert: Path, tmp_path: Path) -> None:
    """Both find no cache, both write, one is faster; both get the tokens and nothing else is left."""
    both_are_writing = threading.Barrier(2, timeout=30)
    results: list[list[list[int]]] = []

    def work() -> None:
        first_call = [True]

        def wait() -> None:
            if first_call:
                first_call.clear()
                both_are_writing.wait()

        own = Wrapped(AutoTokenizer.from_pretrained(tiny_bert), wait)
        results.append(as_lists(tokenize(TEXTS, own, MAX_LENGTH, Truncation.tail, tmp_path)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both_are_writing.broken
    expected = own_truncation(AutoTokenizer.from_pretrained(tiny_bert), TEXTS, "left")
    assert results == [expected, expected]
    assert len(folders(tmp_path)) == 1


def test_interrupted_writing_leaves_nothing_behind(tokenizer: Any, tmp_path: Path) -> None:
    calls = iter(range(100))

    def stop_at_the_texts() -> None:
        if next(calls) == 2:  # after the two that count the special tokens
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(TEXTS, Wrapped(tokenizer, stop_at_the_texts), MAX_LENGTH, Truncation.tail, tmp_path)
    assert folders(tmp_path) == []
    assert len(tokenize(TEXTS, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path)) == len(TEXTS)


def test_full_disk_is_not_taken_for_a_faster_process(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrayWriter, "append", full)
    with pytest.raises(
        UserError, match=r"in the cache .*, found: .*No space left.* set the environment variable UDA_C"
    ):
        tokenize(TEXTS, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path)
    assert folders(tmp_path) == []


def test_a_cache_that_cannot_be_made_is_named(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"Expected room and permission for tokens in the cache .*/file, found: .*direct"
    ):
        tokenize(TEXTS, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path / "file")


def test_others_may_read_what_one_has_cached(tokenizer: Any, tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        store = tokenize(TEXTS, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path)
    finally:
        os.umask(mask)
    assert len(store) == len(TEXTS)
    (folder,) = (tmp_path / "tokens").iterdir()
    assert oct(folder.stat().st_mode & 0o777) == oct(0o755)


def test_what_killed_processes_left_goes_when_it_is_old(tokenizer: Any, tmp_path: Path) -> None:
    for name, days in ((".writing-old", 8), (".writing-new", 1), ("whole", 8)):
        (tmp_path / "tokens" / name).mkdir(parents=True)
        (tmp_path / "tokens" / name / "ids.npy").touch()
        os.utime(tmp_path / "tokens" / name, (time.time() - days * 24 * 3600,) * 2)
    tokenize(TEXTS, tokenizer, MAX_LENGTH, Truncation.tail, tmp_path)
    names = {path.name for path in (tmp_path / "tokens").iterdir()}
    assert {".writing-new", "whole"} < names
    assert len(names) == 3  # and the new store
    assert ".writing-old" not in names


def saved_with_limits(tiny_bert: Path, folder: Path) -> Path:
    """The tiny tokenizer, saved as MiniLM's is: its file says truncate to 4, pad to 6."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=6)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    for name in os.listdir(tiny_bert):
        if "token" in name and name != "tokenizer.json":
            (folder / name).write_bytes((tiny_bert / name).read_bytes())
    return folder


@pytest.mark.parametrize("load", ["ours", "plain"])
@pytest.mark.parametrize(("truncation", "side"), ENDS)
def test_truncation_saved_with_the_tokenizer_does_not_leak_in(
    tiny_bert: Path, tmp_path: Path, truncation: Truncation, side: str, load: str
) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    saved_with_limits(tiny_bert, folder)
    saved = AutoTokenizer.from_pretrained(folder)
    assert saved.backend_tokenizer.truncation["max_length"] == 4  # it is there, and acts on the backend
    assert len(saved.backend_tokenizer.encode("the film was very good").ids) == 6
    if load == "ours":
        saved = load_tokenizer(str(folder), ModelSettings(name_or_path=str(folder)), MAX_LENGTH, truncation)
        assert saved.backend_tokenizer.truncation is None
        assert saved.backend_tokenizer.padding is None
    store = tokenize(TEXTS, saved, MAX_LENGTH, truncation, tmp_path)
    assert as_lists(store) == own_truncation(AutoTokenizer.from_pretrained(tiny_bert), TEXTS, side)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/reader")
    monkeypatch.setenv("UDA_CACHE", "/big/cache")
    assert cache_dir() == Path("/big/cache")
    monkeypatch.setenv("UDA_CACHE", "~/cache")
    assert cache_dir() == Path("/home/reader/cache")
    for unset in ("", None):
        monkeypatch.delenv("UDA_CACHE") if unset is None else monkeypatch.setenv("UDA_CACHE", unset)
        assert cache_dir() == Path("/home/reader/.cache/uda")
