"""What a user says about the encoder and the training; see `configs/model/` and `configs/train/`."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from uda.data.settings import Chosen


class Pooling(Enum):
    """What the classifier sees of the encoder."""

    head = "head"  # the checkpoint's own classification head
    mean = "mean"  # a linear head on the mean of the token features
    cls = "cls"  # a linear head on the first token's features


class Schedule(Enum):
    """How the learning rate goes on after the warm-up."""

    linear = "linear"
    cosine = "cosine"
    constant = "constant"


class Precision(Enum):
    """auto: bf16 where the hardware multiplies it natively, else fp32."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class Sharding(Enum):
    """How the models, their gradients and the optimiser's state lie on several processes."""

    none = "none"  # whole on each
    full = "full"  # each has a part of every tensor


class Select(Enum):
    """Which weights are exported."""

    final = "final"
    best = "best"


class Calibration(Enum):
    """Which held-out rows the temperature of the exported model is fitted on."""

    auto = "auto"  # the dev rows where there are any, else folds
    none = "none"
    dev = "dev"
    folds = "folds"  # the labelled rows, each by a model trained without it


@dataclass
class ModelSettings:
    """One field a config key."""

    name_or_path: str  # a folder made by save_pretrained, a name on the hub, or a folder inside `package`
    package: str | None = None  # the pip package that holds the encoder
    revision: str | None = None  # a commit on the hub
    sha256: dict[str, str] = field(default_factory=dict)  # the SHA-256 that files of the package must have
    pooling: Pooling = Pooling.head
    description_scale: float = 10.0  # scale of the classifier's start from data.label_descriptions
    dropout: float | None = None  # None: the checkpoint's own
    attention_dropout: float | None = None
    attention: str | None = None  # transformers' attn_implementation: eager, sdpa, …; None: the faster one
    trust_remote_code: bool = False


@dataclass
class TrainSettings:
    """One field a config key; values and their meaning: `configs/train/default.yaml`."""

    num_steps: Chosen
    batch_size: int
    unlabeled_ratio: int
    micro_batch_size: int | None
    supervised_batch_size: int | None
    learning_rate: float
    supervised_learning_rate: float | None
    schedule: Schedule
    warmup: float
    weight_decay: float
    max_grad_norm: float | None
    class_weights: Any
    precision: Precision
    compile: str | None
    gradient_checkpointing: bool
    sharding: Sharding
    eval_every: float | None
    eval_batch_size: int
    checkpoint_every: int | None
    keep_checkpoints: int
    log_every: int
    process_timeout: float
    select: Select
    calibration: Calibration
    calibration_folds: int
    overwrite: bool


@dataclass
class AdaptSettings:
    """One field a config key; values and their meaning: `configs/adapt.yaml`."""

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup: float
    mask_share: float
    whole_words: bool
    num_held_out: int
    eval_every: int | None
