"""`python -m uda.evaluate`: the model of a run, scored on the test rows of any data."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from uda import cli, config, run_directory
from uda.config import EvaluateConfig
from uda.data.settings import DataSettings
from uda.errors import UserError, memory_told
from uda.launches import losses_told
from uda.stored import read_stored

if TYPE_CHECKING:
    from uda.engine.process import Process

_NOT_IN_NAME = ("run", "output", "precision", "batch_size", "process_timeout")


def run(cfg: DictConfig) -> dict[str, Any]:
    """Score the exported model of the run `cfg.run`.

    Returns what `metrics.json` holds, which is written with predictions.parquet into `cfg.output`, or else into a
    folder under RUN/evaluations named after the overrides.
    """
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(EvaluateConfig), cfg))
    assert isinstance(settings, EvaluateConfig)
    if settings.run is None:
        raise UserError("run: expected a run directory, found none. Set run=outputs/….")
    folder = Path(settings.run)
    trained = read_stored(folder)
    name = config.folder_name(config.job_overrides(), _NOT_IN_NAME) or "own"
    _check_pairs(settings.data or trained.data, trained.data)
    output = Path(settings.output) if settings.output is not None else folder / "evaluations" / name
    run_directory.refuse_run(output, "output")
    memory = memory_told(f"Lower batch_size ({settings.batch_size} rows a pass).")
    with memory, losses_told(settings.process_timeout, "process_timeout", "start the same command again"):
        return _evaluate(settings, trained.data, folder, output)


def _check_pairs(data: DataSettings, trained: DataSettings) -> None:
    """A model of pairs scores pairs, one of single texts single texts."""
    if (data.text_pair_column is None) != (trained.text_pair_column is None):
        what, value = (
            ("single texts", "null") if trained.text_pair_column is None else ("pairs of texts", "their column")
        )
        raise UserError(
            f"data.text_pair_column: expected the rows to be {what} as in training, found "
            f"{data.text_pair_column or 'null'}. Set data.text_pair_column to {value}."
        )


def _evaluate(settings: EvaluateConfig, trained: DataSettings, folder: Path, output: Path) -> dict[str, Any]:
    from uda.engine.model import quiet_transformers
    from uda.engine.process import Process

    quiet_transformers()
    process = Process.start(settings.precision, settings.process_timeout)
    try:
        return _score(settings, trained, folder, output, process)
    finally:
        process.stop_watching()


def _score(
    settings: EvaluateConfig, trained: DataSettings, folder: Path, output: Path, process: "Process"
) -> dict[str, Any]:
    from uda.data.cache import cache_dir
    from uda.data.splits import load_test
    from uda.data.tokens import tokenize
    from uda.engine import export
    from uda.engine.evaluation import predict, score
    from uda.engine.model import label_names, load_run_model, move

    model, tokenizer = load_run_model(folder / "model")
    names = label_names(model)
    data = replace(settings.data, cleaning=trained.cleaning) if settings.data is not None else trained
    rows = load_test(data, names)
    run_directory.compare_rows(folder, list(rows.raw_hash), own=settings.data is None)
    pairs = list(rows.text_pair) if "text_pair" in rows else None
    store = tokenize(list(rows.text), tokenizer, trained.max_length, trained.truncation, cache_dir(), pairs)
    process.meet()  # tokenizing may take any time
    probs = predict(move(model, process.device), store, tokenizer.pad_token_id, settings.batch_size, process)
    scores = score(probs, rows.label.to_numpy(), names)
    content = {
        "run": str(folder),
        "output": str(output),
        "precision": process.precision.value,
        **scores,
        **export.environment(process.device),
    }
    if process.is_main:
        output.mkdir(parents=True, exist_ok=True)
        export.write_predictions(output / "predictions.parquet", rows, probs, names)
        export.write_json(output / "metrics.json", content)
    process.close()
    return content


def show(scores: dict[str, Any]) -> None:
    """The scores, over all and by class, and where they lie, on standard error."""
    low, high = scores["accuracy_interval"]
    width = max(20, *map(len, scores["per_class"]))
    lines = [
        f"\naccuracy {100 * scores['accuracy']:.2f} % (95 %: {100 * low:.2f} – {100 * high:.2f})   "
        f"macro-F1 {100 * scores['macro_f1']:.2f} %   "
        f"NLL {scores['nll']:.3f}   ECE {scores['ece']:.3f}   ({scores['num_rows']} test rows, {scores['precision']})",
        f"{'class':{width}} {'precision':>9} {'recall':>9} {'F1':>9} {'rows':>7}",
    ]
    for name, one in scores["per_class"].items():
        numbers = " ".join(f"{100 * one[key]:7.2f} %" for key in ("precision", "recall", "f1"))
        lines.append(f"{name:{width}} {numbers} {one['support']:7}")
    print("\n".join([*lines, f"written to {scores['output']}"]), file=sys.stderr)


def job(cfg: DictConfig) -> float:
    """One job of the command line."""
    scores = run(cfg)
    if cli.rank() == 0:
        show(scores)
    return float(scores["accuracy"])


if __name__ == "__main__":
    cli.main("evaluate", EvaluateConfig, job)
