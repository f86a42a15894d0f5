"""A MarianMT model in CTranslate2, which is fast on CPUs and can compute in int8."""

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.converters import TransformersConverter
from transformers import MarianTokenizer
from transformers.utils import logging as transformers_logging

from uda.augmentation.translation_models import ModelSource, max_new_tokens

_COMPUTE_TYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "int8": "int8"}


class CTranslate2Translator:
    """Translates sentences by one model, which is converted into a folder under `converted` where it has none there.

    CTranslate2 has one stream of random numbers for all sentences of a call. It starts anew, from all the seeds, at
    every call: the same sentences with the same seeds get the same translations, but beside others a sentence gets
    another one. precision: auto is the fastest that the hardware has.
    """

    def __init__(
        self, source: ModelSource, temperature: float, tokens_per_batch: int, precision: str, converted: Path
    ) -> None:
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self._tokenizer = MarianTokenizer.from_pretrained(**source.loading)
        self._folder = _converted(source, converted)
        self._temperature = temperature
        self._tokens_per_batch = tokens_per_batch
        self._compute_type = _COMPUTE_TYPES[precision]

    def translate(self, sentences: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """A translation of each sentence."""
        ids = self._tokenizer(list(sentences), truncation=True)["input_ids"]
        # Only a new translator, whose threads are new, takes note of the seed.
        ctranslate2.set_random_seed(int(np.random.default_rng(list(seeds)).integers(2**31)))
        translator = ctranslate2.Translator(str(self._folder), device="auto", compute_type=self._compute_type)
        translations = translator.translate_batch(
            [self._tokenizer.convert_ids_to_tokens(tokens) for tokens in ids],
            max_batch_size=self._tokens_per_batch,
            batch_type="tokens",
            beam_size=1,
            sampling_topk=0,
            sampling_temperature=self._temperature,
            max_input_length=0,
            max_decoding_length=max_new_tokens(max((len(tokens) for tokens in ids), default=0)),
        )
        tokens = [self._tokenizer.convert_tokens_to_ids(translation.hypotheses[0]) for translation in translations]
        texts: list[str] = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]


def _converted(source: ModelSource, parent: Path) -> Path:
    """The folder of the converted model; written aside and renamed, so that it is whole or not there."""
    folder = parent / source.identity[:32]
    if not folder.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        aside = parent / f".writing-{uuid.uuid4().hex}"
        aside.mkdir()
        try:
            location, revision = source.loading["pretrained_model_name_or_path"], source.loading["revision"]
            TransformersConverter(location, revision=revision).convert(str(aside), force=True)
            try:
                aside.rename(folder)
            except OSError:
                if not folder.is_dir():  # no other process was faster
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder
