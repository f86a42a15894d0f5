"""The embedded experiment by a plain loop, to compare its accuracy with that of the faster one.

    python scripts/reference_imdb.py SEED …

The same rows in the same order, the same start, schedule and pseudo-labels as `python -m uda.train +experiment=imdb
seed=SEED`; but all passes in fp32 with eager attention and torch's own dropout and normalisation, every row padded to
the maximum length, masked rows computed and multiplied by zero, the labelled and the unlabelled rows in passes of their
own, and AdamW tensor by tensor. Prints the accuracy on the test rows.
"""

import copy
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import set_seed

from uda import build, instances
from uda.config import compose, read_train
from uda.data.batches import RowStream, StepSampler, Tokens, make_loader, pad_stored
from uda.data.splits import load_split
from uda.engine import training
from uda.engine.cpu_layers import CheapDropout, NarrowLayerNorm
from uda.engine.locations import model_location
from uda.engine.model import quiet_transformers
from uda.engine.optimizer import learning_rate_factor
from uda.engine.process import Process
from uda.engine.settings import Precision
from uda.engine.tokenizer import load_tokenizer
from uda.objectives.base import Context


def plain(model: Any) -> Any:
    """A copy with torch's own layers and eager attention."""
    found = copy.deepcopy(model)
    for module in found.modules():
        if type(module) is CheapDropout:
            module.__class__ = nn.Dropout
        elif type(module) is NarrowLayerNorm:
            module.__class__ = nn.LayerNorm
    found.set_attn_implementation("eager")
    return found


def logits_of(model: Any, tokens: Tokens, length: int, pad_id: int) -> Tensor:
    """[N, K], every row padded to the maximum length."""
    missing = length - tokens.ids.shape[1]
    ids, mask = F.pad(tokens.ids, (0, missing), value=pad_id), F.pad(tokens.mask, (0, missing))
    logits: Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits


def train(run: training.Training, seed: int, length: int) -> tuple[Any, float]:
    """The student after all steps, and the seconds they took."""
    settings, objective, pad_id = run.settings, run.objective, run.models.pad_id
    student = plain(run.models.student)
    teacher = copy.deepcopy(student).eval()
    phases = training.make_phases(objective, settings)
    sampler = StepSampler(run.rows.labeled.lengths, run.rows.weak.lengths, phases, seed)
    started = time.monotonic()
    optimizer: Any = None
    for step, batch in enumerate(make_loader(run.rows, sampler)):
        phase = next(phase for phase in phases if step < phase.end)
        if step == phase.start:
            alone = phase.num_unlabeled == 0
            peak = settings.supervised_learning_rate if alone else settings.learning_rate
            weights = [parameter for parameter in student.parameters() if parameter.ndim > 1]
            others = [parameter for parameter in student.parameters() if parameter.ndim < 2]
            groups = [
                {"params": weights, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ]
            optimizer = torch.optim.AdamW(groups, lr=peak, eps=1e-6, foreach=False)
            if not alone:
                teacher.load_state_dict(student.state_dict())
                stream = RowStream(run.rows.weak.lengths, phase.num_unlabeled, seed, training._PREFILL_STREAM)
                for number in range(-(-objective.prefill_rows // phase.num_unlabeled)):
                    first = pad_stored([(run.rows.weak, row) for row in stream.batch(number)], pad_id)
                    with torch.no_grad():
                        objective.pseudo_label(
                            logits_of(teacher, first, length, pad_id), torch.arange(len(first)), Context(0)
                        )
        factor = learning_rate_factor(step - phase.start, phase.end - phase.start, settings.warmup, settings.schedule)
        for group in optimizer.param_groups:
            group["lr"] = peak * factor
        student.train()
        loss = F.cross_entropy(logits_of(student, batch.labeled, length, pad_id), batch.labels)
        if phase.num_unlabeled:
            context = Context(step / settings.num_steps)
            with torch.no_grad():
                pseudo = objective.pseudo_label(logits_of(teacher, batch.weak, length, pad_id), batch.index, context)
            answers = F.log_softmax(logits_of(student, batch.strong, length, pad_id), dim=-1)
            divergence = F.kl_div(answers, pseudo.probs, reduction="none").sum(dim=-1)
            loss = loss + (pseudo.weight * divergence).sum() / pseudo.normalizer
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if phase.num_unlabeled:
            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                    slow.mul_(objective.teacher_decay).add_(fast, alpha=1 - objective.teacher_decay)
    return student, time.monotonic() - started


def main() -> None:
    quiet_transformers()
    for seed in map(int, sys.argv[1:]):
        settings = read_train(compose("train", ["+experiment=imdb", f"seed={seed}", "train.precision=fp32"]))
        location = model_location(settings.model)
        tokenizer = load_tokenizer(location, settings.model, settings.data.max_length, settings.data.truncation)
        split = load_split(settings.data)
        counts = {"num_classes": len(split.label_names), "num_unlabeled": len(split.unlabeled)}
        objective = instances.build(settings.objective, "objective", **counts)
        process = Process.start(Precision.fp32)
        assert settings.data.max_length is not None
        with tempfile.TemporaryDirectory() as name:
            run = build.build_training(settings, split, objective, tokenizer, location, process, Path(name))
            set_seed(seed)
            student, seconds = train(run, seed, settings.data.max_length)
        rows = run.evaluation
        probs = training.predict(student, rows.store, run.models.pad_id, settings.train.eval_batch_size, process)
        accuracy = float((probs.argmax(axis=1) == rows.labels).mean())
        print(
            f"seed {seed}: accuracy {100 * accuracy:.2f} % on {len(rows.labels)} rows, {seconds:.0f} s of steps",
            flush=True,
        )


if __name__ == "__main__":
    main()
