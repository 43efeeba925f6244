"""Ways to keep a state in fewer bits: rounding in place to what a format can hold. Arithmetic stays in float32."""

import torch
from torch import Tensor

# Bytes of one entry; formats with a scale keep one more number for each row of Dv entries.
FORMATS = {
    "float32": 4,
    "bfloat16": 2,
    "bfloat16_stochastic": 2,
    "bfloat16_twice": 2,  # after the decay and again after the write, as arithmetic in bfloat16 does
    "fp8": 1,  # e4m3 without a scale, as a cast does
    "fp8_row": 1,
    "fp8_power": 1,  # the scale of the row rounded up to a power of two
    "int8_row": 1,
    "int8_stochastic": 1,  # with int8_row's scale
}
LARGEST_FP8 = 448.0  # of e4m3: torch.finfo(torch.float8_e4m3fn).max
SMALLEST_SCALE = 1e-30  # in place of a scale of 0


def store_(S: Tensor, form: str, rng: torch.Generator | None = None) -> Tensor:
    """Round S [..., Dk, Dv], contiguous float32, in place to the nearest that `form` can hold, or, where its name says
    stochastic, up or down with the chances that make the mean right (rng draws them). Returns S.

    A scale maps the largest entry of a row to the format's largest, 127 or 448. Since that entry is then kept exactly,
    a scale that is no power of two moves all others of the row along with it. Raises ValueError.
    """
    if form in ("bfloat16", "bfloat16_twice"):
        return S.copy_(S.bfloat16())
    if form == "bfloat16_stochastic":  # carry random low bits into the 16 that stay, then cut
        bits = S.view(torch.int32)
        noise = torch.empty_like(bits).random_(0, 2**16, generator=rng)
        bits.add_(noise).bitwise_and_(-(2**16))
        return S
    if form == "fp8":
        return S.copy_(S.clamp_(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn))
    if form in ("fp8_row", "fp8_power"):
        scale = _largest(S) / LARGEST_FP8
        if form == "fp8_power":
            scale = scale.log2_().ceil_().exp2_()
        return S.copy_(S.div_(scale).clamp_(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn)).mul_(scale)
    if form in ("int8_row", "int8_stochastic"):
        scale = _largest(S) / 127
        S.div_(scale)
        if form == "int8_row":
            S.round_()
        else:
            S.add_(torch.empty_like(S).uniform_(generator=rng)).floor_()
        return S.clamp_(-127, 127).mul_(scale)
    if form != "float32":
        raise ValueError(f"form: expected one of {list(FORMATS)}, got {form!r}")
    return S


def _largest(S: Tensor) -> Tensor:
    return S.abs().amax(-1, keepdim=True).clamp_(min=SMALLEST_SCALE)
