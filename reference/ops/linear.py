"""Additive memories: linear attention, and lightning attention with a decay (chapters 02 and 03)."""

from torch import Tensor

from reference.ops._call import Result, run_chunked, run_recurrent
from reference.ops.shapes import check_lightning_decay


def recurrent_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """Linear attention, one token at a time: write every pair, forget nothing.

        S_t = S_{t-1} + k_t v_t^T        o_t = scale · S_t^T q_t

    q, k [B, T, H, Dk]; v [B, T, HV, Dv] with HV a multiple of H. A feature map, if any, is the caller's, and so is
    a normalizer.
    scale: None means Dk**-0.5. initial_state: [B, HV, Dk, Dv], None means zeros. Half types are computed
    in float32, float64 in float64. cu_seqlens: int boundaries [0, ..., T] of sequences packed into
    B = 1; initial and final states are then [number of sequences, HV, Dk, Dv].
    use_qk_l2norm_in_kernel: q and k are divided by their length first.

    Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] in float32 or float64, or None unless
    output_final_state). Raises TypeError or ValueError that names the argument, before any work.
    Source: Katharopoulos et al. 2020, without its normalizer; chapter 02, (2.1).
    """
    return run_recurrent(
        q,
        k,
        v,
        None,
        None,
        "B T HV",
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        cu_seqlens=cu_seqlens,
    )


def chunk_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    chunk_size: int = 64,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """Linear attention in chunks of matrix products.

        U = V
        O = scale (e^G ⊙ Q S + (Q K^T ⊙ Γ) U),  S' = e^{G_C} S + (e^{G_C - G} ⊙ K)^T U        (4.5), (4.6)

    for each chunk of C = chunk_size tokens (the last may be shorter), S the state that enters it and
    G = 0 and Γ = 1 below the diagonal: nothing fades.
    Arguments, results and errors are recurrent_linear_attention's; chunk_size, a whole number >= 1, changes rounding
    alone. Memory of a training step: the inputs, their gradients and one state per chunk.
    Source: Katharopoulos et al. 2020, without its normalizer; chapter 02, (2.1).
    """
    return run_chunked(
        q,
        k,
        v,
        None,
        None,
        "B T HV",
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        chunk_size=chunk_size,
        cu_seqlens=cu_seqlens,
    )


def recurrent_lightning_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """Lightning attention, one token at a time: fade by e^g, then add.

        S_t = e^{g_t} S_{t-1} + k_t v_t^T        o_t = scale · S_t^T q_t

    q, k [B, T, H, Dk]; v [B, T, HV, Dv] with HV a multiple of H; g log decay <= 0, [HV] (fixed per head, as in
    MiniMax-M1 and RetNet) or [B, T, HV] (from the token, as in Mamba-2).
    scale: None means Dk**-0.5. initial_state: [B, HV, Dk, Dv], None means zeros. Half types are computed
    in float32, float64 in float64. cu_seqlens: int boundaries [0, ..., T] of sequences packed into
    B = 1; initial and final states are then [number of sequences, HV, Dk, Dv].
    use_qk_l2norm_in_kernel: q and k are divided by their length first.

    Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] in float32 or float64, or None unless
    output_final_state). Raises TypeError or ValueError that names the argument, before any work.
    Source: Qin et al. 2024 (lightning attention), Sun et al. 2023 (RetNet); chapter 03, (3.2).
    """
    g = check_lightning_decay(g, v)
    return run_recurrent(
        q,
        k,
        v,
        g,
        None,
        "B T HV",
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        cu_seqlens=cu_seqlens,
    )


def chunk_lightning_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    chunk_size: int = 64,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """Lightning attention in chunks of matrix products.

        U = V
        O = scale (e^G ⊙ Q S + (Q K^T ⊙ Γ) U),  S' = e^{G_C} S + (e^{G_C - G} ⊙ K)^T U        (4.5), (4.6)

    for each chunk of C = chunk_size tokens (the last may be shorter), S the state that enters it and
    G the sum of g since the chunk began, Γ_rs = e^{G_r - G_s} for s <= r.
    Arguments, results and errors are recurrent_lightning_attention's; chunk_size, a whole number >= 1, changes rounding
    alone. Memory of a training step: the inputs, their gradients and one state per chunk.
    Source: Qin et al. 2024 (lightning attention), Sun et al. 2023 (RetNet); chapter 03, (3.2).
    """
    g = check_lightning_decay(g, v)
    return run_chunked(
        q,
        k,
        v,
        g,
        None,
        "B T HV",
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        chunk_size=chunk_size,
        cu_seqlens=cu_seqlens,
    )
