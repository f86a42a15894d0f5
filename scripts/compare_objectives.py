"""Which objective is best with few labels: all of them on IMDb and 20 Newsgroups, by label count, and after adaptation.

    python scripts/compare_objectives.py                          # all parts, one run after another: many hours
    python scripts/compare_objectives.py imdb --jobs 2            # one part, two runs at a time, one thread each
    python scripts/compare_objectives.py --tables                 # the tables of what is there

Each run's scores are added to docs/results/objectives.json when it ends, and what is there is not repeated, so the
comparison can be stopped, and go on elsewhere. Every run of a part has the same encoder, the same draws of labels, the
same test rows, the same number of steps and the same start from label descriptions.

Rows named as an objective are its yaml as shipped; "+ start" adds what helps a weak start, where the method's paper
does not define it: steps on labelled rows alone, and a slow teacher.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Job, Results, arguments, chosen, mean_and_spread, table, train_all
from scipy import stats

RESULTS = Path("docs/results/objectives.json")
BASELINE = "uda_weak_start"
START = ["objective.supervised_steps=12", "objective.teacher_decay=0.98"]
_METHODS = ("pseudo_label", "fixmatch", "flexmatch", "freematch", "softmatch", "adamatch", "mean_teacher")
_WEAK = "objective=uda_weak_start"
OBJECTIVES: dict[str, list[str]] = {
    "supervised": ["objective=supervised"],
    "uda": ["objective=uda"],
    BASELINE: [_WEAK],
    **{name: [f"objective={name}"] for name in _METHODS},
    **{f"{name} + start": [f"objective={name}", *START] for name in ("uda", *_METHODS)},
}
# What might make the default better: each changes one thing of it, the last ones what together looked best.
IDEAS: dict[str, list[str]] = {
    "share widens to 0.9": [_WEAK, "objective.kept_share_end=0.9"],
    "share 0.4 widens to 0.95": [_WEAK, "objective.kept_share=0.4", "objective.kept_share_end=0.95"],
    "hard targets": [_WEAK, "objective.targets=hard", "objective.temperature=null"],
    "temperature 0.7": [_WEAK, "objective.temperature=0.7"],
    "teacher decay 0.99": [_WEAK, "objective.teacher_decay=0.99"],
    "coefficient 2": [_WEAK, "objective.coefficient=2"],
    "rate 6e-5": [_WEAK, "train.learning_rate=6e-5"],
    "40 supervised steps": [_WEAK, "objective.supervised_steps=40", "train.num_steps=240"],
    "memory of 2048 rows": [_WEAK, "objective.memory_rows=2048"],
    "no augmentation": [_WEAK, "augment=none"],
    "dropout 0": [_WEAK, "model.dropout=0"],
}
ADAPTED = Path("outputs/objectives/adapted")  # encoders, by the steps of `uda.adapt`
_ADAPTED_STEPS = (100, 500, 2000)
_COUNTS = {"imdb": (4, 10, 20, 100, 1000), "newsgroups": (40, 100, 200, 1000)}
_BY_LABELS = {name: OBJECTIVES[name] for name in ("supervised", BASELINE, "freematch + start", "softmatch + start")}


def _labels(experiment: str) -> dict[str, list[str]]:
    return {
        f"{name}, {count} labels": [*overrides, f"data.num_labeled={count}"]
        for count in _COUNTS[experiment]
        for name, overrides in _BY_LABELS.items()
    }


def _adapted() -> dict[str, list[str]]:
    return {
        f"{name}, {steps} steps of adaptation": [*OBJECTIVES[name], f"model.name_or_path={ADAPTED}/{steps}/model"]
        for steps in _ADAPTED_STEPS
        for name in ("supervised", BASELINE)
    }


# Part: the experiment, its runs, and whose mean the others are compared with.
PARTS: dict[str, tuple[str, dict[str, list[str]], str | None]] = {
    "imdb": ("imdb", OBJECTIVES, BASELINE),
    "newsgroups": ("newsgroups", OBJECTIVES, BASELINE),
    "imdb-ideas": ("imdb", {BASELINE: [_WEAK], **IDEAS}, BASELINE),
    "newsgroups-ideas": ("newsgroups", {BASELINE: [_WEAK], **IDEAS}, BASELINE),
    "imdb-adapted": ("imdb", {BASELINE: [_WEAK], **_adapted()}, BASELINE),
    "imdb-labels": ("imdb", _labels("imdb"), None),
    "newsgroups-labels": ("newsgroups", _labels("newsgroups"), None),
}


def jobs_of(part: str, seeds: list[int], only: list[str]) -> list[Job]:
    """The runs of a part."""
    experiment, runs, _ = PARTS[part]
    return [
        Job(f"{experiment}: {name}", seed, (f"+experiment={experiment}", *overrides))
        for seed in seeds
        for name, overrides in runs.items()
        if not only or name in only
    ]


def adapt() -> None:
    """The encoders that `imdb-adapted` starts from, where they are missing."""
    for steps in _ADAPTED_STEPS:
        if not (ADAPTED / str(steps) / "metrics.json").is_file():
            command = [sys.executable, "-m", "uda.adapt", "+experiment=imdb", f"adapt.num_steps={steps}"]
            subprocess.run([*command, f"hydra.run.dir={ADAPTED / str(steps)}"], check=True)


def paired_difference(values: list[float | None], others: list[float | None]) -> str:
    """The mean difference over the draws that both have, in points, with its 95 % interval (paired t)."""
    pairs = [
        (mine, other) for mine, other in zip(values, others, strict=True) if mine is not None and other is not None
    ]
    if len(pairs) < 2:
        return ""
    differences = 100 * np.array([mine - other for mine, other in pairs])
    if not differences.any():
        return "0"
    half = stats.t.ppf(0.975, len(pairs) - 1) * differences.std(ddof=1) / np.sqrt(len(pairs))
    return f"{differences.mean():+.2f} ({differences.mean() - half:+.2f} to {differences.mean() + half:+.2f})"


def rows_of(part: str, seeds: list[int], results: Results) -> dict[str, list[Any]]:
    """A row a run: accuracy (mean, spread, the worst draw), macro-F1, difference to the baseline, seconds."""
    experiment, runs, baseline = PARTS[part]
    reference = results.scores(f"{experiment}: {baseline}", seeds)
    rows = {}
    for name in runs:
        values = results.scores(f"{experiment}: {name}", seeds)
        there = [value for value in values if value is not None]
        if not there:
            continue
        others = (results.scores(f"{experiment}: {name}", seeds, score) for score in ("macro_f1", "seconds"))
        macro_f1, seconds = ([value for value in found if value is not None] for found in others)
        rows[name] = [
            mean_and_spread(values),
            f"{100 * min(there):.2f}",
            f"{100 * np.mean(macro_f1):.2f}",
            paired_difference(values, reference) if name != baseline else "",
            f"{np.mean(seconds):.0f}",
        ]
    return rows


def main() -> None:
    parser = arguments(__doc__, PARTS, [0, 1, 2, 3, 4], "outputs/objectives")
    options = parser.parse_args()
    parts, results = chosen(options, parser, PARTS), Results(RESULTS)
    if not options.tables:
        os.environ.setdefault("UDA_CACHE", str((options.outputs / "cache").resolve()))
        if "imdb-adapted" in parts:
            adapt()
        jobs = [job for part in parts for job in jobs_of(part, options.seeds, options.only)]
        # Seed after seed, so that what is stopped early has compared all of them.
        jobs = sorted(dict.fromkeys(jobs), key=lambda job: job.seed)
        train_all(jobs, options.outputs, results, options.jobs)
    for part in parts:
        columns = ["accuracy", "worst draw", "macro-F1", f"points against {PARTS[part][2] or 'none'} (95 %)", "seconds"]
        print(f"\n{part}\n\n{table(rows_of(part, options.seeds, results), columns)}")


if __name__ == "__main__":
    main()
