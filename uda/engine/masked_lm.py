"""Masked language models: an encoder with a head over its vocabulary."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from uda.data.masking import MaskedRows
from uda.engine.checkpoints import Tensors
from uda.engine.model import LOADING_ERRORS, refuse_missing, set_dropout, source_options, unreadable
from uda.engine.settings import ModelSettings
from uda.errors import UserError


def load_masked_lm(location: str, settings: ModelSettings) -> tuple[PreTrainedModel, bool]:
    """The encoder with its masked-language-model head, and whether that head is new.

    A new one is random but for the matrix of its last layer, which is that of the word embeddings. Raises UserError for
    an encoder of a kind that has no such model.
    """
    shared = source_options(location, settings)
    try:
        config: Any = AutoConfig.from_pretrained(location, **shared)
        config.return_dict = True  # whatever the checkpoint says
        own_code = "AutoModelForMaskedLM" in (getattr(config, "auto_map", None) or {})
        if type(config) not in MODEL_FOR_MASKED_LM_MAPPING and not own_code:
            raise UserError(
                f"model.name_or_path: expected an encoder that transformers has a masked language model for, found a "
                f"'{config.model_type}' at '{location}'. Choose one such as BERT, RoBERTa or ModernBERT; of a "
                "classifier, the encoder that it was trained from."
            )
        set_dropout(config, settings)
        model, report = AutoModelForMaskedLM.from_pretrained(
            location,
            config=config,
            dtype=torch.float32,
            attn_implementation=settings.attention,
            output_loading_info=True,
            **shared,
        )
        refuse_missing(location, report, f"{model.base_model_prefix}.")
    except LOADING_ERRORS as error:
        raise UserError(unreadable("an encoder", location, error)) from error
    return model, bool(report["missing_keys"])


def fit_mask_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuse an encoder that has no embedding for the mask token of its tokenizer."""
    embeddings: Any = model.get_input_embeddings()
    if tokenizer.mask_token_id is not None and tokenizer.mask_token_id >= embeddings.num_embeddings:
        raise UserError(
            f"model.name_or_path: expected an embedding for the mask token, found {embeddings.num_embeddings} "
            f"embeddings and the mask token at {tokenizer.mask_token_id}. Save the tokenizer that the encoder was "
            "trained with beside it."
        )


def weights_beside(location: str, settings: ModelSettings, model: PreTrainedModel) -> Tensors:
    """The encoder's weights that the checkpoint has and a masked language model does without, such as a pooler's, by
    the names that they have beside its own.
    """
    encoder, report = AutoModel.from_pretrained(
        location, dtype=torch.float32, output_loading_info=True, **source_options(location, settings)
    )
    known = {*model.base_model.state_dict(), *report["missing_keys"]}
    return {
        f"{model.base_model_prefix}.{name}": value for name, value in encoder.state_dict().items() if name not in known
    }


def unshared(model: nn.Module) -> Tensors:
    """The model's weights by name, those that several names share once."""
    found: Tensors = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, value in model.state_dict().items():
        place = (value.data_ptr(), value.shape)
        if place not in seen or not value.numel():
            found[name] = value
        seen.add(place)
    return found


class AtPlaces(nn.Module):
    """A masked language model whose head sees the hidden places alone: over all tokens of a text it would cost more
    than a small encoder. The head has to treat each place for itself, as all do.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._places: Tensor | None = None
        model.base_model.register_forward_hook(self._select)

    def forward(self, places: Tensor, **inputs: Tensor) -> Tensor:
        """Logits [M, V] at the places, numbers in the N * L ids laid end to end."""
        self._places = places
        logits: Tensor = self.model(**inputs).logits
        self._places = None
        return logits[0]

    def _select(self, encoder: nn.Module, inputs: Any, output: Any) -> Any:
        if self._places is not None:
            hidden: Tensor = output.last_hidden_state
            output.last_hidden_state = hidden.flatten(0, 1)[self._places][None]
        return output


def summed_loss(model: nn.Module, rows: MaskedRows) -> Tensor:
    """The cross-entropy of the hidden tokens (nats), summed. `model`: an `AtPlaces`, as it is or wrapped."""
    tokens = rows.tokens
    types = {} if tokens.types is None else {"token_type_ids": tokens.types}
    logits = model(rows.places, input_ids=tokens.ids, attention_mask=tokens.mask, **types)
    return nn.functional.cross_entropy(logits.float(), rows.targets, reduction="sum")
