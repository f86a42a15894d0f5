"""The typed schema of the config, its checks, and the reader of Hydra's job."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from uda.checks import check, check_adapt
from uda.data.settings import DataSettings
from uda.engine.settings import AdaptSettings, ModelSettings, Precision, TrainSettings
from uda.errors import UserError
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


Config = TypeVar("Config", bound=TrainConfig)


@dataclass
class AugmentConfig(TrainConfig):
    """The config of `uda.augment`: that of the training that it is for, and `configs/augment.yaml`'s own keys."""

    run: str | None = MISSING
    clear: bool = MISSING


@dataclass
class AdaptConfig(TrainConfig):
    """The config of `uda.adapt`: that of the training that it is for, and `configs/adapt.yaml`'s own keys."""

    adapt: AdaptSettings = MISSING


@dataclass
class EvaluateConfig:
    """The config of `uda.evaluate`."""

    run: str | None = MISSING
    output: str | None = MISSING
    data: DataSettings | None = None
    precision: Precision = MISSING
    batch_size: int = MISSING
    process_timeout: float = MISSING


@dataclass
class RowsConfig:
    """What `uda.predict` and `uda.filter` share; `configs/rows.yaml` says what each key is."""

    run: str | None = MISSING
    input: str | None = MISSING
    output: str | None = MISSING
    overwrite: bool = MISSING
    text_column: str | None = MISSING
    text_pair_column: str | None = MISSING
    format: str | None = MISSING
    delimiter: str | None = MISSING
    encoding: str | None = MISSING
    header: bool | None = MISSING
    precision: Precision = MISSING
    batch_size: int = MISSING


@dataclass
class PredictConfig(RowsConfig):
    """The config of `uda.predict`."""

    min_confidence: float | None = MISSING


@dataclass
class FilterSettings:
    """One field a config key; `configs/filter.yaml` says what each is."""

    num_per_class: int | None


@dataclass
class FilterConfig(RowsConfig):
    """The config of `uda.filter`."""

    filter: FilterSettings = MISSING


@dataclass
class ReportConfig:
    """The config of `uda.report`; `configs/report.yaml` says what each key is."""

    runs: str | None = MISSING
    metric: str = MISSING
    baseline: str | None = MISSING
    output: str | None = MISSING


def config_dir() -> Path:
    """The folder of the yaml files: inside the package in a wheel, beside it in a checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "configs"


_SCHEMAS = {
    "train": TrainConfig,
    "augment": AugmentConfig,
    "adapt": AdaptConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "filter": FilterConfig,
    "report": ReportConfig,
}


def register(command: str) -> None:
    """Make a command's schema and the resolver of the run directory known to Hydra and OmegaConf.

    No other schema: Hydra copies all that it knows for each group that `--help` names.
    """
    ConfigStore.instance().store(f"{command}_schema", _SCHEMAS[command])
    OmegaConf.register_new_resolver("uda_job", _job_name, replace=True)


def compose(command: str, overrides: list[str]) -> DictConfig:
    """The config that a command line with these overrides would give, for use from Python.

    For commands that have a run directory its `run_dir` is the one that the command line would use;
    `hydra.run.dir=DIR` sets it.
    """
    register(command)
    with initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
        cfg = hydra_compose(command, overrides, return_hydra_config=True)
    if "run_dir" in cfg:
        cfg.run_dir = cfg.hydra.run.dir
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def _job_name(command: str | None = None, *, _root_: DictConfig) -> str:
    """`<objective>-seed<seed>`, or the command's name in place of the objective's, plus the other overrides."""
    hydra = _root_.hydra
    in_place = ("objective",) if command is None else ("run", "clear")
    others = folder_name(hydra.overrides.task, (*in_place, "seed", "name", "experiment", "sweep", *FREE_KEYS))
    name = command or hydra.runtime.choices.get("objective", "run")
    return f"{name}-seed{_root_.seed}{f'-{others}' if others else ''}"


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
    content: dict[str, Any] = plain(OmegaConf.to_container(cfg, resolve=True))
    content.pop("run_dir", None)
    content["train"]["overwrite"] = False
    return content


def plain(value: Any) -> Any:
    """A value of the typed config as JSON has it, enums by name."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return getattr(value, "name", value)


def job_overrides() -> list[str]:
    """The overrides of this job of the command line; none when called from Python."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def primary_config() -> str:
    """The name of the yaml file that this job of the command line was composed from: `train`, or a run's `config`."""
    return str(HydraConfig.get().job.config_name) if HydraConfig.initialized() else "train"


def config_dirs() -> list[str]:
    """The words `--config-dir DIR` of this job of the command line, where there were any."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    dirs = [source.path for source in sources if source.provider == "command-line"]
    return [word for path in dirs for word in ("--config-dir", path)]


def is_standard_input(overrides: Sequence[str]) -> bool:
    """Whether one of the overrides names standard input."""
    return any(override.partition("=")[2] in ("-", "[-]") for override in overrides)


def is_multirun() -> bool:
    """Whether this job is one of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def read_train(cfg: DictConfig) -> TrainConfig:
    """The config as typed objects, checked as far as that goes without data."""
    return _read(cfg, TrainConfig)


def read_augment(cfg: DictConfig) -> AugmentConfig:
    """The same of `uda.augment`."""
    return _read(cfg, AugmentConfig)


def read_adapt(cfg: DictConfig) -> AdaptConfig:
    """The same of `uda.adapt`."""
    typed = _read(cfg, AdaptConfig)
    check_adapt(typed, job_overrides())
    return typed


def _read(cfg: DictConfig, schema: type[Config]) -> Config:
    if "adapt" in cfg and schema is not AdaptConfig:
        raise UserError(
            "Expected a run of uda.train, found one of uda.adapt, which has no classes. Train from its model: "
            "python -m uda.train model.name_or_path=RUN/model, with the other overrides that it was adapted by."
        )
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(
            f"Expected a value for {', '.join(missing)}, found none. Set it: {missing[0]}=…, or choose an "
            "experiment: +experiment=imdb."
        )
    typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), cfg))
    assert isinstance(typed, schema)
    check(typed)
    return typed
