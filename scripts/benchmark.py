"""How fast training and prediction are here, as ratios within one run.

    python scripts/benchmark.py [PART …] [--json FILE] [--compare FILE] [--override KEY=VALUE …]

Parts:
  gemm         the machine's limit now, in products of large matrices
  step         our step at length 128 and its parts
  reference    our step and the two public ways of computing it (benchmark_reference.py), in turn
  full         the same at length 512, with the lengths that reviews have
  profile      shares of the kinds of operations in our step
  predict      against the pipeline of transformers, with the lengths that reviews have up to 512
  predict_128  the same at length 128
  load augment startup overhead
  cache        a cache of augmented texts, filled and found full: 75,000 reviews, and a million short texts
  memory       ten million unlabelled rows against ten thousand (--memory-rows sets another number): hours on two cores
               that have other work, and 40 GB of disk
Without a part: all of them. Needs the packages of the embedded experiment.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_augment import measure_apertium, measure_replacement
from benchmark_cache import measure_cache
from benchmark_memory import measure
from benchmark_step import REFERENCES, ROWS, STEP, Clock, built, profile_part, step_part
from transformers import pipeline

from uda.config import compose, read_train
from uda.data.batches import PairedRows, StepSampler, make_loader
from uda.data.splits import load_split
from uda.engine import export, training
from uda.engine.flops import measured_limit
from uda.engine.labelling import Labeller
from uda.engine.model import label_names, load_run_model, move, quiet_transformers
from uda.engine.process import Process
from uda.engine.settings import Precision
from uda.engine.tracking import Tracker

PARTS = (
    *("gemm", "step", "reference", "full", "profile", "predict", "predict_128"),
    *("load", "augment", "startup", "overhead", "cache", "memory"),
)


def best(function: Callable[[], Any], repeats: int) -> float:
    """The least of the wall times of so many calls after a first one, in seconds."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def gemm(_: argparse.Namespace) -> dict[str, float]:
    """FLOP/s of large matrix products."""
    kinds = (Precision.fp32, Precision.bf16)
    return {f"gflops_{kind.value}": measured_limit(torch.device("cpu"), kind, repeats=15) / 1e9 for kind in kinds}


def predict_part(options: argparse.Namespace, length: int) -> dict[str, float]:
    """Rows a second of the pipeline and of ours, fp32 and bf16, on embedded test rows; the share of equal labels."""
    with tempfile.TemporaryDirectory() as name:
        overrides = ["objective=supervised", "augment=none", f"data.max_length={length}"]
        run, settings, tokenizer = built(overrides, Path(name))
        folder = Path(name) / "model"
        export.export_model(folder, run.models.student, tokenizer, "")
        test = load_split(settings.data).test
        assert test is not None
        texts = list(test.text)[: options.rows]
        found, answers = {}, {}
        classify = pipeline("text-classification", str(folder), truncation=True, device="cpu")
        started = time.perf_counter()
        answers["pipeline"] = [answer["label"] for answer in classify(texts, batch_size=32)]
        found["pipeline_rows_per_second"] = len(texts) / (time.perf_counter() - started)
        for precision in (Precision.fp32, Precision.bf16):
            model, reader = load_run_model(folder)
            process = Process.start(precision)
            labeller = Labeller(move(model, process.device), reader, settings.data, 64, process)
            started = time.perf_counter()
            parts = [labeller.probabilities([texts[at : at + 2048]]) for at in range(0, len(texts), 2048)]
            found[f"{precision.value}_rows_per_second"] = len(texts) / (time.perf_counter() - started)
            names = label_names(model)
            chosen = [names[index] for index in np.concatenate(parts).argmax(axis=1)]
            same = [one == two for one, two in zip(chosen, answers["pipeline"], strict=True)]
            found[f"{precision.value}_same_labels"] = float(np.mean(same))
        return found


def load_part(options: argparse.Namespace) -> dict[str, float]:
    """Batches a second out of the token cache, and their rows: what a step waits for, made by one thread."""
    with tempfile.TemporaryDirectory() as name:
        run, settings, _ = built([*STEP, *ROWS], Path(name))
        rows: PairedRows = run.rows
        phases = training.make_phases(run.objective, settings.train)
        batches = iter(make_loader(rows, StepSampler(rows.labeled.lengths, rows.weak.lengths, phases, 0)))
        started = time.perf_counter()
        for _ in range(200):
            next(batches)
        return {"batches_per_second": 200 / (time.perf_counter() - started)}


def augment_part(options: argparse.Namespace) -> dict[str, float]:
    """Texts a second of TF-IDF replacement and of Apertium, on the unlabelled rows of the embedded experiment."""
    texts = list(load_split(read_train(compose("train", ["+experiment=imdb"])).data).unlabeled.text)
    return measure_replacement(texts, num_workers=2) | measure_apertium(texts[: options.rows])


def startup_part(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of --help, and from the command to the first step of the embedded experiment with warm caches."""
    command = [sys.executable, "-m", "uda.train"]
    help_seconds = best(lambda: subprocess.run([*command, "--help"], check=True, capture_output=True), 3)
    times = []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(3):
            started = time.perf_counter()
            job = subprocess.Popen(
                [*command, "+experiment=imdb", "train.log_every=1", f"hydra.run.dir={name}/run"],
                stderr=subprocess.PIPE,
                text=True,
            )
            assert job.stderr is not None
            while "step 1/" not in job.stderr.readline():
                assert job.poll() is None
            times.append(time.perf_counter() - started)
            job.kill()
            job.wait()
            shutil.rmtree(f"{name}/run")
    return {"help_seconds": help_seconds, "first_step_seconds": min(times[1:])}


def memory_part(options: argparse.Namespace) -> dict[str, float]:
    """MB of anonymous memory and seconds to the first step, with many unlabelled rows and with few."""
    return _with_rows(lambda *arguments: measure(*arguments, options.memory_rows))


def cache_part(options: argparse.Namespace) -> dict[str, float]:
    """Seconds and resident MB of `uda.augment`, with an empty cache and with a full one."""
    return _with_rows(measure_cache)


def _with_rows(function: Callable[..., dict[str, float]]) -> dict[str, float]:
    """What the function says of the reviews, 400 labelled ones, a folder and an environment with a cache of its own."""
    split = load_split(read_train(compose("train", ["+experiment=imdb", "data.label_descriptions=null"])).data)
    assert split.test is not None
    labeled = [(text, split.label_names[label]) for text, label in zip(split.test.text, split.test.label, strict=True)]
    with tempfile.TemporaryDirectory() as name:
        environment = {**os.environ, "UDA_CACHE": f"{name}/cache"}
        return function(list(split.unlabeled.text), labeled[:: len(labeled) // 400], Path(name), environment)


def overhead_part(options: argparse.Namespace) -> dict[str, float]:
    """The share of tracking, logging and checkpoints in the wall time of the embedded experiment's training.

    Its evaluations, of ten rows here, are left out of both.
    """
    clock, names = Clock(), ("step", "evaluation", "samples", "warn", "flush")
    with tempfile.TemporaryDirectory() as name:
        run, _, _ = built(["data.num_test=10"], Path(name))
        kept = {method: getattr(Tracker, method) for method in names}
        save, evaluate = training.save_progress, training._probs
        for method in names:
            setattr(Tracker, method, clock.around("overhead", kept[method]))
        training.save_progress = clock.around("overhead", save)
        training._probs = clock.around("evaluation", evaluate)
        progress = training.train(run)
        training.save_progress, training._probs = save, evaluate
        for method, function in kept.items():
            setattr(Tracker, method, function)
    return {"share": clock.seconds["overhead"] / (progress.seconds - clock.seconds["evaluation"])}


def ratios(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """What can be compared between machines and versions, of the parts that were run."""
    shown = {}
    for part, prefix in (("reference", "step"), ("full", "full_length")):
        if one := found.get(part):
            shown |= {f"{prefix}_vs_{kind}": one[f"{kind}_seconds"] / one["seconds"] for kind in REFERENCES}
    for part in ("step", "reference", "full"):  # padding is what it is at the greater length
        if one := found.get(part):
            shown |= {name: one[name] for name in ("padding_share", "loading_share")}
    if "gemm" in found and (one := found.get("step") or found.get("reference")):
        shown["mfu"] = one["student_gflops"] / found["gemm"]["gflops_bf16"]
    for part in ("predict", "predict_128"):
        if one := found.get(part):
            pipelines = one["pipeline_rows_per_second"]
            shown[f"{part}_vs_pipeline"] = one["bf16_rows_per_second"] / pipelines
            shown[f"{part}_vs_pipeline_fp32"] = one["fp32_rows_per_second"] / pipelines
    if one := found.get("overhead"):
        shown["overhead_share"] = one["share"]
    if one := found.get("memory"):
        shown["memory_growth_mb"] = max(one[f"many_{start}_mb"] - one[f"few_{start}_mb"] for start in ("cold", "warm"))
        few, many = (one[f"{name}_warm_first_step_seconds"] for name in ("few", "many"))
        shown["memory_first_step_growth_seconds"] = many - few
    if one := found.get("startup"):
        shown["startup_help_seconds"] = one["help_seconds"]
        shown["startup_first_step_seconds"] = one["first_step_seconds"]
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all", metavar="PART")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--compare", type=Path, help="a file of --json: show its ratios beside")
    parser.add_argument("--rows", type=int, default=5000, help="texts to predict, and to translate")
    parser.add_argument("--memory-rows", type=int, default=10_000_000, help="unlabelled rows of the part memory")
    parser.add_argument("--override", nargs="+", default=[], help="of the config, for our step: model.attention=sdpa")
    options = parser.parse_args()
    quiet_transformers()
    measure = {
        "gemm": gemm,
        "step": lambda options: step_part(options, 128, steps=5, rounds=3),
        "reference": lambda options: step_part(options, 128, steps=5, rounds=3, kinds=REFERENCES),
        "full": lambda options: step_part(options, 512, steps=12, rounds=2, kinds=REFERENCES),
        "profile": profile_part,
        "predict": lambda options: predict_part(options, 512),
        "predict_128": lambda options: predict_part(options, 128),
        "load": load_part,
        "augment": augment_part,
        "startup": startup_part,
        "overhead": overhead_part,
        "cache": cache_part,
        "memory": memory_part,
    }
    found: dict[str, dict[str, float]] = {}
    for part in options.parts or PARTS:
        found[part] = measure[part](options)
        for name, value in found[part].items():
            print(f"{part:10} {name:28} {value:12.4f}", flush=True)
    old = json.loads(options.compare.read_text())["ratios"] if options.compare else {}
    print()
    for name, value in ratios(found).items():
        print(f"{name:32} {value:10.3f}" + (f"   (was {old[name]:.3f})" if name in old else ""))
    if options.json:
        machine = {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
        versions = export.environment(torch.device("cpu"))
        options.json.write_text(json.dumps({**machine, **versions, "parts": found, "ratios": ratios(found)}, indent=2))


if __name__ == "__main__":
    main()
