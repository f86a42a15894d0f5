"""`uda.evaluate`: the run's own test rows, other data, and the pipeline's probabilities."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import uda.evaluate
import uda.train
from uda.config import compose
from uda.engine import evaluation
from uda.engine.process import Process
from uda.errors import UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_bert) -> tuple[Path, Path]:
    """A finished run on IMDb-like rows with markup, and the folder of its files."""
    folder = tmp_path_factory.mktemp("evaluate")
    rng_rows = [
        {"text": f"the film was {word}<br />the plot was {word} \\n {'very ' * number}", "label": label}
        for number in range(12)
        for word, label in (("great", "pos"), ("awful", "neg"))
    ]
    frame = pd.DataFrame(rng_rows)
    frame.iloc[:12].to_csv(folder / "train.csv", index=False)
    frame.iloc[12:].to_csv(folder / "test.csv", index=False)
    overrides = [
        "+experiment=imdb",
        "data=files",
        f"data.labeled={folder}/train.csv",
        f"data.test={folder}/test.csv",
        "data.cleaning=html",
        "data.max_length=12",
        "data.truncation=tail",
        "data.num_labeled=4",
        "model=local",
        "model.pooling=mean",
        f"model.name_or_path={tiny_bert}",
        "objective.supervised_steps=2",
        "train.num_steps=6",
        "train.eval_every=null",
        "train.precision=fp32",
    ]
    uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}/run"]))
    return folder / "run", folder


def test_own_test_rows_give_the_scores_of_the_run(trained, tmp_path) -> None:
    run, _ = trained
    scores = uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}"]))
    final = json.loads((run / "metrics.json").read_text())["final"]
    for name in ("accuracy", "macro_f1", "num_rows", "per_class"):
        assert scores[name] == final[name]
    assert scores["nll"] == pytest.approx(final["nll"], abs=1e-6)
    assert json.loads((tmp_path / "metrics.json").read_text()) == scores
    ours, theirs = (pd.read_parquet(folder / "predictions.parquet") for folder in (tmp_path, run))
    assert list(ours.prediction) == list(theirs.prediction)


def test_the_pipeline_gives_the_same_probabilities(trained, tmp_path) -> None:
    from transformers import pipeline

    from uda.data.cleaning import clean
    from uda.data.settings import Cleaning

    run, folder = trained
    uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}"]))
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    texts = [clean(text, Cleaning.html) for text in pd.read_csv(folder / "test.csv").text]
    answers = pipeline("text-classification", str(run / "model"), truncation=True, top_k=None)(texts)
    for row, answer in enumerate(answers):
        for entry in answer:
            assert table[f"probability_{entry['label']}"][row] == pytest.approx(entry["score"], abs=1e-4)


def test_other_data_with_other_columns_and_labels(trained, tmp_path) -> None:
    run, _ = trained
    rows = {"review": ["great film", "awful plot", "great"], "stars": [1, 0, 0]}
    pd.DataFrame(rows).to_json(tmp_path / "mine.jsonl", orient="records", lines=True)
    overrides = [
        f"run={run}",
        "data=files",
        f"data.test={tmp_path}/mine.jsonl",
        "data.text_column=review",
        "data.label_column=stars",
        "data.label_names=[neg,pos]",
    ]
    scores = uda.evaluate.run(compose("evaluate", [*overrides, f"output={tmp_path}/out"]))
    assert scores["num_rows"] == 3
    assert [scores["per_class"][name]["support"] for name in ("neg", "pos")] == [2, 1]


def test_columns_stand_below_each_other_whatever_the_classes_are_called(capsys) -> None:
    one = {"precision": 0.5, "recall": 1.0, "f1": 0.25, "support": 7}
    scores = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "macro_f1": 0.5, "nll": 1.0, "ece": 0.1}
    names = {"pos": one, "comp.os.ms-windows.misc": one}
    uda.evaluate.show({**scores, "num_rows": 14, "precision": "fp32", "per_class": names, "output": "out"})
    head, *rows = capsys.readouterr().err.splitlines()[2:5]
    assert {row.index(" 50.00 %") + len(" 50.00 %") for row in rows} == {head.index("precision") + len("precision")}


def test_scores_are_not_written_over_those_of_a_run(trained) -> None:
    run, _ = trained
    before = (run / "metrics.json").read_bytes()
    with pytest.raises(UserError, match=r"output: expected a folder that is no run directory, found that of a run, "):
        uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={run}"]))
    assert (run / "metrics.json").read_bytes() == before


def test_a_damaged_model_is_named(trained, tmp_path) -> None:
    import shutil

    run, _ = trained
    shutil.copytree(run, tmp_path / "run")
    weights = tmp_path / "run/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"Expected an exported model in .* as a run writes it, found: "):
        uda.evaluate.run(compose("evaluate", [f"run={tmp_path}/run"]))


def test_bad_input(trained, tmp_path) -> None:
    run, _ = trained
    with pytest.raises(UserError, match=r"run: expected a run directory, found none"):
        uda.evaluate.run(compose("evaluate", []))
    with pytest.raises(UserError, match=r"Expected a run directory with a config.yaml, found none in .*nowhere"):
        uda.evaluate.run(compose("evaluate", [f"run={tmp_path}/nowhere"]))
    with pytest.raises(UserError, match=r"found neither data.test nor data.num_test"):
        uda.evaluate.run(compose("evaluate", [f"run={run}", "data=files"]))
    pd.DataFrame({"text": ["fine"], "label": ["so-so"]}).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(UserError, match=r"labels of data.test to be among \['neg', 'pos'\], found also \['so-so'\]"):
        uda.evaluate.run(compose("evaluate", [f"run={run}", "data=files", f"data.test={tmp_path}/odd.csv"]))


def test_memory_that_is_refused_names_the_setting(trained, tmp_path, monkeypatch) -> None:
    run, _ = trained
    monkeypatch.setattr("uda.engine.evaluation.predict", lambda *_: np.empty(1 << 57))
    with pytest.raises(UserError, match=r"Expected enough memory, found: .*Lower batch_size \(7 rows a pass\)"):
        uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}/new", "batch_size=7"]))
    assert not (tmp_path / "new").exists()


def test_other_data_is_cleaned_as_in_training(trained, tmp_path) -> None:
    """What predict answers and what evaluate scores are the same inputs."""
    run, folder = trained
    own = uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}/own"]))
    other = [f"run={run}", f"output={tmp_path}/o", "data=files", f"data.test={folder}/test.csv", "data.cleaning=none"]
    assert uda.evaluate.run(compose("evaluate", other))["nll"] == own["nll"]


def test_changed_rows_are_no_longer_the_runs_own(trained, tmp_path, caplog) -> None:
    run, folder = trained
    rows = pd.read_csv(folder / "test.csv")
    try:
        rows.iloc[:-1].to_csv(folder / "test.csv", index=False)
        with pytest.raises(UserError, match=r"\(12 rows, split.json\), found others \(11 rows\): the data has changed"):
            uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}/own"]))
    finally:
        rows.to_csv(folder / "test.csv", index=False)
    overrides = [f"run={run}", f"output={tmp_path}/o", "data=files", f"data.test={folder}/train.csv"]
    uda.evaluate.run(compose("evaluate", overrides))
    assert "4 of the 12 test rows are among the run's labelled rows: the score is too good" in caplog.text


def test_several_processes_watch_each_other(trained, tmp_path, monkeypatch) -> None:
    """As those of `uda.train` do, whose watch is tested with real processes; the watch ends with the evaluation."""
    run, _ = trained
    start, seen = Process.start, []

    class Watch:
        def wait_for_all(self) -> None:
            seen.append("meet")

        def stop(self) -> None:
            seen.append("stop")

    def watched(precision, timeout=None):
        seen.append(timeout)
        return dataclasses.replace(start(precision), watch=Watch())

    monkeypatch.setattr(Process, "start", watched)
    uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}", "process_timeout=7"]))
    assert seen == [7, "meet", "meet", "stop", "stop"]
    monkeypatch.setattr(evaluation, "predict", None)
    seen.clear()
    with pytest.raises(TypeError):
        uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}"]))
    assert seen == [600, "meet", "stop"]
