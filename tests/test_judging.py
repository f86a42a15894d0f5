"""A run's model as the judge of texts and their augmented copies."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import uda.train
from uda.config import compose, resolved
from uda.engine.settings import Precision
from uda.errors import UserError
from uda.judging import classifier_agreement, read_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_bert, reviews) -> Path:
    """A finished run of a tiny BERT, and an exported model of it."""
    folder = tmp_path_factory.mktemp("judging")
    reviews(12, 1).to_csv(folder / "train.csv", index=False)
    reviews(10, 2).to_csv(folder / "test.csv", index=False)
    overrides = [
        "+experiment=imdb",
        "data=files",
        "objective=supervised",
        f"data.labeled={folder}/train.csv",
        f"data.test={folder}/test.csv",
        "data.num_labeled=4",
        "data.cleaning=html",
        "data.max_length=12",
        "model=local",
        f"model.name_or_path={tiny_bert}",
        "model.pooling=mean",
        "train.num_steps=2",
        "train.eval_every=null",
        "train.calibration=none",
        "train.checkpoint_every=null",
        "train.precision=fp32",
        f"hydra.run.dir={folder}/run",
    ]
    uda.train.run(compose("train", overrides))
    return folder / "run"


def probabilities(trained: Path, texts: list[str]) -> np.ndarray:
    """What plain transformers says, [N, K]."""
    from transformers import pipeline

    classify = pipeline("text-classification", str(trained / "model"), top_k=None, truncation=True)
    return np.array(
        [[{one["label"]: one["score"] for one in row}[name] for name in ("neg", "pos")] for row in classify(texts)]
    )


@pytest.mark.slow
def test_the_runs_model_labels_originals_and_copies(trained: Path) -> None:
    # A copy is read as in training: not cleaned again, so that "<br />" stays.
    pairs = [("great film", ["awful plot", "great film"]), ("sad <br />", ["sad", " "]), ("the end", ["good", "dull"])]
    found = classifier_agreement(str(trained), iter(pairs), 3, 2, 0, Precision.fp32, 2)
    assert found.label_names == ("neg", "pos")
    assert (found.num_pairs, found.blank) == (5, 1)
    originals = probabilities(trained, [original for original, _ in pairs])
    changes, counts = [], np.zeros((2, 2), dtype=int)
    for before, (_, copies) in zip(originals, pairs, strict=True):
        for after in probabilities(trained, [copy for copy in copies if copy.strip()]):
            changes.append(abs(before - after).sum() / 2)
            counts[before.argmax(), after.argmax()] += 1
    assert found.counts.tolist() == counts.tolist()
    assert found.change.mean == pytest.approx(np.mean(changes), abs=1e-6)


def test_what_is_no_finished_run_of_single_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Expected a run directory with a config\.yaml, found none"):
        read_run(str(tmp_path))
    content = resolved(compose("train", ["+experiment=imdb", "data.max_length=12"]))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="run: expected a finished run with an exported model, found none in "):
        read_run(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert read_run(str(tmp_path)).max_length == 12
    content["data"]["text_pair_column"] = "second"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"run: expected a run trained on single texts, found one on pairs \(second\)"):
        read_run(str(tmp_path))
