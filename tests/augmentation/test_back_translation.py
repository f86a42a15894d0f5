from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from uda.augmentation import back_translation
from uda.augmentation.back_translation import BackTranslation
from uda.augmentation.lengths import keeps_length
from uda.errors import UserError

YAML = Path(__file__).parents[2] / "configs" / "augment" / "back_translation.yaml"
TEXTS = [
    "The film was very good. I loved the actor! Was the music great?",
    "A dull story with a sad end; the plot made no sense.",
    "Nobody knows who wrote these scenes, or why. It was long, and it was dull. The end was a great, sad scene.",
]

pytest.importorskip("sentencepiece", reason="install the package sentencepiece (extra augment)")
pytest.importorskip("sacremoses", reason="install the package sacremoses (extra augment)")


def settings(folders: dict[str, tuple[Path, Path]], **changes: Any) -> dict[str, Any]:
    """The yaml's values with models in folders."""
    values = yaml.safe_load(YAML.read_text())
    del values["_target_"]
    values["models"] = {
        pivot: {"to": str(to), "back": str(back), "to_revision": "main", "back_revision": "main"}
        for pivot, (to, back) in folders.items()
    }
    return values | {"tokens_per_batch": 256, "precision": "fp32"} | changes


Make = Callable[..., BackTranslation]


@pytest.fixture
def make(tiny_marian: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a method of tiny random models, ready, whose results are kept whatever their lengths."""
    monkeypatch.setattr(back_translation, "keeps_length", lambda original, new: len(original) >= 10)

    def make_one(**changes: Any) -> BackTranslation:
        folders = {"fr": (tiny_marian(0), tiny_marian(1)), "de": (tiny_marian(2), tiny_marian(3))}
        method = BackTranslation(**settings(folders, **changes))
        method.prepare(TEXTS, [], len(TEXTS))
        return method

    return make_one


def test_a_result_depends_on_neither_batch_nor_order(make: Make) -> None:
    method = make()
    together = method.augment(TEXTS * 2, [], 0)
    assert together == method.augment(TEXTS, [], 0) * 2
    assert together[:3] == [method.augment([text], [], 0)[0] for text in TEXTS]
    assert together[2::-1] == method.augment(TEXTS[::-1], [], 0)
    assert together == make().augment(TEXTS * 2, [], 0)
    assert all(new != text for new, text in zip(together, TEXTS * 2, strict=True))


def test_copies_and_seeds_give_other_results(make: Make) -> None:
    results = [make().augment(TEXTS, [], 0), make().augment(TEXTS, [], 1), make(seed=1).augment(TEXTS, [], 0)]
    results.append(make(temperature=0.9).augment(TEXTS, [], 0))
    for place in range(len(TEXTS)):
        assert len({result[place] for result in results}) == 4


def test_each_sentence_goes_there_and_back_and_is_joined_by_a_blank(make: Make) -> None:
    class Upper:
        def translate(self, sentences: list[str], seeds: list[int]) -> list[str]:
            calls.append((list(sentences), len({*seeds})))
            return [sentence.upper() for sentence in sentences]

    class Nothing(Upper):
        def translate(self, sentences: list[str], seeds: list[int]) -> list[str]:
            return ["" if "NO." in sentence else f"<{sentence}>" for sentence in sentences]

    calls: list[tuple[list[str], int]] = []
    method = make()
    method._translators["fr"] = [Upper(), Nothing()]
    assert method.augment(["One two.\n\nNo. Three  four."], [], 0) == ["<ONE TWO.> <THREE  FOUR.>"]
    assert calls == [(["One two.", "No.", "Three  four."], 3)]


def test_the_original_stays_where_lengths_differ_too_much(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back_translation, "keeps_length", keeps_length)

    class Same:
        def translate(self, sentences: list[str], seeds: list[int]) -> list[str]:
            return [sentence.replace("x", "yy").replace("z", "") for sentence in sentences]

    method = make()
    method._translators["fr"] = [Same(), Same()]
    texts = ["short x", "a" * 20 + "x" * 10, "a" * 20 + "x" * 25, "", "   ", "z" * 30]
    assert method.augment(texts, [], 0) == ["short x", "a" * 20 + "yy" * 10, "a" * 20 + "x" * 25, "", "   ", "z" * 30]


def test_the_copies_of_a_text_take_the_pivots_in_turn(make: Make) -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def translate(self, sentences: list[str], seeds: list[int]) -> list[str]:
            return [self.name for _ in sentences]

    method = make(pivot=["fr", "de"])
    method._translators = {name: [Named(name), Named(name)] for name in ("fr", "de")}
    texts = [f"text number {number}" for number in range(200)]
    first, second, third = (method.augment(texts, [], copy) for copy in range(3))
    assert first == third
    assert all({one, two} == {"fr", "de"} for one, two in zip(first, second, strict=True))
    assert 70 < first.count("fr") < 130  # 100 ± 4 sigma of 7


def test_ctranslate2_repeats_a_call(make: Make, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="install the package ctranslate2 (extra augment)")
    method = make(engine="ctranslate2", converted_dir=str(tmp_path / "converted"))
    results = method.augment(TEXTS, [], 0)
    assert all(new != text for new, text in zip(results, TEXTS, strict=True))
    assert results == method.augment(TEXTS, [], 0)
    assert results != method.augment(TEXTS, [], 1)
    again = make(engine="ctranslate2", converted_dir=str(tmp_path / "converted"))
    assert results == again.augment(TEXTS, [], 0)
    assert len(list((tmp_path / "converted").iterdir())) == 2  # a folder a model, nothing half written

    assert make(engine="ctranslate2", precision="int8").augment(TEXTS, [], 0) != TEXTS


def test_of_two_that_convert_a_model_at_once_the_slower_one_takes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ctranslate2", reason="install the package ctranslate2 (extra augment)")
    from uda.augmentation import marian_ctranslate2
    from uda.augmentation.translation_models import ModelSource

    source = ModelSource({"pretrained_model_name_or_path": "model", "revision": None}, "0" * 64)

    class Converter:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def convert(self, aside: str, force: bool) -> None:
            Path(aside, "model.bin").write_text("ours")
            (tmp_path / source.identity[:32]).mkdir()
            (tmp_path / source.identity[:32] / "model.bin").write_text("theirs")

    monkeypatch.setattr(marian_ctranslate2, "TransformersConverter", Converter)
    folder = marian_ctranslate2._converted(source, tmp_path)
    assert (folder / "model.bin").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_temporary_folder_goes(make: Make) -> None:
    pytest.importorskip("ctranslate2", reason="install the package ctranslate2 (extra augment)")
    method = make(engine="ctranslate2")
    folder = Path(str(method._temporary))
    assert folder.is_dir()
    method.close()
    assert not folder.exists()


def test_bf16(make: Make) -> None:
    assert make(precision="bf16").augment(TEXTS, [], 0) != TEXTS


def test_other_weights_have_another_fingerprint(make: Make, tiny_marian: Callable[[int], Path]) -> None:
    method = make()
    assert method.fingerprint() == make().fingerprint()
    assert method.fingerprint() != make(pivot="de").fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pivot": "frr"}, "Did you mean 'fr'?"),
        ({"pivot": []}, "augment.pivot: expected a language or a list of different ones, found \\[\\]"),
        ({"pivot": ["fr", "fr"]}, "a list of different ones"),
        ({"pivot": False}, "quote it"),
        ({"temperature": 0}, "augment.temperature: expected a number above 0, found 0. Set augment.temperature=0.8."),
        ({"engine": "onnx"}, "augment.engine: expected one of transformers, ctranslate2, found 'onnx'"),
        ({"precision": "int8"}, "augment.precision: expected one of auto, fp32, bf16 with augment.engine=transformers"),
        ({"tokens_per_batch": 0}, "augment.tokens_per_batch: expected a whole number of at least 1, found 0"),
        ({"seed": "x"}, "augment.seed: expected a whole number of at least 0, found 'x'"),
        (
            {"models": {"fr": {"to": "a", "bakc": "b"}}},
            "expected the keys to, back, to_revision, back_revision, found to, bakc",
        ),
    ],
)
def test_wrong_settings(make: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_a_model_that_is_not_there(tiny_marian: Callable[[int], Path], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    whole = tiny_marian(0)
    (tmp_path / "config.json").write_text("{}")
    for location, message in (
        ("/no/such/folder", "augment.models.fr.back: expected the folder of a MarianMT model or its name on the hub"),
        (str(tmp_path), "found no vocab.json, source.spm, target.spm, model.safetensors or pytorch_model.bin"),
        (
            "nobody/nothing",
            "neither in the cache .* nor the hub at .* within reach. Download it where there is a network",
        ),
    ):
        with pytest.raises(UserError, match=message):
            BackTranslation(**settings({"fr": (whole, Path(location))}))


def test_a_damaged_model_is_told_before_the_work(tiny_marian: Callable[[int], Path], tmp_path: Path) -> None:
    for path in tiny_marian(0).iterdir():
        content = b"damaged" if path.name == "model.safetensors" else path.read_bytes()
        (tmp_path / path.name).write_bytes(content)
    method = BackTranslation(**settings({"fr": (tmp_path, tmp_path)}))
    with pytest.raises(UserError, match=r"augment\.models: expected a MarianMT model that can be loaded at"):
        method.prepare([], [], 0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back_translation, "find_spec", lambda name: None if name == "sentencepiece" else True)
    with pytest.raises(UserError, match=r"found no sentencepiece\. Install them: pip install sentencepiece"):
        BackTranslation(**settings({"fr": (Path("a/b"), Path("c/d"))}))
