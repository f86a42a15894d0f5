"""What stands in TensorBoard, as its own reader and its own Markdown see it."""

import html
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard import plugin_util
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from torch.utils.tensorboard import SummaryWriter

import uda.train
from uda import config
from uda.config import compose
from uda.engine import training
from uda.engine.flops import PassCost
from uda.engine.process import Process
from uda.engine.settings import Precision
from uda.engine.step import StepOutcome
from uda.engine.tracking import SamplePair, Tracker, Work, as_cell, class_mix, tags, write_hparams, write_image
from uda.hparams import hparams

WORK = Work(PassCost(per_token=7.0, per_square=2.0), limit=100.0)
ODD = [
    "a | b || c",
    "<script>alert(1)</script> &amp; <b>",
    "`code` *stars* __lines__ ~~gone~~ # no heading - 1. +",
    "[link](http://example.org) ![image](x) \\ \\| $x^2$",
    "line\nbreak\r\n\n| --- | --- |\ttab",
    "Zürich 体育 😀 “quotes” 'single' \"double\"",
]


def rendered_cells(markdown: str) -> list[list[str]]:
    """The cells of each row of a table, as a browser shows TensorBoard's rendering of it."""
    page = plugin_util.markdown_to_safe_html(markdown)
    rows = re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<t[dh]>(.*?)</t[dh]>", row)] for row in rows]


@pytest.mark.parametrize("text", ODD)
def test_texts_are_shown_as_they_are(text: str) -> None:
    cells = rendered_cells(f"| a | b |\n| --- | --- |\n| {as_cell(text)} | x |")
    assert cells == [["a", "b"], [" ".join(text.split()), "x"]]


def test_control_characters_are_not_shown() -> None:
    assert rendered_cells(f"| a |\n| --- |\n| {as_cell(chr(0) + 'x' + chr(27) + 'y')} |") == [["a"], ["x y"]]


def test_tags_have_no_groups_of_their_own_and_differ() -> None:
    assert tags(["neg", "pos"]) == ["neg", "pos"]
    assert tags(["a/b c", "d"]) == ["a_b_c", "d"]
    assert tags(["a/b", "a b"]) == ["0_a_b", "1_a_b"]
    assert tags(["Größe", "", "!!"]) == ["0_Größe", "1__", "2__"]
    assert all(len(tag) <= 50 for tag in tags(["x" * 100, "x" * 100 + "y"]))


def test_class_mix_is_a_curve_a_class_or_two_numbers() -> None:
    """Entropy in units of log K: of equal shares 1, of one class 0, of two equal ones among 16 log 2 / log 16 = 1/4."""
    assert class_mix(np.array([0.25, 0.75]), ["neg", "pos"]) == {
        "pseudo_labels/neg": 0.25,
        "pseudo_labels/pos": 0.75,
    }
    assert len(class_mix(np.full(10, 0.1), list("abcdefghij"))) == 10

    def mix(*shares: float) -> tuple[float, float]:
        found = class_mix(np.array(shares), [str(number) for number in range(len(shares))])
        assert set(found) == {"pseudo_labels/largest_share", "pseudo_labels/entropy"}
        return found["pseudo_labels/largest_share"], found["pseudo_labels/entropy"]

    assert mix(*[1 / 11] * 11) == pytest.approx((1 / 11, 1))
    assert mix(*[0.01] * 100) == pytest.approx((0.01, 1))
    assert mix(0, 1, *[0] * 9) == pytest.approx((1, 0))
    assert mix(0.5, 0.5, *[0] * 14) == pytest.approx((0.5, 0.25))


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def texts(events: EventAccumulator, tag: str) -> list[tuple[int, str]]:
    """As the pages of TensorBoard read them; the reader of scalars and images lets texts of a killed start stand."""
    pages = plugin_event_accumulator.EventAccumulator(events.path, tensor_size_guidance={"text": 0}).Reload()
    found = pages.Tensors(f"{tag}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found]


def images(events: EventAccumulator, tag: str) -> list[tuple[int, bytes]]:
    return [(event.step, event.encoded_image_string) for event in events.Images(tag)]


def session(folder: Path) -> dict[str, object]:
    """The settings that TensorBoard's page of runs reads."""
    content = read(folder).PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    info = metadata.parse_session_start_info_plugin_data(content)
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in info.hparams.items()}


SCORES = {"accuracy": 0.5, "macro_f1": 0.25, "nll": 0.75, "ece": 0.125, "step": 20}


def test_settings_are_read_back_and_stand_once(tmp_path: Path) -> None:
    folder = tmp_path / "imdb" / "run" / "tensorboard"
    folder.mkdir(parents=True)
    values = {"rate": 1e-3, "steps": 3, "flag": True, "name": "x", "none": None, "list": [1, 2]}
    for accuracy in (0.1, 0.5):  # a run that was killed while it finished does it again
        write_hparams(folder, values, {**SCORES, "accuracy": accuracy})
    assert session(folder) == {"rate": 1e-3, "steps": 3.0, "flag": True, "name": "x", "list": "[1, 2]"}
    events = read(folder)
    content = events.PluginTagToContent("hparams")[metadata.EXPERIMENT_TAG]
    experiment = metadata.parse_experiment_plugin_data(content)
    assert {info.name for info in experiment.hparam_infos} == set(values)
    metrics = ["selected/accuracy", "selected/macro_f1", "selected/nll", "selected/ece"]
    assert [info.name.tag for info in experiment.metric_infos] == metrics
    assert [(event.step, event.value) for event in events.Scalars("selected/accuracy")] == [(20, 0.5)]
    assert [path for path in folder.iterdir() if path.is_dir()] == []  # no run beside the run


def test_a_resume_in_the_same_second_takes_nothing_back_that_the_end_wrote(tmp_path: Path) -> None:
    """TensorBoard reads the files of one second by their numbers, as texts: the 10th stands before the 9th."""
    write_hparams(tmp_path, {"rate": 1e-3}, SCORES)
    write_image(tmp_path, "calibration/reliability", np.zeros((2, 2, 3), dtype=np.uint8), 20)
    with SummaryWriter(str(tmp_path), purge_step=9) as writer:
        writer.add_scalar("loss/total", 0.5, 9)
    events = read(tmp_path)
    assert [event.step for event in events.Scalars("selected/accuracy")] == [20]
    assert [step for step, _ in images(events, "calibration/reliability")] == [20]


def test_all_objectives_name_the_same_settings(tiny: list[str]) -> None:
    def named(objective: str) -> dict[str, object]:
        kept = [item for item in tiny if not item.startswith("objective.")]
        return hparams(config.read_train(compose("train", [*kept, f"objective={objective}"])))

    found = {name: named(name) for name in ("supervised", "uda", "uda_port", "uda_weak_start")}
    assert len({tuple(sorted(settings)) for settings in found.values()}) == 1
    assert [found[name]["objective"] for name in ("supervised", "uda")] == ["Supervised", "UDA"]
    assert found["supervised"]["objective.temperature"] is None
    assert found["uda"]["objective.temperature"] == 0.85
    assert found["uda_weak_start"]["objective.alignment"] == "uniform"
    assert found["uda"]["seed"] == 0
    assert found["uda"]["data.num_labeled"] == 8


def test_speed_is_counted_from_one_look_to_the_next(tmp_path: Path, monkeypatch) -> None:
    """Every second step: 2 * 30 tokens in 3 s. A row of 10 tokens costs 7 * 10 + 2 * 100 FLOP, of a limit of 100/s."""
    clock = iter([0.0, 3.0, 3.0, 10.0])
    monkeypatch.setattr("uda.engine.tracking.time.monotonic", lambda: next(clock))
    outcome = StepOutcome(counts=torch.zeros(6), num_tokens=30, num_slots=40, work_tokens=10, work_squares=100)
    with Tracker(tmp_path, Process.start(Precision.fp32), ["a", "c"], WORK, 0, 4, 2) as tracker:
        tracker.step(1, outcome, 0.1, 1.0)
        tracker.step(2, outcome, 0.1, 1.0)
    events = read(tmp_path)
    found = {name: events.Scalars(f"speed/{name}")[0].value for name in ("tokens_per_second", "utilization")}
    assert found["tokens_per_second"] == pytest.approx(20)
    assert found["utilization"] == pytest.approx(2 * (7 * 10 + 2 * 100) / 3 / 100)
    assert events.Scalars("speed/padding_share")[0].value == pytest.approx(0.25)


def test_a_start_in_the_second_of_another_waits_for_the_next(tmp_path: Path) -> None:
    """Of two files of one second the names say which is read first, 10 before 9, not when they were begun."""
    process = Process.start(Precision.fp32)
    for first_step in (0, 3):
        with Tracker(tmp_path, process, ["a", "b"], WORK, first_step, 10, 1):
            pass
    seconds = [path.name.split(".")[3] for path in tmp_path.iterdir()]
    assert len(set(seconds)) == 2


def test_many_classes_have_no_picture_and_few_have(tmp_path: Path) -> None:
    process = Process.start(Precision.fp32)
    for size in (2, 201):
        names = [f"class {number}" for number in range(size)]
        labels = np.arange(4) % size
        with Tracker(tmp_path / str(size), process, names, WORK, 0, 4, 1) as tracker:
            tracker.evaluation(4, "test", SCORES, labels, np.eye(size, dtype=np.float32)[labels])
    assert [step for step, _ in images(read(tmp_path / "2"), "test/confusion")] == [4]
    assert read(tmp_path / "201").Tags()["images"] == []


def test_sample_pairs_are_a_table(tmp_path: Path) -> None:
    with Tracker(tmp_path, Process.start(Precision.fp32), ["a|b", "c"], WORK, 0, 4, 1) as tracker:
        pair = SamplePair(3, "one | two", "one\n<b>two")
        tracker.samples(4, [pair], np.array([[0.75, 0.25]]), np.array([[0.1, 0.9]]))
    ((step, table),) = texts(read(tmp_path), "samples/pairs")
    assert step == 4
    assert rendered_cells(table) == [
        ["original, teacher", "augmented, student"],
        ["<strong>a|b 75 %</strong><br>one | two", "<strong>c 90 %</strong><br>one <b>two"],
    ]


def run(overrides: list[str], folder: Path) -> EventAccumulator:
    uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}"]))
    return read(folder / "tensorboard")


class PowerCut(BaseException):
    """Nothing tidies up after it."""


@pytest.mark.slow
def test_everything_stands_once_after_a_resume(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off after step 11, resumed from the checkpoint of step 7: steps 8 to 11 and their evaluation come again."""
    overrides = [*tiny, "train.checkpoint_every=7"]
    whole = run(overrides, tmp_path / "whole")
    original = Tracker.step

    def cut(self, step: int, *rest) -> None:
        if step == 12:
            raise PowerCut
        original(self, step, *rest)

    monkeypatch.setattr(training.Tracker, "step", cut)
    with pytest.raises(PowerCut):
        run(overrides, tmp_path / "halves")
    monkeypatch.undo()
    halves = run(overrides, tmp_path / "halves")
    assert [step for step, _ in texts(whole, "samples/pairs")] == [4, 8, 16, 20]
    assert [step for step, _ in images(whole, "test/confusion")] == [8, 16, 20]
    assert texts(halves, "samples/pairs") == texts(whole, "samples/pairs")
    assert images(halves, "test/confusion") == images(whole, "test/confusion")
    assert session(tmp_path / "halves/tensorboard") == session(tmp_path / "whole/tensorboard")
    assert halves.Tags()["scalars"] == whole.Tags()["scalars"]
    for tag in whole.Tags()["scalars"]:
        found, expected = ([(e.step, e.value) for e in events.Scalars(tag)] for events in (halves, whole))
        assert [step for step, _ in found] == [step for step, _ in expected], tag
        assert found == expected or tag.startswith("speed/"), tag


@pytest.mark.slow
def test_the_first_samples_of_a_step_that_is_evaluated_stand_once(tiny: list[str], tmp_path: Path) -> None:
    """The consistency loss begins with step 4, which is evaluated too."""
    events = run([*tiny, "train.eval_every=4", "train.num_steps=8"], tmp_path / "run")
    assert [step for step, _ in texts(events, "samples/pairs")] == [4, 8]
    groups = {tag.partition("/")[0] for tag in events.Tags()["scalars"]}
    assert groups == {"loss", "tsa", "mask", "teacher", "pseudo_labels", "optimizer", "speed", "test", "selected"}
