"""This process among all processes: device, precision, collectives, seeds."""

import os
import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from torch import Tensor

from uda.engine.settings import Precision
from uda.engine.watch import Watch
from uda.errors import UserError
from uda.hardware import multiplies_bf16
from uda.objectives.base import Context


class _SumOverProcesses(torch.autograd.Function):
    """Adds a tensor over all processes; its gradient is the sum of the gradients of all."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.apply(gradient)


def _refuse_accelerates_sharding() -> None:
    """There is one way to shard, ours: Accelerate's own is DDP on a CPU, without a word."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false")
    if asked.lower() not in ("false", "0", ""):
        raise UserError(
            f"Expected sharding to be asked for by train.sharding=full, found a launch with Accelerate's own "
            f"(ACCELERATE_USE_FSDP={asked}, as its config files with distributed_type: FSDP set it). Launch with "
            "distributed_type: MULTI_GPU, as scripts/accelerate/fsdp.yaml has it, and set train.sharding=full."
        )


@dataclass(frozen=True)
class Process:
    """Accelerate's view of this process, and what the engine asks of it. watch: of the others, where there are any."""

    accelerator: Accelerator
    precision: Precision
    watch: Watch | None = None

    @classmethod
    def start(cls, precision: Precision, timeout: float | None = None) -> "Process":
        """A fresh state: a multirun has several jobs in one process, and Accelerate's state is a singleton.

        timeout: seconds after which another process that does not answer is given up; None: torch's own, and no watch.
        """
        _refuse_accelerates_sharding()
        AcceleratorState._reset_state()
        PartialState._reset_state()
        if precision is Precision.auto:
            precision = Precision.bf16 if multiplies_bf16() else Precision.fp32
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # Accelerate knows no other name yet
        handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
        if timeout is not None:
            # Accelerate passes on only what is not its default, 600 s, which is not gloo's: hence the millisecond.
            handlers.append(InitProcessGroupKwargs(timeout=timedelta(seconds=timeout, milliseconds=1)))
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="bf16" if precision is Precision.bf16 else "no",
            kwargs_handlers=handlers,
        )
        watch = None
        if timeout is not None and accelerator.num_processes > 1:
            watch = Watch(accelerator.process_index, accelerator.num_processes, timeout)
            watch.start()
        return cls(accelerator, precision, watch)

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

    def context(self, progress: float, num_steps: int = 1) -> Context:
        """What an objective is told at this point of a run of so many steps."""
        if self.count == 1:
            return Context(progress, num_steps=num_steps)
        gather = self.accelerator.gather
        return Context(
            progress,
            gather=lambda rows: gather(rows.detach().contiguous()),
            sum=_SumOverProcesses.apply,
            num_steps=num_steps,
        )

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
        self.meet()
        self.stop_watching()
        self.wait()
        self.accelerator.end_training()

    def wait(self) -> None:
        """Until all processes are here; one that is not within the timeout is given up."""
        self.accelerator.wait_for_everyone()

    def stop_watching(self) -> None:
        """From here on the others may end."""
        if self.watch is not None:
            self.watch.stop()

    def meet(self) -> None:
        """Until all processes are here, after work that may take any time on one of them."""
        if self.watch is not None:
            self.watch.wait_for_all()
