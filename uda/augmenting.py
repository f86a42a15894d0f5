"""What `uda.train` and `uda.augment` share: the augmentation that the config describes, over the unlabelled rows."""

import hashlib
import json
from pathlib import Path
from typing import Any

from uda import instances
from uda.augmentation.filling import WHOLE, Shard
from uda.augmentation.workers import usable_cores
from uda.copies import Copies, CopySettings
from uda.data.cache import cache_dir, cached_folder
from uda.data.rows import Rows
from uda.data.settings import Truncation
from uda.engine.locations import encoder_folder
from uda.engine.settings import ModelSettings
from uda.errors import UserError

_WEIGHTS = {".safetensors", ".bin", ".onnx", ".h5", ".msgpack", ".ot"}
_ANY_LENGTH = 512


def make_copies(
    node: dict[str, Any], rows: Rows, num_source_rows: int, lowercase: bool, shard: Shard = WHOLE
) -> Copies:
    """The copies of the rows by `augment` of the config. lowercase: whether the encoder's tokenizer ignores case."""
    augmenter = instances.build_augmenter(node, lowercase)
    method = instances.deciding(node)
    if leaves_case_open(method):
        method["encoder_lowercase"] = lowercase
    num_processes = node.get("num_workers") or usable_cores()
    settings = CopySettings(node["num_copies"], cache_of(node), num_processes, shard)
    return Copies(rows, num_source_rows, augmenter, method, settings)


def cache_of(node: dict[str, Any]) -> Path:
    """The folder of the cache: `augment.cache_dir`, or else the one beside our other caches."""
    folder = node.get("cache_dir")
    if folder is not None and not str(folder).strip():
        raise UserError(
            "augment.cache_dir: expected a folder or null, found an empty text. Name one, or leave the key out for the "
            "folder `augmented` of $UDA_CACHE (~/.cache/uda)."
        )
    return cache_dir() / "augmented" if folder is None else Path(str(folder)).expanduser()


def leaves_case_open(node: Any) -> bool:
    """Whether an augmentation, or one that it is made of, has `lowercase: null`, which asks the encoder."""
    if isinstance(node, dict):
        return any((key == "lowercase" and value is None) or leaves_case_open(value) for key, value in node.items())
    return isinstance(node, list) and any(map(leaves_case_open, node))


def encoder_lowercases(settings: ModelSettings) -> bool:
    """Whether the encoder's tokenizer ignores case.

    Loading a tokenizer takes seconds: of one that lies in a folder the answer is kept for as long as its files stay.
    """
    folder = encoder_folder(settings)
    if folder is None:
        return _ask_tokenizer(settings)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix not in _WEIGHTS)
    identity = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]

    def write(aside: Path) -> None:
        (aside / "lowercase.json").write_text(json.dumps(_ask_tokenizer(settings)))

    answer = cached_folder(cache_dir() / "tokenizers" / key, "a tokenizer's case", write) / "lowercase.json"
    return bool(json.loads(answer.read_text()))


def _ask_tokenizer(settings: ModelSettings) -> bool:
    from uda.engine.locations import model_location
    from uda.engine.model import quiet_transformers
    from uda.engine.tokenizer import load_tokenizer

    quiet_transformers()
    tokenizer = load_tokenizer(model_location(settings), settings, _ANY_LENGTH, Truncation.head)
    return bool(tokenizer.tokenize("A") == tokenizer.tokenize("a"))
