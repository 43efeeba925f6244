"""The processes that train together, started by torchrun. Everything here also works for a single process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from reference.model.config import HybridConfig
from reference.model.hybrid import BothHeads, HybridLM

STRATEGIES = ("ddp", "fsdp")


class World(NamedTuple):
    """This process is number `rank` of `size`. With size 1 there is no process group."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def total(self, x: Tensor) -> Tensor:
        """Sum of x over all processes, the same on each."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: str = "cpu") -> Iterator[World]:
    """The processes that torchrun started (it sets RANK, WORLD_SIZE), over gloo on CPUs and nccl on GPUs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=device)
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield World(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()


def share_model(model: HybridLM, world: World, strategy: str) -> nn.Module:
    """What to call instead of model in training; the parameters stay those of model. A model with a head for the token
    after the next is called as BothHeads.

    ddp: every process has the whole model, gradients are averaged. fsdp: every process keeps 1/size of each
    parameter, gradient and optimizer state (DTensors), and gathers a block's weights while it runs.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"parallel: expected one of {list(STRATEGIES)}, got {strategy!r}")
    if world.size == 1:
        return model
    if model.mtp is not None:
        model = BothHeads(model)
    if strategy == "ddp":
        experts = bool(model.config.num_experts)  # an expert that no token chose has no gradient in this step
        return DistributedDataParallel(model, find_unused_parameters=experts)
    mesh = init_device_mesh(world.device.partition(":")[0], (world.size,))
    for block in model.layers:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def logits_of(call: nn.Module, config: HybridConfig, ids: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits [B, T, vocab_size] of the next token, and of the token after it if the model has a head for it. call: the
    model, or what share_model made of the model."""
    if not config.num_nextn_predict_layers:
        return call(ids, cu_seqlens=cu_seqlens), None
    both = call.predict_ahead if isinstance(call, HybridLM) else call
    return both(ids, cu_seqlens=cu_seqlens)


def whole(x: Tensor) -> Tensor:
    """A tensor in one piece, gathered if it is sharded: every process must call it at the same time."""
    return x.full_tensor() if isinstance(x, DTensor) else x
