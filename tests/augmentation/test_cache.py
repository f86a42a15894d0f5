"""The cache of augmented texts: what is a key, what is computed, what a disturbance leaves, how much is in memory."""

import errno
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from uda.augmentation import cache, filling, store
from uda.augmentation.base import Augmenter
from uda.augmentation.cache import Cache, configuration_folder, copy_keys, size_in_bytes, text_hashes
from uda.augmentation.filling import WHOLE, Filled, Shard, Texts, fill
from uda.errors import UserError
from uda.files import finish_removing

TEXTS = [f"text number {number}" for number in range(3_000)]


class Shouting(Augmenter):
    """Every text in capitals with the number of its copy; every tenth stays as it is. Counts what is asked of it."""

    def __init__(self, end: str = "!") -> None:
        self.end = end
        self.asked: list[str] = []
        self.prepared: list[list[str]] = []
        self.closed = 0

    def prepare(self, texts: Iterable[str], keys: Iterable[str], num_source_rows: int) -> None:
        self.prepared.append(list(texts))
        assert len(list(keys)) == len(self.prepared[-1])

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        self.asked += texts
        return [text if text.endswith("0") else f"{text.upper()}{self.end}{copy}" for text in texts]

    def close(self) -> None:
        self.closed += 1


class Paid(Shouting):
    """Stops at the thirteenth text; gets five at a time."""

    max_texts = 5
    own_workers = True

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        if len(self.asked) + len(texts) >= 13:
            raise UserError("the money is spent")
        return super().augment(texts, keys, copy)


def texts(values: Sequence[str], copy: int = 0, size: int = 1_000) -> Texts:
    """The texts, a chunk at a time."""

    def chunks() -> Iterator[tuple[list[str], list[str]]]:
        for start in range(0, len(values), size):
            part = list(values[start : start + size])
            yield part, [str(start + row) for row in range(len(part))]

    return Texts(copy, chunks)


def filled(
    folder: Path, values: Sequence[str], augmenter: Augmenter, shard: Shard = WHOLE, copies: int = 1, processes: int = 1
) -> Filled:
    """The cache in `folder`, filled with copies of texts."""

    def prepare(some: Iterable[str], keys: Iterable[str]) -> None:
        augmenter.prepare(some, keys, len(values))

    wanted = [texts(values, copy) for copy in range(copies)]
    return fill(Cache(folder), augmenter, wanted, prepare, processes, shard)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the cache, the locks too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(folder: Path, values: Sequence[str], copy: int = 0) -> list[str | None]:
    return Cache(folder).texts(copy_keys(text_hashes(values), copy))


def test_a_key_is_of_the_text_and_the_copy() -> None:
    hashes = text_hashes(["a", "b", "a"])
    assert hashes[0] == hashlib.sha256(b"a").digest()
    keys = [*copy_keys(hashes, 0), *copy_keys(hashes, 1)]
    assert keys[0] == keys[2] == hashlib.sha256(hashes[0] + bytes(8)).digest()
    assert len(set(keys)) == 4


def test_another_configuration_has_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def folder(settings: dict[str, Any], corpus: str = "c") -> Path:
        return configuration_folder(tmp_path, Shouting(), settings, corpus)

    first = folder({"probability": 0.3})
    assert first.parent == tmp_path / "Shouting"
    assert first == folder({"probability": 0.3}, "another corpus")
    assert first != folder({"probability": 0.4})
    with monkeypatch.context() as patch:
        patch.setattr(Shouting, "uses_corpus", True)
        assert first != folder({"probability": 0.3}) != folder({"probability": 0.3}, "another corpus")
    monkeypatch.setattr(Shouting, "fingerprint", lambda self: "other code")
    assert first != folder({"probability": 0.3})


def test_a_text_is_made_once(tmp_path: Path) -> None:
    """Equal ones within a chunk, in another chunk and in another call; of added texts only the new ones."""
    first = Shouting()
    values = [*TEXTS[:1_500], *TEXTS[:700], TEXTS[1_499]]
    done = filled(tmp_path, values, first)
    assert (done.wanted, done.computed, done.kept) == (2_201, 1_500, 150)
    assert sorted(first.asked) == sorted(TEXTS[:1_500])
    assert read(tmp_path, TEXTS[:3]) == ["text number 0", "TEXT NUMBER 1!0", "TEXT NUMBER 2!0"]
    assert (len(first.prepared), first.closed) == (1, 1)
    again = Shouting()
    assert filled(tmp_path, values, again).computed == 0
    assert (again.asked, again.prepared, again.closed) == ([], [], 0)
    more = Shouting()
    assert filled(tmp_path, TEXTS, more).computed == 1_500
    assert sorted(more.asked) == sorted(TEXTS[1_500:])
    assert sorted(more.prepared[0]) == sorted(TEXTS[1_500:])  # what is to be made


def test_each_copy_is_a_text_of_its_own(tmp_path: Path) -> None:
    assert filled(tmp_path, TEXTS[:20], Shouting(), copies=3).computed == 60
    assert [read(tmp_path, TEXTS[1:2], copy) for copy in range(4)] == [[f"TEXT NUMBER 1!{n}"] for n in range(3)] + [
        [None]
    ]
    assert filled(tmp_path, TEXTS[:20], Shouting(), copies=4).computed == 20


@pytest.fixture
def many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 60 texts, each with a file of its own."""
    monkeypatch.setattr(filling, "_FILE_SECONDS", 0)
    monkeypatch.setattr(filling, "_FIRST_BATCH", 60)
    monkeypatch.setattr(filling, "_MAX_BATCH", 60)


def test_the_bytes_depend_on_nothing_but_the_texts(tmp_path: Path) -> None:
    """At once, and in parts and in another order."""
    assert filled(tmp_path / "once", TEXTS, Shouting()).computed == 3_000
    expected = content(tmp_path / "once")
    (name,) = [name for name in expected if name.endswith(".arrow")]
    filled(tmp_path / "parts", TEXTS[2_000:], Shouting())
    filled(tmp_path / "parts", TEXTS[::-1], Shouting())
    assert content(tmp_path / "parts") == expected
    table = pa.ipc.open_file(tmp_path / "once" / name).read_all()
    assert table["key"].to_pylist() == sorted(copy_keys(text_hashes(TEXTS), 0))
    assert [len(batch) for batch in table.to_batches()] == [2_048, 952]


@pytest.mark.usefixtures("many_files")
def test_fifty_files_are_merged_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never do many lie there, and the end is the same; what lay there half written goes."""
    counts = []
    write = cache.write_texts

    def counted(folder: Path, aside: Path, pieces: Iterable[pa.RecordBatch]) -> Path:
        path = write(folder, aside, pieces)
        counts.append(len(list(folder.glob("*.arrow"))))
        return path

    (tmp_path / "many").mkdir()
    (tmp_path / "many/.writing-elsewhere-1").write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(cache, "write_texts", counted)
        filled(tmp_path / "many", TEXTS, Shouting())
    assert len(counts) == 50 + 2 + 1  # files, merged on the way and at the end
    assert max(counts) == 34  # 33, and the one that 16 of them are merged into
    filled(tmp_path / "once", TEXTS, Shouting())
    assert content(tmp_path / "many") == content(tmp_path / "once")


def test_shards_make_one_cache(tmp_path: Path) -> None:
    """In any order, each text in one of them, all copies of a text in the same."""
    filled(tmp_path / "whole", TEXTS, Shouting(), copies=2)
    asked: list[str] = []
    for number in (2, 0, 1):
        part = Shouting()
        done = filled(tmp_path / "shards", TEXTS, part, Shard(number, 3), copies=2)
        assert done.wanted == done.computed == len(part.asked) == 2 * len(set(part.asked))
        assert 1_600 < done.wanted < 2_400  # 2,000 on average, a standard deviation of 52
        asked += part.asked
    assert sorted(asked) == sorted(TEXTS * 2)
    whole, shards = ((tmp_path / part).glob("*.arrow") for part in ("whole", "shards"))
    assert {path.name: path.read_bytes() for path in whole} == {path.name: path.read_bytes() for path in shards}


def test_what_was_made_before_a_failure_is_kept(tmp_path: Path) -> None:
    class Limited(Shouting):
        def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
            if len(self.asked) >= 400:
                raise UserError("the limit is reached")
            return super().augment(texts, keys, copy)

    limited = Limited()
    with pytest.raises(UserError, match="the limit"):
        filled(tmp_path, TEXTS, limited)
    assert limited.closed == 1
    rest = Shouting()
    assert filled(tmp_path, TEXTS, rest).computed == 3_000 - len(limited.asked)
    assert not set(rest.asked) & set(limited.asked)


def test_batches_grow_to_what_is_worth_the_while(tmp_path: Path) -> None:
    """A method that does its own work gets them alone, one after the other, whatever the number of processes."""

    class Own(Shouting):
        own_workers = True

        def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
            sizes.append(len(texts))
            return super().augment(texts, keys, copy)

    sizes: list[int] = []
    filled(tmp_path, TEXTS, Own(), processes=4)
    assert sizes == [16, 64, 256, 1_024, 1_640]


def test_a_wrong_number_of_texts_is_a_fault(tmp_path: Path) -> None:
    class Short(Shouting):
        def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
            return super().augment(texts, keys, copy)[1:]

    with pytest.raises(RuntimeError, match="Short gave 15 texts for 16"):
        filled(tmp_path, TEXTS, Short())


def test_texts_of_every_kind_come_back(tmp_path: Path) -> None:
    class Same(Augmenter):
        def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
            return [text[::-1] for text in texts]

    nasty = ["", " ", "\0", "a\0b\n\r", "😀🏳️‍🌈 é", "x" * 100_000, "\ufeff", "[]^$\\", "٣"]
    filled(tmp_path, nasty, Same())
    assert read(tmp_path, nasty) == [text[::-1] for text in nasty]


@pytest.mark.usefixtures("many_files")
def test_a_full_disk_is_one_message_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second file finds no room; the first one stays."""
    synced: list[Path] = []

    def full(path: Path) -> None:
        synced.append(path)
        if len(synced) > 2:  # a file and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(store, "sync", full)
        with pytest.raises(UserError, match=r"Expected room and permission .*No space left.*make room") as caught:
            filled(tmp_path, TEXTS, Shouting())
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.glob(".writing-*"))
    assert filled(tmp_path, TEXTS, Shouting()).computed == 3_000 - 60


def test_a_clearing_that_is_killed_is_noted_and_what_it_left_is_no_folder_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"end": "!"}
    folder = configuration_folder(tmp_path, Shouting(), settings, "corpus")
    Cache(folder).describe(settings)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    assert cache.own_folders(tmp_path, Shouting(), settings) == [folder]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(Killed):
            cache.clear(folder)
    first = cache.cleared(folder)
    assert first
    assert cache.own_folders(tmp_path, Shouting(), settings) == []
    (left,) = (path for path in folder.parent.iterdir() if path.name.startswith(".removing-"))
    finish_removing(folder.parent)
    assert not left.exists()
    Cache(folder).describe(settings)
    remove = cache.remove
    meanwhile = []
    monkeypatch.setattr(cache, "remove", lambda path: (meanwhile.append(cache.cleared(path)), remove(path)))
    cache.clear(folder)
    assert len({"", first, *meanwhile, cache.cleared(folder)}) == 4  # tokens made while it is deleted do not count
    assert [path.name for path in folder.parent.iterdir()] == [f"{folder.name}.cleared"]


def test_the_size_of_what_others_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "c").mkdir(parents=True)
        (tmp_path / name / "c/file").write_bytes(b"12345")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if path in (str(tmp_path / "b"), tmp_path / "b"):
            shutil.rmtree(tmp_path / "b", ignore_errors=True)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert size_in_bytes(tmp_path) == 5


def test_a_write_that_the_system_refuses_is_one_message(tmp_path: Path) -> None:
    """The limit on a file's size, as it comes out of Arrow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"Expected room and permission .*File too large"):
            filled(tmp_path, TEXTS, Shouting())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob("*.arrow"))
    assert not list(tmp_path.glob(".writing-*"))
    assert filled(tmp_path, TEXTS, Shouting()).computed == 3_000


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    method = Shouting()
    with pytest.raises(UserError, match=r"Expected room and permission .*set augment.cache_dir to another folder"):
        filled(tmp_path / "file/folder", TEXTS, method)
    assert (method.asked, method.prepared) == ([], [])


def test_a_whole_cache_that_may_only_be_read_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that others share: it is not merged there, and nothing is refused."""
    first, second = filled(tmp_path, TEXTS[:1_000], Shouting()), tmp_path / "of-another"
    filled(second, TEXTS[1_000:], Shouting())
    assert first.computed == 1_000
    for path in second.glob("*.arrow"):
        path.rename(tmp_path / path.name)
    shutil.rmtree(second)
    before = content(tmp_path)
    assert len(Cache(tmp_path)._files) == 2

    def read_only(path: Any, *_: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(cache.os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr(cache.os, "open", read_only)  # as of the lock, before anything is written
    found = filled(tmp_path, TEXTS, Shouting())
    with pytest.raises(UserError, match=r"Expected room and permission .*Read-only file system"):
        filled(tmp_path, [*TEXTS, "a new one"], Shouting())
    assert (found.wanted, found.computed) == (3_000, 0)
    monkeypatch.undo()
    assert content(tmp_path) == before


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    filled(tmp_path, TEXTS, Shouting())
    (path,) = tmp_path.glob("*.arrow")
    for raw in (path.read_bytes()[:-100], b""):
        path.write_bytes(raw)
        with pytest.raises(UserError, match=f"Expected augmented texts in {path}, found the file damaged.*Delete it"):
            Cache(tmp_path)


def test_a_file_that_another_process_merges_away_stays_readable(tmp_path: Path) -> None:
    filled(tmp_path, TEXTS[:10], Shouting())
    reader = Cache(tmp_path)
    filled(tmp_path, TEXTS, Shouting())
    assert reader.texts(copy_keys(text_hashes(TEXTS[1:2]), 0)) == ["TEXT NUMBER 1!0"]
    reader.refresh()
    assert len(reader) == 3_000


def test_the_size_of_a_folder(tmp_path: Path) -> None:
    assert size_in_bytes(tmp_path / "nothing") == 0
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(bytes(7))
    (tmp_path / "a/d").write_bytes(bytes(5))
    assert size_in_bytes(tmp_path) == 12


def run_script(*arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(Path(filling.__file__).parents[2])}
    command = [sys.executable, "-c", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# Fills a cache with texts of 500 characters, and looks all of them up. Writes the peak of resident memory in MB:
# VmHWM, as ru_maxrss begins with what the process that started this one holds.
MEMORY = """
import sys
from pathlib import Path
from uda.augmentation.base import Augmenter
from uda.augmentation.cache import Cache, copy_keys, text_hashes
from uda.augmentation.filling import WHOLE, Texts, fill

class Same(Augmenter):
    def augment(self, texts, keys, copy):
        return list(texts)

def chunks():
    for start in range(0, int(sys.argv[2]), 1_000):
        yield [f"{number} " + 500 * "x" for number in range(start, start + 1_000)], [""] * 1_000

cache = Cache(Path(sys.argv[1]))
fill(cache, Same(), [Texts(0, chunks)], lambda texts, keys: None, 1, WHOLE)
for texts, _ in chunks():
    assert cache.texts(copy_keys(text_hashes(texts), 0)) == texts
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    """All resident memory, mapped files too: 300,000 texts more have 150 MB."""
    outputs = [run_script(MEMORY, str(tmp_path / count), count).communicate()[0] for count in ("60000", "360000")]
    few, many = map(float, outputs)
    assert many - few < 37


# A method that takes 20 ms a batch of 40 texts, each batch with a file of its own.
FILL = """
import sys, time
from pathlib import Path
from uda.augmentation import filling
from uda.augmentation.base import Augmenter
from uda.augmentation.cache import Cache
from uda.augmentation.filling import WHOLE, Texts, fill

filling._FILE_SECONDS = 0
filling._FIRST_BATCH = filling._MAX_BATCH = 40

class Slow(Augmenter):
    def augment(self, texts, keys, copy):
        time.sleep(0.02)
        return [text.upper() for text in texts]

values = [f"text number {number}" for number in range(4_000)]
chunks = lambda: iter([(values, values)])
print("begun", flush=True)
print(fill(Cache(Path(sys.argv[1])), Slow(), [Texts(0, chunks)], lambda texts, keys: None, 1, WHOLE).computed)
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    return run_script(FILL, str(folder))


@pytest.mark.slow
def test_twenty_kills_leave_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    """Each a moment after so many files have come since the start, or before the first one."""
    folder = tmp_path / "killed"
    seed = time.time_ns() % 1_000_000
    rng = random.Random(seed)
    for number in range(20):
        process = start(folder)
        assert process.stdout is not None
        process.stdout.readline()
        known, new, awaited = set(folder.glob("*.arrow")), set(), rng.randint(0, 2)
        while len(new) < awaited and process.poll() is None:
            new |= set(folder.glob("*.arrow")) - known
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"seed {seed}: it was over before kill {number}"
    process = start(folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert 0 < int(out.split()[1]) < 4_000, f"seed {seed}"
    start(tmp_path / "whole").communicate()
    assert content(folder) == content(tmp_path / "whole"), f"seed {seed}"


@pytest.mark.slow
def test_of_two_runs_at_once_one_waits_and_finds_what_the_other_made(tmp_path: Path) -> None:
    processes = [start(tmp_path / "both") for _ in range(2)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted(int(out.split()[1]) for out, _ in outputs) == [0, 4_000]
    start(tmp_path / "whole").communicate()
    assert content(tmp_path / "both") == content(tmp_path / "whole")


def test_what_was_made_before_an_error_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(UserError, match="the money is spent"):
        filled(folder, TEXTS[:20], Paid())
    assert Cache(folder).has(copy_keys(text_hashes(TEXTS[:20]), 0)).tolist() == [True] * 10 + [False] * 10
