"""The teacher's recent answers: what alignment and a quantile mask are measured against."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A class with fewer remembered rows than this has no quantile worth the name: the global one serves.
MIN_ROWS_PER_CLASS = 8
MAX_QUANTILE_VALUES = 16_000_000  # torch.quantile takes no more at once


class TeacherMemory(nn.Module):
    """The log-probabilities of the last `num_rows` rows that the teacher saw on any process: [num_rows, K].

    Equal on all processes as long as `push` gets the gathered rows.
    """

    log_probs: Tensor
    num_pushed: Tensor
    _num_rows: int | None = None  # how many slots are filled, on the host, so that no GPU is waited for; None: unknown

    def __init__(self, num_rows: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("log_probs", torch.zeros(num_rows, num_classes))
        self.register_buffer("num_pushed", torch.zeros((), dtype=torch.long))
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "_num_rows", None))

    @property
    def capacity(self) -> int:
        """The number of rows that are remembered at most."""
        return len(self.log_probs)

    def push(self, rows: Tensor) -> None:
        """Remember rows [N, K] of log-probabilities in place of the oldest."""
        capacity = self.capacity
        rows = rows[-capacity:]
        slots = (self.num_pushed + torch.arange(len(rows), device=rows.device)) % capacity
        self.log_probs[slots] = rows.to(self.log_probs.dtype)
        if self._num_rows is None:
            self._num_rows = min(int(self.num_pushed), capacity)
        self.num_pushed += len(rows)
        self._num_rows = min(self._num_rows + len(rows), capacity)

    def rows(self) -> Tensor:
        """The remembered rows, [at most num_rows, K], in no order that matters."""
        return self.log_probs[: int(self.num_pushed) if self._num_rows is None else self._num_rows]


def balancing_bias(log_probs: Tensor, max_rounds: int = 100, shares: Tensor | None = None) -> Tensor:
    """The class bias under which answers have given class shares: log-probabilities [N, K] to [K].

    shares: [K], above 0, summing to 1; None for equal ones. Distribution alignment, q * p / mean(q) renormalised
    (Berthelot et al. 2020, "ReMixMatch", arXiv 1911.09785, section 3.1), repeated until the mean has the shares p: one
    round leaves it off where the answers lean to one class. Very sure answers may need more rounds than `max_rounds`;
    the mean is then near p.
    """
    log_shares: Tensor | float = -math.log(log_probs.shape[1]) if shares is None else shares.log()
    bias = torch.zeros_like(log_probs[0])
    done = torch.zeros((), dtype=torch.bool, device=bias.device)
    for _ in range(max_rounds):
        log_mean = F.log_softmax(log_probs + bias, dim=-1).logsumexp(dim=0) - math.log(len(log_probs))
        change = (log_shares - log_mean).masked_fill(done, 0.0)
        bias = bias + change
        done = change.abs().max() < 1e-6
        if _asking_is_cheap(bias) and done:
            break
    return bias


def _asking_is_cheap(tensor: Tensor) -> bool:
    # A GPU does the rounds that are left, which change nothing, sooner than it says that they are not needed.
    return tensor.device.type == "cpu"


def class_quantiles(probs: Tensor, quantile: float) -> Tensor:
    """For each class, the quantile of the confidence of the rows predicted as it: rows [N, K] to [K].

    A class with fewer than MIN_ROWS_PER_CLASS such rows gets the quantile over all rows.
    """
    confidence, predicted = probs.max(dim=-1)
    is_class = predicted[:, None] == torch.arange(probs.shape[1], device=probs.device)
    own = confidence[:, None].masked_fill(~is_class, math.nan).nanquantile(quantile, dim=0)
    return torch.where(is_class.sum(dim=0) >= MIN_ROWS_PER_CLASS, own, confidence.quantile(quantile))
