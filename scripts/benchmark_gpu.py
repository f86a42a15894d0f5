"""What BERT-base at length 512 takes on a GPU: memory at its peak, tokens a second, the share of the GPU's products.

    python scripts/benchmark_gpu.py                    # the batches of imdb_bert_base: 8 labelled rows, 24 pairs
    python scripts/benchmark_gpu.py --limit-gb 10.5 train=gpu_11gb train.precision=fp32

The weights are random and the texts the embedded reviews, so nothing is downloaded, and only speed and memory mean
anything. Figures of speed are of the last third of the steps. --limit-gb: the GPU refuses more than this, as a smaller
one would.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import BertConfig, BertModel

import uda.train
from uda.config import compose, read_train
from uda.engine.locations import model_location
from uda.engine.tokenizer import load_tokenizer

RECIPE = (
    *("+experiment=imdb", "model=local", "augment=none", "objective=uda_untempered", "objective.prefill_rows=0"),
    *("data.label_descriptions=null", "data.max_length=512", "data.num_test=100"),
    *("train.batch_size=8", "train.unlabeled_ratio=3", "train.supervised_batch_size=null"),
    *("train.eval_every=null", "train.checkpoint_every=null"),
)


def random_bert(folder: Path, config: BertConfig) -> Path:
    """A checkpoint with random weights, and the tokenizer of the embedded encoder, which is BERT's."""
    settings = read_train(compose("train", ["+experiment=imdb"]))
    data, location = settings.data, model_location(settings.model)
    load_tokenizer(location, settings.model, data.max_length, data.truncation).save_pretrained(folder)
    BertModel(config).save_pretrained(folder)
    return folder


def measure(overrides: list[str], num_steps: int, config: BertConfig) -> dict[str, float]:
    """Tokens a second and utilisation, as training shows them, and on a GPU GiB at their peak."""
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name) / "run", random_bert(Path(name) / "bert", config)
        steps = [f"train.num_steps={num_steps}", f"train.log_every={num_steps // 3}"]
        settings = [*RECIPE, f"model.name_or_path={model}", *steps, *overrides, f"hydra.run.dir={folder}"]
        uda.train.run(compose("train", settings))
        events = EventAccumulator(str(next(folder.rglob("events.out.tfevents.*")).parent)).Reload()
        found = {name: events.Scalars(f"speed/{name}")[-1].value for name in ("tokens_per_second", "utilization")}
    if torch.cuda.is_available():
        peaks = {"allocated_gb": torch.cuda.max_memory_allocated(), "reserved_gb": torch.cuda.max_memory_reserved()}
        found |= {name: round(peak / 2**30, 2) for name, peak in peaks.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of uda.train, after the recipe's")
    parser.add_argument("--steps", type=int, default=30, help="a multiple of 3")
    parser.add_argument("--limit-gb", type=float, help="GiB of the GPU that may be taken")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("expected a GPU, found none")
    if options.steps < 3 or options.steps % 3:
        parser.error(f"--steps: expected a multiple of 3, found {options.steps}")
    if options.limit_gb:
        whole = torch.cuda.get_device_properties(0).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(options.limit_gb / whole)
    found = measure(options.overrides, options.steps, BertConfig())
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "overrides": options.overrides, **found}))


if __name__ == "__main__":
    main()
