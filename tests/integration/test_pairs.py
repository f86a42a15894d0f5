"""A run on pairs of texts: trained, evaluated, exported; and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import uda.evaluate
import uda.train
from uda.augmenting import make_copies
from uda.config import compose, read_train
from uda.copies import Copies
from uda.data.rows import Rows
from uda.data.tokens import Chunk
from uda.errors import UserError


def pairs(num_rows: int, seed: int) -> pd.DataFrame:
    """A premise and a second text; the second one's last word, and nothing in the first, goes with the label."""
    words = "the film was a very good bad plot actor scene music".split()  # noqa: SIM905
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_rows):
        first, second = (" ".join(rng.choice(words, size=int(rng.integers(2, 20)))) for _ in range(2))
        rows.append((first, f"{second} {('awful', 'great')[number % 2]}", ("neg", "pos")[number % 2]))
    return pd.DataFrame(rows, columns=["premise", "second", "label"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for name, num_rows, seed in (("train", 40, 1), ("unlabeled", 60, 2), ("test", 30, 3)):
        pairs(num_rows, seed).to_csv(folder / f"{name}.csv", index=False)
    return folder


def overrides(files: Path, encoder: Path, *changes: str) -> list[str]:
    return [
        *("+experiment=imdb", "data=files", f"data.labeled={files}/train.csv", f"data.test={files}/test.csv"),
        *(f"data.unlabeled={files}/unlabeled.csv", "data.text_column=premise", "data.text_pair_column=second"),
        *("data.num_labeled=8", "data.max_length=24", "data.truncation=tail", "model=local"),
        *(f"model.name_or_path={encoder}", "model.pooling=mean", "objective.supervised_steps=2"),
        *("objective.prefill_rows=6", "objective.memory_rows=24", "train.num_steps=6", "train.batch_size=2"),
        *("train.unlabeled_ratio=3", "train.learning_rate=2e-2", "train.warmup=0", "train.precision=fp32"),
        *("train.eval_every=null", *changes),
    ]


def train(overrides: list[str], folder: Path) -> Path:
    return uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}"])).run_dir


@pytest.mark.parametrize(
    ("kind", "pooling", "truncation"),
    [
        ("bert", "mean", "tail"),
        ("roberta", "head", "head"),
        *(
            pytest.param(kind, pooling, "head", marks=pytest.mark.slow)
            for kind, pooling in (
                *(("bert", "cls"), ("distilbert", "head"), ("deberta-v2", "mean")),
                *(("electra", "head"), ("mpnet", "cls"), ("modernbert", "head")),
            )
        ),
    ],
)
def test_the_pipeline_and_evaluate_repeat_the_predictions(
    files: Path, tiny_encoder: Callable[[str], Path], tmp_path: Path, kind: str, pooling: str, truncation: str
) -> None:
    from transformers import pipeline

    changes = (f"model.pooling={pooling}", f"data.truncation={truncation}")
    run = train(overrides(files, tiny_encoder(kind), *changes), tmp_path / "run")
    table = pd.read_parquet(run / "predictions.parquet")
    test = pd.read_csv(files / "test.csv")
    classify = pipeline("text-classification", str(run / "model"), truncation=True, top_k=None)
    for row, (first, second) in enumerate(zip(test.premise, test.second, strict=True)):
        for entry in classify({"text": first, "text_pair": second}):
            assert table[f"probability_{entry['label']}"][row] == pytest.approx(entry["score"], abs=1e-4)
    assert table.probability_pos.max() - table.probability_pos.min() > 0.01
    uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}/again"]))
    again = pd.read_parquet(tmp_path / "again/predictions.parquet")
    assert again.probability_pos.to_numpy() == pytest.approx(table.probability_pos.to_numpy(), abs=1e-6)


def test_both_texts_and_their_types_reach_the_model(
    files: Path, tiny_encoder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pass of teacher, student and evaluation sees rows of types 0…0 1…1, two separators each."""
    from uda.engine import evaluation, step

    seen = []
    logits_of = step.logits_of

    def spy(model, tokens):
        seen.append((model.training, tokens))
        return logits_of(model, tokens)

    monkeypatch.setattr(step, "logits_of", spy)
    monkeypatch.setattr(evaluation, "logits_of", spy)
    train(overrides(files, tiny_encoder("bert")), tmp_path / "run")
    assert {training for training, _ in seen} == {True, False}
    for _, tokens in seen:
        assert tokens.types is not None
        for ids, types, mask in zip(tokens.ids.tolist(), tokens.types.tolist(), tokens.mask.tolist(), strict=True):
            length = sum(mask)
            assert ids[:length].count(3) == 2  # [SEP]
            assert types == sorted(types[:length]) + [0] * (len(types) - length)
            assert types[:length].count(1) == length - ids.index(3) - 1


def test_each_text_of_a_pair_is_augmented_by_itself(files: Path, tiny_encoder: Callable[[str], Path]) -> None:
    """Uniform replacement: equal texts of a pair get other words, and each copy others; texts as they are else."""
    changes = ("augment=uniform", "augment.probability=0.5", "augment.num_copies=2")
    settings = read_train(compose("train", overrides(files, tiny_encoder("bert"), *changes)))
    texts = [f"the film was a very good bad plot scene {number}" for number in range(20)]
    rows = pd.DataFrame({"text": texts, "text_pair": texts, "key": [str(number) for number in range(20)]})
    rows["raw_hash"] = rows["folded"] = 64 * "0"
    copies = make_copies(settings.augment, Rows.of(rows), 20, lowercase=True)
    columns = [column for number in range(2) for column in texts_of(copies, number)]
    for number, one in enumerate(columns):
        assert [len(text.split()) for text in one] == [10] * 20
        for other in columns[number + 1 :]:
            assert sum(a == b for a, b in zip(one, other, strict=True)) <= 2
    singles = make_copies(settings.augment, Rows.of(rows.drop(columns="text_pair")), 20, lowercase=True)
    # As if the first texts stood alone: the same corpus.
    assert [texts_of(singles, number) for number in range(2)] == [(columns[0], None), (columns[2], None)]


def texts_of(copies: Copies, number: int) -> Chunk:
    """A copy's texts, which fit into one chunk."""
    (chunk,) = copies.chunks(number)
    return chunk


def test_paraphrases_of_single_texts_are_refused(
    files: Path, tiny_encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    pd.DataFrame({"p": ["x"] * 60}).to_csv(tmp_path / "p.csv", index=False)
    changes = ("augment=files", f"augment.path={tmp_path}/p.csv", "augment.column=p")
    with pytest.raises(UserError) as caught:
        train(overrides(files, tiny_encoder("bert"), *changes), tmp_path / "run")
    assert str(caught.value) == (
        "augment: expected a method that makes its texts itself, as rows are pairs (data.text_pair_column), found "
        "Paraphrases, which has one text a row. Choose another, for example augment=tfidf_mild."
    )
    assert not (tmp_path / "run").exists()


def test_head_and_tail_of_pairs_are_refused(files: Path, tiny_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        train(overrides(files, tiny_encoder("bert"), "data.truncation=head_tail"), tmp_path / "run")
    assert str(caught.value) == (
        "data.truncation=head_tail: expected single texts, since no tokenizer keeps both ends of pairs, found "
        "data.text_pair_column=second. Set data.truncation=head or tail."
    )


@pytest.mark.slow
def test_a_model_of_pairs_scores_pairs_alone(files: Path, tiny_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    run = train(overrides(files, tiny_encoder("bert"), "train.num_steps=0"), tmp_path / "run")
    data = ["data=files", f"data.test={files}/test.csv", "data.text_column=premise"]
    with pytest.raises(UserError) as caught:
        uda.evaluate.run(compose("evaluate", [f"run={run}", *data]))
    assert str(caught.value) == (
        "data.text_pair_column: expected the rows to be pairs of texts as in training, found null. "
        "Set data.text_pair_column to their column."
    )
    scores = uda.evaluate.run(
        compose("evaluate", [f"run={run}", *data, "data.text_pair_column=second", f"output={tmp_path}/out"])
    )
    assert scores["num_rows"] == 30
    single = [item for item in overrides(files, tiny_encoder("bert"), "train.num_steps=0") if "pair_column" not in item]
    run = train(single, tmp_path / "single")
    with pytest.raises(UserError, match=r"to be single texts as in training, found second\. Set .* to null\."):
        uda.evaluate.run(compose("evaluate", [f"run={run}", *data, "data.text_pair_column=second"]))
