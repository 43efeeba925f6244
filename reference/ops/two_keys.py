"""The gated delta rule with two keys: one reads what is erased, one is written; Comba is a setting (chapter 03)."""

from torch import Tensor

from reference.arguments import check_positive_int
from reference.ops._run import Options, Result, run_operator


def recurrent_two_key_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """Fade, then replace what the faded memory answers to p by v, under the key k; one token at a time.

        S' = e^{g_t} S_{t-1}    u_t = beta_t (v_t - S'^T p_t)    S_t = S' + k_t u_t^T    o_t = scale · S_t^T q_t

    q, k                     [B, T, H, Dk], k of unit length or the state may grow without bound
    v                        [B, T, HV, Dv], HV a multiple of H
    p                        [B, T, H, Dk] the keys that read what is erased
    g                        [B, T, HV] log decay <= 0, or [B, T, HV, Dk], one per channel; -inf is a full reset
    beta                     [B, T, HV] write strength, in (0, 1), or up to 2 (negative eigenvalues)
    scale                    factor of the scores; None means Dk**-0.5
    initial_state            [B, HV, Dk, Dv]; None means zeros
    output_final_state       return the last state too
    use_qk_l2norm_in_kernel  divide q and k by their length first; p stays as it is
    cu_seqlens               int boundaries [0, ..., T] of sequences packed into B = 1; initial and final state
                             are then [number of sequences, HV, Dk, Dv]

    Returns (o [B, T, HV, Dv] in v's dtype, final state [B, HV, Dk, Dv] or None). Half types are computed in float32,
    float64 in float64; the state is in that format. Raises TypeError or ValueError that names the argument, before
    any work.
    With p = k it is the gated delta rule, or KDA. Comba erases with b k, b in (0, 1) per head, reads what it erases
    before the memory fades, and corrects the query by d of the same key: give p = e^{-g} b k (g not below -80, or it
    is no number) and q - d b k. fla's kernels for Comba are that; its naive recurrence reads the faded memory, p = b k.
    Gated DeltaNet-2 and RWKV-7 are this rule, too: gdn2, rwkv7.
    Source: Hu et al. 2025 (Comba, arXiv 2506.02475); chapter 03, (3.12).
    """
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return run_operator(q, k, v, g, beta, options, g_axes=_axes(g), has=("p", "g", "beta"), p=p)


def chunk_two_key_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
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
    """The rule with two keys in chunks: the system of (4.4) with P for the tokens that read.

        (I + A) U = β ⊙ (V - e^G ⊙ P S),  A = strict_lower(β ⊙ (P K^T ⊙ Γ))        (4.4)

    and (4.5), (4.6) as they are, for each chunk of C = chunk_size tokens (the last may be shorter).

    Arguments as recurrent_two_key_rule has them, and
    chunk_size               a whole number >= 1; it changes only the rounding, and the time

    Returns what recurrent_two_key_rule returns, with the same numbers up to rounding, and raises the same errors.
    A training step keeps the inputs and one state per chunk.
    Source: Hu et al. 2025 (Comba, arXiv 2506.02475); chapter 04, (4.4) to (4.6) and (4.8).
    """
    check_positive_int("chunk_size", chunk_size)
    options = Options(scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    has = ("p", "g", "beta")
    return run_operator(q, k, v, g, beta, options, g_axes=_axes(g), has=has, chunk_size=chunk_size, p=p)


def _axes(g: object) -> str:
    return "B T HV Dk" if isinstance(g, Tensor) and g.dim() == 4 else "B T HV"
