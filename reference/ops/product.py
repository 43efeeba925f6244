"""DeltaProduct: several corrections of the memory for each token, by the gated delta rule on a longer text."""

import torch
from torch import Tensor

from reference.arguments import check_positive_int
from reference.ops._run import Result
from reference.ops.gated_delta import chunk_gated_delta_rule
from reference.ops.shapes import check_shapes


def chunk_gated_delta_product(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    num_householder: int,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    chunk_size: int = 64,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """The gated delta rule with n = num_householder steps a token: fade once, correct n times, read once.

        S' = e^{g_t} S_{t-1},  then for j = 1 ... n:  S' += k_tj (beta_tj (v_tj - S'^T k_tj))^T,  o_t = scale · S'^T q_t

    q          [B, T, H, Dk]
    k          [B, T·n, H, Dk], the n keys of a token one after the other; of unit length
    v          [B, T·n, HV, Dv], HV a multiple of H
    g          [B, T, HV] log decay <= 0, or None: nothing fades
    beta       [B, T·n, HV] write strengths
    The keywords are those of chunk_gated_delta_rule; cu_seqlens counts tokens, chunk_size steps.

    With beta = 2 and v = 0 a step is a reflection: two make a rotation, which one step a token can't.
    A text of n times as many tokens does it: the first step of a token has its decay, the last one is read; so the
    time is that of n tokens. Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] or None). Raises
    TypeError or ValueError that names the argument.
    Source: Siems et al. 2025 (DeltaProduct), names and layout as fla's chunk_gated_delta_product.
    """
    check_positive_int("num_householder", num_householder)
    n, sizes = num_householder, check_shapes({"q": (q, "B T H Dk"), "k": (k, "B steps H Dk")})
    if sizes["steps"] != n * sizes["T"]:
        raise ValueError(f"k: expected T · num_householder = {n * sizes['T']} steps, got {sizes['steps']}")
    check_shapes({"k": (k, "B steps H Dk"), "v": (v, "B steps HV Dv"), "beta": (beta, "B steps HV")})
    B, HV = sizes["B"], v.shape[2]
    if g is None:
        g = torch.zeros(B, sizes["T"], HV, dtype=torch.float32, device=v.device)
    check_shapes({"q": (q, "B T H Dk"), "v": (v, "B steps HV Dv"), "g": (g, "B T HV")})
    fading = torch.stack([g, *[torch.zeros_like(g)] * (n - 1)], 2).flatten(1, 2)  # only a token's first step fades
    reading = torch.stack([*[torch.zeros_like(q)] * (n - 1), q], 2).flatten(1, 2)  # only its last one is read
    o, state = chunk_gated_delta_rule(
        reading,
        k,
        v,
        fading,
        beta,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        chunk_size=chunk_size,
        cu_seqlens=None if cu_seqlens is None else n * cu_seqlens,
    )
    return o[:, n - 1 :: n], state
