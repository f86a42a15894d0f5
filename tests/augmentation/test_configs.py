import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from uda.config import compose, read_train
from uda.errors import UserError
from uda.instances import build_augmenter

FILES = sorted((Path(__file__).parents[2] / "configs" / "augment").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_yaml_opens_with_a_header(file: Path) -> None:
    first, second = file.read_text().splitlines()[:2]
    assert first.startswith("# ")
    assert second.startswith("# ")


@pytest.mark.parametrize("name", ["apertium", "back_translation", "eda", "files", "none", "tfidf", "uniform"])
def test_a_yaml_gives_every_argument_of_its_method(name: str) -> None:
    config = yaml.safe_load((Path(__file__).parents[2] / "configs" / "augment" / f"{name}.yaml").read_text())
    module, _, method = config.pop("_target_").rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), method))
    assert set(config) == set(signature.parameters) - {"num_workers"}  # which all methods have from configs/job.yaml
    # A value has one home: the yaml.
    assert all(parameter.default is parameter.empty for parameter in signature.parameters.values())


@pytest.mark.parametrize(("name", "probability"), [("tfidf", 0.7), ("uniform", 0.4)])
def test_the_authors_probabilities(name: str, probability: float) -> None:
    file = Path(__file__).parents[2] / "configs" / "augment" / f"{name}.yaml"
    assert yaml.safe_load(file.read_text())["probability"] == probability


@pytest.mark.parametrize("name", ["mix", "chain"])
def test_a_combination_is_built_with_its_members(name: str, wordnet: Path) -> None:
    node = read_train(compose("train", [f"augment={name}", f"augment.methods.eda.wordnet={wordnet}"])).augment
    for lowercase in (True, False):
        built = build_augmenter(node, lowercase)
        members = {name: type(member).__name__ for name, member in built.methods.items()}
        assert members == {"tfidf": "TfIdfReplacement", "eda": "Eda"}
        assert built.methods["tfidf"].lowercase is lowercase  # which its yaml leaves to the tokenizer
        assert built.methods["tfidf"].probability == 0.3


def test_a_member_joins_on_the_command_line(wordnet: Path) -> None:
    overrides = ["augment=mix", "+augment@augment.methods.plain=none", "+augment.weights.plain=2"]
    overrides += ["augment.weights.eda=0", f"augment.methods.eda.wordnet={wordnet}"]
    built = build_augmenter(read_train(compose("train", overrides)).augment, True)
    assert list(built.methods) == ["tfidf", "plain"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["augment.methods.tfidf.probability=2"],
            "augment.methods.tfidf.probability: expected a number from 0 to 1, the share of words to replace; found 2. "
            "Set augment.methods.tfidf.probability to such a number, for example 0.5.",
        ),
        (
            ["+augment.methods.tfidf.probabilty=1"],
            "augment.methods.tfidf.probabilty: expected a key of uda.augmentation.tfidf.TfIdfReplacement (probability, "
            "lowercase, seed), found 'probabilty'. Did you mean 'probability'? Correct or remove it.",
        ),
        (
            ["augment.methods=3"],
            "augment.methods: expected methods by name, found 3. Write them as augment=mix does.",
        ),
    ],
)
def test_messages_name_a_members_keys(overrides: list[str], message: str) -> None:
    node = read_train(compose("train", ["augment=mix", *overrides])).augment
    with pytest.raises(UserError) as error:
        build_augmenter(node, True)
    assert str(error.value) == message
