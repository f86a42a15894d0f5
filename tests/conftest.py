"""Small real things for the tests: a tiny BERT with a tokenizer, and files of made-up reviews."""

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from uda.train import Result

# The same examples in every run, and no time limit on any.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# One thread is the fastest for models this small, and keeps several test runs out of each other's way.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_finish() -> None:
    """What the test modules have imported stays; not frozen, each collection of garbage would go through all of it."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test touches the user's cache, nor does a fixture of any scope."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UDA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def reviews() -> Callable[..., pd.DataFrame]:
    """The maker of made-up reviews."""
    return make_reviews


@pytest.fixture(scope="session")
def write_reviews() -> Callable[[Path], Path]:
    """Puts train.csv (40 labelled reviews), unlabeled.jsonl (60) and test.parquet (30) into a folder, and names it."""

    def write(folder: Path) -> Path:
        make_reviews(40, 1, "l").to_csv(folder / "train.csv", index=False)
        unlabeled = make_reviews(60, 2, "u").drop(columns="label")
        unlabeled.to_json(folder / "unlabeled.jsonl", orient="records", lines=True)
        make_reviews(30, 3, "t").to_parquet(folder / "test.parquet")
        return folder

    return write


@pytest.fixture
def review_files(write_reviews: Callable[[Path], Path], tmp_path: Path) -> Path:
    """A folder with the files of `write_reviews`, for one test."""
    return write_reviews(tmp_path)


@pytest.fixture
def tiny(tiny_bert: Path, review_files: Path) -> list[str]:
    """Overrides of `uda.train` for a run of seconds: the tiny BERT on the made-up reviews, every option exercised."""
    return tiny_overrides(tiny_bert, review_files)


@pytest.fixture(scope="module")
def tiny_run(
    tiny_bert: Path, write_reviews: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> "Result":
    """What the overrides of `tiny` come to, for tests that only read it."""
    import uda.train
    from uda.config import compose

    folder = tmp_path_factory.mktemp("tiny-run")
    overrides = tiny_overrides(tiny_bert, write_reviews(folder))
    return uda.train.run(compose("train", [*overrides, f"hydra.run.dir={folder}/run"]))


def tiny_overrides(tiny_bert: Path, review_files: Path) -> list[str]:
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


@pytest.fixture(scope="module")
def script() -> Iterator[Callable[[str], ModuleType]]:
    """`script(name)`: a module of the folder scripts/."""
    folder = str(Path(__file__).parents[1] / "scripts")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


ENCODERS = ["bert", "roberta", "distilbert", "deberta-v2", "electra", "mpnet", "modernbert"]


def _tokenizer(kind: str) -> Any:
    """A fast tokenizer of this kind of encoder: WordPiece, byte-level BPE or Unigram, with the kind's own template."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    words = [*WORDS, ".", ","]
    if kind == "deberta-v2":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        letters = sorted({letter for word in words for letter in word})
        pieces = ["▁", *(f"▁{word}" for word in words), *letters]
        vocabulary = [*((token, 0.0) for token in special), *((piece, -float(len(piece) == 1)) for piece in pieces)]
        return transformers.DebertaV2TokenizerFast(vocab=vocabulary)
    if kind in ("roberta", "modernbert"):
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        if kind == "modernbert":
            special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        backend.train_from_iterator([" ".join(words)] * 2, trainer)
        if kind == "roberta":
            model = json.loads(backend.to_str())["model"]
            return transformers.RobertaTokenizerFast(
                vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]]
            )
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
        names = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend,
            model_input_names=["input_ids", "attention_mask"],
            **{f"{name}_token": token for name, token in names.items()},
        )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if kind == "mpnet":
        special = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    classes = {
        "mpnet": "MPNetTokenizerFast",
        "distilbert": "DistilBertTokenizerFast",
        "electra": "ElectraTokenizerFast",
    }
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    return getattr(transformers, classes.get(kind, "BertTokenizerFast"))(vocab=vocabulary)


def _encoder(kind: str, tokenizer: Any) -> Any:
    """A random two-layer encoder of this kind with 64 positions, or more where the kind counts some for padding."""
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    other: dict[str, dict[str, Any]] = {
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64},
        "roberta": {**sizes, "max_position_embeddings": 66, "type_vocab_size": 1},
        "mpnet": {**sizes, "max_position_embeddings": 66},
        "electra": {**sizes, "embedding_size": 16, "max_position_embeddings": 64},
        "deberta-v2": {
            **sizes,
            "relative_attention": True,
            "position_biased_input": False,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "max_position_embeddings": 64,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
        "modernbert": {
            **sizes,
            "max_position_embeddings": 64,
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
            "cls_token_id": tokenizer.cls_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "bos_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id,
        },
    }
    options = other.get(kind, {**sizes, "max_position_embeddings": 64})
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, initializer_range=0.3, **options
    )
    return AutoModel.from_config(config)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_encoder(kind)`: the folder of a random encoder of one of the kinds in ENCODERS, with its tokenizer."""

    @cache
    def make(kind: str) -> Path:
        import torch

        folder = tmp_path_factory.mktemp(f"tiny-{kind}")
        torch.manual_seed(0)
        tokenizer = _tokenizer(kind)
        _encoder(kind, tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


# What takes longest begins first, so that no process is left with it at the end (with xdist's --no-loadscope-reorder).
_LONGEST = ("test_processes.py", "test_sweeps.py", "test_kill.py", "test_process_faults.py", "test_soak.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
