"""A MarianMT model in transformers that translates sentences by random sampling."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, MarianMTModel, MarianTokenizer
from transformers.utils import logging as transformers_logging

from uda.augmentation.sampling import SeededSampling
from uda.augmentation.translation_models import ModelSource, max_new_tokens
from uda.hardware import multiplies_bf16

_MULTIPLE = 8  # of tokens, that lengths are padded to


class MarianTranslator:
    """Translates sentences by one model, on the GPU where there is one.

    A batch is filled up to the length and the number of rows that its longest sentence's length prescribes, so that
    rounding, which differs with the shape, does not depend on what other sentences there are. precision: bf16, fp32, or
    auto, which is bf16 where the hardware multiplies it natively.
    """

    def __init__(self, source: ModelSource, temperature: float, tokens_per_batch: int, precision: str) -> None:
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        dtype = torch.bfloat16 if precision == "bf16" or (precision == "auto" and multiplies_bf16()) else torch.float32
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = MarianTokenizer.from_pretrained(**source.loading)
        model: Any = MarianMTModel.from_pretrained(**source.loading, dtype=dtype)
        self._model = model.to(device).eval()
        self._temperature = temperature
        self._tokens_per_batch = tokens_per_batch
        self._positions = int(self._model.config.max_position_embeddings)

    def translate(self, sentences: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """A translation of each sentence, drawn with its seed."""
        results = [""] * len(sentences)
        ids = self._tokenizer(list(sentences), truncation=True, max_length=self._positions)["input_ids"]
        for length, numbers in self._batches(ids):
            batch = [ids[number] for number in numbers]
            for number, text in zip(numbers, self._sample(batch, length, [seeds[n] for n in numbers]), strict=True):
                results[number] = text
        return results

    def _batches(self, ids: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
        """Lengths to pad to, and the numbers of the sentences of one batch of that length, the longest first."""
        by_length = defaultdict(list)
        for number, tokens in enumerate(ids):
            by_length[min(-(-len(tokens) // _MULTIPLE) * _MULTIPLE, self._positions)].append(number)
        for length in sorted(by_length, reverse=True):
            rows = self._rows(length)
            for start in range(0, len(by_length[length]), rows):
                yield length, by_length[length][start : start + rows]

    def _rows(self, length: int) -> int:
        return max(1, self._tokens_per_batch // length)

    @torch.inference_mode()
    def _sample(self, batch: list[list[int]], length: int, seeds: list[int]) -> list[str]:
        end = self._tokenizer.eos_token_id
        rows = [*batch, *[[end]] * (self._rows(length) - len(batch))]
        inputs = self._tokenizer.pad({"input_ids": rows}, padding="max_length", max_length=length, return_tensors="pt")
        steps = min(max_new_tokens(length), self._positions - 1)
        sampling = SeededSampling(seeds, self._temperature, steps, end)
        generated = self._model.generate(
            **inputs.to(self._model.device),
            generation_config=self._greedy(steps),
            logits_processor=LogitsProcessorList([sampling]),
        )
        texts: list[str] = self._tokenizer.batch_decode(generated[: len(batch)], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _greedy(self, steps: int) -> GenerationConfig:
        """Neither the checkpoint's beams nor its limits, but never a padding token."""
        config = self._model.config
        return GenerationConfig(
            max_new_tokens=steps,
            do_sample=False,
            num_beams=1,
            decoder_start_token_id=config.decoder_start_token_id,
            pad_token_id=config.pad_token_id,
            eos_token_id=config.eos_token_id,
            bad_words_ids=[[config.pad_token_id]],
        )
