"""Seven kinds of encoders, each with its own head and with pooled ones: trained, resumed, evaluated, asked, exported.

The probabilities of `predictions.parquet` come from our own passes, those of the pipeline from transformers alone.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

import uda.evaluate
import uda.predict
import uda.train
from uda.config import compose, config_dir
from uda.data.settings import Truncation
from uda.engine import training
from uda.engine.model import classifier_layer, load_classifier
from uda.engine.settings import ModelSettings, Pooling
from uda.engine.tokenizer import fit_tokenizer, load_tokenizer, position_limit
from uda.errors import UserError

KINDS = ["bert", "roberta", "distilbert", "deberta-v2", "electra", "mpnet", "modernbert"]
POOLINGS = [pooling.value for pooling in Pooling]
ALL = [(kind, pooling) for kind in KINDS for pooling in POOLINGS]
# Every pooling and each of the unusual heads; the other pairs are slow together.
FAST = {("bert", "mean"), ("roberta", "head"), ("deberta-v2", "head"), ("electra", "cls"), ("modernbert", "mean")}
every_encoder = pytest.mark.parametrize(
    ("kind", "pooling"), [pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow) for pair in ALL]
)
# What asks the trained model again does so of each kind and each pooling, the slow ones of one pooling a kind.
FEW = [("roberta", "head"), ("deberta-v2", "head"), ("modernbert", "mean")]
SLOW = [("bert", "cls"), ("distilbert", "mean"), ("electra", "head"), ("mpnet", "cls")]
few_encoders = pytest.mark.parametrize(
    ("kind", "pooling"), [*FEW, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW)]
)
# Longer than data.max_length; of tokens that no vocabulary has; of one word.
EXTRA = ["awful " * 40 + "great", "ein Film, 映画 !", "good"]

Train = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def overrides(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Callable[[str], Path], reviews: Callable[..., pd.DataFrame]
) -> Callable[[str, str], list[str]]:
    """`overrides(kind, pooling)`: those of a run of 4 steps, the first one supervised."""
    folder = tmp_path_factory.mktemp("files")
    reviews(16, 1).to_csv(folder / "train.csv", index=False)
    reviews(24, 2).to_csv(folder / "unlabeled.csv", index=False)
    extra = pd.DataFrame({"id": ["a", "b", "c"], "text": EXTRA, "label": ["pos", "neg", "pos"]})
    pd.concat([reviews(9, 3), extra]).to_csv(folder / "test.csv", index=False)

    def overrides(kind: str, pooling: str) -> list[str]:
        return [
            *("+experiment=imdb", "data=files", "data.num_labeled=8", "data.max_length=24", "data.truncation=tail"),
            *(f"data.labeled={folder}/train.csv", f"data.unlabeled={folder}/unlabeled.csv"),
            *(f"data.test={folder}/test.csv", "model=local", f"model.name_or_path={tiny_encoder(kind)}"),
            *(f"model.pooling={pooling}", "objective.supervised_steps=1", "objective.prefill_rows=0"),
            *("train.num_steps=4", "train.batch_size=2", "train.unlabeled_ratio=3", "train.warmup=0"),
            *("train.learning_rate=2e-2", "train.precision=fp32", "train.eval_every=null"),
        ]

    return overrides


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, overrides: Callable[[str, str], list[str]]) -> Train:
    """`trained(kind, pooling)`: the directory of such a run, finished."""

    @cache
    def train(kind: str, pooling: str) -> Path:
        folder = tmp_path_factory.mktemp(f"{kind}-{pooling}") / "run"
        uda.train.run(compose("train", [*overrides(kind, pooling), f"hydra.run.dir={folder}"]))
        return folder

    return train


def rows_of(run: Path) -> list[str]:
    """The test texts of a run."""
    return list(pd.read_csv(yaml.safe_load((run / "config.yaml").read_text())["data"]["test"]).text)


def probabilities(path: Path) -> list[list[float]]:
    table = pd.read_parquet(path / "predictions.parquet")
    return table[["probability_neg", "probability_pos"]].to_numpy().tolist()


def assert_close(answers: list[dict[str, float]], expected: list[list[float]]) -> None:
    found = [[answer["neg"], answer["pos"]] for answer in answers]
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-4)
    assert max(row[0] for row in expected) - min(row[0] for row in expected) > 0.01  # they do depend on the text


@every_encoder
def test_the_pipeline_repeats_the_predictions_of_a_run(trained: Train, kind: str, pooling: str) -> None:
    from transformers import pipeline

    run = trained(kind, pooling)
    classify = pipeline("text-classification", str(run / "model"), truncation=True, top_k=None)
    answers = [{entry["label"]: entry["score"] for entry in answer} for answer in classify(rows_of(run))]
    assert_close(answers, probabilities(run))


def test_an_exported_classifier_is_no_encoder(trained: Train) -> None:
    settings = ModelSettings(str(trained("bert", "mean") / "model"), pooling=Pooling.mean)
    with pytest.raises(UserError, match=r"expected an encoder at .*, found a classifier that uda.train exported. Give"):
        load_classifier(settings.name_or_path, settings, ["neg", "pos"])


@few_encoders
def test_evaluate_repeats_the_predictions_of_a_run(trained: Train, tmp_path: Path, kind: str, pooling: str) -> None:
    run = trained(kind, pooling)
    uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}"]))
    for ours, theirs in zip(probabilities(tmp_path), probabilities(run), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


@few_encoders
def test_predict_gives_the_probabilities_of_a_run(trained: Train, tmp_path: Path, kind: str, pooling: str) -> None:
    run = trained(kind, pooling)
    pd.DataFrame({"text": rows_of(run)}).to_json(tmp_path / "texts.jsonl", orient="records", lines=True)
    output = tmp_path / "labels.parquet"
    uda.predict.run(compose("predict", [f"run={run}", f"input={tmp_path}/texts.jsonl", f"output={output}"]))
    found = pd.read_parquet(output)
    columns = [name for name in found if name.startswith("probability_")]
    expected = pd.read_parquet(run / "predictions.parquet")
    np.testing.assert_allclose(found[columns], expected[columns], atol=1e-5)
    assert list(found.prediction) == list(expected.prediction)


@few_encoders
def test_a_resumed_run_ends_with_the_same_weights(
    trained: Train,
    overrides: Callable[[str, str], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    pooling: str,
) -> None:
    run_step, calls = training.run_step, []

    def stopping(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return run_step(*arguments)

    cfg = compose("train", [*overrides(kind, pooling), f"hydra.run.dir={tmp_path}/run"])
    monkeypatch.setattr(training, "run_step", stopping)
    with pytest.raises(uda.cli.Interrupted):
        uda.train.run(cfg)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-2"]
    uda.train.run(cfg)
    before, after = (load_file(run / "model/model.safetensors") for run in (trained(kind, pooling), tmp_path / "run"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


# Run by another process; prints, for each folder of a model, the labels and scores of the texts of standard input.
ANSWER = """
import json, sys
if {with_uda}:
    import uda
from transformers import pipeline
texts = json.load(sys.stdin)
options = dict(truncation=True, top_k=None, **({{"trust_remote_code": True}} if {trust} else {{}}))
for folder in sys.argv[1:]:
    answers = pipeline("text-classification", folder, **options)(texts)
    print(json.dumps([{{entry["label"]: entry["score"] for entry in answer}} for answer in answers]))
assert {with_uda} or "uda" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("poolings", "with_uda", "trust"),
    [(["head"], False, False), (["mean", "cls"], True, False), (["mean", "cls"], False, True)],
    ids=["plain transformers", "import uda", "trust_remote_code"],
)
def test_another_process_reads_the_exported_models(
    trained: Train, tmp_path: Path, poolings: list[str], with_uda: bool, trust: bool
) -> None:
    runs = [trained(kind, pooling) for kind in KINDS for pooling in poolings]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(config_dir().parent) if with_uda else ""
    done = subprocess.run(
        [sys.executable, "-c", ANSWER.format(with_uda=with_uda, trust=trust), *(str(run / "model") for run in runs)],
        cwd=tmp_path,
        env=environment,
        input=json.dumps(rows_of(runs[0])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for run, line in zip(runs, done.stdout.strip().splitlines()[-len(runs) :], strict=True):
        assert_close(json.loads(line), probabilities(run))


def load(folder: Path, pooling: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    return load_classifier(str(folder), ModelSettings(str(folder), pooling=Pooling[pooling], **settings), ["a", "b"])


@pytest.mark.parametrize("kind", KINDS)
def test_no_dropout_means_none_in_encoder_and_head(tiny_encoder: Callable[[str], Path], kind: str) -> None:
    for pooling in POOLINGS:
        model = load(tiny_encoder(kind), pooling, dropout=0.0, attention_dropout=0.0).train()
        ids = torch.randint(5, 20, (3, 7))
        assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
        model = load(tiny_encoder(kind), pooling, dropout=0.5).train()
        assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_the_classes_have_a_fresh_layer_whatever_its_name(tiny_encoder: Callable[[str], Path], kind: str) -> None:
    """Moving its bias moves the logits alike, so it is the last one; its weights are ours (sigma 0.02, cut at 2)."""
    for pooling in POOLINGS:
        model = load(tiny_encoder(kind), pooling).eval()
        layer, ids = classifier_layer(model), torch.randint(5, 20, (3, 7))
        assert layer.weight.shape == (2, 32)
        assert 0 < layer.weight.abs().max() <= 0.04
        with torch.no_grad():
            before = model(input_ids=ids).logits
            layer.bias += torch.tensor([1.0, -2.0])
            after = model(input_ids=ids).logits
        torch.testing.assert_close(after - before, torch.tensor([[1.0, -2.0]] * 3))


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        # 66 positions less padding's and those before it; rotary positions: the config's; relative ones have no end.
        *(("bert", 64), ("distilbert", 64), ("electra", 64), ("roberta", 64), ("mpnet", 64)),
        *(("modernbert", 64), ("deberta-v2", None)),
    ],
)
def test_position_limit(tiny_encoder: Callable[[str], Path], kind: str, limit: int | None) -> None:
    for pooling in POOLINGS:
        model = load(tiny_encoder(kind), pooling).eval()
        assert position_limit(model) == limit
        logits = model(input_ids=torch.full((1, limit or 100), 6)).logits
        assert torch.isfinite(logits).all()
        if kind in ("bert", "distilbert", "electra", "roberta", "mpnet"):
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, 65), 6))


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "mpnet"])
def test_token_types_that_an_encoder_has_not_are_not_exported(
    tiny_encoder: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    """A tokenizer of BERT's kind beside an encoder without token types, or with one type only."""
    from transformers import AutoTokenizer, pipeline

    bert, folder = tiny_encoder("bert"), tiny_encoder(kind)
    tokenizer = load_tokenizer(str(bert), ModelSettings(str(bert)), 16, Truncation.tail)
    assert "token_type_ids" in tokenizer("a good film", "a bad film")
    model = load(folder, "mean").eval()
    fit_tokenizer(tokenizer, model, 16)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    inputs = AutoTokenizer.from_pretrained(tmp_path)("a good film", "a bad film")
    assert set(inputs) == {"input_ids", "attention_mask"}
    classify = pipeline("text-classification", str(tmp_path), truncation=True)
    assert classify({"text": "a good film", "text_pair": "a bad film"})["label"] in ("a", "b")


def test_token_types_stay_where_an_encoder_has_them(tiny_encoder: Callable[[str], Path]) -> None:
    for kind in ("bert", "electra"):
        folder = tiny_encoder(kind)
        tokenizer = load_tokenizer(str(folder), ModelSettings(str(folder)), 16, Truncation.tail)
        fit_tokenizer(tokenizer, load(folder, "mean"), 16)
        assert "token_type_ids" in tokenizer.model_input_names


def test_another_vocabulary_is_refused(tiny_encoder: Callable[[str], Path]) -> None:
    other = tiny_encoder("roberta")
    tokenizer = load_tokenizer(str(other), ModelSettings(str(other)), 16, Truncation.tail)
    with pytest.raises(UserError) as caught:
        fit_tokenizer(tokenizer, load(tiny_encoder("bert"), "mean"), 16)
    assert str(caught.value) == (
        f"model.name_or_path: expected an encoder with its own tokenizer, found {len(tokenizer)} tokens for 27 "
        "embeddings. Save the tokenizer that the encoder was trained with beside it."
    )


def test_an_encoder_with_a_decoder_is_refused(tiny_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import BartConfig, BartModel

    bert = tiny_encoder("bert")
    tokenizer = load_tokenizer(str(bert), ModelSettings(str(bert)), 16, Truncation.tail)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    config = BartConfig(vocab_size=27, d_model=8, encoder_attention_heads=1, decoder_attention_heads=1, **sizes)
    BartModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError) as caught:
        fit_tokenizer(tokenizer, load(tmp_path, "mean"), 16)
    assert str(caught.value) == (
        "model.name_or_path: expected an encoder of text, found a 'bart'. Choose one such as BERT, RoBERTa or "
        "ModernBERT."
    )


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_attention_that_an_encoder_lacks_is_named(
    tiny_encoder: Callable[[str], Path], kind: str, pooling: str
) -> None:
    with pytest.raises(UserError, match=r"does not support .*and check\s+model\.attention"):
        load(tiny_encoder(kind), pooling, attention="sdpa")
