"""Rotary positions: pairs of channels turn with the position, so that q·k depends only on their distance."""

import math
from dataclasses import dataclass
from typing import get_type_hints

import torch
from torch import Tensor, nn

from reference.arguments import check_types, cut_short
from reference.dtypes import inner_dtype

SCALINGS = ("default", "linear", "dynamic", "yarn", "llama3", "proportional")
NEEDS = {
    "default": (),
    "linear": ("factor",),
    "proportional": ("partial_rotary_factor",),
    "dynamic": ("factor", "max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
}


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How frequencies are changed for texts longer than those of pretraining; names as in `rope_parameters`.

    linear    every angle divided by factor (Chen et al. 2023)
    dynamic   beyond max_position_embeddings the base grows with the text ("NTK-aware", as in transformers)
    yarn      slow pairs divided by factor, fast ones kept, a ramp from beta_fast to beta_slow turns between them;
              cosines and sines times attention_factor (Peng et al. 2023)
    llama3    the same idea with two wavelengths as its bounds (Llama 3.1)
    proportional  all channels are pairs, and of the pairs the fastest turn, a partial_rotary_factor of them; their
              angles are divided by factor, if there is one (Gemma 4, LFM3)

    mscale_all_dim is DeepSeek's: the attention's scale is multiplied by `temperature`. llama_4_scaling_beta is Llama's
    and Mistral 4's: queries are multiplied by `sharpening`, more with every original_max_position_embeddings tokens.
    Raises ValueError that names the field.
    """

    rope_type: str = "default"
    factor: float | None = None
    original_max_position_embeddings: int | None = None
    max_position_embeddings: int | None = None
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    mscale: float | None = None
    mscale_all_dim: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    llama_4_scaling_beta: float | None = None
    partial_rotary_factor: float | None = None

    def __post_init__(self):
        check_types(self, get_type_hints(RopeScaling))
        if self.rope_type not in SCALINGS:
            raise ValueError(f"rope_type: expected one of {list(SCALINGS)}, got {cut_short(self.rope_type)}")
        for name in NEEDS[self.rope_type]:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(
                    f"{name}: rope_type {cut_short(self.rope_type)} needs a positive number, got {cut_short(value)}"
                )

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied with; 1 except for yarn."""
        if self.rope_type != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return _grown(self.factor, self.mscale) / _grown(self.factor, self.mscale_all_dim)
        return _grown(self.factor)

    @property
    def temperature(self) -> float:
        """What DeepSeek's attention multiplies its scale with."""
        if self.rope_type == "default" or not self.mscale_all_dim:
            return 1.0
        return _grown(self.factor, self.mscale_all_dim) ** 2

    def sharpening(self, positions: Tensor) -> Tensor:
        """1 + llama_4_scaling_beta · log(1 + whole spans in front of the position): the shape of positions, float32."""
        spans = (positions // self.original_max_position_embeddings).float()
        return 1 + self.llama_4_scaling_beta * torch.log1p(spans)


def _grown(factor: float, by: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1.0


def rope_frequencies(dim: int, theta: float = 10_000.0) -> Tensor:
    """Angle per token of each of the dim / 2 pairs, theta^(-2i/dim): float32 [dim / 2]. Source: Su et al. 2021."""
    if dim < 2 or dim % 2:
        raise ValueError(f"dim: rotary positions turn pairs of channels, expected an even number >= 2, got {dim}")
    if theta <= 0:
        raise ValueError(f"theta: expected a positive base, got {theta}")
    return theta ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def scaled_frequencies(dim: int, theta: float, scaling: RopeScaling, *, length: int | None = None) -> Tensor:
    """rope_frequencies, changed as `scaling` says: float32 [dim / 2]. length: tokens of the text, for "dynamic"."""
    if scaling.rope_type == "dynamic":
        longest = max(length or 0, scaling.max_position_embeddings)
        ratio = scaling.factor * longest / scaling.max_position_embeddings - (scaling.factor - 1)
        theta = theta * ratio ** (dim / (dim - 2))
    plain = rope_frequencies(dim, theta)
    if scaling.rope_type == "linear":
        return plain / scaling.factor
    if scaling.rope_type == "proportional":
        turning = torch.arange(dim // 2) < int(scaling.partial_rotary_factor * dim // 2)
        return plain * turning / (scaling.factor or 1.0)
    if scaling.rope_type == "yarn":
        stretched = _ramp(dim, theta, scaling)
        return plain * (1 - stretched) + plain / scaling.factor * stretched
    if scaling.rope_type == "llama3":
        turns = scaling.original_max_position_embeddings * plain / (2 * math.pi)  # in a text of pretraining's length
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return plain * kept + plain / scaling.factor * (1 - kept)
    return plain


def _ramp(dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """Per pair, 0 for those that turn beta_fast times in a text of pretraining's length, 1 for beta_slow times."""

    def pair(turns: float) -> float:
        span = scaling.original_max_position_embeddings / (turns * 2 * math.pi)
        return dim * math.log(span) / (2 * math.log(theta))

    low, high = pair(scaling.beta_fast), pair(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high = high + 0.001 if low == high else high
    return ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)


def apply_rope(
    x: Tensor, positions: Tensor, frequencies: Tensor, *, interleaved: bool = False, magnitude: float = 1.0
) -> Tensor:
    """Turn the first 2 len(frequencies) channels of x [B, T, H, D]; the rest pass (partial RoPE).

    x            [B, T, H, D], queries or keys
    positions    [T] or [B, T], whole numbers
    frequencies  [n], angle per token of each of the n pairs
    interleaved  False: channel i is paired with i + n (Llama, Qwen, gpt-oss). True: 2i with 2i + 1 (DeepSeek)
    magnitude    factor of the turned channels (YaRN)

    Returns the shape and dtype of x; angles are computed in float32 (float64 for float64 x). Raises ValueError if x
    has too few channels.
    Source: Su et al. 2021, eq. 34.
    """
    n = frequencies.shape[0]
    if x.shape[-1] < 2 * n:
        raise ValueError(f"x: expected at least {2 * n} channels to turn, got {x.shape[-1]}")
    wide = inner_dtype(x)
    angles = positions[..., None].to(wide) * frequencies.to(device=x.device, dtype=wide)  # [(B,) T, n]
    cos, sin = angles.cos()[..., None, :], angles.sin()[..., None, :]  # [(B,) T, 1, n]
    if magnitude != 1.0:
        cos, sin = magnitude * cos, magnitude * sin
    turned, rest = x[..., : 2 * n].to(wide), x[..., 2 * n :]
    a, b = turned.unflatten(-1, (n, 2)).unbind(-1) if interleaved else turned.chunk(2, -1)
    parts = (a * cos - b * sin, b * cos + a * sin)
    turned = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
    return torch.cat([turned.to(x.dtype), rest], -1)


class Rotary(nn.Module):
    """apply_rope with frequencies of its own, which stay in float32 when the model's weights change their dtype.

    dim          channels that turn
    theta        base of the frequencies
    interleaved  which channels are pairs, see apply_rope
    scaling      how the frequencies are changed for long texts; None: not at all

    forward(x [B, T, H, D], positions [T] or [B, T]) -> the shape of x.
    """

    def __init__(
        self, dim: int, theta: float = 10_000.0, *, interleaved: bool = False, scaling: RopeScaling | None = None
    ):
        super().__init__()
        self.dim, self.theta, self.interleaved, self.scaling = dim, theta, interleaved, scaling
        self.magnitude = 1.0 if scaling is None else scaling.magnitude
        self.register_buffer("frequencies", self._fresh(), persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        frequencies = self.frequencies
        if self.scaling is not None and self.scaling.rope_type == "dynamic":
            length = int(positions.max()) + 1
            frequencies = scaled_frequencies(self.dim, self.theta, self.scaling, length=length)
        return apply_rope(x, positions, frequencies, interleaved=self.interleaved, magnitude=self.magnitude)

    def reset_buffers(self, device: torch.device | str) -> None:
        """The buffers anew, in float32, on device: for a model whose weights are put in place one by one."""
        self.frequencies = self._fresh().to(device)

    def _fresh(self) -> Tensor:
        with torch.device("cpu"):  # a model that is built without memory has its angles all the same
            if self.scaling is None:
                return rope_frequencies(self.dim, self.theta)
            return scaled_frequencies(self.dim, self.theta, self.scaling)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)  # module.to(torch.bfloat16) would round the angles of far tokens by whole turns
        self.reset_buffers(self.frequencies.device)
        return self

    def extra_repr(self) -> str:
        return f"{self.dim}, theta={self.theta:g}, interleaved={self.interleaved}"
