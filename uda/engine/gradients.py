"""Gradients before the optimiser's step: clipped, and a step whose numbers are not finite refused."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uda.engine.process import Process
from uda.engine.sharding import whole
from uda.errors import UserError

_REMEDY = (
    "Lower {key} ({rate:g}) or set train.precision=fp32, with train.overwrite=true where the run directory stays the "
    "same."
)


def remedy(key: str, rate: float) -> str:
    """What to do about numbers that are not finite. key: the setting that is the learning rate."""
    return _REMEDY.format(key=key, rate=rate)


def clip(model: nn.Module, limit: float | None, loss: Tensor, counts: Tensor, process: Process) -> tuple[float, bool]:
    """Clip the gradients to a norm of `limit`; the norm before that, and whether it, the loss and the counts are finite
    on all processes.
    """
    norm = whole(torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf if limit is None else limit))
    finite = torch.isfinite(norm) & torch.isfinite(loss) & torch.isfinite(counts).all()
    gradient_norm: float
    gradient_norm, spoilt = torch.stack([norm.detach().float(), (~finite).float()]).tolist()  # one wait for both
    return gradient_norm, not process.highest(int(spoilt))


def refuse_not_finite(
    folder: Path, step: int, loss: float, norm: float, rows: dict[str, Any], process: Process, advice: str
) -> None:
    """Leave this process's rows of the step in a file, and end the run. `step` counts from 1."""
    path = folder / f"not-finite-step-{step}-rank-{process.rank}.json"
    path.write_text(json.dumps({"step": step, "loss": repr(loss), "gradient_norm": repr(norm), **rows}))
    raise UserError(
        f"Expected a finite loss and gradient, found a loss of {loss} and a gradient norm of {norm} at step {step}; "
        f"the rows are in {path}, and the weights of the last checkpoint stay. {advice}"
    )
