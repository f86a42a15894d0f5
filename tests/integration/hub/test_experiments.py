"""Every experiment that needs the hub trains; what the hub has not is named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from uda.config import compose, config_dir

GIVE = (
    " Give a folder made by save_pretrained or a name on the hub (`+experiment=imdb` needs no hub), and check "
    "model.attention and model.revision where they are set."
)

# Trains with each list of overrides; a line for each: labels, rows and seen steps, or the message of a UserError.
CHILD = """
import json, sys
from uda.config import compose
from uda.errors import UserError
from uda.train import run

for overrides in json.load(sys.stdin):
    try:
        folder = run(compose("train", overrides)).run_dir
        print(json.dumps({"metrics": json.loads((folder / "metrics.json").read_text()),
                          "split": json.loads((folder / "split.json").read_text())}))
    except UserError as error:
        print(json.dumps({"refused": str(error)}))
"""
TINY = ["augment=tfidf_mild", "augment.num_workers=1", "data.max_length=24", "train.num_steps=2", "train.batch_size=2"]
TINY += ["train.unlabeled_ratio=1", "train.precision=fp32", "train.eval_every=null", "train.checkpoint_every=null"]


def train(jobs: list[list[str]], folder: Path, variables: dict[str, str]) -> list[dict[str, Any]]:
    """What became of each job, all in one process."""
    jobs = [[*job[:1], *TINY, *job[1:], f"hydra.run.dir={folder}/{number}"] for number, job in enumerate(jobs)]
    child = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(jobs), capture_output=True, text=True, env=variables
    )
    assert child.returncode == 0, child.stderr
    return [json.loads(line) for line in child.stdout.splitlines()]


def experiments() -> dict[str, Any]:
    """The config of every experiment whose data comes from the hub."""
    names = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))
    composed = {name: compose("train", [f"+experiment={name}"]) for name in names}
    return {name: cfg for name, cfg in composed.items() if cfg.data.source.name == "hub"}


@pytest.mark.slow
def test_every_experiment_trains_two_steps(hub: Any, tmp_path: Path) -> None:
    configs = experiments()
    assert len(configs) == 12
    jobs = [[f"+experiment={name}", f"data.num_labeled={len(cfg.data.label_names)}"] for name, cfg in configs.items()]
    for (name, cfg), found in zip(configs.items(), train(jobs, tmp_path, hub.variables(tmp_path)), strict=True):
        assert "refused" not in found, (name, found)
        names = hub.datasets[cfg.data.repository].label_names or list("12345")
        assert found["split"]["label_names"] == names, name
        num_classes = len(found["split"]["label_names"])
        assert len(found["split"]["labeled"]) == num_classes, name
        assert len(found["split"]["test"]) == 4 * num_classes, name
        # Of the reviews without a label the short half is left out.
        assert found["split"]["unlabeled"]["num_rows"] == (8 + 4 if "imdb_bert" in name else 4 * num_classes), name
        assert found["metrics"]["final"]["step"] == 2, name
    # What was downloaded serves without the hub, and else the refusal says what is missing.
    found = train(
        jobs[:1], tmp_path / "offline", hub.variables(tmp_path, HF_HUB_OFFLINE="1", UDA_CACHE=f"{tmp_path}/new")
    )
    assert found[0]["metrics"]["final"]["step"] == 2
    found = train(jobs[:1], tmp_path / "empty", hub.variables(tmp_path / "empty", HF_HUB_OFFLINE="1"))
    assert found[0]["refused"] == (
        "model.name_or_path: expected a tokenizer at 'google-bert/bert-base-uncased', found: We couldn't connect to "
        f"'{hub.address}' to load the files, and couldn't find them in the cached files.{GIVE}"
    )


@pytest.mark.slow
def test_what_the_hub_has_not(hub: Any, tmp_path: Path) -> None:
    jobs = [
        ["+experiment=usb_imdb", "data.repository=stanfordnlp/imbd"],
        ["+experiment=usb_imdb", f"data.revision={'1' * 40}"],
        ["+experiment=usb_imdb", "data.text_column=review", "data.num_labeled=2"],
        ["+experiment=usb_imdb", "data.num_labeled=2", "model.name_or_path=google-bert/bert-bas-uncased"],
        ["+experiment=usb_imdb", "data.num_labeled=2", f"model.revision={'1' * 40}"],
    ]
    refused = [found["refused"] for found in train(jobs, tmp_path, hub.variables(tmp_path))]
    of_imdb = "Expected the data set '{}' (split 'train') from the hub, found: "
    check = (
        ". Check data.repository, data.subset, data.revision and the network; `+experiment=imdb` needs no network and "
        "no hub."
    )
    misspelt = "google-bert/bert-bas-uncased"
    assert refused == [
        f"{of_imdb.format('stanfordnlp/imbd')}Dataset 'stanfordnlp/imbd' doesn't exist on the Hub or cannot be "
        f"accessed{check}",
        f"{of_imdb.format('stanfordnlp/imdb')}Revision '{'1' * 40}' doesn't exist for dataset 'stanfordnlp/imdb' on "
        f"the Hub{check}",
        "Expected a column 'review' (data.text_column) in train, found label, text. Set data.text_column to the right "
        "column.",
        f"model.name_or_path: expected a tokenizer at '{misspelt}', found: {misspelt} is not a local folder and is not "
        f"a valid model identifier listed on 'https://huggingface.co/models'.{GIVE}",
        f"model.name_or_path: expected a tokenizer at 'google-bert/bert-base-uncased', found: {'1' * 40} is not a "
        "valid git identifier (branch name, tag name or commit id) that exists for this model name. Check the model "
        f"page at 'https://huggingface.co/google-bert/bert-base-uncased' for available revisions.{GIVE}",
    ]
