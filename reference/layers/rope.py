"""Rotary positions: pairs of channels turn with the position, so that q·k depends on the distance alone."""

import torch
from torch import Tensor, nn


def rope_frequencies(dim: int, theta: float = 10_000.0) -> Tensor:
    """Angle per token of each of the dim / 2 pairs, theta^(-2i/dim): float32 [dim / 2]. Source: Su et al. 2021."""
    if dim < 2 or dim % 2:
        raise ValueError(f"dim: rotary positions turn pairs of channels, expected an even number >= 2, got {dim}")
    if theta <= 0:
        raise ValueError(f"theta: expected a positive base, got {theta}")
    return theta ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def apply_rope(x: Tensor, positions: Tensor, frequencies: Tensor, *, interleaved: bool = False) -> Tensor:
    """Turn the first 2 len(frequencies) channels of x [B, T, H, D]; the rest pass (partial RoPE).

    positions [T] or [B, T], whole numbers. Half-split pairs channel i with i + n (Llama, Qwen, gpt-oss);
    interleaved pairs 2i with 2i + 1 (DeepSeek). Angles are computed in float32 (float64 for float64 x).
    Raises ValueError if x has too few channels. Source: Su et al. 2021, eq. 34.
    """
    n = frequencies.shape[0]
    if x.shape[-1] < 2 * n:
        raise ValueError(f"x: expected at least {2 * n} channels to turn, got {x.shape[-1]}")
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    angles = positions[..., None].to(wide) * frequencies.to(device=x.device, dtype=wide)  # [(B,) T, n]
    cos, sin = angles.cos()[..., None, :], angles.sin()[..., None, :]  # [(B,) T, 1, n]
    turned, rest = x[..., : 2 * n].to(wide), x[..., 2 * n :]
    a, b = turned.unflatten(-1, (n, 2)).unbind(-1) if interleaved else turned.chunk(2, -1)
    parts = (a * cos - b * sin, b * cos + a * sin)
    turned = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
    return torch.cat([turned.to(x.dtype), rest], -1)


class Rotary(nn.Module):
    """apply_rope with frequencies of its own, which stay in float32 when the model's weights change their dtype.

    dim: channels that turn; theta, interleaved: see above. forward(x [B, T, H, D], positions [T] or [B, T]).
    """

    def __init__(self, dim: int, theta: float = 10_000.0, *, interleaved: bool = False):
        super().__init__()
        self.dim, self.theta, self.interleaved = dim, theta, interleaved
        self.register_buffer("frequencies", rope_frequencies(dim, theta), persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return apply_rope(x, positions, self.frequencies, interleaved=self.interleaved)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)  # module.to(torch.bfloat16) would round the angles of far tokens by whole turns
        self.frequencies = rope_frequencies(self.dim, self.theta).to(self.frequencies.device)
        return self

    def extra_repr(self) -> str:
        return f"{self.dim}, theta={self.theta:g}, interleaved={self.interleaved}"
