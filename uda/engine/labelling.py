"""Labels for any texts: tables of texts to the same tables with predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from uda.data.cleaning import clean
from uda.data.settings import DataSettings
from uda.data.tokens import tokenize_in_memory
from uda.engine.evaluation import predict
from uda.engine.model import label_names
from uda.engine.process import Process
from uda.errors import UserError


@dataclass(frozen=True)
class Labeller:
    """A run's model, and what it needs to label texts as the run itself did."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    data: DataSettings  # the run's: cleaning, length and truncation
    batch_size: int
    process: Process

    def probabilities(self, columns: Sequence[Sequence[Any]]) -> np.ndarray:
        """[N, K], float32, for N texts, or for N pairs given as two columns.

        NaN where a text is missing, no string, or blank once cleaned.
        """
        cleaned = [[_cleaned(text, self.data) for text in column] for column in columns]
        rows = [row for row, texts in enumerate(zip(*cleaned, strict=True)) if all(texts)]
        texts, *pairs = ([column[row] for row in rows] for column in cleaned)
        store = tokenize_in_memory(
            texts, self.tokenizer, self.data.max_length, self.data.truncation, pairs[0] if pairs else None
        )
        probs = np.full((len(columns[0]), len(label_names(self.model))), np.nan, dtype=np.float32)
        answers = predict(self.model, store, self.tokenizer.pad_token_id, self.batch_size, self.process)
        if not np.isfinite(answers).all():
            raise UserError(
                "Expected a model that gives probabilities, found others than finite ones: its weights are damaged. "
                "Restore the run's model/, or train again."
            )
        probs[rows] = answers
        return probs


def _cleaned(text: Any, data: DataSettings) -> str:
    """The text as the encoder sees it; empty where there is none."""
    found = clean(text, data.cleaning) if isinstance(text, str) else ""
    return found if found.strip() else ""


def added_columns(names: Sequence[str]) -> list[str]:
    """The columns that predictions bring, for these classes."""
    return ["prediction", "confidence", *(f"probability_{name}" for name in names)]


def with_predictions(
    frame: pd.DataFrame, probs: np.ndarray, names: Sequence[str], min_confidence: float | None
) -> pd.DataFrame:
    """The frame with the added columns; no prediction where there are no probabilities, or too small a confidence."""
    known = ~np.isnan(probs).any(axis=1)
    best = np.where(known[:, None], probs, 0).argmax(axis=1)
    confidence = probs.max(axis=1)
    sure = known if min_confidence is None else known & (confidence >= min_confidence)
    values = [
        pd.Series([names[index] if said else None for index, said in zip(best, sure, strict=True)], dtype=object),
        confidence,
        *probs.T,
    ]
    return frame.assign(**dict(zip(added_columns(names), values, strict=True)))
