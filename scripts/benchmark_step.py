"""Our training step in detail, and beside the references of `benchmark_reference.py`."""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from benchmark_reference import Reference
from torch.profiler import ProfilerActivity, profile

from uda import build, instances
from uda.config import TrainConfig, compose, read_train
from uda.data.batches import StepSampler, make_loader
from uda.data.splits import load_split
from uda.engine import step, training
from uda.engine.flops import pass_cost
from uda.engine.locations import model_location
from uda.engine.optimizer import make_optimizer
from uda.engine.process import Process
from uda.engine.tokenizer import load_tokenizer

REFERENCES = ("separate", "concatenated")
# The mask keeps half of the rows, as the embedded experiment's does; the student teaches, as in the paper.
STEP = ["objective=uda", "objective.kept_share=0.5", "objective.normalizer=kept", "objective.tsa=none", "augment=none"]
ROWS = ["train.batch_size=8", "train.unlabeled_ratio=3", "data.label_descriptions=null"]


def built(overrides: list[str], folder: Path) -> tuple[training.Training, TrainConfig, Any]:
    """A run as `uda.train` builds it, its settings and its tokenizer."""
    settings = read_train(compose("train", ["+experiment=imdb", *overrides]))
    process = Process.start(settings.train.precision)
    location = model_location(settings.model)
    tokenizer = load_tokenizer(location, settings.model, settings.data.max_length, settings.data.truncation)
    split = load_split(settings.data)
    counts = {"num_classes": len(split.label_names), "num_unlabeled": len(split.unlabeled)}
    objective = instances.build(settings.objective, "objective", **counts)
    run = build.build_training(settings, split, objective, tokenizer, location, process, folder)
    return run, settings, tokenizer


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time taken."""

        def timed(*arguments: Any, **options: Any) -> Any:
            with self(name):
                return function(*arguments, **options)

        return timed


def step_part(
    options: argparse.Namespace, length: int, steps: int, rounds: int, kinds: tuple[str, ...] = ()
) -> dict[str, float]:
    """Our step and its parts; in turn with it the steps of these kinds of reference, on batches of the same rows."""
    with tempfile.TemporaryDirectory() as name:
        overrides = [*STEP, *ROWS, f"data.max_length={length}", "train.num_steps=10000", "data.truncation=head"]
        overrides += options.override
        run, settings, tokenizer = built(overrides, Path(name))
        models, process, objective = run.models, run.process, run.objective
        reference = Reference(model_location(settings.model), 2, length, tokenizer.pad_token_id)
        optimizer = make_optimizer(models.student, settings.train, 2e-5)
        phases = training.make_phases(objective, settings.train)
        sampler = StepSampler(run.rows.labeled.lengths, run.rows.weak.lengths, phases, 0)
        batches = iter(make_loader(run.rows, sampler))
        clock, ours = Clock(), []
        others: dict[str, list[float]] = {kind: [] for kind in kinds}
        label_rows, backward = step.label_rows, process.accelerator.backward
        step.label_rows = clock.around("teacher", label_rows)
        process.accelerator.backward = clock.around("backward", backward)
        seen = {"tokens": 0, "slots": 0, "student": 0.0}
        student_pass = step.logits_by_length

        cost = pass_cost(models.student)

        def counted(models: Any, model: Any, tokens: Any, outcome: Any) -> Any:
            if torch.is_grad_enabled():
                seen["student"] += 3 * cost.flops(sum(tokens.lengths), sum(length**2 for length in tokens.lengths))
            return student_pass(models, model, tokens, outcome)

        step.logits_by_length = counted

        def one_step(number: int) -> None:
            with clock("data"):
                batch = next(batches)
            process.seed_step(0, number)
            context = process.context(0.5)
            with clock("passes"):
                outcome = step.run_step(models, objective, batch, context, process, None)
            with clock("optimizer"):
                torch.nn.utils.clip_grad_norm_(models.student.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            seen["tokens"] += outcome.num_tokens
            seen["slots"] += outcome.num_slots

        for number in range(2):
            one_step(number)
        clock.seconds.clear()
        seen.update(tokens=0, slots=0, student=0.0)
        for number in range(rounds):
            started = time.perf_counter()
            for one in range(steps):
                one_step(2 + number * steps + one)
            ours.append((time.perf_counter() - started) / steps)
            for kind, times in others.items():
                batch = next(batches)
                started = time.perf_counter()
                reference.step(batch, kind == "concatenated")
                times.append(time.perf_counter() - started)
        step.label_rows, step.logits_by_length = label_rows, student_pass
        process.accelerator.backward = backward
        count = steps * rounds
        found = {f"{part}_seconds": seconds / count for part, seconds in clock.seconds.items()}
        found["forward_seconds"] = found.pop("passes_seconds") - found["teacher_seconds"] - found["backward_seconds"]
        found |= {"seconds": statistics.median(ours), "tokens_per_second": seen["tokens"] / sum(ours) / steps}
        found |= {f"{kind}_seconds": statistics.median(times) for kind, times in others.items()}
        found["padding_share"] = 1 - seen["tokens"] / seen["slots"]
        found["loading_share"] = found["data_seconds"] / found["seconds"]
        student = (found["forward_seconds"] + found["backward_seconds"]) * count
        found["student_gflops"] = seen["student"] / student / 1e9
        return found


KINDS = {
    "matrix_products": ("mm", "addmm", "bmm"),
    "casts_and_copies": ("copy_",),
    "dropout": ("_Dropout", "bitwise_and", "bitwise_and_", "sub_", "bitwise_right_shift_"),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "gelu": ("gelu", "gelu_backward"),
    "normalisation": ("native_layer_norm", "native_layer_norm_backward"),
    "sums": ("add", "add_", "sum"),
}


def profile_part(options: argparse.Namespace) -> dict[str, float]:
    """The shares of kinds of operations in the CPU time of our passes, optimiser left out."""
    with tempfile.TemporaryDirectory() as name:
        run, settings, _ = built([*STEP, *ROWS, "data.truncation=head", *options.override], Path(name))
        phases = training.make_phases(run.objective, settings.train)
        sampler = StepSampler(run.rows.labeled.lengths, run.rows.weak.lengths, phases, 0)
        batches = iter(make_loader(run.rows, sampler))

        def passes() -> None:
            step.run_step(run.models, run.objective, next(batches), run.process.context(0.5), run.process, None)
            run.models.student.zero_grad(set_to_none=True)

        passes()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(3):
                passes()
        times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiler.key_averages()}
        whole = sum(times.values())
        found = {kind: sum(times.get(one, 0) for one in names) / whole for kind, names in KINDS.items()}
        return {**found, "rest": 1 - sum(found.values())}
