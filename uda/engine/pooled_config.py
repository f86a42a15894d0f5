"""The config of a classifier with a linear head on pooled features; travels with every saved model."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig


class PooledConfig(PreTrainedConfig):
    """encoder: the encoder's own config as a dict. pooling: "mean" over tokens, or "cls", the first token."""

    model_type = "uda_pooled"

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        pooling: str = "mean",
        classifier_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.pooling = pooling
        self.classifier_dropout = classifier_dropout

    def encoder_config(self) -> PreTrainedConfig:
        """The encoder's config as an object."""
        options = dict(self.encoder or {})
        return AutoConfig.for_model(options.pop("model_type"), **options)
