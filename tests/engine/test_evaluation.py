"""Scores by hand, and predictions that do not depend on batches or order."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from uda.data.settings import Truncation
from uda.data.tokens import tokenize
from uda.engine.evaluation import expected_calibration_error, predict, score
from uda.engine.model import load_classifier
from uda.engine.process import Process
from uda.engine.settings import ModelSettings, Pooling, Precision
from uda.engine.tokenizer import load_tokenizer

PROBS = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 0])


def test_scores_by_hand() -> None:
    """Rows 0 and 2 are right. Per class: precision 1/2, recall 1/2, F1 1/2."""
    scores = score(PROBS, LABELS, ["neg", "pos"])
    assert (scores["accuracy"], scores["error"], scores["macro_f1"], scores["num_rows"]) == (0.5, 0.5, 0.5, 4)
    assert scores["nll"] == pytest.approx(
        -(math.log(0.9) + math.log(0.4) + math.log(0.8) + math.log(0.3)) / 4, rel=1e-6
    )
    assert scores["per_class"]["pos"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}


def test_macro_f1_counts_a_class_that_is_never_predicted_as_zero() -> None:
    probs = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])
    labels = np.array([0, 1, 2])
    scores = score(probs, labels, ["a", "b", "c"])
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, probs.argmax(1), average="macro"))


def test_calibration_error_by_hand() -> None:
    """Confidences 0.9 (right), 0.6 (wrong), 0.8 (right), 0.7 (wrong) lie in four of 15 bins: gaps .1, .6, .2, .7."""
    assert expected_calibration_error(PROBS, LABELS) == pytest.approx((0.1 + 0.6 + 0.2 + 0.7) / 4, rel=1e-6)


def test_calibration_error_of_one_bin_and_at_its_edges() -> None:
    """All in the last bin (14/15, 1]: |3/4 - 1| = 1/4; and a confidence on an edge belongs to the bin below it."""
    ones = np.array([[1.0, 0.0]] * 4)
    assert expected_calibration_error(ones, np.array([0, 0, 0, 1])) == pytest.approx(0.25)
    edge = np.array([[0.6, 0.4], [0.59, 0.41]])  # 0.6 = 9/15: both in the bin (8/15, 9/15]
    assert expected_calibration_error(edge, np.array([0, 1])) == pytest.approx(abs(0.4 - 0.59) / 2)


def test_predictions_do_not_depend_on_batches(tiny_bert, tmp_path) -> None:
    settings = ModelSettings(str(tiny_bert), pooling=Pooling.mean)
    tokenizer = load_tokenizer(str(tiny_bert), settings, 24, Truncation.tail)
    torch.manual_seed(0)
    model = load_classifier(str(tiny_bert), settings, ["neg", "pos"]).train()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["good", "bad", "film", "plot"], size=size)) for size in rng.integers(1, 40, size=37)]
    store = tokenize(texts, tokenizer, 24, Truncation.tail, tmp_path)
    process = Process.start(Precision.fp32)
    model.to(process.device)
    batched = predict(model, store, tokenizer.pad_token_id, 8, process)
    assert model.training  # as it was
    model.eval()
    for row, text in enumerate(texts):
        with torch.no_grad():
            inputs = tokenizer(text, return_tensors="pt", truncation=True).to(process.device)
            alone = torch.softmax(model(**inputs).logits, dim=-1)[0].cpu()
        assert batched[row] == pytest.approx(alone.numpy(), abs=1e-6)
