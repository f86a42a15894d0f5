"""What a run leaves behind: the model folder, predictions, scores."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from uda.files import write_aside, write_text

_PACKAGES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "hydra-core")


def export_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    card: str,
    beside: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Weights, tokenizer, label names and card under `folder`, whole or as it was before.

    beside: weights that are saved with the model's own.
    """

    def write(aside: Path) -> None:
        model.save_pretrained(aside, state_dict={**model.state_dict(), **beside})
        for weights in aside.glob("*.safetensors"):  # which are written for their owner alone
            weights.chmod((aside / "config.json").stat().st_mode)
        tokenizer.save_pretrained(aside)
        (aside / "README.md").write_text(card, encoding="utf-8")

    write_aside(folder, write)


def write_predictions(path: Path, rows: pd.DataFrame, probs: np.ndarray, label_names: Sequence[str]) -> None:
    """One row a text, in the order of the data: key, label, prediction, confidence and probability_<label>."""
    table = pd.DataFrame(
        {
            "key": list(rows.key),
            "label": [label_names[label] for label in rows.label],
            "prediction": [label_names[label] for label in probs.argmax(axis=1)],
            "confidence": probs.max(axis=1),
            **{f"probability_{name}": probs[:, index] for index, name in enumerate(label_names)},
        }
    )
    write_aside(path, lambda aside: table.to_parquet(aside, index=False))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON file, whole or as it was before."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device and threads: what else a number depends on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {package: metadata.version(package) for package in _PACKAGES},
    }
