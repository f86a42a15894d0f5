"""Anonymous memory and seconds to the first step of training on many unlabelled rows, against on few."""

import csv
import itertools
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

_FEW = 10_000
_WARM = 3
_ROWS_AT_A_TIME = 20_000
_CHARACTERS = 700  # the end of a review: it has as many of the 128 tokens as the whole


def measure(
    texts: list[str], labeled: list[tuple[str, str]], folder: Path, environment: dict[str, str], num_rows: int
) -> dict[str, float]:
    """An empty cache once and filled caches `_WARM` times in turn, on `_FEW` and on `num_rows` perturbed texts.

    labeled: rows with their labels, of which every second one is a test row. MB of RssAnon at its highest over the
    whole process, which reads the rows, tokenizes them where the cache is empty, and trains for 32 steps; medians of
    the starts with filled caches.
    """
    for name, rows in (("labeled", labeled[::2]), ("test", labeled[1::2])):
        write_labeled(folder / f"{name}.csv", rows)
    files = {name: folder / f"{name}.parquet" for name in ("few", "many")}
    found: dict[str, float] = {}
    for name, count in (("few", _FEW), ("many", num_rows)):
        write_rows(files[name], texts, count, _CHARACTERS)
        peak, seconds = _train(folder, files[name], environment)
        found |= {f"{name}_cold_mb": peak, f"{name}_cold_first_step_seconds": seconds}
        print(f"memory: {name}, caches empty: {peak:.0f} MB, first step after {seconds:.1f} s", flush=True)
    starts = [(name, *_train(folder, files[name], environment)) for _ in range(_WARM) for name in files]
    for name in files:
        found[f"{name}_warm_mb"] = median(peak for one, peak, _ in starts if one == name)
        found[f"{name}_warm_first_step_seconds"] = median(seconds for one, _, seconds in starts if one == name)
    return found


def write_rows(path: Path, texts: list[str], count: int, most_characters: int) -> None:
    """So many rows, no two alike: ends of reviews, with the row's number as a word somewhere."""
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        made = _perturbed(texts, count, most_characters)
        while rows := list(itertools.islice(made, _ROWS_AT_A_TIME)):
            writer.write_batch(pa.record_batch([pa.array(rows, pa.string())], schema=schema))


def _perturbed(texts: list[str], count: int, most_characters: int) -> Iterator[str]:
    ends = [text[-most_characters:] for text in texts]
    generator = random.Random(0)
    for number in range(count):
        text = ends[number % len(ends)]
        place = text.find(" ", generator.randrange(len(text))) % len(text)
        yield f"{text[:place]} {number}{text[place:]}"


def write_labeled(path: Path, rows: list[tuple[str, str]]) -> None:
    """A CSV file of texts and labels."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def _train(folder: Path, unlabeled: Path, environment: dict[str, str]) -> tuple[float, float]:
    """MB of RssAnon at its highest, and seconds from the command to the first step."""
    settings = ["+experiment=imdb", "data=files", "data.label_names=[neg,pos]", "data.num_labeled=20"]
    settings += [f"data.{name}={folder / name}.csv" for name in ("labeled", "test")]
    settings += [f"data.unlabeled={unlabeled}", "data.max_length=128", "augment=none", "train.num_steps=32"]
    settings += ["train.log_every=1", "train.eval_every=null", "train.overwrite=true"]
    settings += [f"hydra.run.dir={folder / 'run'}"]
    return watched(["-m", "uda.train", *settings], environment, "RssAnon", until="step 1/")


def watched(arguments: list[str], environment: dict[str, str], memory: str, until: str = "") -> tuple[float, float]:
    """Run Python: MB of its `memory` (a line of /proc/PID/status) at its highest, and the seconds it took.

    until: the seconds are those to the first line with this on standard error.
    """
    started = time.perf_counter()
    job = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, text=True, env=environment)
    peaks = [0.0]

    def watch() -> None:
        while job.poll() is None:
            peaks.append(_megabytes(job.pid, memory))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert job.stderr is not None
    seconds, said = 0.0, []
    for line in job.stderr:
        said.append(line)
        if until and not seconds and until in line:
            seconds = time.perf_counter() - started
    if job.wait():
        raise RuntimeError("".join(said[-20:]))
    seconds = seconds or time.perf_counter() - started
    watcher.join()
    return max(peaks), seconds


def _megabytes(process: int, memory: str) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has just ended
        return 0.0
    found = re.search(rf"{memory}:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
