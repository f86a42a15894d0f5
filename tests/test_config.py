"""Every experiment with every objective, data and augment option; the run directory's name; checks before any work."""

from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from uda.config import compose, config_dir, read_train
from uda.errors import UserError
from uda.instances import build
from uda.objectives.base import Objective


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def test_the_groups_are_those_of_the_contract() -> None:
    assert {path.name for path in config_dir().iterdir() if path.is_dir()} == {
        "data",
        "augment",
        "model",
        "objective",
        "train",
        "experiment",
        "sweep",
    }
    assert set(options("objective")) >= {"supervised", "uda", "uda_port", "uda_weak_start"}


GROUPS = ("objective", "data", "augment", "model")
NEEDS = {
    ("augment", "files"): ["augment.path=p", "augment.column=c"],
    ("augment", "llm"): ["augment.base_url=http://127.0.0.1:1/v1", "augment.model=m"],
    ("model", "local"): ["model.name_or_path=m"],
}


def selections() -> list[dict[str, str]]:
    """As few choices of an option for each group as hold every option of every group."""
    longest = max(len(options(group)) for group in GROUPS)
    return [{group: options(group)[number % len(options(group))] for group in GROUPS} for number in range(longest)]


# All cost minutes. An experiment only selects (see below), so what composes with one composes with all:
# two are tried with every option, the others as they stand.
WHOLE = ("imdb", "imdb_bert_base")


@pytest.mark.parametrize("chosen", selections(), ids=lambda chosen: "-".join(chosen.values()))
@pytest.mark.parametrize("experiment", WHOLE)
def test_every_experiment_composes_with_every_option(experiment: str, chosen: dict[str, str]) -> None:
    overrides = [f"{group}={option}" for group, option in chosen.items()]
    needed = [override for choice in chosen.items() for override in NEEDS.get(choice, [])]
    # Label descriptions need a pooled head.
    cfg = compose("train", [f"+experiment={experiment}", *overrides, *needed, "data.label_descriptions=null"])
    settings = read_train(cfg)
    built = build(settings.objective, "objective", num_classes=3, num_unlabeled=5)
    assert isinstance(built, Objective)
    assert built.num_classes == 3


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_is_valid_as_it_stands(experiment: str) -> None:
    settings = read_train(compose("train", [f"+experiment={experiment}"]))
    assert settings.name == experiment


@pytest.mark.parametrize("experiment", options("experiment"))
def test_an_experiment_selects_but_sets_no_objective_and_no_data(experiment: str) -> None:
    body = OmegaConf.load(config_dir() / "experiment" / f"{experiment}.yaml")
    assert not {"objective", "data"} & set(body)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_an_experiment_opens_with_its_command_and_its_cost(experiment: str) -> None:
    header = [
        line
        for line in (config_dir() / "experiment" / f"{experiment}.yaml").read_text().splitlines()
        if line.startswith("#")
    ]
    assert any(f"python -m uda.train +experiment={experiment}" in line for line in header)
    assert any("minutes" in line or "hours" in line for line in header)


def job_name(*overrides: str) -> str:
    return str(compose("train", list(overrides)).run_dir)


def test_the_run_directory_tells_jobs_apart() -> None:
    assert job_name("+experiment=imdb") == "outputs/imdb/uda_weak_start-seed0"
    assert job_name("+experiment=imdb", "objective=uda", "seed=3") == "outputs/imdb/uda-seed3"
    assert job_name("+experiment=imdb", "train.num_steps=5", "data.labeled=a/b c.csv") == (
        "outputs/imdb/uda_weak_start-seed0-data.labeled=a_b_c.csv-train.num_steps=5-29a38e5b"
    )
    assert job_name("+experiment=imdb", "name=mine", "train.overwrite=true") == "outputs/mine/uda_weak_start-seed0"
    neutral = ("train.checkpoint_every=5", "train.keep_checkpoints=1", "train.log_every=50")
    assert job_name("+experiment=imdb", *neutral) == "outputs/imdb/uda_weak_start-seed0"  # so a run can go on with them
    assert not GlobalHydra.instance().is_initialized()


def test_two_long_values_that_differ_late_do_not_meet() -> None:
    first, second = (job_name("+experiment=imdb", f"model.name_or_path={'x' * 300}{end}") for end in "ab")
    assert first != second
    assert all(len(part) < 200 for part in Path(first).parts)


def test_paper_recipe_has_everything_for_a_weak_start_off() -> None:
    objective = compose("train", ["+experiment=imdb", "objective=uda"]).objective
    assert (objective.supervised_steps, objective.teacher_decay, objective.prefill_rows) == (0, 0.0, 0)
    assert (objective.alignment, objective.kept_share) == ("none", None)
    assert (objective.temperature, objective.tsa, objective.threshold) == (0.85, "linear", -1)
    port = compose("train", ["+experiment=imdb", "objective=uda_port"]).objective
    assert (port.tempering, port.normalizer, port.threshold) == ("prediction", "kept", 0.45)


def test_data_seed_follows_the_seed_unless_set() -> None:
    assert read_train(compose("train", ["+experiment=imdb", "seed=4"])).data.seed == 4
    assert read_train(compose("train", ["+experiment=imdb", "seed=4", "data.seed=1"])).data.seed == 1


BAD = [
    (["train.num_steps=-1"], "train.num_steps: expected at least 0, found -1"),
    (["train.batch_size=0"], "train.batch_size: expected at least 1, found 0"),
    (["train.warmup=-0.1"], "train.warmup: expected at least 0, found -0.1"),
    (["seed=-1"], "seed: expected at least 0, found -1"),
    (["data.max_length=2"], "data.max_length: expected at least 8, found 2"),
    (["model.dropout=1.5"], r"model.dropout: expected a share in \[0, 1\), found 1.5"),
    (["augment.num_copies=0"], "augment.num_copies: expected a whole number of at least 1, found 0"),
    (["model.pooling=head"], "data.label_descriptions: expected a head on pooled features.*model.pooling=mean"),
    (["data.label_descriptions=3"], "data.label_descriptions: expected a sentence or a list.*found 3"),
    (["data.label_descriptions={neg: [], pos: x}"], "data.label_descriptions: expected a sentence or a list"),
    (["data.where=x"], "data.where: expected columns and values, found 'x'"),
    (["train.select=best", "train.eval_every=null"], "train.select=best: expected evaluations.*Set train.eval_every"),
    (["train.max_grad_norm=0"], "train.max_grad_norm: expected a norm above 0, found 0. Set it to null"),
    (
        ["data.truncation=head_tail", "data.text_pair_column=b"],
        "data.truncation=head_tail: expected single texts.*found data.text_pair_column=b. Set data.truncation=head",
    ),
    (
        ["data.balanced=false", "data.num_labeled=null"],
        "data.balanced=false: expected a draw of labelled rows .*found data.num_labeled=null. Set data.num_labeled",
    ),
    (["train.class_weights=even"], "train.class_weights: expected null, balanced, or .*found 'even'. Give them like"),
    (["train.class_weights={neg: 0, pos: 1}"], "train.class_weights: expected .*a number above 0 for each label"),
    (["train.class_weights={neg: a, pos: 1}"], "train.class_weights: expected .*a number above 0 for each label"),
    (["train.class_weights={neg: true, pos: 1}"], "train.class_weights: expected .*a number above 0 for each label"),
    (["train.class_weights={neg: inf, pos: 1}"], "train.class_weights: expected .*a number above 0 for each label"),
    (["train.class_weights=[1, 2]"], r"train.class_weights: expected .*found \[1, 2\]"),
    (["train.warmup=inf"], "train.warmup: expected at least 0, found inf"),
    (["model=local"], "Expected a value for model.name_or_path, found none. Set it"),
    (["augment=files"], "Expected a value for augment.column, augment.path, found none"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD)
def test_bad_values_are_refused_before_any_work(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_train(compose("train", ["+experiment=imdb", *overrides]))


def test_booleans_are_labels_in_the_config_too() -> None:
    """YAML reads true as a boolean; the rows' label is 'true'."""
    given = "{true: [good], false: [bad]}"
    cfg = compose("train", ["+experiment=files", "data.labeled=rows.csv", f"data.label_descriptions={given}"])
    assert read_train(cfg).data.label_descriptions == {"true": ["good"], "false": ["bad"]}
