"""Kill train, augment and predict with `kill -9` at random moments; all must end as if nothing had been.

    python scripts/soak.py                  # 100 kills, see docs/reliability.md for what it takes
    python scripts/soak.py --kills 6 --seed 1

First each command runs undisturbed. Then one of them is started and killed at a drawn moment, and so on; the same
command goes on where it was, until it ends, and what it leaves must be what the undisturbed run left: of a training
weights, predictions, scores and the TensorBoard scalars, of an augmentation every byte of the cache, of a prediction
the output. Half of the moments are drawn from all of a run, half from its second half, where there is something to
lose. The encoder is a tiny random BERT and the reviews are made up, so that nothing is needed. Exit code 1 after any
difference.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WORDS = "the film was a very good bad great awful plot actor scene music end story long short funny sad dull"
TIMES = ("seconds", "training_seconds", "tokens_per_second")
_MOST_FAULTS = 5  # after which nothing more is learnt
LEFTOVERS = (".writing", ".removing")


@dataclass
class Job:
    """A command that is killed and started again, and what became of it.

    command: the module and its overrides for one round's folder. result: what a finished round left there, in a form
    that can be compared. last: the file whose presence says that all is done. seconds: those of an undisturbed run.
    """

    name: str
    weight: int
    command: Callable[[Path], list[str]]
    last: str
    result: Callable[[Path], dict[str, Any]]
    expected: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    rounds: int = 0
    starts: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list)


def make_data(folder: Path) -> None:
    """A tiny BERT, and files of reviews whose last word gives the class away."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    generator, vocabulary = random.Random(0), _WORDS.split()
    for name, count in (("labeled", 40), ("unlabeled", 2_000), ("test", 400), ("input", 20_000)):
        with (folder / f"{name}.jsonl").open("w") as file:
            for number in range(count):
                words = generator.choices(vocabulary, k=generator.randint(5, 30))
                word, label = (("awful", "neg"), ("great", "pos"))[number % 2]
                row = {"id": number, "text": " ".join([*words, word]), "label": label}
                file.write(json.dumps(row) + "\n")
    encoder = folder / "encoder"
    encoder.mkdir()
    (encoder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *vocabulary]))
    tokenizer = BertTokenizerFast(vocab=str(encoder / "vocab.txt"))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)


def settings(data: Path) -> list[str]:
    """Overrides of train and augment."""
    files = [f"data.{role}={data}/{role}.jsonl" for role in ("labeled", "unlabeled", "test")]
    return [
        *("+experiment=imdb", "name=soak", "data=files", *files, "data.num_labeled=8", "data.max_length=24"),
        "data.label_descriptions={neg: [awful bad film], pos: [great good film]}",
        *("model=local", f"model.name_or_path={data}/encoder", "model.pooling=mean", "augment=tfidf_mild"),
        *("objective.supervised_steps=10", "objective.prefill_rows=64", "train.num_steps=150", "train.eval_every=25"),
        *("train.checkpoint_every=5", "train.learning_rate=1e-3", "train.precision=fp32"),
    ]


def trained(folder: Path) -> dict[str, Any]:
    """Everything of a finished run that must not depend on when it was stopped."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = folder / "run"
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        "weights": (run / "model/model.safetensors").read_bytes(),
        "predictions": (run / "predictions.parquet").read_bytes(),
        "metrics": {key: value for key, value in metrics.items() if key not in TIMES},
        "scalars": {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags},
        "left over": [str(path) for path in run.rglob(".*") if path.name.startswith(LEFTOVERS)],
    }


def augmented(folder: Path) -> dict[str, bytes]:
    """Every file of the cache of augmented texts."""
    cache = folder / "cache/augmented"
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def predicted(folder: Path) -> dict[str, bytes]:
    """The output, and whatever lies beside it."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def start(job: Job, folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    """The command of a round, with a cache of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    module, *overrides = job.command(folder)
    environment = {**os.environ, "UDA_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    job.starts += 1
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, "-m", module, *overrides], env=environment, stdout=file, stderr=file)


def finish_round(job: Job, folder: Path, code: int) -> None:
    """Compare what a round left with what the undisturbed run did; a round without a difference is deleted."""
    job.rounds += 1
    if code != 0:
        job.faults.append(f"{folder}: exit code {code}")
        return
    found = job.result(folder)
    if found == job.expected:
        shutil.rmtree(folder)
    else:
        parts = [part for part in {**job.expected, **found} if found.get(part) != job.expected.get(part)]
        job.faults.append(f"{folder}: differs in {', '.join(parts)}")


def soak(jobs: list[Job], num_kills: int, generator: random.Random, outputs: Path) -> None:
    """Run all undisturbed, then kill so many times, then let all end."""
    log = outputs / "log"
    for job in jobs:
        began = time.monotonic()
        if start(job, outputs / f"{job.name}-undisturbed", log).wait() != 0:
            sys.exit(f"{job.name} fails without being killed: {log}")
        job.seconds = time.monotonic() - began
        job.expected = job.result(outputs / f"{job.name}-undisturbed")
        print(f"{job.name}: {job.seconds:.0f} s undisturbed", flush=True)
    while (done := sum(job.kills for job in jobs)) < num_kills:
        job = generator.choices(jobs, [each.weight for each in jobs])[0]
        folder = outputs / f"{job.name}-{job.rounds}"
        process = start(job, folder, log)
        try:
            process.wait(job.seconds * generator.uniform(generator.choice((0.0, 0.5)), 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
        if process.wait() == -signal.SIGKILL:
            job.kills += 1
            if (folder / job.last).exists():  # killed after its work was done: the same command would be refused
                finish_round(job, folder, 0)
        else:
            finish_round(job, folder, process.returncode)
        num_faults = sum(len(each.faults) for each in jobs)
        if num_faults >= _MOST_FAULTS:
            return
        if done % 10 == 9:
            print(f"{done + 1} kills, {num_faults} faults", flush=True)
    for job in jobs:
        folder = outputs / f"{job.name}-{job.rounds}"
        if folder.exists():
            finish_round(job, folder, start(job, folder, log).wait())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    outputs = Path(tempfile.mkdtemp(prefix="uda-soak-"))
    print(f"seed {options.seed}, in {outputs}", flush=True)
    data = outputs / "data"
    data.mkdir()
    make_data(data)
    run = outputs / "train-undisturbed/run"
    predict = ["uda.predict", f"run={run}", f"input={data}/input.jsonl"]
    jobs = [
        Job(
            "train",
            3,
            lambda at: ["uda.train", *settings(data), f"hydra.run.dir={at}/run"],
            "run/metrics.json",
            trained,
        ),
        Job(
            "augment",
            1,
            lambda at: ["uda.augment", *settings(data), f"hydra.run.dir={at}/run"],
            "run/metrics.json",
            augmented,
        ),
        Job("predict", 1, lambda at: [*predict, f"output={at}/output.csv"], "output.csv", predicted),
    ]
    began = time.monotonic()
    soak(jobs, options.kills, random.Random(options.seed), outputs)
    counts = Counter({job.name: len(job.faults) for job in jobs})
    print("\n| command | kills | starts | ends compared | faults |\n| --- | ---: | ---: | ---: | ---: |")
    for job in jobs:
        print(f"| {job.name} | {job.kills} | {job.starts} | {job.rounds} | {counts[job.name]} |")
    print(f"\nseed {options.seed}, {time.monotonic() - began:.0f} s")
    faults = [fault for job in jobs for fault in job.faults]
    if faults:
        sys.exit("\n".join([f"faults ({outputs} is kept):", *faults]))
    shutil.rmtree(outputs)


if __name__ == "__main__":
    main()
