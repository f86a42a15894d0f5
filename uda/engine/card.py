"""The model card: what a person has to know before they use the model."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData


@dataclass(frozen=True)
class CardFacts:
    """What the card tells that the scores do not.

    encoder: the checkpoint's name or path; base_model: its name on the hub, if it has one. labeled_data,
    unlabeled_data, test_data: where the rows come from. held_out: how the test rows were taken from the labelled ones,
    if they were. counts: labelled rows of each class. repeat: the command that repeats the run.
    """

    label_names: Sequence[str]
    encoder: str
    base_model: str | None
    labeled_data: str
    unlabeled_data: str
    test_data: str
    held_out: str | None
    counts: Sequence[int]
    num_unlabeled: int
    described: bool
    objective: str
    augmentation: str
    num_steps: int
    max_length: int
    truncation: str
    pairs: bool
    standalone: bool
    repeat: str


def model_card(facts: CardFacts, scores: dict[str, Any], calibration: dict[str, Any]) -> str:
    """README.md of a model folder: metadata of the Hugging Face hub, then what, from what, how good, how to use."""
    sections = [
        f"---\n{_metadata(facts, scores)}\n---",
        "# Text classifier",
        _origin(facts),
        "## Scores",
        _scores(facts, scores),
        "## Confidence",
        _confidence(calibration),
        "## Use",
        _use(facts),
        "## Limits",
        _limits(facts, scores),
        "## Repeat",
        f"With the `config.yaml` of the run directory that holds this folder:\n\n```\n{facts.repeat}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(facts: CardFacts, scores: dict[str, Any]) -> str:
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type="custom",
            dataset_name=facts.test_data,
            metric_type=kind,
            metric_value=scores[key],
        )
        for kind, key in (("accuracy", "accuracy"), ("f1", "macro_f1"))
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["uda", "semi-supervised"],
        base_model=facts.base_model,
        model_name="text-classifier",
        eval_results=results,
    )
    return str(data.to_yaml()).strip()


def _origin(facts: CardFacts) -> str:
    labels = ", ".join(f"{count} of {code(name)}" for name, count in zip(facts.label_names, facts.counts, strict=True))
    unlabeled = ""
    if facts.num_unlabeled:
        unlabeled = f" and {facts.num_unlabeled} unlabelled rows of {code(facts.unlabeled_data)}"
    described = " Sentences that describe the labels set the classifier's start." if facts.described else ""
    kind = "pair of texts" if facts.pairs else "text"
    augmented = (
        f", augmented by {facts.augmentation}" if facts.num_unlabeled and facts.augmentation != "NoAugmentation" else ""
    )
    return (
        f"Puts a {kind} into one of {len(facts.label_names)} classes. Trained by `uda` for {facts.num_steps} steps "
        f"({facts.objective}{augmented}) from the encoder {code(facts.encoder)} on {sum(facts.counts)} labelled rows "
        f"of {code(facts.labeled_data)} ({labels}){unlabeled}.{described}"
    )


def _scores(facts: CardFacts, scores: dict[str, Any]) -> str:
    low, high = scores["accuracy_interval"]
    rows = facts.held_out or code(facts.test_data)
    lines = [
        f"On {scores['num_rows']} test rows ({rows}): accuracy **{100 * scores['accuracy']:.2f} %**, with a 95 % "
        f"interval of {100 * low:.2f} to {100 * high:.2f} % from the number of test rows alone (Wilson); other draws "
        f"of the labels vary beyond that. Macro-F1 {100 * scores['macro_f1']:.2f} %, NLL {scores['nll']:.3f}.",
        "",
        "| class | precision | recall | F1 | test rows |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, one in scores["per_class"].items():
        numbers = " | ".join(f"{100 * one[key]:.2f} %" for key in ("precision", "recall", "f1"))
        lines.append(f"| {code(name)} | {numbers} | {one['support']} |")
    return "\n".join(lines)


def _confidence(calibration: dict[str, Any]) -> str:
    before, after = calibration["before"]["ece"], calibration["after"]["ece"]
    if calibration["method"] == "none":
        return (
            f"Not calibrated: the probabilities are the network's own. Their expected calibration error on the test "
            f"rows is {before:.3f}."
        )
    low, high = calibration["interval"]
    held_out = {"dev": "dev rows", "folds": "labelled rows, each answered by a model that was trained without it"}
    note = f" Note: {calibration['note']}." if calibration["note"] else ""
    return (
        f"Calibrated by temperature scaling on {calibration['num_rows']} {held_out[calibration['method']]}: the logits "
        f"are divided by {calibration['temperature']:.3f} (95 % interval {low:.2f} to {high:.2f}), which is part of "
        f"the weights. Expected calibration error on the test rows: {before:.3f} before, {after:.3f} after.{note}"
    )


def _use(facts: CardFacts) -> str:
    call = 'classify({"text": "…", "text_pair": "…"})' if facts.pairs else 'classify("…")'
    imports = "" if facts.standalone else "import uda  # knows the pooled head; without it: trust_remote_code=True\n"
    return (
        f"```python\n{imports}from transformers import pipeline\n\n"
        f'classify = pipeline("text-classification", "path/to/this/folder", truncation=True)\n{call}\n```'
    )


def _limits(facts: CardFacts, scores: dict[str, Any]) -> str:
    end = {"head": "the end is cut off", "tail": "the start is cut off", "head_tail": "the middle is cut out"}
    lines = [
        "- It answers with one of its classes whatever the text is about.",
        f"- Of a text of more than {facts.max_length} tokens {end[facts.truncation]}.",
        f"- {sum(facts.counts)} labelled rows were its only labels: expect other scores with other ones.",
        "- The scores hold for texts like the test rows; they say nothing about other sources.",
    ]
    if facts.truncation == "head_tail":
        lines.append("- A tokenizer cannot cut out the middle: `pipeline` keeps the end alone, `uda.predict` both.")
    if scores["num_rows"] < 200:
        lines.append(f"- {scores['num_rows']} test rows are few: see the interval above.")
    return "\n".join(lines)


@dataclass(frozen=True)
class AdaptedFacts:
    """What the card of an adapted encoder tells. encoder, base_model: see `CardFacts`. data: where the texts are from.
    before, after: perplexity on `num_held_out` held-out texts.
    """

    encoder: str
    base_model: str | None
    data: str
    num_texts: int
    num_steps: int
    mask_share: float
    whole_words: bool
    num_held_out: int
    before: float
    after: float
    new_head: bool
    repeat: str


def adapted_card(facts: AdaptedFacts) -> str:
    """README.md of an adapted encoder's folder."""
    data = ModelCardData(
        library_name="transformers", pipeline_tag="fill-mask", tags=["uda", "fill-mask"], base_model=facts.base_model
    )
    unit = "words" if facts.whole_words else "tokens"
    head = " The encoder came without a head for this task, so the first figure is that of a new one." * facts.new_head
    sections = [
        f"---\n{str(data.to_yaml()).strip()}\n---",
        "# Encoder adapted to a domain",
        f"The encoder {code(facts.encoder)}, trained by `uda` for {facts.num_steps} more steps as a masked language "
        f"model ({100 * facts.mask_share:g} % of the {unit}) on {facts.num_texts} texts of {code(facts.data)}. "
        f"Perplexity on the hidden tokens of {facts.num_held_out} texts that it was not trained on: "
        f"{facts.before:.1f} before, {facts.after:.1f} after.{head}",
        "## Use",
        "It classifies nothing yet. Train a classifier from it, with the overrides that it was adapted by:\n\n```\n"
        "python -m uda.train model.name_or_path=path/to/this/folder\n```",
        "## Repeat",
        f"With the `config.yaml` of the run directory that holds this folder:\n\n```\n{facts.repeat}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def code(text: str) -> str:
    """A text as code in Markdown and its tables: one line, nothing in it read as markup."""
    escaped = html.escape(" ".join(text.split()))
    active = r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # an underscore inside a word is none
    return f"<code>{re.sub(active, lambda found: f'&#{ord(found[0])};', escaped)}</code>"
