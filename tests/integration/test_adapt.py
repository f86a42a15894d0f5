"""`uda.adapt` as a whole: texts in, an encoder out that training starts from; resumed, refused, spread."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file

import uda.adapt
import uda.evaluate
import uda.predict
import uda.train
from uda import cli
from uda.checks import check_adapt
from uda.config import compose, read_adapt
from uda.engine import adaptation
from uda.errors import UserError

ADAPT = ["adapt.num_steps=20", "adapt.batch_size=8", "adapt.learning_rate=5e-3", "adapt.eval_every=10"]
TIMES = ("seconds", "training_seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def overrides(tiny_files: list[str]) -> list[str]:
    kept = [one for one in tiny_files if one.split("=")[0] not in ("train.num_steps", "train.learning_rate")]
    return [*(one for one in kept if "supervised" not in one and not one.startswith("train.")), *ADAPT, "train=default"]


def run(overrides: list[str], folder: Path, *others: str) -> uda.adapt.Result:
    return uda.adapt.run(compose("adapt", [*overrides, "train.precision=fp32", f"hydra.run.dir={folder}", *others]))


@pytest.fixture(scope="module")
def adapted(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapted") / "run"
    run(overrides, folder)
    return folder


def setting(overrides: list[str], key: str) -> str:
    return next(one.partition("=")[2] for one in overrides if one.startswith(f"{key}="))


def numbers(folder: Path) -> tuple[bytes, dict[str, Any]]:
    metrics = json.loads((folder / "metrics.json").read_text())
    weights = (folder / "model/model.safetensors").read_bytes()
    return weights, {key: value for key, value in metrics.items() if key not in TIMES}


def test_perplexity_falls_and_the_directory_tells_of_it(adapted: Path) -> None:
    metrics = json.loads((adapted / "metrics.json").read_text())
    assert [one["step"] for one in metrics["evaluations"]] == [0, 10, 20]
    assert metrics["before"] == metrics["evaluations"][0]
    assert metrics["after"] == metrics["evaluations"][-1]
    for one in metrics["evaluations"]:
        assert one["perplexity"] == pytest.approx(np.exp(one["loss"]))
    assert metrics["after"]["perplexity"] < 0.8 * metrics["before"]["perplexity"]
    assert (metrics["num_texts"], metrics["num_held_out"], metrics["new_head"]) == (60 - 6 + 8, 6, True)
    assert (adapted / "config.yaml").read_text().startswith("# To repeat this run:\n# python -m uda.adapt --config-dir")
    card = (adapted / "model/README.md").read_text()
    assert f"{metrics['before']['perplexity']:.1f} before, {metrics['after']['perplexity']:.1f} after." in card
    assert "on 62 texts of <code>unlabeled.jsonl, train.csv</code>" in card  # 54 of the one and 8 of the other
    names = {path.name for path in adapted.iterdir()}
    assert names == {"adapt.log", "checkpoints", "config.yaml", "metrics.json", "model", "split.json", "tensorboard"}


@pytest.mark.slow
def test_training_starts_from_the_adapted_encoder(adapted: Path, tiny_files: list[str], tmp_path: Path) -> None:
    """The weights are those adapted, bit for bit; the pooler and the tokenizer those of the checkpoint."""
    base = Path(setting(tiny_files, "model.name_or_path"))
    found = load_file(adapted / "model/model.safetensors")
    original = load_file(base / "model.safetensors")
    for name in ("pooler.dense.weight", "pooler.dense.bias"):
        assert torch.equal(found[f"bert.{name}"], original[name])
    changed = "encoder.layer.1.attention.self.query.weight"
    assert not torch.equal(found[f"bert.{changed}"], original[changed])
    text = "the film was [MASK] dull unheard-of"
    from transformers import AutoTokenizer

    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (adapted / "model", base)]
    assert len({str(tokenizer(text)["input_ids"]) for tokenizer in tokenizers}) == 1
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
    folder = tmp_path / "run"
    start = ["train.num_steps=0", f"model.name_or_path={adapted}/model", f"hydra.run.dir={folder}"]
    uda.train.run(compose("train", [*tiny_files, "train.calibration=none", *start]))
    trained = load_file(folder / "model/model.safetensors")
    encoder = {name.removeprefix("bert."): value for name, value in found.items() if name.startswith("bert.")}
    for name, value in encoder.items():
        if "pooler" not in name:
            assert torch.equal(trained[f"encoder.{name}"], value), name
    rows = trained["classifier.weight"]
    assert rows.norm() > 0.5  # the head starts from the descriptions
    torch.testing.assert_close(rows[0], -rows[1])
    card = (folder / "model/README.md").read_text()
    assert f"from the encoder <code>{adapted.name}/model</code>" in card


@pytest.mark.slow
def test_test_rows_that_the_adaptation_did_not_hold_back_are_warned_of(
    adapted: Path, tiny_files: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three of ten are told: the others were test rows of the adaptation too."""
    import pandas as pd

    files = Path(setting(tiny_files, "data.test")).parent
    read = pd.read_json(files / "unlabeled.jsonl", lines=True).head(3).assign(label=["neg", "pos", "neg"])
    pd.concat([pd.read_parquet(files / "test.parquet").head(7), read]).to_parquet(tmp_path / "test.parquet")
    start = ["train.num_steps=0", "train.calibration=none", f"model.name_or_path={adapted}/model"]

    def warnings(*more: str) -> list[str]:
        caplog.clear()
        uda.train.run(compose("train", [*tiny_files, *start, f"hydra.run.dir={tmp_path}/{len(more)}", *more]))
        return [line for line in caplog.messages if "held back" in line]

    assert warnings() == []
    (line,) = warnings(f"data.test={tmp_path}/test.parquet")
    assert line.startswith("3 of the 10 test rows were not held back when the encoder was trained (")
    assert f"({adapted})" in line


def test_test_rows_and_held_out_texts_are_never_trained_on(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(setting(overrides, "data.labeled")).parent
    import pandas as pd

    texts = pd.read_json(folder / "unlabeled.jsonl", lines=True)
    test = pd.read_parquet(folder / "test.parquet")
    copies = pd.concat([texts, test[["id", "text"]], texts.head(30)])  # test rows and doubles among the texts
    copies.to_json(tmp_path / "texts.jsonl", orient="records", lines=True)
    seen: dict[str, set[bytes]] = {}

    def note(run: adaptation.Adaptation) -> adaptation.AdaptProgress:
        for name, corpus in (("trained", run.corpus), ("held out", run.held_out)):
            picks = [corpus._pick(int(number)) for number in corpus.numbers]
            seen[name] = {store[row].tobytes() for store, row in picks}
        seen["test"] = {np.asarray(row, dtype=np.int32).tobytes() for row in tokens(list(test.text))}
        seen["labelled"] = {store[row].tobytes() for store in run.corpus.stores[1:] for row in range(len(store))}
        raise KeyboardInterrupt

    def tokens(some: list[str]) -> list[list[int]]:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(setting(overrides, "model.name_or_path"), truncation_side="left")
        return tokenizer(some, truncation=True, max_length=24)["input_ids"]

    monkeypatch.setattr(adaptation, "adapt", note)
    with pytest.raises(KeyboardInterrupt):
        run(overrides, tmp_path / "run", f"data.unlabeled={tmp_path}/texts.jsonl")
    assert len(seen["labelled"]) == 8
    assert len(seen["test"]) == 30
    assert seen["labelled"] <= seen["trained"]
    assert not seen["trained"] & seen["held out"]
    assert not (seen["trained"] | seen["held out"]) & seen["test"]


def test_micro_batches_have_the_gradient_of_the_mean_over_all_hidden_tokens(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients: list[torch.Tensor] = []

    def note(run: adaptation.Adaptation) -> adaptation.AdaptProgress:
        rows = np.arange(10)
        for size in (None, 3):
            run.train.micro_batch_size = size
            outcome = adaptation.run_step(run, rows, 4)
            gradients.append(torch.cat([one.grad.flatten() for one in run.model.parameters()]))
            run.model.zero_grad()
        block = run.corpus.masked(rows, lambda row: np.random.default_rng((run.seed, 4, row)))
        logits = run.model(input_ids=block.tokens.ids, attention_mask=block.tokens.mask).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits[block.places], block.targets)
        loss.backward()
        gradients.append(torch.cat([one.grad.flatten() for one in run.model.parameters()]))
        assert float(outcome.metrics["loss/masked_lm"]) == pytest.approx(float(loss.detach()))
        raise KeyboardInterrupt

    monkeypatch.setattr(adaptation, "adapt", note)
    with pytest.raises(KeyboardInterrupt):
        run(overrides, tmp_path / "run")
    for one in gradients[:2]:
        torch.testing.assert_close(one, gradients[2], rtol=1e-4, atol=1e-6)


def test_a_run_stopped_between_checkpoints_ends_as_if_it_never_was(
    adapted: Path, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = adaptation.run_step

    def stop(run: adaptation.Adaptation, rows: np.ndarray, number: int) -> Any:
        if number == 14:
            raise KeyboardInterrupt
        return step(run, rows, number)

    monkeypatch.setattr(adaptation, "run_step", stop)
    with pytest.raises(KeyboardInterrupt):
        run(overrides, tmp_path / "run", "train.checkpoint_every=6")
    monkeypatch.setattr(adaptation, "run_step", step)
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"step-6", "step-12"}
    run(overrides, tmp_path / "run", "train.checkpoint_every=6")
    assert numbers(tmp_path / "run") == numbers(adapted)


def test_a_finished_run_is_refused_and_classifies_nothing(adapted: Path, overrides: list[str]) -> None:
    with pytest.raises(UserError) as error:
        run(overrides, adapted)
    after = json.loads((adapted / "metrics.json").read_text())["after"]["perplexity"]
    assert str(error.value) == (
        f"Expected a run directory without a finished run, found one in {adapted} (perplexity {after:.2f}). Set "
        "train.overwrite=true to start anew, or hydra.run.dir=DIR to write elsewhere."
    )
    message = (
        "Expected a run of uda.train, found one of uda.adapt, which has no classes. Train from its model: python -m "
        "uda.train model.name_or_path=RUN/model, with the other overrides that it was adapted by."
    )
    for command, module in (("evaluate", uda.evaluate), ("predict", uda.predict)):
        places = [f"input={__file__}", "output=labels.csv"] if command == "predict" else []
        with pytest.raises(UserError) as error:
            module.run(compose(command, [f"run={adapted}", *places]))
        assert str(error.value) == message


BAD = {
    "no step": (["adapt.num_steps=0"], "adapt.num_steps: expected at least 1, found 0. Set adapt.num_steps to such a"),
    "no text a step": (["adapt.batch_size=0"], "adapt.batch_size: expected at least 1, found 0. Set adapt.batch_size"),
    "share of 1": (
        ["adapt.mask_share=1"],
        "adapt.mask_share: expected a share above 0 and below 1, found 1. Set adapt.mask_share=0.15.",
    ),
    "share of 0": (["adapt.mask_share=0"], "adapt.mask_share: expected a share above 0 and below 1, found 0. Set"),
    "no rate": (
        ["adapt.learning_rate=0"],
        "adapt.learning_rate: expected a rate above 0, found 0. Set adapt.learning_rate=5e-5.",
    ),
    "warm-up": (
        ["adapt.warmup=20"],
        "adapt.warmup: expected fewer whole steps than adapt.num_steps=20, or below 1 a share of them, found 20. "
        "Correct it.",
    ),
    "compiled": (
        ["train.compile=inductor"],
        "train.compile: expected null, since uda.adapt compiles no passes, found inductor. Leave it out.",
    ),
    "nothing held out": (["adapt.num_held_out=0"], "adapt.num_held_out: expected at least 1, found 0. Set"),
    "no texts": (
        ["data.unlabeled=null", "data.num_labeled=null"],
        "Expected at least 10 unlabelled texts to adapt to, of which one is held out, found 0. Set data.unlabeled, or "
        "lower data.num_labeled so that rows are left over.",
    ),
    "too few texts": (
        ["adapt.batch_size=63"],
        "Expected at least the texts of one step to adapt to (adapt.batch_size=63), found 62 beside the 6 that are "
        "held out. Give more in data.unlabeled, or lower adapt.batch_size.",
    ),
    "no marks of words": (
        ["adapt.whole_words=true"],
        "adapt.whole_words=true: expected a tokenizer that marks where words begin or go on (##, Ġ or ▁), found no "
        "such mark in its vocabulary. Set adapt.whole_words=false.",
    ),
}


@pytest.fixture(scope="module")
def config(overrides: list[str]) -> DictConfig:
    return compose("adapt", [*overrides, "train.precision=fp32"])


@pytest.mark.parametrize(("wrong", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_the_directory_is_made(
    wrong: list[str], message: str, config: DictConfig, tmp_path: Path
) -> None:
    given = OmegaConf.from_dotlist([*wrong, f"run_dir={tmp_path}/run"])
    with pytest.raises(UserError) as error:
        uda.adapt.run(DictConfig(OmegaConf.merge(config, given)))
    assert str(error.value).startswith(message)
    assert not (tmp_path / "run").exists()


def test_a_setting_of_the_training_is_refused_and_what_has_no_effect_is_warned_of(
    config: DictConfig, caplog: pytest.LogCaptureFixture
) -> None:
    settings = read_adapt(config)
    check_adapt(settings, ["+experiment=imdb", "train.precision=fp32", "objective=uda", "adapt.num_steps=3"])
    assert caplog.messages == ["objective=uda has no effect on adaptation"]
    for key, advice in (
        ("num_steps", "Set adapt.num_steps, or leave it out."),
        ("unlabeled_ratio", "Leave it out."),
    ):
        with pytest.raises(UserError) as error:
            check_adapt(settings, [f"train.{key}=3"])
        assert str(error.value) == (
            f"train.{key}: expected a setting that uda.adapt reads (adapt.* and train.micro_batch_size, schedule, "
            "weight_decay, max_grad_norm, precision, gradient_checkpointing, eval_batch_size, checkpoint_every, "
            f"keep_checkpoints, log_every, process_timeout, overwrite), found train.{key}, which is for the training "
            f"after it. {advice}"
        )


def test_many_passes_are_warned_of(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(run: adaptation.Adaptation) -> adaptation.AdaptProgress:
        raise KeyboardInterrupt

    monkeypatch.setattr(adaptation, "adapt", stop)
    with pytest.raises(KeyboardInterrupt):
        run(overrides, tmp_path / "run", "adapt.num_steps=200")
    assert (
        "adapt.num_steps=200 pass each of the 62 texts 26 times: the encoder may learn them by heart. Compare the "
        "held-out perplexities along the way (adapt.eval_every), and lower adapt.num_steps where they rise"
    ) in caplog.messages


def command(overrides: list[str], folder: Path, *others: str) -> list[str]:
    settings = [*overrides, "train.precision=fp32", "train.checkpoint_every=5", f"hydra.run.dir={folder}", *others]
    return ["-m", "uda.adapt", *settings]


@pytest.mark.slow
def test_a_signal_during_the_last_checkpoint_ends_the_run(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = adaptation._save

    def stopped(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)

    monkeypatch.setattr(adaptation, "_save", stopped)
    more = ["adapt.num_steps=3", "adapt.eval_every=null"]
    with pytest.raises(cli.Interrupted, match="stopped by SIGTERM"):
        run(overrides, tmp_path / "run", *more)
    monkeypatch.undo()
    run(overrides, tmp_path / "run", *more)
    assert "resuming after step 3" in (tmp_path / "run/adapt.log").read_text()


@pytest.mark.slow
def test_kill_and_sigterm_leave_no_trace(adapted: Path, overrides: list[str], tmp_path: Path, zygote: Any) -> None:
    """Real processes: one killed at its first checkpoint, one stopped by SIGTERM; the third ends as if alone."""
    folder = tmp_path / "run"
    steps = ["adapt.num_steps=250", "adapt.eval_every=null"]

    def start(where: Path) -> Any:
        return zygote.start(*command(overrides, where, *steps), cwd=tmp_path, log=tmp_path / "log")

    def reached(number: int) -> bool:
        return any(int(path.name[5:]) >= number for path in (folder / "checkpoints").glob("step-*"))

    for sent, number, code in ((signal.SIGKILL, 5, -9), (signal.SIGTERM, 30, 143)):
        process = start(folder)
        while not reached(number):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(sent)
        assert process.wait() == code
    assert start(folder).wait() == 0
    run([one for one in overrides if not one.startswith("adapt.eval")], tmp_path / "whole", *steps)
    assert numbers(folder) == numbers(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_do_what_one_does(
    adapted: Path, overrides: list[str], launch: Callable[..., Any], tmp_path: Path
) -> None:
    launch(2, *command(overrides, tmp_path / "two")).finish()
    one, two = (load_file(folder / "model/model.safetensors") for folder in (adapted, tmp_path / "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    first, second = (numbers(folder)[1] for folder in (adapted, tmp_path / "two"))
    assert second["num_processes"] == 2
    for mine, theirs in zip(first["evaluations"], second["evaluations"], strict=True):
        assert theirs["perplexity"] == pytest.approx(mine["perplexity"], rel=1e-3)
