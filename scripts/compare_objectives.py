"""Which objective is best with few labels: all of them on IMDb and 20 Newsgroups, by label count, and after adaptation.

    python scripts/compare_objectives.py                          # all parts, one run after another: many hours
    python scripts/compare_objectives.py imdb --jobs 2            # one part, two runs at a time, one thread each
    python scripts/compare_objectives.py --tables >docs/results.md    # the tables of what is there

Each run's scores are added to docs/results/objectives.json when it ends, and what is there is not repeated, so the
comparison can be stopped, and go on elsewhere. Every run of a part has the same encoder, the same draws of labels, the
same test rows, the same number of steps and the same start from label descriptions.

Rows named as an objective are its yaml as shipped; "+ start" adds what helps a weak start, where the method's paper
does not define it: steps on labelled rows alone, and a slow teacher.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Job, Results, arguments, chosen, mean_and_spread, table, train_all, training_arguments
from scipy import stats

RESULTS = Path("docs/results/objectives.json")
ADAPTED = Path("outputs/objectives/adapted")  # encoders, by the steps of `uda.adapt`
_ADAPTED_STEPS = (100, 500, 2000)
_METHODS = ("pseudo_label", "fixmatch", "flexmatch", "freematch", "softmatch", "adamatch", "mean_teacher")
# Of each experiment: UDA as made for it, the run that is its default (newsgroups: objective=softmatch_weak_start), the
# steps on labelled rows alone, and the label counts that are compared.
UDA = {"imdb": "uda_weak_start", "newsgroups": "uda_topics"}
DEFAULTS = {"imdb": "uda_weak_start", "newsgroups": "softmatch + start"}
_START = {"imdb": 12, "newsgroups": 40}
_COUNTS = {"imdb": (4, 20, 100, 1000), "newsgroups": (40, 100, 200, 1000)}
_OWN_COUNT = {"imdb": 20, "newsgroups": 200}  # whose runs are those of the parts `imdb` and `newsgroups`
IMAGES = Path("docs/images")

# What `scripts/compare_baselines.py` adds to the same results.
BASELINES = [
    f"{name}{described}"
    for name in (
        "logistic regression",
        "logistic regression, 128 tokens",
        "self-training, above 0.75",
        "self-training, ten rounds of 5 %",
        "SetFit",
        "SetFit, undersampling",
    )
    for described in ("", " + descriptions")
]

Runs = dict[str, list[str]]

_FLOOR = "logistic regression + descriptions"
_WHY = {  # a run's name, as a pattern: why it failed
    "pseudo_label": (
        "a weak start's sure answers are mostly of one class, nothing evens them out, and it learns them; "
        "steps on labelled rows first and a slow teacher mend it (`+ start`)"
    ),
    "self-training, ten rounds.*": "each round adds the surest texts of any class, so few classes take them all",
    "self-training, above.*": "no text is above 0.75, so none is added: it is logistic regression",
    "SetFit(, undersampling)?": "without the descriptions its pairs teach little that the frozen encoder has not",
    "supervised, .* of adaptation": "the masked language model's task takes away what the descriptions start from",
}

_HEAD = """# Results: objectives compared

Accuracy in per cent, mean ± sample standard deviation over draws of the labelled rows (how many, where some are
missing), on the test rows of the two embedded experiments. On a GPU a repeated run differs by about 0.1 to 0.3 points;
of one draw of `imdb`'s default, different machines' runs by up to 0.8.
Seconds are means of runs that shared the machine with others, up to 18 on a GPU. Measured on:
{machines}.

"+ start": with steps on labelled rows alone first, and a slow teacher. Differences are over the draws that both runs
have, from three on with their paired t interval; of runs by number of labels, to the default with as many. Choices made
by these tables are made on test rows, so the best row's figure is optimistic. Logistic regression, self-training (both
scikit-learn's, on embeddings of the frozen encoder) and SetFit are what one would pick instead, on the same draws, by
`python scripts/compare_baselines.py`; they read 256 tokens from a text's start. The others, and the rows that say so,
read the experiment's 128: of reviews those at the end, of posts those at the start. What follows from it all:
`docs/choosing.md`; other measurements of IMDb: `docs/imdb.md`. Written by

    python scripts/compare_objectives.py --tables >docs/results.md

from `docs/results/objectives.json`; the same command without `--tables` goes on where the runs were stopped."""
_TITLES = {
    "imdb": "IMDb, 20 labels",
    "newsgroups": "20 Newsgroups, 200 labels",
    "imdb-ideas": "IMDb: one change each to `uda_weak_start`",
    "newsgroups-ideas": "20 Newsgroups: one change each to `uda_topics`",
    "imdb-adapted": "IMDb, the encoder adapted to the reviews first (`uda.adapt`)",
    "imdb-labels": "IMDb by number of labels",
    "newsgroups-labels": "20 Newsgroups by number of labels",
}


def _objectives(experiment: str) -> Runs:
    start = [f"objective.supervised_steps={_START[experiment]}", "objective.teacher_decay=0.98"]
    return {
        **{name: [f"objective={name}"] for name in ("supervised", UDA[experiment], "uda", *_METHODS)},
        **{f"{name} + start": [f"objective={name}", *start] for name in ("uda", *_METHODS)},
    }


def _ideas(experiment: str) -> Runs:
    """What might make UDA better: each changes one thing of it."""
    changes = {
        "share widens to 0.9": ["objective.kept_share_end=0.9"],
        "share 0.4 widens to 0.95": ["objective.kept_share=0.4", "objective.kept_share_end=0.95"],
        "share 0.75": ["objective.kept_share=0.75"],
        "hard targets": ["objective.targets=hard", "objective.temperature=null"],
        "temperature 0.7": ["objective.temperature=0.7"],
        "no sharpening": ["objective.temperature=null"],
        "teacher decay 0.99": ["objective.teacher_decay=0.99"],
        "coefficient 2": ["objective.coefficient=2"],
        "twice the rate": [f"train.learning_rate={ {'imdb': 6e-5, 'newsgroups': 1e-4}[experiment] }"],
        "memory of 4096 rows": ["objective.memory_rows=4096"],
        "no augmentation": ["augment=none"],
        "dropout 0": ["model.dropout=0"],
    }
    own = f"objective={UDA[experiment]}"
    return {UDA[experiment]: [own], **{name: [own, *more] for name, more in changes.items()}}


def _adapted() -> Runs:
    runs = _objectives("imdb")
    return {
        **{name: runs[name] for name in ("supervised", DEFAULTS["imdb"])},
        **{
            f"{name}, {steps} steps of adaptation": [*runs[name], f"model.name_or_path={ADAPTED}/{steps}/model"]
            for steps in _ADAPTED_STEPS
            for name in ("supervised", DEFAULTS["imdb"])
        },
    }


def _labels(experiment: str) -> Runs:
    runs = _objectives(experiment)
    return {
        _at_count(experiment, name, count): [
            *runs[name],
            *([] if count == _OWN_COUNT[experiment] else [f"data.num_labeled={count}"]),
        ]
        for count in _COUNTS[experiment]
        for name in _labels_methods(experiment)
    }


def _at_count(experiment: str, name: str, count: int) -> str:
    """The name of a run with so many labels."""
    return name if count == _OWN_COUNT[experiment] else f"{name}, {count} labels"


def _labels_methods(experiment: str) -> list[str]:
    """Supervised, UDA, FreeMatch and the default, once each."""
    return list(dict.fromkeys(("supervised", UDA[experiment], DEFAULTS[experiment], "freematch + start")))


def plot_labels(experiment: str, seeds: list[int], results: Results, path: Path) -> bool:
    """The test error over the number of labels, mean and sample standard deviation; False where no run has another
    number than the experiment's own.
    """
    from matplotlib.figure import Figure

    figure = Figure((6, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    several = False
    runs = _labels(experiment)
    for name in _labels_methods(experiment):
        points = []
        for count in _COUNTS[experiment]:
            run = _at_count(experiment, name, count)
            scores = results.scores(jobs_named(experiment, run, runs[run], seeds))
            errors = [100 * (1 - score) for score in scores if score is not None]
            if errors:
                points.append((count, np.mean(errors), np.std(errors, ddof=1) if len(errors) > 1 else 0.0))
        if points:
            several |= len(points) > 1
            axes.errorbar(*np.transpose(points), marker="o", capsize=3, label=name)  # type: ignore[misc]
    counts = _COUNTS[experiment]
    axes.set(xscale="log", xlabel="labelled rows", ylabel="test error, %", title=_TITLES[f"{experiment}-labels"])
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.legend(frameon=False)
    if several:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return several


# Part: the experiment and its runs.
PARTS: dict[str, tuple[str, Runs]] = {
    **{name: (name, _objectives(name)) for name in DEFAULTS},
    **{f"{name}-ideas": (name, _ideas(name)) for name in DEFAULTS},
    "imdb-adapted": ("imdb", _adapted()),
    **{f"{name}-labels": (name, _labels(name)) for name in DEFAULTS},
}


def jobs_of(part: str, seeds: list[int], only: list[str]) -> list[Job]:
    """The runs of a part."""
    experiment, runs = PARTS[part]
    named = {name: overrides for name, overrides in runs.items() if not only or name in only}
    return [job for name, overrides in named.items() for job in jobs_named(experiment, name, overrides, seeds)]


def jobs_named(experiment: str, name: str, overrides: Iterable[str], seeds: Iterable[int]) -> list[Job]:
    """A run with each seed."""
    return [Job(f"{experiment}: {name}", seed, (f"+experiment={experiment}", *overrides)) for seed in seeds]


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
    if not pairs:
        return ""
    differences = 100 * np.array([mine - other for mine, other in pairs])
    if len(pairs) < 3:
        return f"{differences.mean():+.2f}"
    half = stats.t.ppf(0.975, len(pairs) - 1) * differences.std(ddof=1) / np.sqrt(len(pairs))
    return f"{differences.mean():+.2f} ({differences.mean() - half:+.2f} to {differences.mean() + half:+.2f})"


def baseline_of(part: str) -> str:
    """The run that those of a part are compared with: the experiment's default, for changes to UDA what they change."""
    return (UDA if part.endswith("-ideas") else DEFAULTS)[PARTS[part][0]]


def rows_of(part: str, seeds: list[int], results: Results) -> dict[str, list[Any]]:
    """A row a run: accuracy (mean, spread, the worst draw), macro-F1, difference to the baseline, seconds."""
    experiment, runs = PARTS[part]
    own = baseline_of(part)
    known = {own: _objectives(experiment)[own], **runs}
    rows = {}
    for name, overrides in {**runs, **({key: [] for key in BASELINES} if part == experiment else {})}.items():
        jobs = jobs_named(experiment, name, overrides, seeds)
        values = results.scores(jobs)
        there = [value for value in values if value is not None]
        if not there:
            continue
        # Of runs by label count, the default with as many labels.
        baseline = f"{own}, {name.partition(', ')[2]}" if part.endswith("-labels") and ", " in name else own
        reference = results.scores(jobs_named(experiment, baseline, known[baseline], seeds))
        macro_f1 = [value for value in results.scores(jobs, "macro_f1") if value is not None]
        rows[name] = [
            mean_and_spread(values),
            f"{100 * min(there):.2f}",
            f"{100 * np.mean(macro_f1):.2f}",
            paired_difference(values, reference) if name != baseline else "",
            *_seconds(results, jobs),
        ]
    return rows


def _seconds(results: Results, jobs: list[Job]) -> tuple[str, str]:
    """The mean seconds of the runs on CPUs, and of those on GPUs; empty where there was none."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for seconds, where in zip(results.scores(jobs, "seconds"), results.scores(jobs, "machine"), strict=True):
        if seconds is not None:
            found[" x " in where].append(seconds)
    on_cpus, on_gpus = (f"{np.mean(found[kind]):.0f}" if found[kind] else "" for kind in (True, False))
    return on_cpus, on_gpus


def failures(parts: Iterable[str], seeds: list[int], results: Results) -> dict[str, list[Any]]:
    """Runs of which a draw ended below logistic regression on the frozen encoder: how many draws, the worst, and why.

    That regression has the label descriptions too, as every objective has.
    """
    rows = {}
    for part in parts:
        experiment, runs = PARTS[part]
        if part.endswith("-labels"):  # fewer labels than that regression has
            continue
        floor = results.scores(jobs_named(experiment, _FLOOR, [], seeds))
        baselines = {name: [] for name in BASELINES if not name.startswith("logistic")} if part == experiment else {}
        for name, overrides in {**runs, **baselines}.items():
            values = results.scores(jobs_named(experiment, name, overrides, seeds))
            pairs = [(mine, least) for mine, least in zip(values, floor, strict=True) if None not in (mine, least)]
            if below := [mine for mine, least in pairs if mine < least]:
                why = next((why for pattern, why in _WHY.items() if re.fullmatch(pattern, name)), "")
                rows[f"{experiment}: {name}"] = [f"{len(below)} of {len(pairs)}", f"{100 * min(below):.2f}", why]
    return rows


def main() -> None:
    parser = arguments(__doc__, PARTS, [0, 1, 2, 3, 4], "outputs/objectives")
    training_arguments(parser)
    options = parser.parse_args()
    parts, results = chosen(options, parser, {part: runs for part, (_, runs) in PARTS.items()}), Results(RESULTS)
    if not options.tables:
        os.environ.setdefault("UDA_CACHE", str((options.outputs / "cache").resolve()))
        jobs = [job for part in parts for job in jobs_of(part, options.seeds, options.only)]
        if any(str(ADAPTED) in " ".join(job.overrides) and not results.has(job) for job in jobs):
            adapt()
        # Seed after seed, so that what is stopped early has compared all of them.
        jobs = sorted(dict.fromkeys(jobs), key=lambda job: job.seed)
        train_all(jobs, options.outputs, results, options.jobs)
    print(_HEAD.format(machines=", ".join(sorted({run["machine"] for run in results.found["runs"].values()}))))
    for part in parts:
        rows = rows_of(part, options.seeds, results)
        baseline = f"points against {baseline_of(part)} (95 %)"
        columns = ["accuracy", "worst draw", "macro-F1", baseline, "seconds, CPU", "seconds, GPU"]
        image = IMAGES / f"{part}.png"
        plotted = part.endswith("-labels") and plot_labels(PARTS[part][0], options.seeds, results, image)
        if part.endswith("-labels") and not plotted:  # what is there stands above
            rows = {}
        print(f"\n## {_TITLES.get(part, part)}\n\n{table(rows, columns) if rows else 'No run yet.'}")
        if plotted:
            print(f"\n![Test error over the number of labels](images/{image.name})")
    if failed := failures(parts, options.seeds, results):
        print(f"\n## What failed\n\nWorse than `{_FLOOR}` on the same draw, so worse than not training the encoder.\n")
        print(table(failed, ["draws", "worst", "why"], num_words=1))


if __name__ == "__main__":
    main()
