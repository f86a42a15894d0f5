"""Random sampling whose draws belong to the sentence, not to the batch that it is decoded in."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor


class SeededSampling(LogitsProcessor):
    """Leaves of each row's scores only the token that is drawn from softmax(scores / temperature).

    Rows have their own random numbers, one for each step, from `seeds`; greedy decoding of what is left is sampling.
    Each draw inverts the distribution function, for which one number a row and step is enough; Gumbel noise would need
    one for each token of the vocabulary. Rows beyond the seeds, which fill a batch up, end at once with `end`.
    max_steps: how many draws there may be.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, max_steps: int, end: int) -> None:
        draws = [np.random.default_rng(seed).random(max_steps, dtype=np.float32) for seed in seeds]
        self._uniform = torch.from_numpy(np.stack(draws)).double()  # [rows, steps], below 1 by more than doubles round
        self._temperature = temperature
        self._end = end
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        rows = len(self._uniform)
        probabilities = torch.softmax(scores[:rows].double() / self._temperature, dim=-1)
        cumulative = probabilities.cumsum(dim=-1)
        self._uniform = self._uniform.to(scores.device)
        uniform = self._uniform[:, self._step, None]
        # The first token whose sum is above the draw: one of probability 0 is never the first.
        drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        tokens = torch.full((len(scores), 1), self._end, device=scores.device)
        tokens[:rows] = drawn
        self._step += 1
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens, 0.0)
