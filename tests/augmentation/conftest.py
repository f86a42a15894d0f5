"""A tiny translation model."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

LINES = [
    "The film was very good, and the music was great.",
    "A dull story with a sad end; the plot made no sense.",
    "I loved the actor! Was it funny? It was long.",
    "Nobody knows who wrote these scenes, or why.",
]


@pytest.fixture(scope="session")
def tiny_marian(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """`tiny_marian(seed)`: the folder of a random MarianMT model with its tokenizer."""

    @cache
    def make(seed: int) -> Path:
        import sentencepiece
        import torch
        from transformers import MarianConfig, MarianMTModel, MarianTokenizer

        folder = tmp_path_factory.mktemp("tiny-marian")
        with (folder / "source.spm").open("wb") as model_file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(LINES), model_writer=model_file, vocab_size=60, minloglevel=2
            )
        (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
        names = [pieces.id_to_piece(number) for number in range(len(pieces))]
        names = ["</s>", "<unk>", *(name for name in names if name not in ("<s>", "</s>", "<unk>")), "<pad>"]
        (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
        tokenizer = MarianTokenizer(
            str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), model_max_length=128
        )
        tokenizer.save_pretrained(folder)
        pad = len(names) - 1
        torch.manual_seed(seed)
        config = MarianConfig(
            vocab_size=len(names),
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=128,
            init_std=0.2,
            pad_token_id=pad,
            eos_token_id=0,
            decoder_start_token_id=pad,
            forced_eos_token_id=None,
        )
        model = MarianMTModel(config)
        model.final_logits_bias[0, 0] = 2.0  # sentences end after some words
        model.save_pretrained(folder)
        return folder

    return make
