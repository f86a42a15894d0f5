"""What the tests of the objectives share: made-up logits, a step without an encoder, and two processes as threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from uda.objectives.base import Context, Loss, Objective, PseudoLabels
from uda.objectives.uda import UDA

UDA_YAML = Path(__file__).parents[2] / "configs" / "objective" / "uda.yaml"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors here are tiny: a second thread only waits, for seconds where another process has its core."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


class Rows(NamedTuple):
    """Float64 logits of one step: the student's labelled [B, K], the teacher's weak and the student's strong [U, K]."""

    labeled: Tensor
    labels: Tensor
    weak: Tensor
    strong: Tensor

    def with_gradient(self) -> "Rows":
        """The same rows; the student's logits are leaves that collect gradients."""
        labeled, strong = (logits.clone().requires_grad_() for logits in (self.labeled, self.strong))
        return self._replace(labeled=labeled, strong=strong)


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    """Random rows, from unsure ones at the start to sure ones at the end."""

    def make(num_classes: int, num_labeled: int = 8, num_unlabeled: int = 16, seed: int = 0) -> Rows:
        rng = np.random.default_rng(seed)

        def logits(num_rows: int) -> Tensor:
            scale = np.linspace(10, 0.1, num_rows)[::-1, None]
            return torch.from_numpy(rng.normal(size=(num_rows, num_classes)) * scale)

        labels = torch.from_numpy(rng.integers(num_classes, size=num_labeled))
        return Rows(logits(num_labeled), labels, logits(num_unlabeled), logits(num_unlabeled))

    return make


@pytest.fixture(scope="session")
def make_uda() -> Callable[..., UDA]:
    """UDA in float64 with the options of objective/uda.yaml, save those given."""
    paper = yaml.safe_load(UDA_YAML.read_text())
    del paper["_target_"]

    def make(num_classes: int, **options: Any) -> UDA:
        return UDA(num_classes, 1, **(paper | options)).double()

    return make


@pytest.fixture(scope="session")
def take_step() -> Callable[..., tuple[PseudoLabels, Loss]]:
    """The two phases of a step: the teacher's logits to pseudo-labels, the student's logits of kept rows to a loss."""

    def step(objective: Objective, rows: Rows, context: Context) -> tuple[PseudoLabels, Loss]:
        with torch.no_grad():
            pseudo = objective.pseudo_label(rows.weak, torch.arange(len(rows.weak)), context)
        return pseudo, objective.loss(rows.labeled, rows.labels, rows.strong[pseudo.weight > 0], pseudo, context)

    return step


@pytest.fixture(scope="session")
def on_two_ranks() -> Callable[..., list[Any]]:
    """Calls work(rank, context) in two threads whose `sum` and `gather` meet; one that waits in vain raises."""

    def run(work: Callable[[int, Context], Any], progress: float) -> list[Any]:
        barrier = Barrier(2, timeout=10)
        slots: list[Any] = [None, None]

        def context_of(rank: int) -> Context:
            def exchange(tensor: Tensor) -> list[Tensor]:
                slots[rank] = tensor
                barrier.wait()
                both = list(slots)
                barrier.wait()
                return both

            return Context(progress, gather=lambda rows: torch.cat(exchange(rows)), sum=lambda own: sum(exchange(own)))

        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(work, rank, context_of(rank)) for rank in range(2)]
            return [future.result() for future in futures]

    return run
