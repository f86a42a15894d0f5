"""What is chosen where the config says null, against arithmetic written out."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from uda import choices


@pytest.mark.parametrize(
    ("counts", "positions", "device", "length"),
    [
        (range(1, 101), 512, "cpu", 96),  # 95 % have at most 95 or 96
        ([30] * 100, 512, "cpu", 32),
        ([4] * 100, 512, "cpu", 16),  # no shorter
        ([400] * 100, 512, "cpu", 128),  # no longer on a CPU
        ([400] * 100, 512, "cuda", 256),
        ([400] * 100, 64, "cpu", 64),  # the encoder takes no more
        ([400] * 100, None, "cpu", 128),  # the encoder takes any
        ([3] * 10, 10, "cpu", 10),
        ([10] * 99 + [5000], 512, "cpu", 16),  # one long text does not count
    ],
)
def test_the_length_holds_95_per_cent_of_the_texts(counts, positions, device, length) -> None:
    assert choices.max_length(np.array(counts), positions, device)[0] == length


def test_the_reason_says_what_is_cut() -> None:
    assert choices.max_length(np.array([10] * 9 + [20]), None, "cpu") == (
        24,
        "100 % of a sample of the texts have no more tokens",
    )
    assert choices.max_length(np.array([100] * 10), 64, "cpu") == (
        64,
        "0 % of a sample of the texts have no more tokens, and that is the most that the encoder takes; texts are cut "
        "as data.truncation says",
    )


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "length", "device", "steps"),
    [
        (50, 0, 64, "cpu", 80),  # 12 * 50 / 8 = 75: no fewer than 80
        (100, 0, 64, "cpu", 160),  # 12 * 100 / 8 = 150, in twenties
        (50, 7_480, 48, "cpu", 160),  # 7480 / 48 = 155.8
        (50, 100_000, 64, "cpu", 400),  # 2 cores * 12800 / 64
        (50, 100_000, 128, "cpu", 200),
        (50, 100_000, 128, "cuda", 2_100),  # 100000 / 48 = 2083.3
        (50, 10**7, 128, "cuda", 3_000),
    ],
)
def test_the_steps_pass_over_the_rows(monkeypatch, labeled, unlabeled, length, device, steps) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert choices.num_steps(labeled, unlabeled, 8, 48, length, device)[0] == steps


def test_the_reason_says_what_bounds_the_steps(monkeypatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert choices.num_steps(50, 10**6, 8, 48, 128, "cpu") == (
        400,
        "the most for 4 cores and 128 tokens a text; all passes over the rows would take 20834",
    )
    assert choices.num_steps(200, 1_000, 8, 48, 64, "cpu") == (
        300,
        "12 passes over 200 labelled rows or one over 1000 unlabelled ones, whichever is longer",
    )


def test_unknown_tokens_are_counted(tiny_bert) -> None:
    """[CLS] the film фильм [SEP]: one of five tokens is unknown."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    assert choices.text_lengths(["the, film.", "the film"], tokenizer).tokens_per_word == (4 + 2) / (2 + 2)
    assert choices.text_lengths(["film" * 10], tokenizer).tokens_per_word == 0  # no white space parts words
    lengths = choices.text_lengths(["the film фильм"], tokenizer)
    assert lengths.counts.tolist() == [5]
    assert lengths.unknown_share == pytest.approx(0.2)


def test_the_sample_does_not_depend_on_the_order_of_the_rows() -> None:
    import pandas as pd

    from uda.data.rows import Rows

    hashes = [f"{n * 7919 % 5_000:016x}{0:048x}" for n in range(5_000)]
    rows = pd.DataFrame({"text": [f"t{n}" for n in range(5_000)], "raw_hash": hashes, "folded": hashes, "key": "k"})
    shuffled = rows.sample(frac=1, random_state=0)
    first, second = (
        choices._sample(SimpleNamespace(labeled=part[:100], unlabeled=Rows.of(part[100:]))) for part in (rows, shuffled)
    )
    assert first == second == list(rows.sort_values("raw_hash").text)[:2_000]
