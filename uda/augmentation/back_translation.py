"""Back-translation by neural models: English to a pivot language and back, sentence by sentence, by random sampling."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError

from uda.augmentation import lengths, pivots, sentences
from uda.augmentation.base import Augmenter, code_hash, text_generator
from uda.augmentation.checks import check_choice, check_positive, check_whole
from uda.augmentation.lengths import keeps_length
from uda.augmentation.pivots import drawn_pivots, pivot_names
from uda.augmentation.sentences import split_sentences
from uda.augmentation.translation_models import ModelSource, find_model
from uda.errors import UserError, did_you_mean

_PRECISIONS = {"transformers": ("auto", "fp32", "bf16"), "ctranslate2": ("auto", "fp32", "bf16", "int8")}
_PACKAGES = {
    "transformers": ("sentencepiece", "sacremoses"),
    "ctranslate2": ("sentencepiece", "sacremoses", "ctranslate2"),
}
_ENGINE_FILES = (
    "marian.py",
    "marian_ctranslate2.py",
    "sampling.py",
    "translation_models.py",
)  # not imported for a hash
_MODEL_KEYS = ("to", "back", "to_revision", "back_revision")


class _Translator(Protocol):
    def translate(self, sentences: Sequence[str], seeds: Sequence[int]) -> list[str]: ...


class BackTranslation(Augmenter):
    """Translates each sentence of a text by a MarianMT model and back by another.

    pivot: one language, or several of which each copy of a text gets one. models: for each language `to` and `back`,
    folders or names on the hub, and `to_revision` and `back_revision`. Tokens are drawn at `temperature`; sentences are
    batched to `tokens_per_batch` tokens, padding included. converted_dir: where engine ctranslate2 keeps converted
    models; None: in a temporary folder. A text stays as it is where lengths differ too much (`keeps_length`).

    With engine transformers a result depends on nothing but the text, copy, seed and hardware; with ctranslate2 on the
    texts that are translated in the same call too. Raises UserError where a package or a model is missing.
    Source: "Unsupervised Data Augmentation for Consistency Training", arXiv 1904.12848, and its official code.
    """

    own_workers = True
    free_settings = ("converted_dir",)

    def __init__(
        self,
        pivot: str | list[str],
        models: Mapping[str, Mapping[str, str]],
        temperature: float,
        engine: str,
        precision: str,
        tokens_per_batch: int,
        converted_dir: str | None,
        seed: int,
    ) -> None:
        check_positive("augment.temperature", temperature, 0.8)
        check_choice("augment.engine", engine, _PRECISIONS)
        check_choice("augment.precision", precision, _PRECISIONS[engine], f" with augment.engine={engine}")
        check_whole("augment.tokens_per_batch", tokens_per_batch, 1, 4096)
        check_whole("augment.seed", seed, 0, 0)
        self.pivots = pivot_names(pivot)
        missing = [name for name in _PACKAGES[engine] if find_spec(name) is None]
        if missing:
            raise UserError(
                f"augment.engine: expected the packages that {engine} needs for MarianMT models, found no "
                f"{', '.join(missing)}. Install them: pip install {' '.join(missing)}."
            )
        self.temperature = temperature
        self.engine = engine
        self.precision = precision
        self.tokens_per_batch = tokens_per_batch
        self.converted_dir = converted_dir
        self.seed = seed
        self._sources = {name: _find_models(name, models) for name in self.pivots}
        self._translators: dict[str, list[_Translator]] = {}
        self._temporary: str | None = None

    def prepare(self, texts: Iterable[str], keys: Iterable[str], num_source_rows: int) -> None:
        for pivot, sources in self._sources.items():
            self._translators[pivot] = [self._load(source) for source in sources]

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        results = list(texts)
        for pivot, numbers in drawn_pivots(self.pivots, self.seed, copy, texts):
            translations = self._there_and_back(pivot, [texts[number] for number in numbers], copy)
            for number, translation in zip(numbers, translations, strict=True):
                if keeps_length(texts[number], translation):
                    results[number] = translation
        return results

    def close(self) -> None:
        self._translators.clear()
        if self._temporary is not None:
            shutil.rmtree(self._temporary)
            self._temporary = None

    def fingerprint(self) -> str:
        weights = " ".join(source.identity for sources in self._sources.values() for source in sources)
        engine = hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in _ENGINE_FILES))
        return f"{super().fingerprint()} {code_hash(lengths, pivots, sentences)} {engine.hexdigest()} {weights}"

    def _there_and_back(self, pivot: str, texts: list[str], copy: int) -> list[str]:
        """The texts' sentences through both models, joined by blanks."""
        parts = [split_sentences(text) for text in texts]
        # Two seeds for each sentence of a text: one for the way there, one for the way back.
        seeds = [
            text_generator(self.seed, copy, text).integers(2**63, size=(len(part), 2)).tolist()
            for text, part in zip(texts, parts, strict=True)
        ]
        current = [sentence for part in parts for sentence in part]
        for direction, translator in enumerate(self._translators[pivot]):
            current = _translate(translator, current, [pair[direction] for pairs in seeds for pair in pairs])
        results = []
        for part in parts:
            translated, current = current[: len(part)], current[len(part) :]
            results.append(" ".join(sentence for sentence in translated if sentence))
        return results

    def _load(self, source: ModelSource) -> _Translator:
        try:
            if self.engine == "transformers":
                from uda.augmentation.marian import MarianTranslator

                return MarianTranslator(source, self.temperature, self.tokens_per_batch, self.precision)
            from uda.augmentation.marian_ctranslate2 import CTranslate2Translator

            return CTranslate2Translator(
                source, self.temperature, self.tokens_per_batch, self.precision, self._converted_dir()
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"augment.models: expected a MarianMT model that can be loaded at "
                f"'{source.loading['pretrained_model_name_or_path']}', found: {reason} Download it again, or give "
                "another; augment.precision may ask too much of this machine."
            ) from error

    def _converted_dir(self) -> Path:
        if self.converted_dir is not None:
            return Path(self.converted_dir).expanduser()
        if self._temporary is None:
            self._temporary = tempfile.mkdtemp(prefix="uda-ctranslate2-")
        return Path(self._temporary)


def _find_models(pivot: str, models: Mapping[str, Mapping[str, str]]) -> list[ModelSource]:
    """The models of a language, there and back."""
    if pivot not in models:
        raise UserError(
            f"augment.pivot: expected languages that augment.models names ({', '.join(models)}), found '{pivot}'."
            f"{did_you_mean(pivot, models)} Choose one, or add its models: "
            f"+augment.models.{pivot}={{{', '.join(f'{key}: …' for key in _MODEL_KEYS)}}}."
        )
    given: dict[str, Any] = dict(models[pivot])
    if set(given) != set(_MODEL_KEYS):
        raise UserError(
            f"augment.models.{pivot}: expected the keys {', '.join(_MODEL_KEYS)}, found {', '.join(given) or 'none'}. "
            "Set these."
        )
    return [find_model(f"augment.models.{pivot}.{way}", given[way], given[f"{way}_revision"]) for way in ("to", "back")]


def _translate(translator: _Translator, sentences: list[str], seeds: list[int]) -> list[str]:
    """Translations of the sentences that are not empty."""
    numbers = [number for number, sentence in enumerate(sentences) if sentence]
    if not numbers:
        return list(sentences)
    translations = translator.translate(
        [sentences[number] for number in numbers], [seeds[number] for number in numbers]
    )
    results = [""] * len(sentences)
    for number, translation in zip(numbers, translations, strict=True):
        results[number] = translation
    return results
