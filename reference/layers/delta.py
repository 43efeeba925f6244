"""What Gated DeltaNet, Kimi Delta Attention and Mamba-2 share: the state, the convolution, the call of the operator."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reference.layers.batch import BatchLayout
from reference.layers.mixer import Draw, LinearMixer, Sizes, TextBefore
from reference.ops.conv import causal_conv, causal_conv_step
from reference.ops.replay import Replay, replay_rule
from reference.ops.step import decode_step


class DeltaState(NamedTuple):
    """What a layer with a short convolution remembers, however long the text: the convolution's last tokens and the
    memory. A layer that must be able to take n tokens back keeps n more of the former, and the latter as a Replay."""

    conv: Tensor  # [B, channels, W-1], or up to n more
    S: Tensor | Replay  # [B, HV, Dk, Dv], float32


class DeltaInputs(NamedTuple):
    """The operator's arguments for the tokens of x [B, T, d_model], and the convolution's state behind them."""

    q: Tensor  # [B, T, H, Dk], not yet normalized
    k: Tensor  # [B, T, H, Dk], not yet normalized
    v: Tensor  # [B, T, HV, Dv]
    g: Tensor  # log decay, [B, T, HV], or with one per key channel [B, T, HV, Dk]
    beta: Tensor | None  # [B, T, HV]; None: nothing is erased
    conv: Tensor  # [B, channels, W-1], or more, as in DeltaState


def _decoding(x: Tensor, state: Tensor | None, layout: BatchLayout) -> bool:
    return state is not None and x.shape[1] == 1 and layout.cu_seqlens is None and not torch.is_grad_enabled()


def convolve(
    x: Tensor,
    weight: Tensor,
    conv: Tensor | None,
    layout: BatchLayout,
    bias: Tensor | None = None,
    *,
    activation: str | None = "silu",
) -> tuple[Tensor, Tensor]:
    """The short convolution of x [B, T, channels] and its silu (activation None: without), and the convolution's state
    behind x. weight [channels, W]; conv: the state before x, which stays as it is; None: zeros. One token of decoding
    takes the short way."""
    tail = weight.shape[-1] - 1
    before, conv = conv, None if conv is None else conv[..., conv.shape[-1] - tail :]
    if _decoding(x, conv, layout):
        conv = conv.clone()
        y = causal_conv_step(x[:, 0], weight, bias, conv, activation=activation)[:, None]
    else:
        keywords = {"initial_state": conv, "output_final_state": True, "cu_seqlens": layout.cu_seqlens}
        y, conv = causal_conv(x, weight, bias, activation=activation, **keywords)
    return y, longer_tail(before, x, tail, tail + layout.rewind) if layout.rewind else conv


def longer_tail(before: Tensor | None, x: Tensor, tail: int, length: int) -> Tensor:
    """The last `length` tokens up to the end of x [B, T, channels], fewer at the start of a text: [B, channels, n]."""
    before = x.new_zeros(x.shape[0], x.shape[2], tail) if before is None else before.to(x.dtype)
    seen = torch.cat([before, x[:, max(x.shape[1] - length, 0) :].mT], -1)
    return seen[..., max(seen.shape[-1] - length, 0) :].clone()


def mix(
    op: Callable,
    inputs: DeltaInputs,
    S: Tensor | Replay | None,
    layout: BatchLayout,
    *,
    scale: float | None = None,
    unit_length: bool = True,
) -> tuple[Tensor, Tensor | Replay]:
    """o [B, T, HV, Dv] of the operator, with q and k of unit length if unit_length, and the memory behind it. S: the
    memory before, which stays as it is; None: zeros. One token of decoding takes the short way, if the operator
    erases: that step asks what the memory has of the key, too."""
    q, k, v, g, beta, _ = inputs
    keywords = {"scale": scale, "use_qk_l2norm_in_kernel": unit_length}
    if layout.rewind or isinstance(S, Replay):
        return replay_rule(op, q, k, v, g, beta, S, layout.rewind, **keywords)
    if beta is not None and _decoding(q, S, layout):
        after = torch.empty_like(S)
        o = decode_step(q[:, 0], k[:, 0], v[:, 0], g[:, 0], beta[:, 0], S, out=after, **keywords)
        return o[:, None], after
    keywords |= {"initial_state": S, "output_final_state": True, "cu_seqlens": layout.cu_seqlens}
    return op(q, k, v, g, *([] if beta is None else [beta]), **keywords)


class ConvolvedMixer(LinearMixer):
    """A linear kind behind a short convolution: its state is a DeltaState."""

    def memory(self, state: DeltaState) -> Tensor:
        return state.S

    def rewind(self, config: Sizes, state: DeltaState, n: int | Sequence[int]) -> DeltaState:
        S = super().rewind(config, state.S, n)
        return DeltaState(self.shorter_tail(config, state.conv, n), S)

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> DeltaState:
        conv = draw(sum(self.conv_channels(config)), config.linear_conv_kernel_dim - 1)
        return DeltaState(conv, draw(*self.sizes(config)))


class DeltaMixer(ConvolvedMixer):
    """A kind with a delta rule behind a short convolution. op: its operator."""

    erases = True
    op: Callable

    def state_before(self, layer: nn.Module, h: Tensor, before: TextBefore) -> DeltaState:
        conv = before.tail(layer.project_qkv(h), layer.conv1d.weight.shape[-1] - 1)
        x = layer.project(h, conv)
        return DeltaState(conv, before.memory(self.op, x.k, x.v, x.g, x.beta))

    def look(self, layer: nn.Module, h: Tensor) -> tuple[Tensor, Tensor]:
        """A linear layer reads sums of values too, o_t = sum_s c_ts v_s: the weights are |c_ts| / sum_s |c_ts|."""
        q, k, v, g, beta, _ = layer.project(h)
        B, T, HV, _ = v.shape
        one_hot = torch.eye(T, dtype=v.dtype, device=v.device)[None, :, None].expand(B, T, HV, T)
        c, _ = self.op(q, k, one_hot, g, beta, use_qk_l2norm_in_kernel=True)  # o is linear in v
        c = c.transpose(1, 2).abs()
        return c / c.sum(-1, keepdim=True).clamp(min=1e-30), v
