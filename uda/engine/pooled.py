"""A classifier with a linear head on pooled features, around any encoder.

This file and its config's travel with every saved model as the code that `trust_remote_code` needs, so they import
nothing else of `uda`, and each other by a relative name.
"""

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .pooled_config import PooledConfig


class PooledClassifier(PreTrainedModel):
    """encoder -> pooling -> dropout -> linear; logits [N, K]."""

    config_class = PooledConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        encoder_config = config.encoder_config()
        self.take_encoder(AutoModel.from_config(encoder_config))
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(encoder_config.hidden_size, config.num_labels or 2)
        self.post_init()

    def take_encoder(self, encoder: PreTrainedModel) -> None:
        """Use this encoder; a pooler of its own goes, since its output would be unused."""
        if getattr(encoder, "pooler", None) is not None:
            setattr(encoder, "pooler", None)  # noqa: B010  (typed as a module)
        self.encoder = encoder

    def pool(self, input_ids: Tensor, attention_mask: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """The pooled features [N, hidden size]."""
        features = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
        if self.config.pooling == "cls":
            return features[:, 0]
        if attention_mask is None:
            return features.mean(dim=1)
        mask = attention_mask.unsqueeze(-1).to(features.dtype)
        return (features * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **inputs: Tensor,
    ) -> SequenceClassifierOutput:
        inputs.pop("return_dict", None)
        logits = self.classifier(self.dropout(self.pool(input_ids, attention_mask, **inputs)))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
