"""The pieces of the losses as pure functions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from uda.objectives.base import Context, at_least_float32

TSA_SCHEDULES = ("none", "linear", "log", "exp")
TARGETS = ("soft", "hard")


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


def ramp(progress: float, length: float, shape: str) -> float:
    """What a coefficient is multiplied by while it rises from 0 to 1 over the first `length` (a share) of the run.

    With x = min(progress / length, 1): x (linear), (1 - cos(pi x)) / 2 (cosine: Berthelot et al. 2022, "AdaMatch",
    arXiv 2106.04732) or exp(-5 (1 - x)^2) (sigmoid: Tarvainen & Valpola 2017, "Mean teachers", arXiv
    1703.01780). A length of 0: always 1.
    """
    if length == 0:
        return 1.0
    done = min(progress / length, 1.0)
    if shape == "linear":
        return done
    return (1 - math.cos(math.pi * done)) / 2 if shape == "cosine" else math.exp(-5 * (1 - done) ** 2)


def targets_of(logits: Tensor, targets: str, temperature: float | None) -> Tensor:
    """What the student is taught, [N, K], from the teacher's logits [N, K]: softmax(logits / T), or one-hot argmax."""
    if targets == "hard":
        return F.one_hot(logits.argmax(dim=-1), logits.shape[1]).to(logits.dtype)
    return F.softmax(tempered(logits, temperature), dim=-1)


def forget(state: Tensor, value: Tensor, horizon: float, context: Context) -> None:
    """state <- (1 - 1 / n) * state + value / n with n = horizon * num_steps, at least 1: an average over about n steps.

    horizon: a share of the run. Papers give the decay 1 - 1 / n for runs of one length; in shorter ones the start
    value would still be most of it at the end.
    """
    state.lerp_(value.to(state.dtype), 1 / max(horizon * context.num_steps, 1.0))


def global_mean(rows: Tensor, context: Context) -> Tensor:
    """The mean over the rows of all processes, [N, ...] to [...]; zeros where there is no row at all."""
    sums = context.sum(torch.cat([rows.sum(dim=0).flatten(), rows.new_tensor([float(len(rows))])]))
    return (sums[:-1] / sums[-1].clamp(min=1)).reshape(rows.shape[1:])


def cross_entropy_with(target: Tensor, log_prediction: Tensor) -> Tensor:
    """-sum of target * log prediction per row, [N, K] and [N, K] to [N]."""
    return -(target * log_prediction).sum(dim=-1)


def kl_divergence(target: Tensor, log_prediction: Tensor) -> Tensor:
    """KL(target || prediction) per row, [N, K] and [N, K] to [N]; a class of target probability 0 adds nothing."""
    terms = torch.xlogy(target, target) - target * log_prediction
    return torch.where(target > 0, terms, torch.zeros_like(terms)).sum(dim=-1)
