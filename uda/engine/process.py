"""This process among all processes: device, precision, collectives, seeds."""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from uda.engine.settings import Precision
from uda.hardware import multiplies_bf16
from uda.objectives.base import Context


@dataclass(frozen=True)
class Process:
    """Accelerate's view of this process, and what the engine asks of it."""

    accelerator: Accelerator
    precision: Precision

    @classmethod
    def start(cls, precision: Precision) -> "Process":
        """A fresh state: a multirun has several jobs in one process, and Accelerate's state is a singleton."""
        AcceleratorState._reset_state()
        PartialState._reset_state()
        if precision is Precision.auto:
            precision = Precision.bf16 if multiplies_bf16() else Precision.fp32
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="bf16" if precision is Precision.bf16 else "no",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        return cls(accelerator, precision)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def count(self) -> int:
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def context(self, progress: float) -> Context:
        """What an objective is told at this point of the run."""
        if self.count == 1:
            return Context(progress)
        gather = self.accelerator.gather
        return Context(progress, gather=lambda rows: gather(rows.detach().contiguous()), sum=all_reduce)

    def seed_step(self, seed: int, step: int) -> None:
        """Seed torch by (seed, step, rank), so that nothing random has to be carried along in a checkpoint."""
        state = np.random.SeedSequence((seed, step, self.rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def gather_rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows of all processes, in rank order."""
        return rows if self.count == 1 else np.concatenate(gather_object([rows]))

    def highest(self, number: int) -> int:
        """The highest of the processes' numbers."""
        if self.count == 1:
            return number
        numbers: Tensor = self.accelerator.gather(torch.tensor([number], device=self.device))
        return int(numbers.max())

    def close(self) -> None:
        """End the process group, after all that still refers to it: its threads would wait for ever otherwise."""
        self.accelerator.free_memory()
        self.wait()
        self.accelerator.end_training()

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()
