"""Where an encoder comes from: a folder, a pip package or the hub; nothing is loaded to tell."""

import os
import re
from pathlib import Path

from uda.engine.settings import ModelSettings
from uda.errors import UserError
from uda.packages import package_path

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_OWN = "For an encoder of the hub, or a folder of your own, add model=local to model.name_or_path."


def model_location(settings: ModelSettings) -> str:
    """A path or a hub name that `from_pretrained` takes; files of a pip package are checked."""
    name = settings.name_or_path
    if (own := own_folder(settings)) is not None:
        return str(own)
    if settings.package is None:
        if not _HUB_NAME.fullmatch(name):
            raise UserError(
                f"model.name_or_path: expected a folder made by save_pretrained or a name on the hub, found no folder "
                f"'{name}'. Check the path."
            )
        return name
    return str(package_path(settings.package, name, settings.sha256, _OWN))


def own_folder(settings: ModelSettings) -> Path | None:
    """The folder that `name_or_path` names, if it does, rather than a name on the hub or a part of the pip package.

    So an encoder of the package may be replaced, as by an adapted one, by `model.name_or_path` alone. Raises UserError
    for the directory of a run.
    """
    name = settings.name_or_path
    folder = Path(name).expanduser()
    if not name.strip() or not os.path.isdir(folder):
        return None
    # os.path's, as it takes a folder that may not be read for none: loading tells of that
    has_config = os.path.isfile(folder / "config.json")
    if os.path.isfile(folder / "model/config.json") and not has_config:
        raise UserError(
            f"model.name_or_path: expected a folder made by save_pretrained, found the directory of a run, {name}. Set "
            f"model.name_or_path={folder / 'model'}."
        )
    packaged = settings.package is not None and (
        any(key.startswith(f"{name}/") for key in settings.sha256) or not has_config
    )
    return None if packaged else folder


def encoder_folder(settings: ModelSettings) -> Path | None:
    """The folder that holds the encoder, its files not checked; None of one on the hub."""
    folder = own_folder(settings)
    if folder is None and settings.package is not None:
        folder = package_path(settings.package, settings.name_or_path, {}, _OWN)
    return folder if folder is not None and folder.is_dir() else None


def encoder_name(settings: ModelSettings) -> str:
    """What a person calls the encoder: its name on the hub, its pip package, or its folder (that of the run, of one
    that a run exported).
    """
    folder = own_folder(settings)
    if folder is None:
        return settings.package or settings.name_or_path
    folder = folder.resolve()
    return f"{folder.parent.name}/model" if folder.name == "model" else folder.name
