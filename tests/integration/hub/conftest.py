"""A stand-in for the Hugging Face hub on the loopback, with small copies of what the configs name there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from uda.config import config_dir

KINDS = ["Company", "EducationalInstitution", "Artist", "Athlete", "OfficeHolder", "MeanOfTransportation", "Building"]
KINDS += ["NaturalPlace", "Village", "Animal", "Plant", "Album", "Film", "WrittenWork"]
TOPICS = ["Society & Culture", "Science & Mathematics", "Health", "Education & Reference", "Computers & Internet"]
TOPICS += ["Sports", "Business & Finance", "Entertainment & Music", "Family & Relationships", "Politics & Government"]
WORDS = ["the", "film", "was", "a", "very", "good", "bad", "plot", "actor", "scene", "music", "story"]


@dataclass(frozen=True)
class DataSet:
    """What the hub has of a data set, told apart from what configs/data says of it.

    label_names: of the label column; empty where its values are the numbers from 1, in CSV files without a card.
    """

    commit: str
    configuration: str
    label_names: list[str]
    texts: tuple[str, ...] = ("text",)
    label: str = "label"
    splits: tuple[str, ...] = ("train", "test")

    def rows(self, split: str) -> pd.DataFrame:
        """Four rows of each class, or as many without one; no two texts are equal, and every second one is long."""
        num_classes = len(self.label_names) or 5
        numbers = range(4 * num_classes)
        texts = [f"{split} {' '.join(WORDS[n % 12 :])} {WORDS[n // 12]} {'long ' * (110 * (n % 2))}" for n in numbers]
        labels = [-1 if split == "unsupervised" else n % num_classes + (not self.label_names) for n in numbers]
        return pd.DataFrame({self.label: labels, **{name: [f"{name} {text}" for text in texts] for name in self.texts}})

    def write(self, folder: Path) -> None:
        (folder / self.configuration).mkdir(parents=True)
        (folder / ".commit").write_text(self.commit)
        for split in self.splits:
            if self.label_names:
                self.rows(split).to_parquet(folder / self.configuration / f"{split}-00000-of-00001.parquet")
            else:
                self.rows(split).to_csv(folder / f"{split}.csv", index=False)
        head = yaml.safe_dump(self._card() if self.label_names else {"license": "other"})
        (folder / "README.md").write_text(f"---\n{head}---\n")

    def _card(self) -> dict[str, object]:
        """What tells `datasets` of columns, label names and files."""
        names = {"class_label": {"names": {str(number): name for number, name in enumerate(self.label_names)}}}
        features = [{"name": self.label, "dtype": names}, *({"name": text, "dtype": "string"} for text in self.texts)]
        sizes = [{"name": each, "num_bytes": 1, "num_examples": len(self.rows(each))} for each in self.splits]
        files = [{"split": each, "path": f"{self.configuration}/{each}-*"} for each in self.splits]
        return {
            "dataset_info": {"config_name": self.configuration, "features": features, "splits": sizes},
            "configs": [{"config_name": self.configuration, "data_files": files, "default": True}],
        }


DATASETS = {
    "stanfordnlp/imdb": DataSet(
        *("e6281661ce1c48d982bc483cf8a173c1bbeb5d31", "plain_text", ["neg", "pos"]),
        splits=("train", "test", "unsupervised"),
    ),
    "fancyzhx/yelp_polarity": DataSet("bbf1c97a1f0cf005e5aded43839fd814654a1557", "plain_text", ["1", "2"]),
    "Yelp/yelp_review_full": DataSet(
        *("c1f9ee939b7d05667af864ee1cb066393154bf85", "yelp_review_full"),
        ["1 star", "2 star", "3 stars", "4 stars", "5 stars"],
    ),
    "fancyzhx/amazon_polarity": DataSet(
        *("9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289", "amazon_polarity", ["negative", "positive"]),
        texts=("title", "content"),
    ),
    "yassiracharki/Amazon_Reviews_for_Sentiment_Analysis_fine_grained_5_classes": DataSet(
        *("0" * 40, "", []), texts=("review_title", "review_text"), label="class_index"
    ),
    "fancyzhx/dbpedia_14": DataSet(
        *("9abd46cf7fc8b4c64290f26993c540b92aa145ac", "dbpedia_14", KINDS), texts=("title", "content")
    ),
    "fancyzhx/ag_news": DataSet(
        *("eb185aade064a813bc0b7f42de02595523103ca4", "default", ["World", "Sports", "Business", "Sci/Tech"])
    ),
    "community-datasets/yahoo_answers_topics": DataSet(
        *("6652a1e7c94f7260a0bfd0c9092dd48e2d536ea1", "yahoo_answers_topics", TOPICS),
        texts=("question_title", "question_content", "best_answer"),
        label="topic",
    ),
}
MODELS = {
    "google-bert/bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
    "google-bert/bert-large-uncased": "6da4b6a26a1877e173fca3225479512db81a5e5b",
}


@dataclass(frozen=True)
class StandIn:
    """folder: what it serves, see server.py. address: what HF_ENDPOINT has to be."""

    folder: Path
    address: str
    datasets: dict[str, DataSet]

    def variables(self, caches: Path, **others: str) -> dict[str, str]:
        """The environment of a child that asks it, and whose caches lie in a folder."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
            **{"HF_ENDPOINT": self.address, "HF_HOME": f"{caches}/hf", "UDA_CACHE": f"{caches}/cache"},
            **{"PYTHONPATH": str(config_dir().parent), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"},
            **others,
        }


@pytest.fixture(scope="module")
def hub(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    folder = tmp_path_factory.mktemp("hub")
    for name, data in DATASETS.items():
        data.write(folder / "datasets" / name)
    for name, commit in MODELS.items():
        save_encoder(tiny_bert, folder / "models" / name)
        (folder / "models" / name / ".commit").write_text(commit)
    command = [sys.executable, str(Path(__file__).parent / "server.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield StandIn(folder, server.stdout.readline().strip(), DATASETS)
        server.terminate()


def save_encoder(tiny_bert: Path, folder: Path) -> None:
    """A tiny BERT with all heads of its pre-training, as the hub has the real ones."""
    from transformers import AutoTokenizer, BertConfig, BertForPreTraining

    BertForPreTraining(BertConfig.from_pretrained(tiny_bert)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
