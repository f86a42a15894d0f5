"""The config that a run keeps, as typed objects; the run of another version is told as what it is."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import ConfigKeyError

from uda import config, run_directory
from uda.config import TrainConfig
from uda.data.settings import DataSettings
from uda.engine.settings import ModelSettings, TrainSettings
from uda.errors import UserError

_GROUPS = {"data": DataSettings, "model": ModelSettings, "train": TrainSettings}


def read_stored(folder: Path) -> TrainConfig:
    """The config of the run in a folder. Raises UserError where its keys are those of another version."""
    content = run_directory.read_config(folder)
    keys = {f"{group}.{key}" for group in _GROUPS for key in content.get(group) or {}}
    if absent := absent_keys(keys):
        raise UserError(run_directory.of_another_version(folder, absent))
    try:
        return config.read_train(DictConfig(content))
    except ConfigKeyError as error:
        raise UserError(
            f"Expected the run in {folder} to have settings that this version of uda knows, found {error.full_key} in "
            "its config.yaml: another version made it. Use that version, or train again with this one."
        ) from error


def absent_keys(keys: Collection[str] | Mapping[str, object]) -> list[str]:
    """The keys `group.key` that the config of any run of this version has, and these dotted ones lack."""
    known = [f"{group}.{entry.name}" for group, schema in _GROUPS.items() for entry in fields(schema)]
    return [key for key in known if key not in keys]
