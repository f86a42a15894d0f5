"""Encoders and heads: pooling by hand, the start from descriptions, export for the pipeline."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

import uda.train
from uda.config import compose
from uda.data.batches import pad_rows
from uda.data.settings import Truncation
from uda.engine import training
from uda.engine.masked_lm import load_masked_lm
from uda.engine.model import (
    classifier_layer,
    compiled,
    enable_gradient_checkpointing,
    load_classifier,
    quiet_transformers,
    start_head_from_descriptions,
)
from uda.engine.settings import ModelSettings, Pooling
from uda.engine.tokenizer import load_tokenizer
from uda.errors import UserError

NAMES = ["neg", "so-so", "pos"]
TEXTS = ["good film.", "bad", "a very long story, sad and dull: " + "the plot was bad " * 20]


def load(folder, pooling: Pooling, **changes):
    torch.manual_seed(0)
    settings = ModelSettings(str(folder), pooling=pooling, **changes)
    return load_classifier(str(folder), settings, NAMES), load_tokenizer(str(folder), settings, 16, Truncation.tail)


def test_mean_and_first_token_pooling_by_hand(tiny_bert) -> None:
    encoder = BertModel.from_pretrained(tiny_bert).eval()
    ids, mask = torch.tensor([[2, 9, 8, 3], [2, 7, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        features = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        mean, _ = load(tiny_bert, Pooling.mean)
        first, _ = load(tiny_bert, Pooling.cls)
        torch.testing.assert_close(
            mean.eval().pool(ids, mask), torch.stack([features[0].mean(0), features[1, :3].mean(0)])
        )
        torch.testing.assert_close(first.eval().pool(ids, mask), features[:, 0])


@pytest.mark.parametrize("pooling", list(Pooling))
def test_a_new_head_is_truncated_normal(tiny_bert, pooling) -> None:
    model, _ = load(tiny_bert, pooling)
    head = classifier_layer(model)
    assert head.weight.shape == (3, 32)
    assert head.weight.abs().max() <= 0.04
    assert 0.01 < head.weight.std() < 0.03
    assert not head.bias.any()


def test_dropout_settings_reach_the_encoder(tiny_bert) -> None:
    model, _ = load(tiny_bert, Pooling.mean, dropout=0.3, attention_dropout=0.0)
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert rates["dropout"] == 0.3
    assert rates["encoder.embeddings.dropout"] == 0.3
    assert rates["encoder.encoder.layer.0.attention.self.dropout"] == 0.0


def test_a_checkpoint_that_answers_in_tuples_is_asked_by_name(tiny_bert, tmp_path) -> None:
    """`return_dict: false` stands in configs of older checkpoints."""
    shutil.copytree(tiny_bert, tmp_path / "bert")
    config = json.loads((tmp_path / "bert/config.json").read_text())
    (tmp_path / "bert/config.json").write_text(json.dumps({**config, "return_dict": False}))
    ids = torch.tensor([[2, 8, 9, 3]])
    for pooling in Pooling:
        assert load(tmp_path / "bert", pooling)[0](input_ids=ids).logits.shape == (1, 3)
    adapted, _ = load_masked_lm(str(tmp_path / "bert"), ModelSettings(str(tmp_path / "bert")))
    assert adapted(input_ids=ids).logits.shape[:2] == (1, 4)


def test_the_head_starts_from_descriptions(tiny_bert) -> None:
    """scale * (mean of the normalised embeddings - mean over labels), against numpy."""
    model, tokenizer = load(tiny_bert, Pooling.mean)
    sentences = {"neg": ["bad film.", "awful"], "so-so": ["a film"], "pos": ["great", "good film.", "very good"]}
    tokens = {
        name: pad_rows([np.array(tokenizer(text)["input_ids"]) for text in texts], 0)
        for name, texts in sentences.items()
    }
    start_head_from_descriptions(model, tokens, 10.0, NAMES)
    rows = []
    for name in NAMES:
        embeddings = []
        for text in sentences[name]:
            inputs = tokenizer(text, return_tensors="pt")
            with torch.no_grad():
                vector = model.pool(inputs["input_ids"], inputs["attention_mask"])[0].numpy().astype(np.float64)
            embeddings.append(vector / np.linalg.norm(vector))
        rows.append(np.mean(embeddings, axis=0))
    expected = 10 * (np.array(rows) - np.mean(rows, axis=0))
    assert model.classifier.weight.detach().numpy() == pytest.approx(expected, abs=1e-5)
    assert not model.classifier.bias.any()


def test_the_tokenizer_keeps_our_length_and_side_not_its_own(tiny_bert, tmp_path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.backend_tokenizer.enable_truncation(max_length=4)
    tokenizer.backend_tokenizer.enable_padding(length=12)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path), ModelSettings(str(tmp_path)), 16, Truncation.tail)
    assert len(loaded("good " * 9)["input_ids"]) == 11
    loaded.save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    ids = again("bad " + "good " * 30 + "great", truncation=True)["input_ids"]
    assert len(ids) == 16
    assert again.decode(ids).split()[-2:] == ["great", "[SEP]"]


@pytest.mark.parametrize("pooling", list(Pooling))
def test_the_exported_folder_serves_the_pipeline(tiny_bert, tmp_path, pooling) -> None:
    from transformers import pipeline

    quiet_transformers()
    model, tokenizer = load(tiny_bert, pooling)
    model.eval().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    answers = pipeline("text-classification", str(tmp_path), truncation=True, top_k=None)(TEXTS)
    for text, answer in zip(TEXTS, answers, strict=True):
        with torch.no_grad():
            probs = torch.softmax(model(**tokenizer(text, return_tensors="pt", truncation=True)).logits, dim=-1)[0]
        found = {entry["label"]: entry["score"] for entry in answer}
        assert [found[name] for name in NAMES] == pytest.approx(probs.tolist(), abs=1e-5)


@pytest.mark.slow
def test_a_pooled_model_loads_without_uda_by_its_own_code(tiny_bert, tmp_path) -> None:
    """Another process that never imports uda, with trust_remote_code."""
    model, tokenizer = load(tiny_bert, Pooling.mean)
    model.eval().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    script = (
        "import sys; from transformers import pipeline\n"
        "p = pipeline('text-classification', 'model', truncation=True, trust_remote_code=True, top_k=None)\n"
        "assert 'uda' not in sys.modules\n"
        "print(sorted((a['label'], round(a['score'], 5)) for a in p(['good film.'])[0]))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        probs = torch.softmax(model(**tokenizer("good film.", return_tensors="pt")).logits, dim=-1)[0].tolist()
    found = [score for _, score in eval(done.stdout.strip().splitlines()[-1])]
    assert found == pytest.approx([probs[0], probs[2], probs[1]], abs=2e-5)


def test_a_folder_without_tokenizer_or_encoder_is_named(tiny_bert, tmp_path) -> None:
    BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)).save_pretrained(
        tmp_path / "no-tokenizer"
    )
    with pytest.raises(UserError, match=r"model.name_or_path: expected a tokenizer|Expected a tokenizer"):
        load_tokenizer(str(tmp_path / "no-tokenizer"), ModelSettings("x"), 16, Truncation.tail)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"model.name_or_path: expected an encoder at .*, found: "):
        load_classifier(str(tmp_path / "empty"), ModelSettings("x"), NAMES)


def test_a_dropout_that_the_encoder_lacks_is_refused(tmp_path) -> None:
    from uda.engine.model import set_dropout

    class Config:
        model_type = "strange"

    with pytest.raises(UserError, match=r"model.dropout: expected an encoder with such a setting.*model.dropout=null"):
        set_dropout(Config(), ModelSettings("x", dropout=0.1))


def test_evaluations_during_training_use_the_faster_attention(tiny, tmp_path, monkeypatch) -> None:
    seen = []
    predict = training.predict

    def noted(model, *others):
        seen.append(model.base_model.config._attn_implementation)
        return predict(model, *others)

    monkeypatch.setattr(training, "predict", noted)
    uda.train.run(compose("train", [*tiny, "train.eval_every=null", f"hydra.run.dir={tmp_path / 'run'}"]))
    assert seen == ["sdpa"]


def test_an_encoder_that_cannot_compute_its_layers_again(tiny_bert) -> None:
    model, _ = load(tiny_bert, Pooling.mean)
    model.base_model.supports_gradient_checkpointing = False
    with pytest.raises(UserError, match=r"found 'bert', which cannot\. Set train\.gradient_checkpointing=false"):
        enable_gradient_checkpointing(model)


def test_a_backend_that_torch_does_not_know(tiny_bert) -> None:
    model, _ = load(tiny_bert, Pooling.mean)
    with pytest.raises(UserError, match=r"found 'inducter'\. Did you mean 'inductor'"):
        compiled(model, "inducter")
