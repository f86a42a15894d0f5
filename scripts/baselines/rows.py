"""The rows of one draw of an experiment as plain lists: what every baseline is given, the same as `uda.train` is."""

from dataclasses import dataclass

import numpy as np

from uda.config import compose, read_train
from uda.data.splits import load_split
from uda.data.tokens import truncation_side
from uda.engine.locations import model_location


@dataclass(frozen=True)
class Draw:
    """Texts (cleaned) and labels (indices into `label_names`), and the folder of the experiment's encoder.

    window: how many tokens the experiment reads of a text, and the side that it cuts, "left" or "right".
    """

    label_names: list[str]
    labeled: list[str]
    labels: np.ndarray
    descriptions: list[str]
    description_labels: np.ndarray
    unlabeled: list[str]
    test: list[str]
    test_labels: np.ndarray
    encoder: str
    window: tuple[int, str]

    def examples(self, described: bool) -> tuple[list[str], np.ndarray]:
        """The labelled texts and their labels; where `described`, the descriptions of the labels as more of them."""
        if not described:
            return self.labeled, self.labels
        return [*self.labeled, *self.descriptions], np.concatenate([self.labels, self.description_labels])


def draw_of(overrides: list[str]) -> Draw:
    """The draw that `uda.train` would have with these overrides."""
    settings = read_train(compose("train", overrides))
    split = load_split(settings.data)
    assert split.test is not None
    descriptions = settings.data.label_descriptions or {}
    described = [(text, number) for number, name in enumerate(split.label_names) for text in descriptions.get(name, [])]
    return Draw(
        split.label_names,
        split.labeled.text.tolist(),
        split.labeled.label.to_numpy(),
        [text for text, _ in described],
        np.array([number for _, number in described], dtype=np.int64),
        list(split.unlabeled.text),
        split.test.text.tolist(),
        split.test.label.to_numpy(),
        model_location(settings.model),
        (settings.data.max_length, truncation_side(settings.data.truncation)),
    )
