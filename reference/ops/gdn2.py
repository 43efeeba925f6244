"""Gated DeltaNet-2: KDA whose scalar beta falls into two gates, one on the keys and one on the values (chapter 03)."""

from torch import Tensor

from reference.arguments import check_positive_int
from reference.ops._run import Options, Result, run_operator


def recurrent_gdn2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    b: Tensor,
    w: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """Gated DeltaNet-2, one token at a time: fade each channel, erase some key channels, write some value channels.

        S' = Diag(e^{g_t}) S_{t-1}        u_t = w_t ⊙ v_t - S'^T (b_t ⊙ k_t)
        S_t = S' + k_t u_t^T              o_t = scale · S_t^T q_t

    q, k                     [B, T, H, Dk], k of unit length or the state may grow without bound
    v                        [B, T, HV, Dv], HV a multiple of H
    g                        [B, T, HV, Dk] log decay <= 0, one per channel, -inf is a full reset
    b                        [B, T, HV, Dk] erase strength of each key channel, in (0, 1), or up to 2
    w                        [B, T, HV, Dv] write strength of each value channel, in (0, 1)
    scale                    factor of the scores; None means Dk**-0.5
    initial_state            [B, HV, Dk, Dv]; None means zeros
    output_final_state       return the last state too
    use_qk_l2norm_in_kernel  divide q and k by their length first; b ⊙ k is formed afterwards
    cu_seqlens               int boundaries [0, ..., T] of sequences packed into B = 1; initial and final state
                             are then [number of sequences, HV, Dk, Dv]

    Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] or None). Half types are computed in float32,
    float64 in float64; the state is in that format. Raises TypeError or ValueError that names the argument, before
    any work.
    With b = w = beta in every channel it is KDA.
    Source: Hatamizadeh, Choi and Kautz 2026 (arXiv 2605.22791); names as fla's; chapter 03, (3.13).
    """
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return run_operator(q, k, v, g, None, options, g_axes="B T HV Dk", has=("g", "b", "w"), b=b, w=w)


def chunk_gdn2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    b: Tensor,
    w: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    chunk_size: int = 64,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """Gated DeltaNet-2 in chunks: the system of (4.4) with b ⊙ K for the tokens that read.

        (I + A) U = W ⊙ V - e^G ⊙ (B ⊙ K) S,  A = strict_lower((B ⊙ K) K^T ⊙ Γ)        (4.4)

    and (4.5), (4.6) as they are, for each chunk of C = chunk_size tokens (the last may be shorter).

    Arguments as recurrent_gdn2 has them, and
    chunk_size               a whole number >= 1; it changes only the rounding, and the time

    Returns what recurrent_gdn2 returns, with the same numbers up to rounding, and raises the same errors.
    A training step keeps the inputs and one state per chunk.
    Source: Hatamizadeh, Choi and Kautz 2026 (arXiv 2605.22791); chapter 04, (4.4) to (4.6) and (4.8).
    """
    check_positive_int("chunk_size", chunk_size)
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    has = ("g", "b", "w")
    return run_operator(q, k, v, g, None, options, g_axes="B T HV Dk", has=has, chunk_size=chunk_size, b=b, w=w)
