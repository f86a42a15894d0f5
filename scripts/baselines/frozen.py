"""scikit-learn on the embeddings of the frozen encoder: logistic regression, and its self-training."""

import hashlib
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import SelfTrainingClassifier

from .rows import Draw

_SAVE_EVERY = 2_000  # texts: what a stop may cost


class Embeddings:
    """Embeddings of texts as `SentenceTransformer.encode` makes them, kept in a file: made once for all draws.

    window: so many tokens are read of a text, and the side that is cut ("left" or "right"), as the experiment does it;
    None: as many from its start as the encoder's authors chose.
    """

    def __init__(self, encoder: str, path: Path, window: tuple[int, str] | None = None) -> None:
        self._encoder, self._path, self._window = encoder, path, window
        self._vectors: dict[str, np.ndarray] = {}
        self.seconds_a_text = 0.0
        if path.is_file():
            with np.load(path) as stored:
                self._vectors = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))
                self.seconds_a_text = float(stored["seconds_a_text"])

    def of(self, texts: list[str]) -> np.ndarray:
        """The embeddings [N, width], float32, of length 1."""
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        if missing:
            from sentence_transformers import SentenceTransformer  # a requirement of the baselines alone

            model = SentenceTransformer(self._encoder)
            if self._window is not None:
                model.max_seq_length, model.tokenizer.truncation_side = self._window
            for start in range(0, len(missing), _SAVE_EVERY):
                some = list(missing)[start : start + _SAVE_EVERY]
                begun = time.perf_counter()
                vectors = model.encode([missing[key] for key in some], normalize_embeddings=True)
                took, before = time.perf_counter() - begun, self.seconds_a_text * len(self._vectors)
                self._vectors |= dict(zip(some, vectors, strict=True))
                self.seconds_a_text = (before + took) / len(self._vectors)
                self._save()
                print(f"embedded {start + len(some)}/{len(missing)} texts", flush=True)
        return np.stack([self._vectors[key] for key in keys])

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".writing.npz")
        keys, vectors = np.array(list(self._vectors)), np.stack(list(self._vectors.values()))
        np.savez(aside, keys=keys, vectors=vectors, seconds_a_text=self.seconds_a_text)
        aside.replace(self._path)


def logistic_regression(draw: Draw, embeddings: Embeddings, described: bool) -> np.ndarray:
    """Probabilities [N, K] of the test texts by scikit-learn's defaults."""
    texts, labels = draw.examples(described)
    classifier = LogisticRegression(max_iter=1_000).fit(embeddings.of(texts), labels)
    return classifier.predict_proba(embeddings.of(draw.test))


def self_training(draw: Draw, embeddings: Embeddings, described: bool, share: float | None) -> np.ndarray:
    """Probabilities [N, K] of the test texts by logistic regression that labels the unlabelled texts for itself.

    Each of ten rounds adds the surest `share` of the unlabelled texts; None adds those above a probability of 0.75,
    scikit-learn's default.
    """
    texts, labels = draw.examples(described)
    unlabeled = embeddings.of(draw.unlabeled)
    inputs = np.concatenate([embeddings.of(texts), unlabeled])
    targets = np.concatenate([labels, np.full(len(unlabeled), -1)])
    rule = {} if share is None else {"criterion": "k_best", "k_best": int(share * len(unlabeled))}
    classifier = SelfTrainingClassifier(LogisticRegression(max_iter=1_000), max_iter=10, **rule)
    return classifier.fit(inputs, targets).predict_proba(embeddings.of(draw.test))
