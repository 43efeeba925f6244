"""The loop over chunks for rules that erase with another key than they write with.

    u_t = beta_t (v_t - S'^T p_t)        S_t = S' + k_t u_t^T        S' = e^{g_t} S_{t-1}

Where p = k this is the gated delta rule. Only (4.4) knows the difference: the rows of its system belong to the tokens
that read, the columns to those that wrote, so p stands for k wherever the error is read. Notation as in chunk.py.
"""

from torch import Tensor

from reference.ops._pieces import at, chunk_spans, put
from reference.ops.chunk import Decay, carry_state, chunk_decay, chunk_inverse, decayed_scores, plus_product, read_state


def two_keys_by_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    p: Tensor,
    S: Tensor,
    scale: float,
    chunk_size: int,
    o: Tensor,
    entering: list[Tensor] | None = None,
) -> Tensor:
    """chunk_by_chunk with p [N, T, Dk], the keys that read what is erased."""
    for time in chunk_spans(v.shape[1], chunk_size):
        Q, K, V, G, b, P = (at(x, time, S) for x in (q, k, v, g, beta, p))
        decay = chunk_decay(G)  # (4.3)
        U = _replaced_values(P, K, V, b, decay, S)
        put(o, time, read_state(Q, K, U, decay, S, scale))  # (4.5)
        if entering is not None:
            entering.append(S)
        S = carry_state(K, U, decay, S, into=S if entering is None else None)  # (4.6)
    return S


def _replaced_values(p: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Decay, S: Tensor) -> Tensor:
    """(I + A) U = β ⊙ (V - e^G ⊙ P S) with A = strict_lower(β ⊙ (P K^T ⊙ Γ)): [N, C, Dv]."""
    error = plus_product(v, p * decay.since_start, S, sign=-1)
    return chunk_inverse(decayed_scores(p, k, decay), beta) @ (beta * error)  # (4.4)
