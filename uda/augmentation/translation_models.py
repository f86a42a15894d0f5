"""Where translation models are, found before anything is loaded."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uda.errors import UserError
from uda.hub import hub_is_reachable

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILES = ("config.json", "vocab.json", "source.spm", "target.spm")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_MAX_GROWTH, _MIN_TOKENS = 2, 16


@dataclass(frozen=True)
class ModelSource:
    """A model's place: arguments of `from_pretrained`, and another string for other weights."""

    loading: dict[str, Any]
    identity: str


def find_model(key: str, location: Any, revision: Any) -> ModelSource:
    """The model in a folder, in the cache of the hub's client, or on the hub. Raises UserError where there is none.

    The revision is turned into the commit that it stands for, in the cache where that has it.
    """
    name = str(location)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _in_folder(key, folder)
    if not _HUB_NAME.fullmatch(name):
        raise UserError(
            f"{key}: expected the folder of a MarianMT model or its name on the hub, found no folder '{name}'. Check "
            "the path."
        )
    commit, in_cache = _commit(key, name, str(revision))
    loading = {"pretrained_model_name_or_path": name, "revision": commit, "local_files_only": in_cache}
    return ModelSource(loading, hashlib.sha256(f"{name}\0{commit}".encode()).hexdigest())


def max_new_tokens(length: int) -> int:
    """How many tokens a translation of a sentence of `length` tokens may have."""
    return max(_MAX_GROWTH * length, _MIN_TOKENS)


def _in_folder(key: str, folder: Path) -> ModelSource:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _WEIGHTS):
        missing.append(" or ".join(_WEIGHTS))
    if missing:
        raise UserError(
            f"{key}: expected a MarianMT model with its tokenizer in {folder}, found no {', '.join(missing)}. Give a "
            "folder made by save_pretrained of both."
        )
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        found = path.stat()
        digest.update(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    loading = {"pretrained_model_name_or_path": str(folder), "revision": None, "local_files_only": True}
    return ModelSource(loading, digest.hexdigest())


def _commit(key: str, name: str, revision: str) -> tuple[str, bool]:
    """The commit that a revision stands for, and whether its files are in the cache of the hub's client."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    paths = [try_to_load_from_cache(name, file, revision=revision) for file in _FILES]
    weights = [try_to_load_from_cache(name, file, revision=revision) for file in _WEIGHTS]
    in_cache = all(isinstance(path, str) for path in paths) and any(isinstance(path, str) for path in weights)
    if in_cache:
        return Path(str(paths[0])).parent.name, True
    if not hub_is_reachable():
        raise UserError(
            f"{key}: expected the model '{name}' (revision {revision}), found it neither in the cache "
            f"{constants.HF_HUB_CACHE} nor the hub at {constants.ENDPOINT} within reach. Download it where there is a "
            f"network, by `hf download {name}`, or set {key} to the folder of a copy."
        )
    try:
        return str(HfApi().model_info(name, revision=revision).sha), False
    except HfHubHTTPError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{key}: expected the model '{name}' (revision {revision}) on the hub, found: {reason} Check the name and "
            "the revision."
        ) from error
