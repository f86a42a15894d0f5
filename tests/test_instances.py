"""Objects built from config nodes; what cannot be built is named."""

import pytest

from uda.config import compose, read_train
from uda.errors import UserError
from uda.instances import build


def test_a_misspelt_key_of_a_class_is_named() -> None:
    cfg = compose("train", ["+experiment=imdb", "+objective.temprature=1"])
    with pytest.raises(UserError, match=r"objective.temprature: expected a key of .*Did you mean 'temperature'\?"):
        build(read_train(cfg).objective, "objective", num_classes=2, num_unlabeled=1)
    cfg = compose("train", ["+experiment=imdb", "~objective.tsa"])
    with pytest.raises(UserError, match=r"objective: expected all keys of .*, found none for tsa"):
        build(read_train(cfg).objective, "objective", num_classes=2, num_unlabeled=1)


def test_a_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(UserError, match=r"objective: expected a class that can be built.*_target_ .*PYTHONPATH"):
        build({"_target_": "uda.objectives.nothing.Here"}, "objective", num_classes=2, num_unlabeled=1)
