"""The teacher's recent answers: what alignment and a quantile mask are measured against."""

import torch
from torch import Tensor, nn

# A class with fewer remembered rows than this has no quantile worth the name: the global one serves.
MIN_ROWS_PER_CLASS = 8


class TeacherMemory(nn.Module):
    """The log-probabilities of the last `num_rows` rows that the teacher saw on any process: [num_rows, K].

    Equal on all processes as long as `push` gets the gathered rows.
    """

    log_probs: Tensor
    num_pushed: Tensor

    def __init__(self, num_rows: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("log_probs", torch.zeros(num_rows, num_classes))
        self.register_buffer("num_pushed", torch.zeros((), dtype=torch.long))

    def push(self, rows: Tensor) -> None:
        """Remember rows [N, K] of log-probabilities in place of the oldest."""
        capacity = len(self.log_probs)
        rows = rows[-capacity:]
        slots = (self.num_pushed + torch.arange(len(rows), device=rows.device)) % capacity
        self.log_probs[slots] = rows.to(self.log_probs.dtype)
        self.num_pushed += len(rows)

    def rows(self) -> Tensor:
        """The remembered rows, [at most num_rows, K], in no order that matters."""
        return self.log_probs[: int(self.num_pushed)]


def balancing_bias(log_probs: Tensor, log_prior: Tensor, num_iterations: int = 100) -> Tensor:
    """The class bias b [K] under which the mean of softmax(log_probs + b) over rows [N, K] is the prior.

    Distribution alignment, q * prior / mean(q) renormalised, repeated until nothing changes: one round alone leaves
    a mean that is still off the prior. For K = 2 it moves the decision to where both classes are equally likely.
    """
    bias = torch.zeros_like(log_prior)
    log_count = torch.log(torch.as_tensor(float(len(log_probs)), dtype=log_probs.dtype))
    for _ in range(num_iterations):
        log_mean = torch.log_softmax(log_probs + bias, dim=-1).logsumexp(dim=0) - log_count
        change = log_prior - log_mean
        bias = bias + change
        if change.abs().max() < 1e-6:
            break
    return bias


def class_quantiles(probs: Tensor, quantile: float) -> Tensor:
    """For each class, the quantile of the confidence of the rows predicted as it: rows [N, K] to [K].

    A class with fewer than MIN_ROWS_PER_CLASS such rows gets the quantile over all rows.
    """
    confidence, predicted = probs.max(dim=-1)
    thresholds = confidence.quantile(quantile).repeat(probs.shape[1])
    counts = torch.bincount(predicted, minlength=probs.shape[1])
    for label in torch.nonzero(counts >= MIN_ROWS_PER_CLASS).flatten():
        thresholds[label] = confidence[predicted == label].quantile(quantile)
    return thresholds
