"""Which augmentation pays: the embedded experiment with each, and by strength, run length, labels and kept share.

    python scripts/compare_augmentation.py                       # all parts, one run after another
    python scripts/compare_augmentation.py methods --jobs 2      # one part, two runs at a time, one thread each
    python scripts/compare_augmentation.py --tables              # the tables of what is there

Each run's scores are added to docs/results/augmentation.json when it ends, and what is there is not repeated, so the
comparison can be stopped, and go on elsewhere. Each augmentation is made first by `uda.augment`, whose seconds and
judgement are kept too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from comparison import Job, Results, arguments, chosen, mean_and_spread, table, train_all, training_arguments

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
    "length": _crossed("train.num_steps", [62, 512]),
    "labels": _crossed("data.num_labeled", [100]),
    "kept_share": _crossed("objective.kept_share", [0.25, 0.9]),
}


def augment(overrides: list[str], classifier: Path | None, outputs: Path, results: Results) -> None:
    """Fill the cache with an augmentation and judge it, unless that is in the results."""
    mine = [override for override in overrides if override.startswith("augment")]
    key = " ".join(mine)
    if key in results.found["augmentations"]:
        return
    folder = outputs / f"augment-{len(results.found['augmentations'])}"
    judge = [] if classifier is None else [f"run={classifier}"]
    command = [sys.executable, "-m", "uda.augment", "+experiment=imdb", *mine, *judge, f"hydra.run.dir={folder}"]
    print("running", " ".join(command[1:]), flush=True)
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"failed with {done.returncode}: {done.stderr[-2000:]}", file=sys.stderr, flush=True)
        return
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    kept = ("texts", "computed", "kept_as_original", "seconds", "texts_per_second")
    judgement = metrics["judgement"]
    for name in ("length_ratio", "word_overlap", "word_edit_distance"):
        judgement[name] = judgement[name]["mean"]
    results.add("augmentations", key, {"judgement": judgement, **{name: metrics[name] for name in kept}})


def jobs_named(name: str, overrides: Iterable[str], seeds: Iterable[int]) -> list[Job]:
    """A run with each seed."""
    return [Job(name, seed, ("+experiment=imdb", *overrides)) for seed in seeds]


def rows_of(part: str, seeds: list[int], results: Results) -> dict[str, list[Any]]:
    """A row for each configuration: accuracy of each seed, mean and spread, NLL, what its texts took and are like."""
    rows = {}
    for name, overrides in PARTS[part].items():
        jobs = jobs_named(name, overrides, seeds)
        scores = results.scores(jobs)
        nll = [value for value in results.scores(jobs, "nll") if value is not None]
        cells = ["" if score is None else f"{100 * score:.2f}" for score in scores]
        cells += [mean_and_spread(scores), f"{sum(nll) / len(nll):.2f}" if nll else ""]
        key = " ".join(override for override in overrides if override.startswith("augment"))
        made = results.found["augmentations"].get(key)
        rows[name] = [*cells, *([f"{made['seconds']:.0f}", *_judged(made["judgement"])] if made else [""] * 4)]
    return rows


def _judged(judgement: dict[str, Any]) -> list[str]:
    agreement = judgement.get("label_agreement")
    shares = [judgement["unchanged"], None if agreement is None else agreement["disagreement"]]
    unchanged, changed = ("" if share is None else f"{100 * share:.1f} %" for share in shares)
    return [unchanged, f"{judgement['word_overlap']:.2f}", changed]


def main() -> None:
    parser = arguments(__doc__, PARTS, [0, 1, 2], "outputs/augmentation")
    training_arguments(parser)
    parser.add_argument("--classifier", type=Path, help="a finished run that says which pairs keep their label")
    options = parser.parse_args()
    parts, results = chosen(options, parser, PARTS), Results(RESULTS, ("runs", "augmentations"))
    os.environ["UDA_CACHE"] = str((options.outputs / "cache").resolve())  # where nothing was made before
    # Seed after seed, so that what is stopped early has compared all of them.
    names = [(part, name) for part in parts for name in PARTS[part] if not options.only or name in options.only]
    jobs = [job for part, name in names for job in jobs_named(name, PARTS[part][name], options.seeds)]
    jobs.sort(key=lambda job: job.seed)
    if not options.tables:
        for part, name in names:
            augment(PARTS[part][name], options.classifier, options.outputs, results)
        train_all(jobs, options.outputs, results, options.jobs)
    columns = [*(f"seed {seed}" for seed in options.seeds), "mean ± sd", "NLL", "s to make", "unchanged"]
    for part in parts:
        rows = rows_of(part, options.seeds, results)
        print(f"\n{part}\n\n{table(rows, [*columns, 'word overlap', 'label changed'])}")


if __name__ == "__main__":
    main()
