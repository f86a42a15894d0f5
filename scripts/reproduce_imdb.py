"""Make the results table of README: every configuration, five draws each, mean and spread over the draws.

    python scripts/reproduce_imdb.py                 # all of it, one run after another
    python scripts/reproduce_imdb.py --jobs 2        # two runs at a time, one thread each
    python scripts/reproduce_imdb.py --only uda_weak_start supervised_12 --seeds 0 1

Each run is the command line that it prints, in a folder table-* of its own. Finished ones are not repeated, so it can
be stopped and started again. A run with one thread gives other digits than one with two: rounding differs.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SUPERVISED = ["objective=supervised", "train.eval_every=null", "train.checkpoint_every=null"]
RANDOM_HEAD = "data.label_descriptions=null"
RUNS: dict[str, tuple[str, list[str]]] = {
    "descriptions": ("label descriptions alone, no training", [*SUPERVISED, "train.num_steps=0"]),
    "random_head": ("supervised, random head, 40 steps", [*SUPERVISED, RANDOM_HEAD, "train.num_steps=40"]),
    "supervised_12": ("supervised, descriptions, 12 steps", [*SUPERVISED, "train.num_steps=12"]),
    "supervised_40": ("supervised, descriptions, 40 steps", [*SUPERVISED, "train.num_steps=40"]),
    "supervised_80": ("supervised, descriptions, 80 steps", [*SUPERVISED, "train.num_steps=80"]),
    "uda_paper": ("UDA as in the paper, random head", ["objective=uda", RANDOM_HEAD]),
    "uda_weak_start": ("**UDA, descriptions (`+experiment=imdb`)**", []),
}


def folder(name: str, seed: int, outputs: Path) -> Path:
    """Where a run goes: a name of its own, since the table wants to find it again."""
    return outputs / f"table-{name}-seed{seed}"


def run(name: str, seed: int, outputs: Path, threads: int | None) -> None:
    """One run of the command line, unless it is finished."""
    target = folder(name, seed, outputs)
    if (target / "metrics.json").is_file():
        return
    command = [sys.executable, "-m", "uda.train", "+experiment=imdb", *RUNS[name][1], f"seed={seed}"]
    environment = dict(os.environ) if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    print("running", " ".join(command[1:]), flush=True)
    done = subprocess.run(
        [*command, f"hydra.run.dir={target}"], env=environment, check=False, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        print(f"failed with {done.returncode}: {done.stderr[-2000:]}", file=sys.stderr, flush=True)


def accuracies(name: str, seeds: list[int], outputs: Path) -> dict[int, float]:
    """Per cent, of the seeds that are finished."""
    found = {}
    for seed in seeds:
        path = folder(name, seed, outputs) / "metrics.json"
        if path.is_file():
            found[seed] = 100 * json.loads(path.read_text())["selected"]["accuracy"]
    return found


def table(names: list[str], seeds: list[int], outputs: Path) -> str:
    """Markdown: a row a configuration, a column a seed, mean, sample standard deviation, median seconds."""
    lines = [
        f"| run | {' | '.join(f'seed {seed}' for seed in seeds)} | mean ± sd | seconds |",
        f"| --- |{' ---: |' * (len(seeds) + 2)}",
    ]
    for name in names:
        found = accuracies(name, seeds, outputs)
        cells = [f"{found[seed]:.2f}" if seed in found else "" for seed in seeds]
        values = list(found.values())
        spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
        mean = f"{np.mean(values):.2f}{spread}" if values else ""
        paths = [folder(name, seed, outputs) / "metrics.json" for seed in found]
        seconds = [json.loads(path.read_text())["seconds"] for path in paths]
        lines.append(
            f"| {RUNS[name][0]} | {' | '.join(cells)} | {mean} | {f'{np.median(seconds):.0f}' if seconds else ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each if more than 1")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/imdb"))
    options = parser.parse_args()
    # The start from the descriptions alone has no randomness: one seed says it all.
    jobs = [(name, seed) for name in options.only for seed in options.seeds if name != "descriptions" or seed == 0]
    threads = 1 if options.jobs > 1 else None
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda job: run(*job, options.outputs, threads), jobs))
    print(table(options.only, options.seeds, options.outputs))


if __name__ == "__main__":
    main()
