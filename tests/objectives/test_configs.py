"""The options of the objectives: refused where they are wrong, and as the recipes have them in the yaml files."""

import inspect
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from uda.config import compose
from uda.errors import UserError
from uda.instances import build, parameter_names
from uda.objectives.base import Context
from uda.objectives.supervised import Supervised

FILES = sorted((Path(__file__).parents[2] / "configs" / "objective").glob("*.yaml"))
PAPER = {
    "temperature": 0.85,
    "tempering": "target",
    "targets": "soft",
    "threshold": -1,
    "normalizer": "all",
    "coefficient": 1,
    "coefficient_ramp": 0,
    "tsa": "linear",
    "supervised_steps": 0,
    "teacher_decay": 0,
    "alignment": "none",
    "kept_share": None,
    "kept_share_end": None,
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
        ({"coefficient_ramp": 1.5}, number("coefficient_ramp", ">= 0 and <= 1", "1.5")),
        ({"targets": "firm"}, choice("targets", "soft, hard", "'firm'")),
        (
            {"targets": "hard", "temperature": 0.4},
            "objective.temperature: expected null where objective.targets=hard, which nothing sharpens, found 0.4. Set "
            "objective.temperature=null or objective.targets=soft.",
        ),
        (
            {"kept_share_end": 0.9},
            "objective.kept_share_end: expected null where objective.kept_share is null, found 0.9. Set "
            "objective.kept_share to the share that it starts from.",
        ),
        ({"kept_share": 0.5, "kept_share_end": 0.4}, number("kept_share_end", ">= 0.5 and <= 1 or null", "0.4")),
        (
            {"kept_share": 0.5, "memory_rows": 9_000_000},
            "objective.memory_rows: expected at most 8000000 with 2 classes, of whose answers quantiles are taken, "
            "found 9000000. Lower objective.memory_rows.",
        ),
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
    built = get_class(node._target_)
    assert set(parameter_names(built)) - {"num_classes", "num_unlabeled"} == set(node) - {"_target_"}
    options = inspect.signature(built).parameters.values()
    assert all(option.default is option.empty for option in options)  # a value has one home: the yaml


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


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("pseudo_label", {"threshold": 1.1}, number("threshold", ">= 0 and <= 1", "1.1")),
        ("fixmatch", {"threshold": -1}, number("threshold", ">= 0 and <= 1", "-1")),
        ("flexmatch", {"threshold": None}, number("threshold", ">= 0 and <= 1", "None")),
        ("freematch", {"fairness": -0.1}, number("fairness", ">= 0", "-0.1")),
        ("freematch", {"horizon": 0}, number("horizon", "> 0 and <= 1", "0")),
        ("softmatch", {"num_sigmas": 0}, number("num_sigmas", "> 0", "0")),
        ("softmatch", {"horizon": 2}, number("horizon", "> 0 and <= 1", "2")),
        ("adamatch", {"relative_threshold": 1.5}, number("relative_threshold", ">= 0 and <= 1", "1.5")),
        (
            "mean_teacher",
            {"teacher_decay": 0},
            "objective.teacher_decay: expected a number > 0 and < 1 for the average that mean_teacher is about, found "
            "0. Set it, for example to 0.98.",
        ),
    ],
)
def test_the_family_refuses_wrong_options(nodes, name: str, option: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build({**nodes[name], **option}, "objective", num_classes=2, num_unlabeled=1)
    assert str(caught.value) == message


# What a method's own paper defines is no option of it.
REFUSED = {
    "flexmatch": ("kept_share", "kept_share_end"),
    "freematch": ("kept_share", "kept_share_end"),
    "softmatch": ("alignment", "kept_share", "kept_share_end", "prefill_rows"),
    "softmatch_weak_start": ("alignment", "kept_share", "kept_share_end", "prefill_rows"),
    "adamatch": ("alignment", "kept_share", "kept_share_end", "prefill_rows"),
}


@pytest.mark.parametrize("name", sorted({file.stem for file in FILES} - {"supervised"}))
def test_the_options_of_a_weak_start_work_with_each_method_that_does_not_define_them(nodes, name: str) -> None:
    wanted = {"supervised_steps": 3, "teacher_decay": 0.9, "coefficient_ramp": 0.2, "alignment": "uniform"}
    wanted |= {"kept_share": 0.5, "kept_share_end": 0.9, "prefill_rows": 8}
    for option in REFUSED.get(name, ()):
        with pytest.raises(UserError, match=rf"^objective\.{option}: expected a key of "):
            build({**nodes[name], option: wanted.pop(option)}, "objective", num_classes=2, num_unlabeled=1)
    objective = build({**nodes[name], **wanted}, "objective", num_classes=2, num_unlabeled=30)
    weak = 6 * torch.randn(24, 2, generator=torch.Generator().manual_seed(0))
    pseudo = objective.pseudo_label(weak, torch.arange(24), Context(0.5))
    if "kept_share" in wanted:
        assert 0 < int((pseudo.weight > 0).sum()) < 24
    if "alignment" in wanted:
        assert len(objective.memory.rows()) == 24


def test_a_kept_share_widens_over_the_run(make_uda) -> None:
    """Of 100 rows of each class with different confidences 20 are kept at first, 50 halfway, 80 at the end."""
    margins = torch.linspace(0.1, 5, 100, dtype=torch.float64)
    weak = torch.cat([torch.stack([margins, -margins], dim=1), torch.stack([-margins, margins], dim=1)])
    for progress, kept in [(0.0, 40), (0.5, 100), (1.0, 160)]:
        objective = make_uda(2, kept_share=0.2, kept_share_end=0.8, memory_rows=200)
        found = int(objective.pseudo_label(weak, torch.arange(200), Context(progress)).weight.sum())
        assert abs(found - kept) <= 2  # a quantile of 100 rows lies between two of them


def test_hard_targets_are_the_most_probable_class(make_uda) -> None:
    weak = torch.tensor([[0.1, 0.2, 0.0], [3.0, 0.0, 1.0]], dtype=torch.float64)
    pseudo = make_uda(3, targets="hard", temperature=None).pseudo_label(weak, torch.arange(2), Context(0))
    assert pseudo.probs.tolist() == [[0, 1, 0], [1, 0, 0]]
