"""Small real things for the tests: a tiny BERT with a tokenizer, and files of made-up reviews."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

# One thread is the fastest for models this small, and keeps several test runs out of each other's way.
os.environ["OMP_NUM_THREADS"] = "1"

WORDS = [
    "the",
    "film",
    "was",
    "a",
    "very",
    "good",
    "bad",
    "great",
    "awful",
    "plot",
    "actor",
    "scene",
    "music",
    "end",
    "story",
    "long",
    "short",
    "funny",
    "sad",
    "dull",
]


def make_reviews(num_rows: int, seed: int = 0, prefix: str = "r") -> pd.DataFrame:
    """Rows of id, text and label (neg, pos in turn); a text has between 5 and 30 words, the last one of its class."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_rows):
        label = ("neg", "pos")[number % 2]
        words = rng.choice(WORDS, size=int(rng.integers(5, 30))).tolist()
        words.append(("awful", "great")[number % 2])
        rows.append({"id": f"{prefix}{number}", "text": " ".join(words), "label": label})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer BERT with its word-level vocabulary."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache."""
    monkeypatch.setenv("UDA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def reviews() -> Callable[..., pd.DataFrame]:
    """The maker of made-up reviews."""
    return make_reviews


@pytest.fixture
def review_files(tmp_path: Path) -> Path:
    """A folder with train.csv (40 labelled reviews), unlabeled.jsonl (60) and test.parquet (30)."""
    make_reviews(40, 1, "l").to_csv(tmp_path / "train.csv", index=False)
    make_reviews(60, 2, "u").drop(columns="label").to_json(tmp_path / "unlabeled.jsonl", orient="records", lines=True)
    make_reviews(30, 3, "t").to_parquet(tmp_path / "test.parquet")
    return tmp_path


@pytest.fixture
def tiny(tiny_bert: Path, review_files: Path) -> list[str]:
    """Overrides of `uda.train` for a run of seconds: the tiny BERT on the made-up reviews, every option exercised."""
    return [
        "+experiment=imdb",
        "name=tiny",
        "data=files",
        f"data.labeled={review_files}/train.csv",
        f"data.unlabeled={review_files}/unlabeled.jsonl",
        f"data.test={review_files}/test.parquet",
        "data.num_labeled=8",
        "data.max_length=24",
        "data.label_descriptions={neg: [awful bad film], pos: [great good film]}",
        "model=local",
        f"model.name_or_path={tiny_bert}",
        "model.pooling=mean",
        "objective.supervised_steps=3",
        "objective.memory_rows=24",
        "objective.prefill_rows=16",
        "train.num_steps=20",
        "train.batch_size=2",
        "train.unlabeled_ratio=3",
        "train.supervised_batch_size=4",
        "train.learning_rate=1e-3",
        "train.supervised_learning_rate=1e-3",
        "train.precision=fp32",
        "train.eval_every=8",
        "train.checkpoint_every=null",
        "train.log_every=1",
    ]
