"""Tokenizers, and what an encoder takes of them."""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from uda.data.settings import Truncation
from uda.data.tokens import truncation_side
from uda.engine.model import LOADING_ERRORS, source_options, unreadable
from uda.engine.settings import ModelSettings
from uda.errors import UserError


def load_tokenizer(
    location: str, settings: ModelSettings, max_length: int, truncation: Truncation
) -> PreTrainedTokenizerBase:
    """The tokenizer, with our length and truncation side in place of what its files carry."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            location,
            **source_options(location, settings),
            model_max_length=max_length,
            truncation_side=truncation_side(truncation),
            padding_side="right",
        )
    except Exception as error:  # transformers raises many kinds for a missing tokenizer
        raise UserError(unreadable("a tokenizer", location, error)) from error
    if tokenizer.pad_token_id is None or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(
            f"Expected a tokenizer with a vocabulary and a padding token in {location}, found neither or one only. "
            "Save the encoder's tokenizer files beside its weights."
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    return tokenizer


def encoder_positions(location: str, settings: ModelSettings) -> int | None:
    """The `position_limit` of an encoder whose weights are not loaded."""
    shared = source_options(location, settings)
    try:
        with torch.device("meta"):
            trust = settings.trust_remote_code
            return position_limit(
                AutoModel.from_config(AutoConfig.from_pretrained(location, **shared), trust_remote_code=trust)
            )
    except LOADING_ERRORS as error:
        raise UserError(unreadable("an encoder", location, error)) from error


def fit_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, max_length: int) -> None:
    """Refuse an encoder for which the tokenizer's rows of `max_length` are no input; no token types where it has none.

    A tokenizer may give token types that its encoder does not take: training leaves them out, a pipeline would not.
    """
    encoder: Any = model.base_model
    embeddings = None if encoder.config.is_encoder_decoder else encoder.get_input_embeddings()
    if not isinstance(embeddings, nn.Embedding):
        raise UserError(
            f"model.name_or_path: expected an encoder of text, found a '{encoder.config.model_type}'. Choose one "
            "such as BERT, RoBERTa or ModernBERT."
        )
    if tokenizer.vocab_size > embeddings.num_embeddings:
        raise UserError(
            f"model.name_or_path: expected an encoder with its own tokenizer, found {tokenizer.vocab_size} tokens for "
            f"{embeddings.num_embeddings} embeddings. Save the tokenizer that the encoder was trained with beside it."
        )
    limit = position_limit(model)
    if limit is not None and max_length > limit:
        raise UserError(
            f"data.max_length: expected at most the {limit} positions of the encoder, found {max_length}. "
            f"Set data.max_length={limit}."
        )
    takes_types = "token_type_ids" in inspect.signature(encoder.forward).parameters
    if not takes_types or getattr(encoder.config, "type_vocab_size", 2) < 2:
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = names
        tokenizer.init_kwargs["model_input_names"] = names  # what save_pretrained writes


def position_limit(model: PreTrainedModel) -> int | None:
    """The longest input, in tokens, that the encoder has positions for; None where it needs none.

    Learnt positions end; rotary ones go on, but were trained up to the config's `max_position_embeddings`.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - first
    config: Any = model.base_model.config
    return config.max_position_embeddings if getattr(config, "rope_parameters", None) else None
