"""What can be seen of a config without data: values out of range, combinations that cannot work."""

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from uda.data.settings import DataSettings, Truncation
from uda.engine.settings import Pooling, Select, Sharding
from uda.errors import UserError

if TYPE_CHECKING:
    from uda.config import AdaptConfig, TrainConfig

log = logging.getLogger(__name__)

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
    "train.process_timeout": 3,
    "train.calibration_folds": 2,
}

_LOWEST_ADAPT: dict[str, float] = {
    "adapt.num_steps": 1,
    "adapt.batch_size": 1,
    "adapt.learning_rate": 0,
    "adapt.warmup": 0,
    "adapt.num_held_out": 1,
    "adapt.eval_every": 1,
}
_TRAIN_OF_ADAPT = (
    *("micro_batch_size", "schedule", "weight_decay", "max_grad_norm", "precision", "gradient_checkpointing"),
    *("eval_batch_size", "checkpoint_every", "keep_checkpoints", "log_every", "process_timeout", "overwrite"),
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


def check(config: "TrainConfig") -> None:
    """Refuse values out of range and combinations that cannot work, before any work starts."""
    _check_lowest(config, _LOWEST)
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
    _check_augment(config.augment)
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
    if train.sharding is Sharding.full and train.compile is not None:
        raise UserError(
            f"train.sharding=full: expected passes that are not compiled, found train.compile={train.compile}. Set "
            "train.compile=null, or train.sharding=none where a model fits on one device."
        )
    if train.select is Select.best and train.eval_every is None:
        raise UserError(
            "train.select=best: expected evaluations to choose from, found train.eval_every=null. Set train.eval_every."
        )


def check_adapt(config: "AdaptConfig", overrides: Sequence[str]) -> None:
    """Refuse values of `adapt` out of range, and overrides of `train` that adaptation makes nothing of."""
    _check_lowest(config, _LOWEST_ADAPT)
    adapt = config.adapt
    if not 0 < adapt.mask_share < 1:
        raise UserError(
            f"adapt.mask_share: expected a share above 0 and below 1, found {adapt.mask_share:g}. Set "
            "adapt.mask_share=0.15."
        )
    if adapt.learning_rate == 0:
        raise UserError("adapt.learning_rate: expected a rate above 0, found 0. Set adapt.learning_rate=5e-5.")
    if (adapt.warmup > 1 and adapt.warmup % 1) or adapt.warmup >= max(adapt.num_steps, 1):
        raise UserError(
            f"adapt.warmup: expected fewer whole steps than adapt.num_steps={adapt.num_steps}, or below 1 a share of "
            f"them, found {adapt.warmup:g}. Correct it."
        )
    if config.train.compile is not None:
        raise UserError(
            f"train.compile: expected null, since uda.adapt compiles no passes, found {config.train.compile}. Leave "
            "it out."
        )
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        name = key.removeprefix("train.")
        if key.startswith("train.") and name not in _TRAIN_OF_ADAPT:
            own = f"Set adapt.{name}, or leave" if hasattr(adapt, name) else "Leave"
            raise UserError(
                f"{key}: expected a setting that uda.adapt reads (adapt.* and train.{', '.join(_TRAIN_OF_ADAPT)}), "
                f"found {key}, which is for the training after it. {own} it out."
            )
        if key.partition(".")[0] in ("objective", "augment"):
            log.warning("%s has no effect on adaptation", override)


def _check_lowest(config: Any, table: dict[str, float]) -> None:
    for key, lowest in table.items():
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if value is not None and not lowest <= value < math.inf:
            raise UserError(f"{key}: expected at least {lowest}, found {value}. Set {key} to such a value.")


def _check_augment(node: dict[str, Any]) -> None:
    """The keys of `augment` that every method has."""

    def whole(key: str, lowest: int, example: str) -> int:
        value = node.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise UserError(
                f"augment.{key}: expected a whole number of at least {lowest}, found {value!r}. Set it to {example}."
            )
        return value

    whole("num_copies", 1, "1")
    if node.get("num_workers") is not None:
        whole("num_workers", 1, "the number of processes, or to null for one a core")
    if "num_shards" in node:
        count = whole("num_shards", 1, "the number of parts, or to 1")
        if whole("shard", 0, "the number of this part, from 0") >= count:
            raise UserError(
                f"augment.shard: expected a number from 0 to {count - 1}, as augment.num_shards={count}, found "
                f"{node['shard']}. Lower it, or raise augment.num_shards."
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
