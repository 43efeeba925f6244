"""Kimi Delta Attention: the gated delta rule with one decay per key channel (chapters 03 and 04)."""

from torch import Tensor

from reference.arguments import check_positive_int
from reference.ops._run import Options, Result, run_operator


def recurrent_kda(
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
    """Kimi Delta Attention, one token at a time: fade each channel, then correct the faded memory.

        S' = Diag(e^{g_t}) S_{t-1}    u_t = beta_t (v_t - S'^T k_t)    S_t = S' + k_t u_t^T    o_t = scale · S_t^T q_t

    q, k                     [B, T, H, Dk], k of unit length or the state may grow without bound
    v                        [B, T, HV, Dv], HV a multiple of H
    g                        [B, T, HV, Dk] log decay <= 0, one per channel, -inf is a full reset
    beta                     [B, T, HV] write strength, in (0, 1), or up to 2 (negative eigenvalues)
    scale                    factor of the scores; None means Dk**-0.5
    initial_state            [B, HV, Dk, Dv]; None means zeros
    output_final_state       return the last state too
    use_qk_l2norm_in_kernel  divide q and k by their length first
    cu_seqlens               int boundaries [0, ..., T] of sequences packed into B = 1; initial and final state
                             are then [number of sequences, HV, Dk, Dv]

    Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] or None). Half types are computed in float32,
    float64 in float64; the state is in that format. Raises TypeError or ValueError that names the argument, before
    any work.
    Source: Kimi Team 2025, eq. 1; chapter 03, (3.9).
    """
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return run_operator(q, k, v, g, beta, options, g_axes="B T HV Dk")


def chunk_kda(
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
    """Kimi Delta Attention in chunks: one triangular system each, the rest matrix products.

        (I + A) U = β ⊙ (V - e^G ⊙ K S),  A = strict_lower(β ⊙ (K K^T ⊙ Γ))        (4.4)
        O = scale (e^G ⊙ Q S + (Q K^T ⊙ Γ) U),  S' = e^{G_C} S + (e^{G_C - G} ⊙ K)^T U        (4.5), (4.6)

    for each chunk of C = chunk_size tokens (the last may be shorter), S the state that enters it and
    G [C, Dk] the sum of g since the chunk began, Γ_rs = e^{G_r - G_s} within each channel.

    Arguments as recurrent_kda has them, and
    chunk_size               a whole number >= 1; it changes only the rounding, and the time

    Returns what recurrent_kda returns, with the same numbers up to rounding, and raises the same errors.
    A training step keeps the inputs and one state per chunk.
    Source: Kimi Team 2025, section 3.1; chapter 04, (4.4) to (4.6) and (4.8).
    """
    check_positive_int("chunk_size", chunk_size)
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return run_operator(q, k, v, g, beta, options, g_axes="B T HV Dk", chunk_size=chunk_size)
