"""The typed schema of the config, its checks, and the only reader of Hydra's objects."""

import hashlib
import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from uda.data.settings import DataSettings, Truncation
from uda.engine.settings import ModelSettings, Pooling, Precision, Select, TrainSettings
from uda.errors import UserError, did_you_mean
from uda.run_directory import FREE_KEYS

_MAX_NAME = 160  # a folder's name has at most 255 bytes


@dataclass
class TrainConfig:
    """The config of `uda.train`. The two dicts are a class to build (`_target_`) and its arguments."""

    name: str = MISSING
    seed: int = MISSING
    run_dir: str | None = None  # set by `compose`; a job of the command line has Hydra's
    data: DataSettings = field(default_factory=DataSettings)
    augment: dict[str, Any] = MISSING
    model: ModelSettings = MISSING
    objective: dict[str, Any] = MISSING
    train: TrainSettings = MISSING


@dataclass
class EvaluateConfig:
    """The config of `uda.evaluate`."""

    run: str | None = MISSING
    output: str | None = MISSING
    data: DataSettings | None = None
    precision: Precision = MISSING
    batch_size: int = MISSING


@dataclass
class PredictConfig:
    """The config of `uda.predict`; `configs/predict.yaml` says what each key is."""

    run: str | None = MISSING
    input: str | None = MISSING
    output: str | None = MISSING
    overwrite: bool = MISSING
    text_column: str | None = MISSING
    text_pair_column: str | None = MISSING
    min_confidence: float | None = MISSING
    format: str | None = MISSING
    delimiter: str | None = MISSING
    encoding: str | None = MISSING
    header: bool | None = MISSING
    precision: Precision = MISSING
    batch_size: int = MISSING


def config_dir() -> Path:
    """The folder of the yaml files: inside the package in a wheel, beside it in a checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "configs"


def register() -> None:
    """Make the schemas and the resolver of the run directory known to Hydra and OmegaConf."""
    store = ConfigStore.instance()
    store.store("train_schema", TrainConfig)
    store.store("evaluate_schema", EvaluateConfig)
    store.store("predict_schema", PredictConfig)
    OmegaConf.register_new_resolver("uda_job", _job_name, replace=True)


def compose(command: str, overrides: list[str]) -> DictConfig:
    """The config that a command line with these overrides would give, for use from Python.

    For `train` its `run_dir` is the directory that the command line would use; `hydra.run.dir=DIR` sets it.
    """
    register()
    with initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
        cfg = hydra_compose(command, overrides, return_hydra_config=True)
    if "run_dir" in cfg:
        cfg.run_dir = cfg.hydra.run.dir
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def _job_name(*, _root_: DictConfig) -> str:
    """`<objective>-seed<seed>` plus the other overrides."""
    hydra = _root_.hydra
    others = folder_name(hydra.overrides.task, ("objective", "seed", "name", "experiment", *FREE_KEYS))
    return f"{hydra.runtime.choices.get('objective', 'run')}-seed{_root_.seed}{f'-{others}' if others else ''}"


def folder_name(overrides: Sequence[str], leave_out: Sequence[str]) -> str:
    """Overrides as one folder's name, sorted; with a hash where characters had to go or the name is too long."""
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    text = "-".join(sorted(f"{key}={value}" for key, _, value in pairs if key not in leave_out))
    name = re.sub(r"[^A-Za-z0-9_.=,+-]+", "_", text)[:_MAX_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run_dir(config: TrainConfig) -> Path:
    """The run directory: that of `compose`, or the one that Hydra gave this job."""
    if config.run_dir is not None:
        return Path(config.run_dir)
    if not HydraConfig.initialized():
        raise UserError("run_dir: expected where the run goes, found none. Set run_dir, or use uda.config.compose.")
    return Path(HydraConfig.get().runtime.output_dir)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, enums by name; without what does not change the run's numbers."""
    plain: dict[str, Any] = _plain(OmegaConf.to_container(cfg, resolve=True))
    plain.pop("run_dir", None)
    plain["train"]["overwrite"] = False
    return plain


def hparams(config: TrainConfig) -> dict[str, Any]:
    """The settings that runs of a sweep are compared by: dotted keys, classes and enums by name; None: it has none.

    Each run names those settings that only some objectives have, since TensorBoard takes the columns from one run.
    """
    shown: dict[str, Any] = {"seed": config.seed, **dict.fromkeys(_COMPARED_OBJECTIVE)}
    for group in ("objective", "augment"):
        node = getattr(config, group)
        shown[group] = node["_target_"].split(".")[-1]
        shown |= {f"{group}.{key}": value for key, value in node.items() if f"{group}.{key}" in shown}
    for key in _COMPARED:
        shown[key] = _plain(getattr(getattr(config, key.split(".")[0]), key.split(".")[1]))
    shown["data.label_descriptions"] = config.data.label_descriptions is not None
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, "name", value)


def job_overrides() -> list[str]:
    """The overrides of this job of the command line; none when called from Python."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def primary_config() -> str:
    """The name of the yaml file that this job of the command line was composed from: `train`, or a run's `config`."""
    return str(HydraConfig.get().job.config_name) if HydraConfig.initialized() else "train"


def is_standard_input(overrides: Sequence[str]) -> bool:
    """Whether one of the overrides names standard input."""
    return any(override.partition("=")[2] in ("-", "[-]") for override in overrides)


def is_multirun() -> bool:
    """Whether this job is one of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def read_train(cfg: DictConfig) -> TrainConfig:
    """The config as typed objects, checked as far as that goes without data."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(
            f"Expected a value for {', '.join(missing)}, found none. Set it: {missing[0]}=…, or choose an "
            "experiment: +experiment=imdb."
        )
    typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), cfg))
    assert isinstance(typed, TrainConfig)
    check(typed)
    return typed


def build(node: dict[str, Any], group: str, **arguments: Any) -> Any:
    """The object that a config node describes; a misspelt key is named."""
    if "_target_" not in node:
        raise UserError(f"{group}: expected a class to build, found no {group}._target_. Choose an option: {group}=….")
    try:
        return instantiate(node, **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, TypeError):
            known = list(inspect.signature(get_object(node["_target_"])).parameters)
            given = [key for key in node if not key.startswith("_")]
            unknown = [key for key in given if key not in known]
            required = [key for key in known if key not in given and key not in arguments]
            if unknown:
                raise UserError(
                    f"{group}.{unknown[0]}: expected a key of {node['_target_']} ({', '.join(known)}), found "
                    f"'{unknown[0]}'.{did_you_mean(unknown[0], known)} Correct or remove it."
                ) from None
            if required:
                raise UserError(
                    f"{group}: expected all keys of {node['_target_']}, found none for {', '.join(required)}. Set them."
                ) from None
        reason = str(error).split(", set env var")[0]
        raise UserError(
            f"{group}: expected a class that can be built, found: {reason}. Check {group}._target_ and the types of "
            f"the other values of {group}."
        ) from error


def build_augmenter(node: dict[str, Any], lowercase: bool) -> Any:
    """The augmentation that a config node describes; `lowercase` is for those that leave it to the tokenizer."""
    arguments = {key: value for key, value in node.items() if key != "num_copies"}
    if arguments.get("lowercase", True) is None:
        arguments["lowercase"] = lowercase
    return build(arguments, "augment")


_HIGHEST_SEED = 2**63 - 1  # that torch takes
_LOWEST: dict[str, float] = {
    "seed": 0,
    "data.seed": 0,
    "data.num_test": 0,
    "data.min_characters": 0,
    "data.num_labeled": 1,
    "data.max_length": 8,
    "model.description_scale": 0,
    "train.num_steps": 0,
    "train.batch_size": 1,
    "train.unlabeled_ratio": 1,
    "train.micro_batch_size": 1,
    "train.supervised_batch_size": 1,
    "train.learning_rate": 0,
    "train.supervised_learning_rate": 0,
    "train.warmup": 0,
    "train.weight_decay": 0,
    "train.max_grad_norm": 0,
    "train.eval_every": 0,
    "train.eval_batch_size": 1,
    "train.checkpoint_every": 1,
    "train.keep_checkpoints": 1,
    "train.log_every": 1,
    "train.calibration_folds": 2,
}

_COMPARED = (
    "data.num_labeled",
    "data.seed",
    "model.name_or_path",
    "train.num_steps",
    "train.batch_size",
    "train.unlabeled_ratio",
    "train.learning_rate",
)
_COMPARED_OBJECTIVE = (
    "objective.temperature",
    "objective.threshold",
    "objective.tsa",
    "objective.coefficient",
    "objective.supervised_steps",
    "objective.alignment",
    "objective.kept_share",
)


def label_key(name: Any) -> str:
    """A label that is a key of the config, as rows have it: YAML's true and 1 are 'true' and '1'."""
    return str(name).lower() if isinstance(name, bool) else str(name)


def _descriptions(value: Any) -> dict[str, list[str]] | None:
    """Label descriptions as lists of sentences."""
    if value is None:
        return None
    lists = (
        {label_key(name): [item] if isinstance(item, str) else item for name, item in value.items()}
        if (isinstance(value, dict))
        else {}
    )
    if not lists or not all(
        isinstance(item, list) and item and all(isinstance(text, str) and text.strip() for text in item)
        for item in lists.values()
    ):
        raise UserError(
            f"data.label_descriptions: expected a sentence or a list of sentences for each label, found {value!r}. "
            'Give them like data.label_descriptions=\'{neg: ["I hated it."], pos: ["I loved it."]}\', or null.'
        )
    return lists


def check(config: TrainConfig) -> None:
    """Refuse values out of range and combinations that cannot work, before any work starts."""
    for key, lowest in _LOWEST.items():
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if value is not None and not lowest <= value < math.inf:
            raise UserError(f"{key}: expected at least {lowest}, found {value}. Set {key} to such a value.")
    if config.seed > _HIGHEST_SEED:
        raise UserError(f"seed: expected at most {_HIGHEST_SEED}, found {config.seed}. Set seed to such a value.")
    if not config.name.strip():
        raise UserError(f"name: expected a folder's name, found '{config.name}'. Set name to one.")
    if config.train.warmup > 1 and config.train.warmup % 1:
        raise UserError(
            f"train.warmup: expected a whole number of steps, or below 1 a share of them, found "
            f"{config.train.warmup:g}. Correct it."
        )
    if config.train.max_grad_norm == 0:
        raise UserError("train.max_grad_norm: expected a norm above 0, found 0. Set it to null to clip nothing.")
    for key in ("dropout", "attention_dropout"):
        share = getattr(config.model, key)
        if share is not None and not 0 <= share < 1:
            raise UserError(f"model.{key}: expected a share in [0, 1), found {share}. Set model.{key}=0.1.")
    copies = config.augment.get("num_copies")
    if not isinstance(copies, int) or isinstance(copies, bool) or copies < 1:
        raise UserError(f"augment.num_copies: expected a whole number of at least 1, found {copies!r}. Set it to 1.")
    if not isinstance(config.data.where, dict | None):
        raise UserError(
            f"data.where: expected columns and values, found {config.data.where!r}. Give them like "
            "data.where='{source: imdb}', or null."
        )
    config.data.label_descriptions = _descriptions(config.data.label_descriptions)
    _check_rows(config.data)
    _check_class_weights(config.train.class_weights)
    train = config.train
    if train.eval_every is not None and (not train.eval_every or (train.eval_every > 1 and train.eval_every % 1)):
        raise UserError(
            f"train.eval_every: expected a whole number of steps, or below 1 a share of them, found "
            f"{train.eval_every:g}. Set it to null to evaluate only at the end."
        )
    if config.data.label_descriptions is not None and config.model.pooling is Pooling.head:
        raise UserError(
            "data.label_descriptions: expected a head on pooled features, which can start from them, found "
            "model.pooling=head. Set model.pooling=mean, or data.label_descriptions=null."
        )
    if train.select is Select.best and train.eval_every is None:
        raise UserError(
            "train.select=best: expected evaluations to choose from, found train.eval_every=null. Set train.eval_every."
        )


def _check_rows(data: DataSettings) -> None:
    if data.test_share is not None and not 0 < data.test_share < 1:
        raise UserError(
            f"data.test_share: expected a share above 0 and below 1, found {data.test_share:g}. Set it to 0.2, or to "
            "null where data.test is given."
        )
    if not isinstance(data.label_names, list | str | None):
        raise UserError(
            f"data.label_names: expected a list of labels or the path of a file of them, found {data.label_names!r}. "
            "Give them like data.label_names='[neg, pos]', or null to take the labels of data.labeled."
        )
    if data.text_pair_column is not None and data.truncation is Truncation.head_tail:
        raise UserError(
            "data.truncation=head_tail: expected single texts, since no tokenizer keeps both ends of pairs, found "
            f"data.text_pair_column={data.text_pair_column}. Set data.truncation=head or tail."
        )
    if not data.balanced and data.num_labeled is None:
        raise UserError(
            "data.balanced=false: expected a draw of labelled rows that it shapes, found data.num_labeled=null. Set "
            "data.num_labeled, or data.balanced=true."
        )


def _check_class_weights(weights: Any) -> None:
    given = list(weights.values()) if isinstance(weights, dict) else []
    numbers = [value for value in given if isinstance(value, int | float) and not isinstance(value, bool)]
    if weights in (None, "balanced") or (numbers and numbers == given and all(0 < value < math.inf for value in given)):
        return
    raise UserError(
        f"train.class_weights: expected null, balanced, or a number above 0 for each label, found {weights!r}. Give "
        "them like train.class_weights='{neg: 1, pos: 2.5}'."
    )
