"""The model card: metadata that the hub's reader takes, tables that odd label names do not break."""

import html
import re

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from uda.engine.card import CardFacts, code, model_card

NAMES = ["a|b", "---", 'quo"te\nnext', "<b>日本</b>"]
SCORES = {
    "accuracy": 0.8318,
    "accuracy_interval": [0.8212, 0.8419],
    "macro_f1": 0.83179,
    "nll": 0.6475,
    "num_rows": 5000,
    "per_class": {name: {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 7} for name in NAMES},
}
CALIBRATION = {
    "method": "dev",
    "temperature": 2.5,
    "interval": [2.0, 3.25],
    "num_rows": 400,
    "note": "",
    "before": {"nll": 0.7, "ece": 0.11},
    "after": {"nll": 0.5, "ece": 0.02},
}


def facts(**changes: object) -> CardFacts:
    values: dict[str, object] = {
        "label_names": NAMES,
        "encoder": "org/encoder",
        "base_model": "org/encoder",
        "labeled_data": "labeled*.csv",
        "unlabeled_data": "more.jsonl",
        "test_data": "my: 'data'.csv",
        "held_out": None,
        "counts": [1, 2, 3, 4],
        "num_unlabeled": 1000,
        "described": True,
        "objective": "UDA",
        "augmentation": "TfIdfReplacement",
        "num_steps": 212,
        "max_length": 128,
        "truncation": "tail",
        "pairs": False,
        "standalone": False,
        "repeat": "python -m uda.train",
    }
    return CardFacts(**{**values, **changes})  # type: ignore[arg-type]


def test_the_metadata_is_what_the_hub_reads() -> None:
    data = ModelCard(model_card(facts(), SCORES, CALIBRATION)).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.base_model == "org/encoder"
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"accuracy": 0.8318, "f1": 0.83179}
    assert {result.dataset_name for result in data.eval_results} == {"my: 'data'.csv"}
    assert ModelCard(model_card(facts(base_model=None), SCORES, CALIBRATION)).data.base_model is None


def test_the_numbers_stand_in_the_text() -> None:
    text = model_card(facts(test_data="test_1.csv"), SCORES, CALIBRATION)
    assert (
        "On 5000 test rows (<code>test_1.csv</code>): accuracy **83.18 %**, with a 95 % interval of 82.12 to 84.19 %"
        in text
    )
    assert "on 10 labelled rows of <code>labeled&#42;.csv</code> (1 of" in text
    assert "and 1000 unlabelled rows of <code>more.jsonl</code>." in text
    assert "divided by 2.500 (95 % interval 2.00 to 3.25)" in text
    assert "0.110 before, 0.020 after" in text
    assert "Of a text of more than 128 tokens the start is cut off." in text


def test_what_is_not_there_is_not_told() -> None:
    none = {**CALIBRATION, "method": "none"}
    text = model_card(facts(num_unlabeled=0, described=False), SCORES, none)
    assert "unlabelled" not in text
    assert "Sentences that describe" not in text
    assert "Not calibrated" in text
    assert "import uda" in text
    held_out = model_card(facts(held_out="a share of 0.2 of the labelled rows"), SCORES, none)
    assert "On 5000 test rows (a share of 0.2 of the labelled rows): accuracy" in held_out
    assert "import uda" not in model_card(facts(standalone=True), SCORES, none)


def test_odd_label_names_break_neither_table_nor_page() -> None:
    text = model_card(facts(), SCORES, CALIBRATION)
    rows = [line for line in text.splitlines() if line.startswith("| <code>")]
    assert len(rows) == len(NAMES)
    assert all(len(re.findall(r"\|", row)) == 6 for row in rows)
    assert rows[0].startswith("| <code>a&#124;b</code> | 50.00 % | 25.00 % | 33.33 % | 7 |")
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b", "a b"),
        ("x\n y", "x y"),
        ("<i>", "&lt;i&gt;"),
        ("a|b", "a&#124;b"),
        ("snake_case", "snake_case"),
        ("__init__", "&#95;&#95;init&#95;&#95;"),
    ],
)
def test_code(name: str, shown: str) -> None:
    assert code(name) == f"<code>{shown}</code>"


@pytest.mark.parametrize(
    "name", ["a*b*c", "__init__", "_a_", "`x`", "[x](y)", "![x](y)", "~~s~~", "end\\", "\\|", "<i>", "&amp;"]
)
def test_a_reader_of_markdown_shows_the_name_as_it_is(name: str) -> None:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"| a |\n| - |\n| {code(name)} |")
    (cell,) = re.findall(r"<td><code>(.*)</code></td>", page)
    assert "<" not in cell
    assert html.unescape(cell) == name
