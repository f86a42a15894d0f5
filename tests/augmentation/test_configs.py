import importlib
import inspect
from pathlib import Path

import pytest
import yaml

FILES = sorted((Path(__file__).parents[2] / "configs" / "augment").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_yaml_opens_with_a_header(file: Path) -> None:
    first, second = file.read_text().splitlines()[:2]
    assert first.startswith("# ")
    assert second.startswith("# ")


@pytest.mark.parametrize("name", ["eda", "files", "none", "tfidf", "uniform"])
def test_a_yaml_gives_every_argument_of_its_method(name: str) -> None:
    config = yaml.safe_load((Path(__file__).parents[2] / "configs" / "augment" / f"{name}.yaml").read_text())
    module, _, method = config.pop("_target_").rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), method))
    assert set(config) == set(signature.parameters)
    # A value has one home: the yaml.
    assert all(parameter.default is parameter.empty for parameter in signature.parameters.values())


@pytest.mark.parametrize(("name", "probability"), [("tfidf", 0.7), ("uniform", 0.4)])
def test_the_authors_probabilities(name: str, probability: float) -> None:
    file = Path(__file__).parents[2] / "configs" / "augment" / f"{name}.yaml"
    assert yaml.safe_load(file.read_text())["probability"] == probability
