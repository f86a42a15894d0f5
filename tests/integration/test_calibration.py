"""Runs whose confidence is calibrated: on dev rows, on folds of the labelled rows, or not at all."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from scipy.special import softmax

import uda.calibrate
import uda.engine.training
import uda.train
from uda.config import compose, read_train
from uda.data.splits import Split, load_split
from uda.engine.calibration import fit_temperature
from uda.engine.signals import Stop
from uda.engine.step import run_step
from uda.errors import UserError


def run(overrides: list[str], folder: Path) -> dict[str, Any]:
    uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}"]))
    return json.loads((folder / "metrics.json").read_text())


def probabilities(folder: Path) -> np.ndarray:
    return pd.read_parquet(folder / "predictions.parquet")[["probability_neg", "probability_pos"]].to_numpy()


@pytest.fixture
def with_dev(tiny: list[str], review_files: Path, reviews: Any) -> list[str]:
    """Reviews of which every fourth label is wrong, so that no temperature is right by chance."""
    dev = reviews(40, 5, "d")
    dev.loc[::4, "label"] = dev.loc[::4, "label"].map({"neg": "pos", "pos": "neg"})
    dev.to_csv(review_files / "dev.csv", index=False)
    return [*tiny, f"data.dev={review_files}/dev.csv", "train.calibration=auto"]


@pytest.mark.slow
def test_dev_rows_set_the_temperature_of_everything_that_is_written(with_dev: list[str], tmp_path: Path) -> None:
    import torch
    from transformers import pipeline

    raw = run([*with_dev, "train.calibration=none"], tmp_path / "raw")
    metrics = run(with_dev, tmp_path / "run")
    calibration = metrics["calibration"]
    assert calibration["method"] == "dev"
    assert calibration["num_rows"] == 40
    temperature = calibration["temperature"]
    assert temperature != 1
    assert calibration["interval"][0] <= temperature <= calibration["interval"][1]
    assert "40 held-out rows leave the temperature uncertain" in calibration["note"]
    # the same weights, but for the last layer
    expected = softmax(np.log(probabilities(tmp_path / "raw").astype(float)) / temperature, axis=1)
    np.testing.assert_allclose(probabilities(tmp_path / "run"), expected, atol=1e-5)
    assert calibration["before"] == {key: raw["selected"][key] for key in ("nll", "ece")}
    assert calibration["after"] == {key: metrics["selected"][key] for key in ("nll", "ece")}
    assert metrics["final"] == raw["final"]
    assert metrics["selected"]["accuracy"] == raw["selected"]["accuracy"]
    texts = list(pd.read_parquet(next(tmp_path.glob("test.parquet"))).text)
    classify = pipeline("text-classification", str(tmp_path / "run/model"), truncation=True, top_k=None)
    with torch.inference_mode():
        answers = [{one["label"]: one["score"] for one in answer} for answer in classify(texts)]
    found = np.array([[answer["neg"], answer["pos"]] for answer in answers])
    np.testing.assert_allclose(found, probabilities(tmp_path / "run"), atol=1e-5)


def test_the_temperature_is_that_of_the_dev_rows(
    with_dev: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(uda.calibrate, "fit_temperature", lambda *args: seen.append(args) or fit_temperature(*args))
    metrics = run([*with_dev, "train.select=best"], tmp_path / "run")
    ((probs, labels),) = seen
    assert len(labels) == 40
    best = next(entry for entry in metrics["evaluations"] if entry["step"] == metrics["best"]["step"])
    assert best["set"] == "dev"
    assert (probs.argmax(axis=1) == labels).mean() == pytest.approx(best["accuracy"])
    assert "the same dev rows chose the weights" in metrics["calibration"]["note"]


@pytest.mark.slow
def test_without_dev_rows_the_log_says_that_nothing_is_calibrated(
    tiny: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the embedded experiment has it; and whatever is asked, where a class has one text alone."""
    with caplog.at_level(logging.INFO, "uda"):
        metrics = run(tiny, tmp_path / "run")
    assert metrics["calibration"]["method"] == "none"
    assert metrics["calibration"]["interval"] is None
    alone = run([*tiny, "data.num_labeled=2", "train.calibration=auto", "train.num_steps=4"], tmp_path / "alone")
    assert alone["calibration"]["method"] == "none"
    assert metrics["calibration"]["temperature"] == 1
    assert metrics["selected"] == metrics["final"]
    assert "train.calibration=folds" in caplog.text
    card = ModelCard.load(tmp_path / "run/model/README.md")
    assert "Not calibrated" in card.text
    assert card.data.eval_results[0].metric_value == metrics["selected"]["accuracy"]
    assert Image.open(tmp_path / "run/reliability.png").size[0] > 300


@pytest.fixture
def splits(monkeypatch: pytest.MonkeyPatch) -> list[Split]:
    """The split of each training, the main one first."""
    found: list[Split] = []
    build_training = uda.calibrate.build.build_training
    monkeypatch.setattr(
        uda.calibrate.build, "build_training", lambda *args: found.append(args[1]) or build_training(*args)
    )
    return found


@pytest.mark.slow
def test_without_dev_rows_auto_takes_as_many_folds_as_the_rarest_class_bears(
    tiny: list[str], tmp_path: Path, splits: list[Split]
) -> None:
    short = ["train.calibration=auto", "train.num_steps=4", "train.calibration_folds=3", "data.num_labeled=4"]
    metrics = run([*tiny, *short], tmp_path / "run")
    assert metrics["calibration"]["method"] == "folds"
    assert metrics["calibration"]["num_rows"] == 4
    assert [len(split.labeled) for split in splits] == [4, 2, 2]


@pytest.mark.slow
def test_each_fold_is_answered_by_a_model_trained_without_it(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: list[Split]
) -> None:
    prepared, trained_on = [], uda.calibrate._trained_on

    def counted(*args: Any) -> np.ndarray:
        answers = trained_on(*args)
        prepared.append(len(args[3].accelerator._models))
        return answers

    monkeypatch.setattr(uda.calibrate, "_trained_on", counted)
    folds = [*tiny, "train.calibration=folds", "train.calibration_folds=2"]
    folds += ["train.select=best", "data.keep_labeled=true"]
    metrics = run(folds, tmp_path / "run")
    main, *without = splits
    held_out = [index for split in without for index in split.test.index]
    assert sorted(held_out) == sorted(main.labeled.index)
    for split in without:
        assert not set(split.test.index) & set(split.labeled.index)
        assert len(split.labeled) + len(split.test) == len(main.labeled)
        assert split.dev is None
    assert metrics["calibration"]["method"] == "folds"
    assert metrics["calibration"]["num_rows"] == 8
    assert "not of the best one; the held-out texts were among the unlabelled" in metrics["calibration"]["note"]
    assert prepared == [0, 0]
    assert not (tmp_path / "run/calibration").exists()


@pytest.mark.slow
def test_a_finished_fold_is_not_trained_again(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folds = [*tiny, "train.calibration=folds", "train.calibration_folds=2", "train.checkpoint_every=20"]
    undisturbed = run(folds, tmp_path / "whole")
    trained_on, calls = uda.calibrate._trained_on, []

    def stopped_in_the_second(*args: Any) -> np.ndarray:
        calls.append(args[-1].name)
        if len(calls) == 2:
            raise Stop(15)
        return trained_on(*args)

    monkeypatch.setattr(uda.calibrate, "_trained_on", stopped_in_the_second)
    with pytest.raises(BaseException, match="stopped by SIGTERM") as stopped:
        run(folds, tmp_path / "run")
    assert stopped.value.exit_code == 143
    resumed = run(folds, tmp_path / "run")
    assert calls == ["fold-1", "fold-2", "fold-2"]
    assert resumed["calibration"] == undisturbed["calibration"]


@pytest.mark.slow
def test_without_checkpoints_a_stop_in_the_folds_keeps_the_training_before_them(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folds = [*tiny, "train.calibration=folds", "train.calibration_folds=2", "train.checkpoint_every=null"]
    trained_on, calls, trained = uda.calibrate._trained_on, [], []

    def stopped_in_the_second(*args: Any) -> np.ndarray:
        calls.append(args[-1].name)
        if len(calls) == 2:
            raise Stop(15)
        return trained_on(*args)

    monkeypatch.setattr(uda.calibrate, "_trained_on", stopped_in_the_second)
    monkeypatch.setattr(uda.engine.training, "run_step", lambda *args: trained.append(1) or run_step(*args))
    with pytest.raises(BaseException, match="goes on from the checkpoint"):
        run(folds, tmp_path / "run")
    del trained[:]
    with caplog.at_level(logging.INFO, "uda"):
        run(folds, tmp_path / "run")
    assert calls == ["fold-1", "fold-2", "fold-2"]
    assert "held-out accuracy" in caplog.text
    num_steps = read_train(compose("train", folds)).train.num_steps
    assert len(trained) == num_steps  # of the second fold alone


@pytest.mark.slow
def test_a_class_without_dev_rows_is_named(with_dev: list[str], review_files: Path, tmp_path: Path) -> None:
    dev = pd.read_csv(review_files / "dev.csv")
    dev[dev.label == "pos"].to_csv(review_files / "dev.csv", index=False)
    assert "no dev row is of 'neg'" in run(with_dev, tmp_path / "run")["calibration"]["note"]


@pytest.mark.parametrize(
    ("override", "expected", "found", "do"),
    [
        ("train.calibration=dev", "expected dev rows", "found none", "Set data.dev"),
        ("train.calibration=folds", "labelled texts of each class", "found 4", "Lower train.calibration_folds"),
        ("train.calibration_folds=1", "expected at least 2", "found 1", "Set train.calibration_folds"),
    ],
)
def test_a_calibration_without_rows_is_refused_before_training(
    tiny: list[str], tmp_path: Path, override: str, expected: str, found: str, do: str
) -> None:
    with pytest.raises(UserError) as error:
        run([*tiny, override], tmp_path / "run")
    for part in (expected, found, do):
        assert part in str(error.value)
    assert not (tmp_path / "run").exists()


def test_folds_are_of_texts_not_of_rows(tiny: list[str], review_files: Path, reviews: Any, tmp_path: Path) -> None:
    """Four texts, each three times: two folds hold out one text of each class, three are too many."""
    rows = pd.concat([reviews(4, 1, "l")] * 3)
    rows.to_csv(review_files / "train.csv", index=False)
    folds = [*tiny, "data.num_labeled=null", "train.calibration=folds"]
    with pytest.raises(UserError, match="found 2 of the rarest"):
        run([*folds, "train.calibration_folds=3"], tmp_path / "run")
    split = load_split(read_train(compose("train", folds)).data)
    folded = list(split.labeled.folded)
    numbers = uda.calibrate.fold_of_rows(folded, split.labeled.label.to_numpy(), 2, 0)
    assert len({(text, fold) for text, fold in zip(folded, numbers, strict=True)}) == 4
    assert np.bincount(numbers).tolist() == [6, 6]


@pytest.mark.slow
def test_the_card_names_each_source_and_how_test_rows_were_held_out(tiny: list[str], tmp_path: Path) -> None:
    overrides = [one for one in tiny if not one.startswith(("data.test=", "data.num_labeled="))]
    run([*overrides, "data.test_share=0.2"], tmp_path / "run")
    card = ModelCard.load(tmp_path / "run/model/README.md")
    assert "On 8 test rows (a share of 0.2 of the labelled rows, which training did not see)" in card.text
    assert "on 32 labelled rows of <code>train.csv</code>" in card.text
    assert "and 60 unlabelled rows of <code>unlabeled.jsonl</code>." in card.text
    assert card.data.base_model is None
