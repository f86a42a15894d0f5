"""`python -m uda.evaluate`: the model of a run, scored on the test rows of any data."""

import sys
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from uda import cli, config
from uda.config import EvaluateConfig, TrainConfig
from uda.data.settings import DataSettings
from uda.errors import UserError


def run(cfg: DictConfig, output_dir: Path | str | None = None) -> dict[str, Any]:
    """Score the exported model; returns what `metrics.json` in `output_dir` holds, beside predictions.parquet.

    output_dir: default: the directory that Hydra gave the job.
    """
    if OmegaConf.is_missing(cfg, "run"):
        raise UserError("run: expected a run directory, found none. Set run=outputs/….")
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(EvaluateConfig), cfg))
    assert isinstance(settings, EvaluateConfig)
    folder = Path(settings.run)
    output = Path(output_dir) if output_dir is not None else config.run_dir()
    return _evaluate(settings, _trained_with(folder).data, folder, output)


def _trained_with(folder: Path) -> TrainConfig:
    """The config of the run, as `uda.train` keeps it."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"Expected a run directory with a config.yaml, found none in {folder}. Check run=….")
    content = yaml.safe_load(path.read_text())
    content.pop("defaults", None)
    return config.read_train(DictConfig(content))


def _evaluate(settings: EvaluateConfig, trained: DataSettings, folder: Path, output: Path) -> dict[str, Any]:
    from uda.data.splits import load_test
    from uda.data.tokens import cache_dir, tokenize
    from uda.engine import export
    from uda.engine.evaluation import predict, score
    from uda.engine.model import label_names, load_run_model, move, quiet_transformers
    from uda.engine.process import Process

    quiet_transformers()
    process = Process.start(settings.precision)
    model, tokenizer = load_run_model(folder / "model")
    names = label_names(model)
    rows = load_test(settings.data or trained, names)
    store = tokenize(list(rows.text), tokenizer, trained.max_length, trained.truncation, cache_dir())
    probs = predict(move(model, process.device), store, tokenizer.pad_token_id, settings.batch_size, process)
    scores = score(probs, rows.label.to_numpy(), names)
    content = {"run": str(folder), "precision": process.precision.value, **scores, **export.environment(process.device)}
    if process.is_main:
        output.mkdir(parents=True, exist_ok=True)
        export.write_predictions(output / "predictions.parquet", rows, probs, names)
        export.write_json(output / "metrics.json", content)
    process.accelerator.end_training()
    return content


def show(scores: dict[str, Any], folder: Path) -> None:
    """The scores, over all and by class, and where they lie, on standard error."""
    lines = [
        f"\naccuracy {100 * scores['accuracy']:.2f} %   macro-F1 {100 * scores['macro_f1']:.2f} %   "
        f"NLL {scores['nll']:.3f}   ECE {scores['ece']:.3f}   ({scores['num_rows']} test rows)",
        f"{'class':20} {'precision':>9} {'recall':>9} {'F1':>9} {'rows':>7}",
    ]
    for name, one in scores["per_class"].items():
        numbers = " ".join(f"{100 * one[key]:8.2f} %"[-9:] for key in ("precision", "recall", "f1"))
        lines.append(f"{name:20} {numbers} {one['support']:7}")
    print("\n".join([*lines, f"written to {folder}"]), file=sys.stderr)


def job(cfg: DictConfig) -> float:
    """One job of the command line."""
    scores = run(cfg)
    show(scores, config.run_dir())
    return float(scores["accuracy"])


if __name__ == "__main__":
    cli.main("evaluate", job)
