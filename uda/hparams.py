"""The settings of a run beside its scores, as TensorBoard compares runs by them."""

from typing import Any

from uda.config import TrainConfig, plain

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
        shown[key] = plain(getattr(getattr(config, key.split(".")[0]), key.split(".")[1]))
    shown["data.label_descriptions"] = config.data.label_descriptions is not None
    return shown
