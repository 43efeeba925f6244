"""One text split among processes: every process reads its stretch, and only states travel.

A linear layer's state after a stretch is M S + N, where S is the state before it. Every process finds its own M and N
at once, all are gathered, and each adds up what came before it: a [Dk, Dk] and a [Dk, Dv] matrix per head, however
long the text. A softmax layer's state is its keys and values: those of all tokens before travel.
Source: the gathered form is LASP-2's (Sun et al. 2025); M and N with a delta rule as in Yang et al. 2024, section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from reference.derivatives import BackwardByHand, refuse_transforms
from reference.distributed.world import World
from reference.layers.mixers import mixer
from reference.model.block import Block
from reference.model.hybrid import HybridLM


def stretch_of(ids: Tensor, world: World) -> Tensor:
    """This process's part of ids [B, T]: neighbours in the text are neighbours in rank."""
    if ids.shape[1] < world.size:
        raise ValueError(f"ids: {ids.shape[1]} tokens are too few for {world.size} processes")
    return ids.tensor_split(world.size, 1)[world.rank]


def read_in_stretches(model: HybridLM, ids: Tensor, world: World) -> Tensor:
    """Logits of this process's stretch ids [B, T_rank], as model(whole text) gives them there. With gradients.

    The model knows nothing of it: each block is handed the state that the tokens before would have left.
    """
    x = model.embed(ids)
    for block in model.layers:
        x, _ = block(x, state_before(block, block.input_layernorm(x), world))
    return model.read_out(model.norm(x))


def state_before(block: Block, h: Tensor, world: World) -> object:
    """The state that the block's mixer has read when this process's stretch begins; h [B, T_rank, d_model]."""
    return mixer(block.kind).state_before(block.mixer, h, StretchesBefore(world))


class StretchesBefore(NamedTuple):
    """What the record of a kind of layer may ask of the processes before this one (layers.mixer.TextBefore)."""

    world: World

    def count(self, x: Tensor) -> int:
        """Tokens before this stretch; x [B, T_rank, ...]."""
        return sum(lengths_of(x, self.world)[: self.world.rank])

    def tail(self, x: Tensor, n: int) -> Tensor:
        """tokens_before."""
        return tokens_before(x, n, self.world)

    def everything(self, x: Tensor) -> Tensor:
        """before."""
        return before(x, self.world)

    def memory(self, op: Callable, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None) -> Tensor:
        """hand_over of the stretch that the operator reads."""
        return hand_over(*stretch(op, k, v, g, beta), self.world)


def tokens_before(x: Tensor, n: int, world: World) -> Tensor:
    """The n tokens before this stretch, zeros before the text begins: x [B, T_rank, D] -> [B, D, n]."""
    zeros = x.new_zeros(x.shape[0], n, x.shape[2])
    seen = torch.cat([zeros, before(x[:, max(x.shape[1] - n, 0) :], world)], 1)  # no more than n travel from each
    return seen[:, seen.shape[1] - n :].mT


def stretch(op, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None) -> tuple[Tensor, Tensor]:
    """(M, N) of a stretch, S_after = M S_before + N: M [B, HV, Dk, Dk], N [B, HV, Dk, Dv], by the operator itself.

    N is what it leaves of an empty memory; M what it leaves of the identity when every value is 0.
    """
    B, HV, Dk = v.shape[0], v.shape[2], k.shape[-1]
    rest = [g] if beta is None else [g, beta]
    keywords = {"output_final_state": True, "use_qk_l2norm_in_kernel": beta is not None}
    N = op(k, k, v, *rest, **keywords)[1]
    identity = torch.eye(Dk, dtype=N.dtype, device=N.device).expand(B, HV, Dk, Dk)
    nothing = v.new_zeros(*v.shape[:3], Dk)
    M = op(k, k, nothing, *rest, initial_state=identity, **keywords)[1]
    return M, N


def hand_over(M: Tensor, N: Tensor, world: World) -> Tensor:
    """The state before this process's stretch, from everybody's (M, N): [B, HV, Dk, Dv]. With gradients."""
    refuse_transforms("hand_over", "torch.autograd.grad")
    return _HandOver.apply(M, N, world)


class _HandOver(torch.autograd.Function):
    @staticmethod
    def forward(ctx, M, N, world):
        both = _gather_equal(torch.cat([M, N], -1), world)
        steps = [x.split([M.shape[-1], N.shape[-1]], -1) for x in both]
        states = [torch.zeros_like(N)]
        for Mr, Nr in steps[:-1]:
            states.append(Mr @ states[-1] + Nr)
        ctx.world = world
        ctx.save_for_backward(states[world.rank], *(Mr for Mr, _ in steps))
        return states[world.rank]

    @staticmethod
    def backward(ctx, dS):
        return *_HandOverGradients.apply(dS, ctx.world, *ctx.saved_tensors), None


class _HandOverGradients(BackwardByHand):
    @staticmethod
    def forward(dS, world, S, *Ms):
        later = _gather_equal(dS, world)  # what each process asks of the state before it
        dS_after = torch.zeros_like(dS)
        for r in range(world.size - 1, world.rank, -1):
            dS_after = later[r] + (Ms[r].mT @ dS_after if r + 1 < world.size else 0)
        return dS_after @ S.mT, dS_after


class _Before(torch.autograd.Function):
    """Runs on every process in forward and backward, the first one too: collective calls must meet."""

    @staticmethod
    def forward(ctx, x, world):
        ctx.lengths, ctx.world = lengths_of(x, world), world
        padded = torch.cat([x, x.new_zeros(x.shape[0], max(ctx.lengths) - x.shape[1], *x.shape[2:])], 1)
        parts = _gather_equal(padded, world)[: world.rank]
        return torch.cat([x[:, :0], *(y[:, :n] for y, n in zip(parts, ctx.lengths, strict=False))], 1)

    @staticmethod
    def backward(ctx, dy):
        return _BeforeGradients.apply(dy, ctx.lengths, ctx.world), None


class _BeforeGradients(BackwardByHand):
    @staticmethod
    def forward(dy, lengths, world):
        rank = world.rank
        rest = dy.new_zeros(dy.shape[0], sum(lengths[rank:]), *dy.shape[2:])
        total = world.total(torch.cat([dy, rest], 1))  # everybody's gradient for this stretch meets here
        return total[:, sum(lengths[:rank]) : sum(lengths[: rank + 1])]


def before(x: Tensor, world: World) -> Tensor:
    """The stretches of the processes before this one, end to end: x [B, T_rank, ...] -> [B, T_before, ...]."""
    refuse_transforms("before", "torch.autograd.grad")
    return _Before.apply(x, world)


def lengths_of(x: Tensor, world: World) -> list[int]:
    """T_rank of every process; x [B, T_rank, ...]."""
    return [int(n) for n in _gather_equal(torch.tensor([x.shape[1]], device=x.device), world)]


def _gather_equal(x: Tensor, world: World) -> list[Tensor]:
    if world.size == 1:
        return [x]
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world.size)]
    dist.all_gather(parts, x.contiguous())
    return parts
