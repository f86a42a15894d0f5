"""A tiny translation model and a tiny WordNet."""

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
# Synsets by part of speech: their words, as the files write them.
SYNSETS = {
    "noun": [["film", "movie", "motion_picture"], ["man", "adult_male"], ["plot", "secret_plan"], ["Plot"]],
    "verb": [["like", "enjoy"], ["go", "travel", "Move"]],
    "adj": [["bad", "awful"], ["good", "fine(p)"], ["big", "large"]],
    "adv": [["badly", "ill"]],
}
EXCEPTIONS = {"noun": "men man\n", "verb": "went go\n", "adj": "", "adv": ""}


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


@pytest.fixture(scope="session")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a WordNet of ten synsets, in the format of wndb(5WN)."""
    folder = tmp_path_factory.mktemp("wordnet")
    for part, synsets in SYNSETS.items():
        data = "  1 A licence.\n"
        offsets: dict[str, list[int]] = {}
        for words in synsets:
            for word in words:
                offsets.setdefault(word.lower().partition("(")[0], []).append(len(data))
            named = " ".join(f"{word} 0" for word in words)
            data += f"{len(data):08} 00 {part[0]} {len(words):02x} {named} 000 | what it means\n"
        lines = [
            f"{word} {part[0]} {len(places)} 1 @ {len(places)} 0 {' '.join(f'{place:08}' for place in places)}  \n"
            for word, places in sorted(offsets.items())
        ]
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text("  1 A licence.\n" + "".join(lines))
        (folder / f"{part}.exc").write_text(EXCEPTIONS[part])
    return folder
