"""The options of the objectives: refused where they are wrong, and as the recipes have them in the yaml files."""

import inspect
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from uda.config import compose
from uda.errors import UserError
from uda.objectives.base import Context
from uda.objectives.supervised import Supervised

FILES = sorted((Path(__file__).parents[2] / "configs" / "objective").glob("*.yaml"))
PAPER = {
    "temperature": 0.85,
    "tempering": "target",
    "threshold": -1,
    "normalizer": "all",
    "coefficient": 1,
    "tsa": "linear",
    "supervised_steps": 0,
    "teacher_decay": 0,
    "alignment": "none",
    "kept_share": None,
    "memory_rows": 512,
    "prefill_rows": 0,
}


def number(name: str, bounds: str, found: str, kind: str = "a number") -> str:
    return f"objective.{name}: expected {kind} {bounds}, found {found}. Set objective.{name} to such a value."


def choice(name: str, choices: str, found: str) -> str:
    return f"objective.{name}: expected one of {choices}, found {found}. Set objective.{name} to one of them."


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"temperature": True}, number("temperature", "or null", "True")),
        ({"temperature": "hot"}, number("temperature", "or null", "'hot'")),
        ({"tempering": "both"}, choice("tempering", "target, prediction", "'both'")),
        ({"threshold": 1.5}, number("threshold", ">= -1 and <= 1", "1.5")),
        ({"threshold": -1.5}, number("threshold", ">= -1 and <= 1", "-1.5")),
        ({"threshold": float("nan")}, number("threshold", ">= -1 and <= 1", "nan")),
        ({"threshold": None}, number("threshold", ">= -1 and <= 1", "None")),
        ({"normalizer": "mean"}, choice("normalizer", "all, kept", "'mean'")),
        ({"coefficient": -0.1}, number("coefficient", ">= 0", "-0.1")),
        ({"coefficient": None}, number("coefficient", ">= 0", "None")),
        ({"tsa": "cosine"}, choice("tsa", "none, linear, log, exp", "'cosine'")),
        ({"tsa": None}, choice("tsa", "none, linear, log, exp", "None")),
        ({"supervised_steps": -1}, number("supervised_steps", ">= 0", "-1")),
        ({"teacher_decay": 1.1}, number("teacher_decay", ">= 0 and < 1", "1.1")),
        ({"alignment": "prior"}, choice("alignment", "none, uniform, labeled", "'prior'")),
        ({"kept_share": 1.5}, number("kept_share", "> 0 and <= 1 or null", "1.5")),
        ({"kept_share": "half"}, number("kept_share", "> 0 and <= 1 or null", "'half'")),
        ({"memory_rows": 0}, number("memory_rows", ">= 1", "0", "a whole number")),
        ({"prefill_rows": -1}, number("prefill_rows", ">= 0", "-1", "a whole number")),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_refused(make_uda, option: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_uda(2, **option)
    assert " ".join(str(caught.value).split()) == message


@pytest.mark.parametrize(
    ("num_classes", "num_unlabeled", "tsa", "message"),
    [
        (1, 0, "none", number("num_classes", ">= 2", "1", "a whole number")),
        (2, -1, "none", number("num_unlabeled", ">= 0", "-1", "a whole number")),
        (2, 0, "cosine", choice("tsa", "none, linear, log, exp", "'cosine'")),
    ],
)
def test_supervised_refuses_wrong_options(num_classes: int, num_unlabeled: int, tsa: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Supervised(num_classes, num_unlabeled, tsa=tsa)
    assert str(caught.value) == message


@pytest.fixture(scope="module")
def nodes() -> dict[str, DictConfig]:
    """The objective of the composed configuration, for each yaml."""
    return {file.stem: compose("train", ["+experiment=imdb", f"objective={file.stem}"]).objective for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_yaml_opens_with_a_header_and_labels_rows(nodes, file: Path) -> None:
    assert file.read_text().startswith("# ")
    node = nodes[file.stem]
    instantiate(node, num_classes=2, num_unlabeled=1)  # as the engine does before any data is loaded
    objective = instantiate(node, num_classes=5, num_unlabeled=100)
    pseudo = objective.pseudo_label(torch.randn(24, 5), torch.arange(24), Context(0))
    assert len(pseudo.probs) == len(pseudo.weight) == (0 if objective.teacher_rows == "none" else 24)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_yaml_gives_every_option(nodes, file: Path) -> None:
    node = nodes[file.stem]
    options = inspect.signature(get_class(node._target_)).parameters.values()
    keyword_only = [option for option in options if option.kind is option.KEYWORD_ONLY]
    assert {option.name for option in keyword_only} == set(node) - {"_target_"}
    assert all(option.default is option.empty for option in keyword_only)  # a value has one home: the yaml


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("uda", {}),
        ("uda_port", {"tempering": "prediction", "threshold": 0.45, "normalizer": "kept"}),
        (
            "uda_weak_start",
            {
                "temperature": 0.4,
                "normalizer": "kept",
                "tsa": "none",
                "supervised_steps": 12,
                "teacher_decay": 0.98,
                "alignment": "uniform",
                "kept_share": 0.5,
                "prefill_rows": 192,
            },
        ),
    ],
)
def test_the_recipes(nodes, name: str, changes: dict[str, object]) -> None:
    node = dict(nodes[name])
    assert node.pop("_target_") == "uda.objectives.uda.UDA"
    assert node == PAPER | changes


def test_the_baseline_has_no_annealing(nodes) -> None:
    assert nodes["supervised"] == {"_target_": "uda.objectives.supervised.Supervised", "tsa": "none"}
