"""Encoders: loading, heads, a head that starts from label descriptions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from uda.data.batches import Tokens
from uda.engine.cpu_layers import use_cpu_layers
from uda.engine.pooled import PooledClassifier
from uda.engine.pooled_config import PooledConfig
from uda.engine.settings import ModelSettings, Pooling
from uda.errors import UserError, did_you_mean
from uda.hub import hub_is_reachable

LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)

_MAX_SHAPES = 256  # that passes are compiled for: rows and lengths come in multiples (uda.engine.step)
_DROPOUT = ("hidden_dropout_prob", "dropout", "hidden_dropout", "mlp_dropout", "embedding_dropout", "resid_pdrop")
_HEAD_DROPOUT = ("classifier_dropout", "seq_classif_dropout", "pooler_dropout", "cls_dropout")
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")


def quiet_transformers() -> None:
    """No load reports and no progress bars but ours."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def load_classifier(location: str, settings: ModelSettings, label_names: Sequence[str]) -> PreTrainedModel:
    """The encoder with a classifier of K random rows: weights truncated normal (sigma 0.02), bias 0."""
    labels = {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
    shared = source_options(location, settings)
    loading = {
        **shared,
        "dtype": torch.float32,
        "attn_implementation": settings.attention,
        "output_loading_info": True,
    }
    try:
        config = AutoConfig.from_pretrained(location, **shared)
        if isinstance(config, PooledConfig):
            raise UserError(
                f"model.name_or_path: expected an encoder at '{location}', found a classifier that uda.train exported. "
                "Give the encoder that it was trained from."
            )
        config.return_dict = True  # whatever the checkpoint says
        set_dropout(config, settings)
        if settings.pooling is Pooling.head:
            for name, value in {**labels, "num_labels": len(label_names), "problem_type": None}.items():
                setattr(config, name, value)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                location, config=config, ignore_mismatched_sizes=True, **loading
            )
            refuse_missing(location, report, f"{model.base_model_prefix}.")
        else:
            encoder, report = AutoModel.from_pretrained(location, config=config, **loading)
            refuse_missing(location, report, "")
            model = _pooled(encoder, settings, labels)
    except LOADING_ERRORS as error:
        raise UserError(unreadable("an encoder", location, error)) from error
    head = classifier_layer(model)
    nn.init.trunc_normal_(head.weight, std=0.02, a=-0.04, b=0.04)
    nn.init.zeros_(head.bias)
    return model


def refuse_missing(location: str, report: dict[str, Any], prefix: str) -> None:
    """Refuse an encoder whose weights would in part be random; heads and poolers, which many lack, may be."""
    keys = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    missing = sorted(key for key in keys if key.startswith(prefix) and "pooler" not in key)
    if missing:
        raise UserError(
            f"model.name_or_path: expected all weights of the encoder at '{location}', found none that fit for "
            f"{len(missing)} of them, first '{missing[0]}'. Give the weights that belong to its config.json."
        )


def source_options(location: str, settings: ModelSettings) -> dict[str, Any]:
    """The options of `from_pretrained` that say where to look: in the cache alone where the hub is out of reach."""
    return {
        "revision": settings.revision,
        "trust_remote_code": settings.trust_remote_code,
        "local_files_only": not Path(location).is_dir() and not hub_is_reachable(),
    }


def _pooled(encoder: PreTrainedModel, settings: ModelSettings, labels: dict[str, Any]) -> PooledClassifier:
    """A pooled classifier around a loaded encoder; dropout before the head is the encoder's own."""
    options = {key: value for key, value in encoder.config.to_dict().items() if key != "_name_or_path"}
    dropout = next((getattr(encoder.config, name) for name in _DROPOUT if hasattr(encoder.config, name)), 0.0)
    config = PooledConfig(encoder=options, pooling=settings.pooling.value, classifier_dropout=float(dropout), **labels)
    model = PooledClassifier(config)
    model.take_encoder(encoder)
    return model


def unreadable(what: str, location: str, error: Exception) -> str:
    """What to say where `what` cannot be loaded from a location."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return (
        f"model.name_or_path: expected {what} at '{location}', found: {reason}. "
        "Give a folder made by save_pretrained or a name on the hub (`+experiment=imdb` needs no hub), and check "
        "model.attention and model.revision where they are set."
    )


def set_dropout(config: Any, settings: ModelSettings) -> None:
    """Put the dropout that the user named into an encoder's config. Raises UserError where it has no such setting."""
    for key, value, names in (
        ("dropout", settings.dropout, _DROPOUT + _HEAD_DROPOUT),
        ("attention_dropout", settings.attention_dropout, _ATTENTION_DROPOUT),
    ):
        if value is None:
            continue
        found = [name for name in names if getattr(config, name, None) is not None]  # None: as another one says
        if not found:
            raise UserError(
                f"model.{key}: expected an encoder with such a setting, found none in a '{config.model_type}'. "
                f"Set model.{key}=null."
            )
        for name in found:
            setattr(config, name, value)


def classifier_layer(model: PreTrainedModel) -> nn.Linear:
    """The last linear layer outside the encoder: the one whose rows are the classes."""
    encoder = set(model.base_model.modules()) if model.base_model is not model else set()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer not in encoder]
    fitting = [layer for layer in layers if layer.out_features == model.config.num_labels]
    if not fitting:
        raise UserError(
            f"Expected an encoder with a linear classification head, found '{model.config.model_type}' without one. "
            "Set model.pooling=mean."
        )
    return fitting[-1]


def compiled(model: nn.Module, backend: str) -> nn.Module:
    """The model, with the same weights, with passes by torch.compile, one program for each shape that they come in.

    Raises UserError for a backend that torch does not know.
    """
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise UserError(
            f"train.compile: expected a backend of torch.compile or null, found '{backend}'."
            f"{did_you_mean(backend, known)} Set train.compile=inductor, torch's own."
        )
    # Beyond its limit of shapes torch computes all others uncompiled, without a word.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MAX_SHAPES)
    module: nn.Module = torch.compile(model, backend=backend, dynamic=False)  # type: ignore[assignment]
    return module


def enable_gradient_checkpointing(model: PreTrainedModel) -> None:
    """Have each layer of the encoder compute its inner results again in the backward pass, instead of keeping them.

    Raises UserError where the encoder's class cannot.
    """
    encoder: Any = model.base_model
    if not encoder.supports_gradient_checkpointing:
        raise UserError(
            f"train.gradient_checkpointing: expected an encoder that can compute its layers again, found "
            f"'{encoder.config.model_type}', which cannot. Set train.gradient_checkpointing=false, and lower "
            "train.micro_batch_size to save memory."
        )
    encoder.activation_checkpointing_enable({"use_reentrant": False})


def label_names(model: PreTrainedModel) -> list[str]:
    """The classes of a classifier, in order."""
    names: dict[Any, str] = model.config.id2label or {}
    return [names[index] for index in range(len(names))]


def move(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model on the device; on a CPU with the layers that are faster there."""
    model.to(device)  # type: ignore[arg-type]
    if device.type == "cpu":
        use_cpu_layers(model)
    return model


def logits_of(model: nn.Module, tokens: Tokens) -> Tensor:
    """The model's logits [N, K]."""
    types = {} if tokens.types is None else {"token_type_ids": tokens.types}
    logits: Tensor = model(input_ids=tokens.ids, attention_mask=tokens.mask, **types).logits
    return logits


@torch.no_grad()
def start_head_from_descriptions(
    model: PooledClassifier, sentences: Mapping[str, Tokens], scale: float, label_names: Sequence[str]
) -> None:
    """Set the classifier's rows to scale * (mean normalised embedding of the label's sentences - mean over labels).

    Zero-shot classification by label embeddings as a start for training; the bias becomes 0. `sentences` holds the
    tokens of each label's description sentences.
    """
    model.eval()
    device = model.classifier.weight.device
    means = []
    for name in label_names:
        tokens = sentences[name].to(device)
        features = model.pool(tokens.ids, tokens.mask).float()
        means.append(nn.functional.normalize(features, dim=-1).mean(dim=0))
    rows = torch.stack(means)
    model.classifier.weight.copy_(scale * (rows - rows.mean(dim=0)))
    model.classifier.bias.zero_()


def load_run_model(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The exported model of a run, in fp32, and its tokenizer."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"Expected an exported model in {folder}, found none. Give the folder of a finished run: run=outputs/…"
        )
    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(folder)
    except LOADING_ERRORS as error:
        raise UserError(
            f"Expected an exported model in {folder} as a run writes it, found: {error}. Restore it or train again."
        ) from error
