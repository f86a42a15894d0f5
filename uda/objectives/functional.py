"""The pieces of the losses as pure functions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.objectives.base import Context, at_least_float32

TSA_SCHEDULES = ("none", "linear", "log", "exp")


def tsa_threshold(progress: float, schedule: str, num_classes: int) -> float:
    """Training signal annealing: the true-class probability above which a labelled row is dropped.

    eta = alpha * (1 - 1/K) + 1/K with alpha = p (linear), 1 - exp(-5p) (log) or exp(5(p - 1)) (exp); 1 for `none`,
    which no probability exceeds. Source: arXiv 1904.12848, section 2.3 and figure 2.
    """
    if schedule == "none":
        return 1.0
    alpha = {
        "linear": progress,
        "log": 1 - math.exp(-5 * progress),
        "exp": math.exp(5 * (progress - 1)),
    }[schedule]
    return alpha * (1 - 1 / num_classes) + 1 / num_classes


def annealed_cross_entropy(
    logits: Tensor, labels: Tensor, threshold: float, context: Context, class_weights: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of the rows whose true-class probability is not above `threshold`.

    logits [B, K], labels [B], class_weights [K] or None for equal ones. Returns this process's share of the weighted
    mean, sum of w * loss / sum of w over the kept rows of all processes with w the weight of a row's class (0 where no
    row is kept; `torch.nn.CrossEntropyLoss` has the same mean), and metrics. With no rows on this process (a
    micro-batch of unlabelled rows) the share is 0 and no process is asked.
    """
    if len(labels) == 0:
        return logits.sum(), {}
    logits = at_least_float32(logits)
    # softmax, not the exponential of log_softmax: uniform logits then give 1 / K to the bit, which is not above it.
    true_class = F.softmax(logits.detach(), dim=-1).gather(1, labels[:, None]).squeeze(1)
    kept = (true_class <= threshold) if threshold < 1 else torch.ones_like(labels, dtype=torch.bool)
    weights = kept.to(logits.dtype)
    if class_weights is not None:
        weights = weights * class_weights.to(logits.dtype)[labels]
    num_rows = torch.as_tensor(len(labels), device=kept.device)
    sums = torch.stack([kept.sum().to(logits.dtype), num_rows.to(logits.dtype), weights.sum()])
    num_kept, all_rows, all_weights = context.sum(sums).unbind()
    row_losses = F.cross_entropy(logits, labels, reduction="none")
    loss = (row_losses * weights).sum() / torch.where(num_kept > 0, all_weights, torch.ones_like(all_weights))
    return loss, {
        "loss/supervised": loss.detach(),
        "tsa/threshold": threshold * sums[1] / all_rows,
        "tsa/kept_share": sums[0] / all_rows,
    }


def tempered(logits: Tensor, temperature: float | None) -> Tensor:
    """logits / T; a T of None or at most 0 means no tempering."""
    return logits if temperature is None or temperature <= 0 else logits / temperature


def kl_divergence(target: Tensor, log_prediction: Tensor) -> Tensor:
    """KL(target || prediction) per row, [N, K] and [N, K] to [N]; a class of target probability 0 adds nothing."""
    terms = torch.xlogy(target, target) - target * log_prediction
    return torch.where(target > 0, terms, torch.zeros_like(terms)).sum(dim=-1)
