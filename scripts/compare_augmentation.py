"""Which augmentation pays: the embedded experiment with each, and by strength, run length, labels and kept share.

    python scripts/compare_augmentation.py                       # all parts, one run after another
    python scripts/compare_augmentation.py methods --jobs 2      # one part, two runs at a time, one thread each
    python scripts/compare_augmentation.py --tables              # the tables of what is there

Each run's scores are added to docs/results/augmentation.json when it ends, and what is there is not repeated, so the
comparison can be stopped, and go on elsewhere. Each augmentation is made first by `uda.augment`, whose seconds and
judgement are kept too.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path("docs/results/augmentation.json")
APERTIUM = ["augment=apertium"]
MILD = ["augment=tfidf_mild"]
METHODS: dict[str, list[str]] = {
    "none": ["augment=none"],
    "tfidf_mild": MILD,
    "tfidf": ["augment=tfidf"],
    "eda": ["augment=eda"],
    "apertium, spa": APERTIUM,
    "apertium, spa or cat": [*APERTIUM, "augment.pivot=[spa,cat]", "augment.num_copies=2"],
    "mix of tfidf_mild and eda": ["augment=mix"],
}
_THREE = {"none": METHODS["none"], "tfidf_mild": MILD, "apertium, spa": APERTIUM}


def _crossed(setting: str, values: list[Any]) -> dict[str, list[str]]:
    return {
        f"{name}, {setting}={value}": [*overrides, f"{setting}={value}"]
        for value in values
        for name, overrides in _THREE.items()
    }


PARTS: dict[str, dict[str, list[str]]] = {
    "methods": METHODS,
    "strength": {
        f"tfidf_mild, augment.probability={value}": [*MILD, f"augment.probability={value}"] for value in (0.1, 0.5)
    },
    "length": _crossed("train.num_steps", [62]),
    "labels": _crossed("data.num_labeled", [100]),
    "kept_share": _crossed("objective.kept_share", [0.25, 0.9]),
}


@dataclass(frozen=True)
class Job:
    """One run of `uda.train`."""

    part: str
    name: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.name}, seed={self.seed}"

    @property
    def overrides(self) -> list[str]:
        return PARTS[self.part][self.name]


class Results:
    """The file of results, which is written after each run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.found: dict[str, dict[str, Any]] = {"runs": {}, "augmentations": {}}
        if RESULTS.is_file():
            self.found = json.loads(RESULTS.read_text())

    def add(self, kind: str, key: str, result: dict[str, Any]) -> None:
        with self._lock:
            self.found[kind][key] = {**result, "machine": _machine()}
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            aside = RESULTS.with_suffix(".writing")
            aside.write_text(json.dumps(self.found, indent=1, sort_keys=True) + "\n")
            aside.replace(RESULTS)


def _machine() -> str:
    """The processor's name, and how many there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}"


def call(module: str, overrides: list[str], folder: Path, threads: int | None) -> dict[str, Any] | None:
    """metrics.json of a command that has run; None, and its last words on standard error, where it failed."""
    command = [sys.executable, "-m", module, "+experiment=imdb", *overrides, f"hydra.run.dir={folder}"]
    environment = {**os.environ, "UDA_CACHE": str(folder.parent / "cache")}  # where nothing was made before
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    print("running", " ".join(command[1:]), flush=True)
    done = subprocess.run(command, env=environment, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"failed with {done.returncode}: {done.stderr[-2000:]}", file=sys.stderr, flush=True)
        return None
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def augment(overrides: list[str], classifier: Path | None, outputs: Path, results: Results) -> None:
    """Fill the cache with an augmentation and judge it, unless that is in the results."""
    mine = [override for override in overrides if override.startswith("augment")]
    key = " ".join(mine)
    if key in results.found["augmentations"]:
        return
    folder = outputs / f"augment-{len(results.found['augmentations'])}"
    judge = [] if classifier is None else [f"run={classifier}"]
    metrics = call("uda.augment", [*mine, *judge], folder, None)
    if metrics is not None:
        kept = ("texts", "computed", "kept_as_original", "seconds", "texts_per_second")
        judgement = metrics["judgement"]
        for name in ("length_ratio", "word_overlap", "word_edit_distance"):
            judgement[name] = judgement[name]["mean"]
        results.add("augmentations", key, {"judgement": judgement, **{name: metrics[name] for name in kept}})


def train(job: Job, outputs: Path, results: Results, threads: int | None) -> None:
    """One run, unless it is in the results."""
    if job.key in results.found["runs"]:
        return
    folder = outputs / job.key.replace(", ", "-").replace(" ", "_")
    overrides = [*job.overrides, f"seed={job.seed}", "train.eval_every=null"]
    done = folder / "metrics.json"  # of a run that was finished when this script was stopped
    metrics = json.loads(done.read_text()) if done.is_file() else call("uda.train", overrides, folder, threads)
    if metrics is not None:
        scores = {name: metrics["final"][name] for name in ("accuracy", "nll", "ece")}
        results.add("runs", job.key, {"overrides": overrides, **scores, "seconds": metrics["seconds"]})


def table(part: str, seeds: list[int], results: Results) -> str:
    """Markdown: a row a configuration, a column a seed, mean, sample standard deviation, NLL, what the texts took."""
    head = ["run", *(f"seed {seed}" for seed in seeds), "mean ± sd", "NLL", "s to make", "unchanged", "word overlap"]
    head.append("label changed")
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for name, overrides in PARTS[part].items():
        found = [results.found["runs"].get(Job(part, name, seed).key) for seed in seeds]
        values = [100 * run["accuracy"] for run in found if run]
        nll = [run["nll"] for run in found if run]
        cells = [f"{100 * run['accuracy']:.2f}" if run else "" for run in found]
        spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
        cells += [f"{np.mean(values):.2f}{spread}" if values else "", f"{np.mean(nll):.2f}" if nll else ""]
        key = " ".join(override for override in overrides if override.startswith("augment"))
        made = results.found["augmentations"].get(key)
        cells += [f"{made['seconds']:.0f}", *_judged(made["judgement"])] if made else [""] * 4
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _judged(judgement: dict[str, Any]) -> list[str]:
    agreement = judgement.get("label_agreement")
    shares = [judgement["unchanged"], None if agreement is None else agreement["disagreement"]]
    unchanged, changed = ("" if share is None else f"{100 * share:.1f} %" for share in shares)
    return [unchanged, f"{judgement['word_overlap']:.2f}", changed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="runs of these names alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each if more than 1")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/augmentation"))
    parser.add_argument("--classifier", type=Path, help="a finished run that says which pairs keep their label")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"expected parts of {', '.join(PARTS)}, found {', '.join(unknown)}")
    parts, results = options.parts or list(PARTS), Results()
    # Seed after seed, so that what is stopped early has compared all of them.
    jobs = [Job(part, name, seed) for part in parts for seed in options.seeds for name in PARTS[part]]
    jobs = [job for job in jobs if not options.only or job.name in options.only]
    if not options.tables:
        for job in jobs:
            augment(job.overrides, options.classifier, options.outputs, results)
        threads = 1 if options.jobs > 1 else None
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda job: train(job, options.outputs, results, threads), jobs))
    for part in parts:
        print(f"\n{part}\n\n{table(part, options.seeds, results)}")


if __name__ == "__main__":
    main()
