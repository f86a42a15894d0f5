"""SetFit (Tunstall et al. 2022): the encoder tuned on pairs of labelled texts, then logistic regression on it."""

from pathlib import Path

import numpy as np
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

from .rows import Draw


def setfit(draw: Draw, described: bool, seed: int, folder: Path, sampling: str) -> np.ndarray:
    """Probabilities [N, K] of the test texts by SetFit's defaults, but for how it samples pairs.

    described: the descriptions of the labels are more examples, as SetFit's templated examples are. sampling:
    "oversampling", the default, repeats pairs of one class until there are as many as of two; "undersampling" leaves
    out pairs of two.
    """
    texts, labels = draw.examples(described)
    model = SetFitModel.from_pretrained(draw.encoder, labels=draw.label_names)
    arguments = TrainingArguments(
        output_dir=str(folder), seed=seed, sampling_strategy=sampling, save_strategy="no", report_to="none"
    )
    data = Dataset.from_dict({"text": texts, "label": labels.tolist()})
    Trainer(model=model, args=arguments, train_dataset=data).train()
    return np.asarray(model.predict_proba(draw.test, as_numpy=True))
