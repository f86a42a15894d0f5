"""A cache of augmented texts: what it takes to fill one, and to find it full. Part `cache` of scripts/benchmark.py."""

from pathlib import Path

from benchmark_memory import watched, write_labeled, write_rows

# The number of texts, and how many characters from its end a text has at most.
CORPORA = {"reviews": (75_000, 100_000), "million": (1_000_000, 200)}


def measure_cache(
    texts: list[str], labeled: list[tuple[str, str]], folder: Path, environment: dict[str, str]
) -> dict[str, float]:
    """Seconds of `uda.augment augment=tfidf`, judgement included, and MB that were resident at the highest (VmHWM).

    Of the command's own process; two more replace words where the cache is empty. The texts are made from `texts`, no
    two alike: 75,000 whole reviews, and a million ends of 200 characters, which are to show memory.
    """
    write_labeled(folder / "labeled.csv", labeled)
    found: dict[str, float] = {}
    for name, (count, most_characters) in CORPORA.items():
        path = folder / f"{name}.parquet"
        write_rows(path, texts, count, most_characters)
        for state in ("empty", "full"):
            peak, seconds = _augment(folder, path, environment)
            found |= {f"{name}_{state}_seconds": seconds, f"{name}_{state}_mb": peak}
            print(f"cache: {name}, cache {state}: {seconds:.1f} s, {peak:.0f} MB", flush=True)
    return found


def _augment(folder: Path, unlabeled: Path, environment: dict[str, str]) -> tuple[float, float]:
    settings = ["+experiment=imdb", "data=files", "data.label_names=[neg,pos]", "data.num_labeled=20"]
    settings += [f"data.labeled={folder}/labeled.csv", "data.test_share=0.2", f"data.unlabeled={unlabeled}"]
    settings += ["augment=tfidf", "train.overwrite=true", f"hydra.run.dir={folder / 'run'}"]
    return watched(["-m", "uda.augment", *settings], environment, "VmHWM")
