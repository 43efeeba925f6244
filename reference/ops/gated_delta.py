"""The gated delta rule: Gated DeltaNet, Qwen3-Next, Olmo Hybrid (chapters 03 and 04)."""

from torch import Tensor

from reference.ops._call import Result, run_chunked, run_recurrent


def recurrent_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """The gated delta rule, one token at a time: fade, then correct the faded memory.

        S' = e^{g_t} S_{t-1}    u_t = beta_t (v_t - S'^T k_t)    S_t = S' + k_t u_t^T    o_t = scale · S_t^T q_t

    q, k [B, T, H, Dk], k of unit length or the state may grow without bound; v [B, T, HV, Dv] with HV a
    multiple of H; g [B, T, HV] log decay <= 0, -inf is a full reset; beta [B, T, HV] write strength, in (0, 1),
    or up to 2 (negative eigenvalues).
    scale: None means Dk**-0.5. initial_state: [B, HV, Dk, Dv], None means zeros. Half types are computed
    in float32, float64 in float64. cu_seqlens: int boundaries [0, ..., T] of sequences packed into
    B = 1; initial and final states are then [number of sequences, HV, Dk, Dv].
    use_qk_l2norm_in_kernel: q and k are divided by their length first.

    Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] in float32 or float64, or None unless
    output_final_state). Raises TypeError or ValueError that names the argument, before any work.
    Source: Yang, Kautz and Hatamizadeh 2025, eq. 10 (their S is our S^T); chapter 03, (3.3).
    """
    return run_recurrent(
        q,
        k,
        v,
        g,
        beta,
        "B T HV",
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        cu_seqlens=cu_seqlens,
    )


def chunk_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    chunk_size: int = 64,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """The gated delta rule in chunks: one triangular system each, the rest matrix products.

        (I + A) U = β ⊙ (V - e^G ⊙ K S),  A = strict_lower(β ⊙ (K K^T ⊙ Γ))        (4.4)
        O = scale (e^G ⊙ Q S + (Q K^T ⊙ Γ) U),  S' = e^{G_C} S + (e^{G_C - G} ⊙ K)^T U        (4.5), (4.6)

    for each chunk of C = chunk_size tokens (the last may be shorter), S the state that enters it and
    G the sum of g since the chunk began, Γ_rs = e^{G_r - G_s} for s <= r.
    Arguments, results and errors are recurrent_gated_delta_rule's; chunk_size, a whole number >= 1, changes rounding
    alone. Memory of a training step: the inputs, their gradients and one state per chunk.
    Source: Yang, Kautz and Hatamizadeh 2025, eq. 10 (their S is our S^T); chapter 03, (3.3).
    """
    return run_chunked(
        q,
        k,
        v,
        g,
        beta,
        "B T HV",
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        chunk_size=chunk_size,
        cu_seqlens=cu_seqlens,
    )
