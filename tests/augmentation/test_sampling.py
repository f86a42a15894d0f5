import math

import torch

from uda.augmentation.sampling import SeededSampling

SCORES = torch.tensor([[1.0, 0.0, -1.0, float("-inf"), 2.0]])
END = 3


def draw(seeds: list[int], temperature: float, scores: torch.Tensor, steps: int = 1) -> list[list[int]]:
    """For each step the token that each row was left."""
    sampling = SeededSampling(seeds, temperature, steps, END)
    return [sampling(torch.zeros(len(scores), 1, dtype=torch.long), scores).argmax(-1).tolist() for _ in range(steps)]


def test_100_000_draws_follow_the_tempered_softmax() -> None:
    drawn = torch.tensor(draw(list(range(1000)), 0.8, SCORES.repeat(1000, 1), steps=100)).flatten()
    counts = torch.bincount(drawn, minlength=5) / len(drawn)
    weights = [math.exp(score / 0.8) for score in (1.0, 0.0, -1.0, float("-inf"), 2.0)]
    for found, weight in zip(counts.tolist(), weights, strict=True):
        expected = weight / sum(weights)
        sigma = math.sqrt(expected * (1 - expected) / 100_000)
        assert abs(found - expected) <= 4 * sigma
    assert counts[3] == 0  # probability 0 is never drawn


def test_one_token_is_left() -> None:
    left = SeededSampling([5], 1.0, 1, END)(torch.zeros(1, 1, dtype=torch.long), SCORES)
    assert left.isneginf().sum() == 4
    assert left.max() == 0


def test_a_rows_draws_are_its_seeds_whatever_stands_beside_it() -> None:
    alone = [row for (row,) in draw([7], 1.0, SCORES, steps=50)]
    beside = [rows[1] for rows in draw([3, 7, 9], 1.0, torch.cat([SCORES - 3, SCORES, SCORES * 2]), steps=50)]
    assert alone == beside
    assert alone != [row for (row,) in draw([8], 1.0, SCORES, steps=50)]


def test_rows_that_fill_up_end_at_once() -> None:
    assert [row for _, row in draw([1], 1.0, SCORES.repeat(2, 1), steps=3)] == [END] * 3


def test_a_low_temperature_takes_the_likeliest() -> None:
    assert draw(list(range(100)), 0.01, SCORES.repeat(100, 1)) == [[4] * 100]
