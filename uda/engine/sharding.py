"""A model whose tensors are spread over all processes (torch's FSDP2): each keeps a part of every one.

A layer is whole on a process only while that computes it, so every process must make the same passes in the same order.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from uda.engine.process import Process

Tensors = dict[str, Tensor]


def shard(model: nn.Module, process: Process) -> None:
    """Spread a model's tensors over the processes, in place; one on the CPU goes to the devices layer by layer.

    The layers (members of the outermost module lists) are gathered one at a time, all else together. Weights are
    gathered as they are, in fp32: autocast does to them what it does to those of a whole model. Every backward pass
    adds its gradients over the processes, since kept whole they would need the memory of a whole model.
    """
    mesh = init_device_mesh(process.device.type, (process.count,))
    for module in (*_layers(model), model):
        # After the forward pass too: parameters are read between passes, and must be the parts.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def _layers(module: nn.Module) -> list[nn.Module]:
    """The members of the outermost module lists."""
    if isinstance(module, nn.ModuleList):
        return list(module)
    return [layer for child in module.children() for layer in _layers(child)]


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's tensors are spread over the processes."""
    return isinstance(model, FSDPModule)


def whole(tensor: Tensor) -> Tensor:
    """The tensor, from its parts on all processes where it is spread: then all have to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Tensors, keep: bool) -> Tensors:
    """Whole tensors, on the CPU where they were spread, for those processes that `keep` them; all have to ask."""
    found = {}
    for name, tensor in tensors.items():
        complete = whole(tensor)
        if keep:
            found[name] = complete if complete is tensor else complete.cpu()
    return found


def part_of(complete: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, spread as `like` is; the tensor itself where that is whole."""
    if not isinstance(like, DTensor) or complete.shape != like.shape:
        return complete
    there = complete.to(like.device)
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)  # all have the same


def load_weights(model: nn.Module, weights: Tensors) -> None:
    """Give a model, spread or not, the whole tensors of another's `state_dict`."""
    own = model.state_dict()
    model.load_state_dict({name: part_of(tensor, own.get(name, tensor)) for name, tensor in weights.items()})


def whole_model(model: PreTrainedModel, keep: bool) -> PreTrainedModel | None:
    """The model; of one that is spread a whole copy on the CPU, for those processes that `keep` it: all have to ask."""
    if not is_sharded(model):
        return model
    weights = gathered(model.state_dict(), keep)
    if not keep:
        return None
    plain_class: Any = next(kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule))
    with torch.device("meta"):
        plain: PreTrainedModel = plain_class(model.config)
    plain.load_state_dict(weights, assign=True)
    return plain
