"""What one would pick instead of `uda`, on the same draws and test rows: SetFit, and scikit-learn on frozen embeddings.

    python scripts/compare_baselines.py                                                # all, on both experiments: hours
    python scripts/compare_baselines.py imdb --only "logistic regression" --seeds 0 1

It needs packages that `uda` does not: scripts/baselines/requirements.txt says how. Scores join those of
`scripts/compare_objectives.py` in docs/results/objectives.json, whose `--tables` shows them; what is there is not
repeated. All have the experiment's encoder, with the maximum length of its authors (256 tokens for MiniLM, from the
start of a text), as `sentence-transformers` loads it. SetFit's defaults make 38,000 pairs of the 200 labels of
newsgroups: hours on a CPU.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from compare_objectives import BASELINES, PARTS, RESULTS
from comparison import SCORES, Job, Results, arguments, chosen

EXPERIMENTS = [part for part in PARTS if part == PARTS[part][0]]


def probabilities(name: str, draw: Any, seed: int, folder: Path) -> tuple[np.ndarray, float]:
    """The probabilities [N, K] of the test texts, and the seconds of training and answering, embedding included."""
    from baselines import contrastive, frozen

    window = draw.window if "128 tokens" in name else None
    stored = folder / f"embeddings{'' if window is None else '-'.join(['', *map(str, window)])}.npz"
    embeddings = frozen.Embeddings(draw.encoder, stored, window)
    described = name.endswith(" + descriptions")
    method = name.removesuffix(" + descriptions")
    if method.startswith("SetFit"):
        sampling = "undersampling" if method.endswith("undersampling") else "oversampling"
        run = partial(contrastive.setfit, draw, described, seed, folder / "setfit", sampling)
        texts = []
    elif method.startswith("logistic regression"):
        run = partial(frozen.logistic_regression, draw, embeddings, described)
        texts = [*draw.labeled, *draw.test]
    else:
        share = None if method.endswith("above 0.75") else 0.05
        run = partial(frozen.self_training, draw, embeddings, described, share)
        texts = [*draw.labeled, *draw.unlabeled, *draw.test]
    if texts:
        embeddings.of(texts)  # of all draws, so that each is told what it would cost alone
    started = time.perf_counter()
    return run(), time.perf_counter() - started + len(texts) * embeddings.seconds_a_text


def main() -> None:
    parser = arguments(__doc__, EXPERIMENTS, [0, 1, 2, 3, 4], "outputs/baselines")
    options = parser.parse_args()
    results = Results(RESULTS)
    for experiment in chosen(options, parser, dict.fromkeys(EXPERIMENTS, BASELINES)):
        for seed in options.seeds:
            jobs = [Job(f"{experiment}: {name}", seed, (f"+experiment={experiment}",)) for name in BASELINES]
            jobs = [job for job in jobs if not options.only or job.name.partition(": ")[2] in options.only]
            if jobs := [job for job in jobs if not results.has(job)]:
                run(jobs, options.outputs / experiment, results)


def run(jobs: list[Job], folder: Path, results: Results) -> None:
    """The baselines of one draw."""
    from baselines.rows import draw_of

    from uda.engine.evaluation import score

    draw = draw_of(jobs[0].all_overrides)
    for job in jobs:
        probs, seconds = probabilities(job.name.partition(": ")[2], draw, job.seed, folder)
        scores = score(probs, draw.test_labels, draw.label_names)
        kept = {name: scores[name] for name in SCORES}
        results.add("runs", job.key, {"overrides": job.all_overrides, **kept, "seconds": seconds})
        print(f"{job.key}: {100 * scores['accuracy']:.2f} %, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
