"""Additive memories: linear attention, and lightning attention with a decay (chapters 02 and 03)."""

from torch import Tensor

from reference.arguments import check_positive_int
from reference.ops._run import Options, Result, run_operator
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

    q, k                     [B, T, H, Dk]
    v                        [B, T, HV, Dv], HV a multiple of H
    scale                    factor of the scores; None means Dk**-0.5
    initial_state            [B, HV, Dk, Dv]; None means zeros
    output_final_state       return the last state too
    use_qk_l2norm_in_kernel  divide q and k by their length first
    cu_seqlens               int boundaries [0, ..., T] of sequences packed into B = 1; initial and final state
                             are then [number of sequences, HV, Dk, Dv]

    A feature map, if any, is the caller's, and so is a normalizer.

    Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] or None). Half types are computed in float32,
    float64 in float64; the state is in that format. Raises TypeError or ValueError that names the argument, before
    any work.
    Source: Katharopoulos et al. 2020, without its normalizer; chapter 02, (2.1).
    """
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return run_operator(q, k, v, g=None, beta=None, options=options, has=())


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
    G = 0 and Γ = 1 on and below the diagonal: nothing fades.

    Arguments as recurrent_linear_attention has them, and
    chunk_size               a whole number >= 1; it changes only the rounding, and the time

    Returns what recurrent_linear_attention returns, with the same numbers up to rounding, and raises the same errors.
    A training step keeps the inputs and one state per chunk.
    Source: Yang et al. 2024 (GLA), section 2.2; chapter 04, (4.5) and (4.6).
    """
    check_positive_int("chunk_size", chunk_size)
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return run_operator(q, k, v, g=None, beta=None, options=options, has=(), chunk_size=chunk_size)


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

    q, k                     [B, T, H, Dk]
    v                        [B, T, HV, Dv], HV a multiple of H
    g                        log decay <= 0, [HV] (fixed per head, as in MiniMax-M1 and RetNet) or [B, T, HV] (from the
                             token, as in Mamba-2)
    scale                    factor of the scores; None means Dk**-0.5
    initial_state            [B, HV, Dk, Dv]; None means zeros
    output_final_state       return the last state too
    use_qk_l2norm_in_kernel  divide q and k by their length first
    cu_seqlens               int boundaries [0, ..., T] of sequences packed into B = 1; initial and final state
                             are then [number of sequences, HV, Dk, Dv]

    Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] or None). Half types are computed in float32,
    float64 in float64; the state is in that format. Raises TypeError or ValueError that names the argument, before
    any work.
    Source: Qin et al. 2024 (lightning attention), Sun et al. 2023 (RetNet); chapter 03, (3.2).
    """
    g = check_lightning_decay(g, v)
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return run_operator(q, k, v, g, beta=None, options=options, has=("g",))


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

    Arguments as recurrent_lightning_attention has them, and
    chunk_size               a whole number >= 1; it changes only the rounding, and the time

    Returns what recurrent_lightning_attention returns, with the same numbers up to rounding, and raises the same
    errors. A training step keeps the inputs and one state per chunk.
    Source: Sun et al. 2023 (RetNet), eq. 7, Dao and Gu 2024 (Mamba-2); chapter 04, (4.5) and (4.6).
    """
    g = check_lightning_decay(g, v)
    check_positive_int("chunk_size", chunk_size)
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return run_operator(q, k, v, g, beta=None, options=options, has=("g",), chunk_size=chunk_size)
