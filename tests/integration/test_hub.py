"""Every experiment that needs the hub, over its interface: stand-ins of data sets and encoders on the loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from uda.config import compose, config_dir

HERE = Path(__file__).parent

STARS = ["1 star", "2 star", "3 stars", "4 stars", "5 stars"]
KINDS = ["Company", "EducationalInstitution", "Artist", "Athlete", "OfficeHolder", "MeanOfTransportation", "Building"]
KINDS += ["NaturalPlace", "Village", "Animal", "Plant", "Album", "Film", "WrittenWork"]
TOPICS = ["Society & Culture", "Science & Mathematics", "Health", "Education & Reference", "Computers & Internet"]
TOPICS += ["Sports", "Business & Finance", "Entertainment & Music", "Family & Relationships", "Politics & Government"]
NONE: list[str] = []
# What the hub has, told apart from what configs/data says of it: commit, configuration, label column, its names (none:
# they are numbers from 1), columns of text, splits.
DATASETS: dict[str, tuple[str, str, str, list[str], list[str], list[str]]] = {
    "stanfordnlp/imdb": (
        *("e6281661ce1c48d982bc483cf8a173c1bbeb5d31", "plain_text", "label", ["neg", "pos"], ["text"]),
        ["train", "test", "unsupervised"],
    ),
    "fancyzhx/yelp_polarity": (
        *("bbf1c97a1f0cf005e5aded43839fd814654a1557", "plain_text", "label", ["1", "2"], ["text"]),
        ["train", "test"],
    ),
    "Yelp/yelp_review_full": (
        *("c1f9ee939b7d05667af864ee1cb066393154bf85", "yelp_review_full", "label", STARS, ["text"]),
        ["train", "test"],
    ),
    "fancyzhx/amazon_polarity": (
        *("9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289", "amazon_polarity", "label", ["negative", "positive"]),
        *(["title", "content"], ["train", "test"]),
    ),
    "yassiracharki/Amazon_Reviews_for_Sentiment_Analysis_fine_grained_5_classes": (
        *("0" * 40, "", "class_index", NONE, ["review_title", "review_text"]),
        ["train", "test"],
    ),
    "fancyzhx/dbpedia_14": (
        *("9abd46cf7fc8b4c64290f26993c540b92aa145ac", "dbpedia_14", "label", KINDS, ["title", "content"]),
        ["train", "test"],
    ),
    "fancyzhx/ag_news": (
        *("eb185aade064a813bc0b7f42de02595523103ca4", "default", "label", ["World", "Sports", "Business", "Sci/Tech"]),
        *(["text"], ["train", "test"]),
    ),
    "community-datasets/yahoo_answers_topics": (
        *("6652a1e7c94f7260a0bfd0c9092dd48e2d536ea1", "yahoo_answers_topics", "topic", TOPICS),
        *(["question_title", "question_content", "best_answer"], ["train", "test"]),
    ),
}
MODELS = {
    "google-bert/bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
    "google-bert/bert-large-uncased": "6da4b6a26a1877e173fca3225479512db81a5e5b",
}
GIVE = (
    " Give a folder made by save_pretrained or a name on the hub (`+experiment=imdb` needs no hub), and check "
    "model.attention and model.revision where they are set."
)
WORDS = ["the", "film", "was", "a", "very", "good", "bad", "plot", "actor", "scene", "music", "story"]


def rows(name: str, split: str) -> pd.DataFrame:
    """Four rows of each class, and as many without a class where the split has none; no two texts are equal."""
    _, _, label, names, columns, _ = DATASETS[name]
    num_classes = len(names) or 5
    number = range(4 * num_classes)
    texts = [f"{split} {' '.join(WORDS[n % 12 :])} {WORDS[n // 12]} {'long ' * (110 * (n % 2))}" for n in number]
    labels = [-1 if split == "unsupervised" else n % num_classes + (not names) for n in number]
    return pd.DataFrame({label: labels, **{column: [f"{column} {text}" for text in texts] for column in columns}})


def card(name: str) -> str:
    """The data set's README, whose head tells `datasets` of columns, label names and files."""
    _, configuration, label, names, columns, splits = DATASETS[name]
    label_type = {"class_label": {"names": {str(number): each for number, each in enumerate(names)}}}
    features = [{"name": label, "dtype": label_type}, *({"name": column, "dtype": "string"} for column in columns)]
    sizes = [{"name": split, "num_bytes": 1, "num_examples": len(rows(name, split))} for split in splits]
    files = [{"split": split, "path": f"{configuration}/{split}-*"} for split in splits]
    head = {
        "dataset_info": {"config_name": configuration, "features": features, "splits": sizes},
        "configs": [{"config_name": configuration, "data_files": files, "default": True}],
    }
    return f"---\n{yaml.safe_dump(head)}---\n"


@pytest.fixture(scope="module")
def folder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stand-in serves."""
    folder = tmp_path_factory.mktemp("hub")
    for name, (commit, configuration, _, names, _, splits) in DATASETS.items():
        repository = folder / "datasets" / name
        (repository / configuration).mkdir(parents=True)
        (repository / ".commit").write_text(commit)
        for split in splits:
            if names:
                rows(name, split).to_parquet(repository / configuration / f"{split}-00000-of-00001.parquet")
            else:
                rows(name, split).to_csv(repository / f"{split}.csv", index=False)
        (repository / "README.md").write_text(card(name) if names else "No head.\n")
    for name, commit in MODELS.items():
        save_encoder(tiny_bert, folder / "models" / name)
        (folder / "models" / name / ".commit").write_text(commit)
    return folder


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[str]:
    """The address of the stand-in."""
    command = [sys.executable, str(HERE / "hub_server.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


def save_encoder(tiny_bert: Path, folder: Path) -> None:
    """A tiny BERT with all heads of its pre-training, as the hub has the real ones."""
    from transformers import AutoTokenizer, BertConfig, BertForPreTraining

    BertForPreTraining(BertConfig.from_pretrained(tiny_bert)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)


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


def train(jobs: list[list[str]], folder: Path, **environment: str) -> list[dict[str, Any]]:
    """What became of each job, all in one process that has nothing in its caches at first."""
    jobs = [[*job[:1], *TINY, *job[1:], f"hydra.run.dir={folder}/{number}"] for number, job in enumerate(jobs)]
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        env={**variables(folder), **environment},
    )
    assert child.returncode == 0, child.stderr
    return [json.loads(line) for line in child.stdout.splitlines()]


def variables(folder: Path) -> dict[str, str]:
    """The environment of a child whose caches lie in a folder."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        **{"HF_HOME": f"{folder}/hf", "UDA_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"},
        **{"PYTHONPATH": str(config_dir().parent), "NO_PROXY": "127.0.0.1"},
    }


def experiments() -> dict[str, Any]:
    """The config of every experiment whose data comes from the hub."""
    names = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))
    composed = {name: compose("train", [f"+experiment={name}"]) for name in names}
    return {name: cfg for name, cfg in composed.items() if cfg.data.source.name == "hub"}


@pytest.mark.slow
def test_every_experiment_trains_two_steps(hub: str, tmp_path: Path) -> None:
    configs = experiments()
    assert len(configs) == 12
    jobs = [[f"+experiment={name}", f"data.num_labeled={len(cfg.data.label_names)}"] for name, cfg in configs.items()]
    for (name, cfg), found in zip(configs.items(), train(jobs, tmp_path, HF_ENDPOINT=hub), strict=True):
        assert "refused" not in found, (name, found)
        _, _, _, names, _, _ = DATASETS[cfg.data.repository]
        assert found["split"]["label_names"] == (names or list("12345")), name
        num_classes = len(found["split"]["label_names"])
        assert len(found["split"]["labeled"]) == num_classes, name
        assert len(found["split"]["test"]) == 4 * num_classes, name
        # Of the reviews without a label the short half is left out.
        assert found["split"]["unlabeled"]["num_rows"] == (8 + 4 if "imdb_bert" in name else 4 * num_classes), name
        assert found["metrics"]["final"]["step"] == 2, name
    # What was downloaded serves without the hub, and else the refusal says what is missing.
    found = train(jobs[:1], tmp_path / "offline", HF_HOME=f"{tmp_path}/hf", HF_HUB_OFFLINE="1")
    assert found[0]["metrics"]["final"]["step"] == 2
    found = train(jobs[:1], tmp_path / "empty", HF_HUB_OFFLINE="1")
    assert found[0]["refused"] == (
        "model.name_or_path: expected a tokenizer at 'google-bert/bert-base-uncased', found: We couldn't connect to "
        f"'https://huggingface.co' to load the files, and couldn't find them in the cached files.{GIVE}"
    )


@pytest.mark.slow
def test_what_the_hub_has_not(hub: str, tmp_path: Path) -> None:
    jobs = [
        ["+experiment=usb_imdb", "data.repository=stanfordnlp/imbd"],
        ["+experiment=usb_imdb", f"data.revision={'1' * 40}"],
        ["+experiment=usb_imdb", "data.text_column=review", "data.num_labeled=2"],
        ["+experiment=usb_imdb", "data.num_labeled=2", "model.name_or_path=google-bert/bert-bas-uncased"],
        ["+experiment=usb_imdb", "data.num_labeled=2", f"model.revision={'1' * 40}"],
    ]
    refused = [found["refused"] for found in train(jobs, tmp_path, HF_ENDPOINT=hub)]
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


def hub_check(folder: Path, *options: str, **environment: str) -> tuple[int, list[str], str]:
    """Exit code, sorted lines and errors of `make hub-check`."""
    done = subprocess.run(
        [sys.executable, str(config_dir().parent / "scripts/hub_check.py"), *options],
        capture_output=True,
        text=True,
        env={**variables(folder), **environment},
    )
    return done.returncode, sorted(done.stdout.splitlines()), done.stderr


@pytest.mark.slow
def test_hub_check_finds_all(hub: str, tmp_path: Path) -> None:
    code, lines, errors = hub_check(tmp_path, HF_ENDPOINT=hub)
    assert (code, errors) == (0, "")
    amazon = "yassiracharki/Amazon_Reviews_for_Sentiment_Analysis_fine_grained_5_classes"
    pin = f"; main is {'0' * 40}: pin it"
    assert f"data=amazon5: {amazon}, all there{pin}" in lines
    assert "data=imdb_hub_512: stanfordnlp/imdb, all there" in lines
    checked = {line.partition(":")[0] for line in lines}
    assert checked == {
        *(f"data={name}" for name in ("amazon2", "amazon5", "dbpedia", "imdb_hub", "imdb_hub_512", "yelp2", "yelp5")),
        *(f"data=usb_{name}" for name in ("ag_news", "amazon", "imdb", "yahoo", "yelp")),
        *("model=bert_base", "model=bert_large"),
    }


@pytest.mark.slow
def test_hub_check_names_what_is_missing(hub: str, folder: Path, tmp_path: Path) -> None:
    readme = folder / "datasets/Yelp/yelp_review_full/README.md"
    weights = folder / "models/google-bert/bert-large-uncased/model.safetensors"
    before = readme.read_text(), weights.read_bytes()
    readme.write_text(before[0].replace("2 star\n", "2 stars\n").replace("name: text", "name: review"))
    weights.unlink()
    try:
        code, lines, errors = hub_check(tmp_path, "yelp5", "bert_large", "bert_base", HF_ENDPOINT=hub)
    finally:
        readme.write_text(before[0])
        weights.write_bytes(before[1])
    assert code == 1
    assert lines == [
        "data=yelp5: Yelp/yelp_review_full, not all there",
        "model=bert_base: google-bert/bert-base-uncased, all there",
        "model=bert_large: google-bert/bert-large-uncased, not all there",
    ]
    yelp = "data=yelp5: Yelp/yelp_review_full at c1f9ee939b7d05667af864ee1cb066393154bf85: expected the "
    bert = f"model=bert_large: google-bert/bert-large-uncased at {MODELS['google-bert/bert-large-uncased']}: expected "
    assert errors.splitlines() == [
        f"{yelp}column 'text', found label, review",
        f"{yelp}labels {STARS}, found {[*STARS[:1], '2 stars', *STARS[2:]]}",
        f"{bert}model.safetensors or model.safetensors.index.json, found config.json, tokenizer.json, "
        "tokenizer_config.json",
    ]


@pytest.mark.slow
def test_hub_check_without_the_hub(tmp_path: Path) -> None:
    assert hub_check(tmp_path, HF_ENDPOINT="http://127.0.0.1:9") == (
        2,
        [],
        "Expected the hub at http://127.0.0.1:9, found it out of reach. Check the network, HF_ENDPOINT and "
        "HF_HUB_OFFLINE; nothing was checked.\n",
    )
    code, lines, errors = hub_check(tmp_path, "imdb", HF_ENDPOINT="http://127.0.0.1:9")
    assert (code, lines) == (2, [])
    assert errors.startswith("Expected options of data or model that come from the hub, amazon2, amazon5, bert_base, ")
    assert errors.endswith("yelp2, yelp5; found imdb. Correct it.\n")
