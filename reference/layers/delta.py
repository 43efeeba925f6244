"""What Gated DeltaNet, Kimi Delta Attention and Mamba-2 share: the state, the convolution, the call of the operator."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reference.layers.mixer import Draw, LinearMixer, Sizes, TextBefore
from reference.ops.conv import causal_conv, causal_conv_step
from reference.ops.step import decode_step


class DeltaState(NamedTuple):
    """What a layer with a short convolution remembers, however long the text: its last tokens, and the memory."""

    conv: Tensor  # [B, channels, W-1]
    S: Tensor  # [B, HV, Dk, Dv], float32


class DeltaInputs(NamedTuple):
    """The operator's arguments for the tokens of x [B, T, d_model], and the convolution's state behind them."""

    q: Tensor  # [B, T, H, Dk], not yet normalized
    k: Tensor  # [B, T, H, Dk], not yet normalized
    v: Tensor  # [B, T, HV, Dv]
    g: Tensor  # log decay, [B, T, HV], or with one per key channel [B, T, HV, Dk]
    beta: Tensor | None  # [B, T, HV]; None: nothing is erased
    conv: Tensor  # [B, channels, W-1]


def _decoding(x: Tensor, state: Tensor | None, cu_seqlens: Tensor | None) -> bool:
    return state is not None and x.shape[1] == 1 and cu_seqlens is None and not torch.is_grad_enabled()


def convolve(
    x: Tensor, weight: Tensor, conv: Tensor | None, cu_seqlens: Tensor | None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """silu of the short convolution of x [B, T, channels], and the convolution's state behind x. weight [channels, W];
    conv: the state before x, which stays as it is; None: zeros. One token of decoding takes the short way."""
    if _decoding(x, conv, cu_seqlens):
        conv = conv.clone()
        return causal_conv_step(x[:, 0], weight, bias, conv, activation="silu")[:, None], conv
    keywords = {"initial_state": conv, "output_final_state": True, "cu_seqlens": cu_seqlens}
    return causal_conv(x, weight, bias, activation="silu", **keywords)


def mix(
    op: Callable,
    inputs: DeltaInputs,
    S: Tensor | None,
    cu_seqlens: Tensor | None,
    *,
    scale: float | None = None,
    unit_length: bool = True,
) -> tuple[Tensor, Tensor]:
    """o [B, T, HV, Dv] of the operator, with q and k of unit length if unit_length, and the memory behind it. S: the
    memory before, which stays as it is; None: zeros. One token of decoding takes the short way, if the operator
    erases: that step asks what the memory has of the key, too."""
    q, k, v, g, beta, _ = inputs
    keywords = {"scale": scale, "use_qk_l2norm_in_kernel": unit_length}
    if beta is not None and _decoding(q, S, cu_seqlens):
        after = torch.empty_like(S)
        o = decode_step(q[:, 0], k[:, 0], v[:, 0], g[:, 0], beta[:, 0], S, out=after, **keywords)
        return o[:, None], after
    keywords |= {"initial_state": S, "output_final_state": True, "cu_seqlens": cu_seqlens}
    return op(q, k, v, g, *([] if beta is None else [beta]), **keywords)


class DeltaMixer(LinearMixer):
    """A kind with a delta rule behind a short convolution. op: its operator."""

    erases = True
    op: Callable

    def memory(self, state: DeltaState) -> Tensor:
        return state.S

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> DeltaState:
        conv = draw(sum(self.conv_channels(config)), config.linear_conv_kernel_dim - 1)
        return DeltaState(conv, draw(*self.sizes(config)))

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
