"""`uda.filter`: a foreign corpus in, its most confident rows out, equally many a class, or nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import uda.filter
import uda.predict
import uda.train
from uda.config import compose
from uda.errors import UserError
from uda.locks import alone_at


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_files: list[str]) -> Path:
    """A run whose classes both stand among its answers."""
    folder = tmp_path_factory.mktemp("filter") / "run"
    more = ["objective=supervised", "augment=none", "train.num_steps=30", "train.learning_rate=5e-3"]
    uda.train.run(compose("train", [*tiny_files, *more, f"hydra.run.dir={folder}"]))
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory, reviews: Callable[..., pd.DataFrame]) -> Path:
    """Sixty texts that the run has not seen, three of them blank, with columns of their own."""
    path = tmp_path_factory.mktemp("foreign") / "foreign.csv"
    rows = reviews(60, 9, "f").rename(columns={"label": "stars"})
    rows.loc[[3, 30, 59], "text"] = ""
    rows.to_csv(path, index=False)
    return path


def run(trained: Path, source: Any, output: Any, *others: str) -> uda.filter.Summary:
    return uda.filter.run(compose("filter", [f"run={trained}", f"input={source}", f"output={output}", *others]))


def refusal(*arguments: Any) -> str:
    with pytest.raises(UserError) as error:
        run(*arguments)
    return str(error.value)


def test_against_numpy_on_the_answers_of_predict(
    trained: Path, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Chunks smaller than the corpus; some of them have no row that is kept."""
    monkeypatch.setattr(uda.predict, "_CHUNK_ROWS", 7)
    monkeypatch.setattr(uda.filter, "_CHUNK_ROWS", 7)
    uda.predict.run(compose("predict", [f"run={trained}", f"input={foreign}", f"output={tmp_path}/all.parquet"]))
    table = pd.read_parquet(tmp_path / "all.parquet")
    confidence, answers = table.confidence.to_numpy(), table.prediction.to_numpy()
    expected: list[int] = []
    for name in ("neg", "pos"):
        rows = np.flatnonzero(answers == name)
        expected += rows[np.lexsort((rows, -confidence[rows]))][:3].tolist()
    summary = run(trained, foreign, tmp_path / "kept.parquet", "filter.num_per_class=3")
    kept = pd.read_parquet(tmp_path / "kept.parquet")
    assert list(kept.columns) == ["id", "text", "stars", "prediction", "confidence"]
    pd.testing.assert_frame_equal(
        kept, table.loc[sorted(expected), list(kept.columns)].reset_index(drop=True), check_dtype=False
    )
    assert [(one.label, one.kept) for one in summary.classes] == [("neg", 3), ("pos", 3)]
    assert (summary.rows, summary.blank) == (60, 3)
    assert "3 of 60 rows have no text in 'text': they are left out" in caplog.messages
    for one in summary.classes:
        mine = kept[kept.prediction == one.label].confidence
        assert (one.lowest, one.highest) == (mine.min(), mine.max())
        assert one.answered == (answers == one.label).sum()


def test_the_kept_rows_are_unlabelled_rows_of_a_training(
    trained: Path, foreign: Path, tmp_path: Path, tiny_files: list[str]
) -> None:
    run(trained, foreign, tmp_path / "kept.jsonl", "filter.num_per_class=3")
    from uda.config import read_train
    from uda.data.splits import load_split

    cfg = compose("train", [*tiny_files, f"data.unlabeled={tmp_path}/kept.jsonl"])
    assert len(load_split(read_train(cfg).data).unlabeled) == 6


@pytest.mark.slow
def test_a_class_with_too_few_rows_is_refused_before_anything_is_written(
    trained: Path, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    summary = run(trained, foreign, tmp_path / "kept.csv", "filter.num_per_class=1")
    fewest = min(summary.classes, key=lambda one: one.answered)
    out = tmp_path / "more.csv"
    assert refusal(trained, foreign, out, f"filter.num_per_class={fewest.answered + 1}") == (
        f"filter.num_per_class: expected at least {fewest.answered + 1} rows that are answered by each class, found "
        f"{fewest.answered} answered '{fewest.label}'. Lower filter.num_per_class to at most {fewest.answered}, or "
        "give a corpus that has more of it."
    )
    alone = pd.read_csv(tmp_path / "kept.csv")
    alone[alone.prediction != fewest.label].drop(columns=["prediction", "confidence"]).to_csv(tmp_path / "one.csv")
    assert refusal(trained, tmp_path / "one.csv", out, "filter.num_per_class=1") == (
        f"filter.num_per_class: expected at least 1 rows that are answered by each class, found 0 answered "
        f"'{fewest.label}'. Give a corpus that has more of it."
    )
    assert not out.exists()
    caplog.clear()
    run(trained, foreign, out, f"filter.num_per_class={fewest.answered}")
    assert any(
        message.startswith(f"{fewest.answered} of the {fewest.answered} rows answered '{fewest.label}' are kept, down")
        and message.endswith("that filters little. A lower filter.num_per_class or a larger corpus would")
        for message in caplog.messages
    )


def test_a_column_without_texts_is_named(trained: Path, tmp_path: Path) -> None:
    pd.DataFrame({"text": [1, 2], "body": ["good", "bad"]}).to_json(
        tmp_path / "rows.jsonl", orient="records", lines=True
    )
    assert refusal(trained, tmp_path / "rows.jsonl", tmp_path / "out.csv", "filter.num_per_class=1") == (
        f"Expected texts in 'text' of {tmp_path}/rows.jsonl, found none in 2 rows. Set text_column to the column of "
        "the texts."
    )


def test_an_output_that_another_command_writes_is_refused(trained: Path, foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with alone_at(tmp_path / ".writing-out.csv", "taken"):
        message = refusal(trained, foreign, out, "filter.num_per_class=2")
    assert message.startswith(f"output: expected a file that no other command writes, found {out} being written.")
    assert not list(tmp_path.iterdir())


def test_what_is_refused_before_any_work(trained: Path, foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert refusal(trained, foreign, out) == (
        "filter.num_per_class: expected how many rows of each class are kept, found none. Set filter.num_per_class=…."
    )
    assert refusal(trained, foreign, out, "filter.num_per_class=0") == (
        "filter.num_per_class: expected at least 1, found 0. Correct it."
    )
    assert refusal(trained, "-", out, "filter.num_per_class=1") == (
        "input: expected a file, since it is read twice, found standard input (-). Name a file."
    )
    assert refusal(trained, foreign, out, "filter.num_per_class=1", "text_column=body") == (
        f"text_column: expected a column 'body' in {foreign}, found id, text, stars. Set text_column to the right "
        "column."
    )
    taken = tmp_path / "taken.csv"
    pd.DataFrame({"text": ["good film"], "confidence": [1]}).to_csv(taken, index=False)
    assert refusal(trained, taken, out, "filter.num_per_class=1") == (
        f"input: expected no column of the names that predictions have, found 'confidence' in {taken}. Rename or "
        "remove it."
    )
    assert not out.exists()


def test_a_corpus_that_changes_between_the_two_looks_is_refused(
    trained: Path, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "foreign.csv", tmp_path / "out.csv"
    source.write_bytes(foreign.read_bytes())
    check = uda.filter._check_kept

    def change(*arguments: Any) -> None:
        check(*arguments)
        with source.open("a") as file:
            file.write("f60,the film was good,pos\n")

    monkeypatch.setattr(uda.filter, "_check_kept", change)
    assert refusal(trained, source, out, "filter.num_per_class=1") == (
        f"input: expected the 60 rows that were answered, found 61 when they were read again: {source} has changed. "
        "Give the command again when nothing writes there."
    )
    assert not list(tmp_path.glob("*out*"))
