"""DeepSeek's sparse attention: a light indexer scores all tokens, softmax attention reads the best few.

Sparse, not linear: every key and value is kept, the indexer still looks at all T x S pairs, and what is
saved is the attention itself, O(T top_k) instead of O(T S).
"""

import torch
from torch import Tensor

from reference.arguments import check_count, check_positive_int
from reference.dtypes import inner_dtype, one_dtype
from reference.ops.shapes import check_device, check_left_padding, check_scale, check_shapes

# Queries that are worked on together: bounds what is gathered at a time to QUERY_BLOCK x top_k keys and values.
QUERY_BLOCK = 128
NOTHING = -1  # an index that points to no token: a query near the start has fewer than top_k to choose from


def index_scores(q_idx: Tensor, k_idx: Tensor, w_idx: Tensor, *, scale: float | None = None) -> Tensor:
    """I_ts = Σ_h w_th ReLU(scale q_th · k_s), -inf where s lies after t: [B, T, S].

    q_idx [B, T, H, D]; k_idx [B, S, D], one key for all indexer heads; w_idx [B, T, H], of either sign. The
    queries are the last T of S tokens. scale: None means D**-0.5. float32 (float64 if an input is); has
    gradients, for the alignment with the attention's distribution. Raises TypeError or ValueError that names
    the argument. Source: DeepSeek-V3.2, eq. 1.
    """
    sizes = _check_index_inputs(q_idx, k_idx, w_idx)
    scale = check_scale(scale, sizes["D"])
    dtype = max((inner_dtype(x) for x in (q_idx, k_idx, w_idx)), key=lambda kind: kind.itemsize)
    # ReLU before the sum over heads: without it the sum would be one dot product with one mixed query.
    matches = torch.einsum("bthd,bsd->bths", q_idx.to(dtype), k_idx.to(dtype)).mul(scale).relu()
    scores = torch.einsum("bths,bth->bts", matches, w_idx.to(dtype))
    later = torch.ones(sizes["T"], sizes["S"], dtype=torch.bool, device=scores.device)
    return scores.masked_fill(later.triu(sizes["S"] - sizes["T"] + 1), float("-inf"))


def _check_index_inputs(q_idx: Tensor, k_idx: Tensor, w_idx: Tensor) -> dict[str, int]:
    sizes = check_shapes({"q_idx": (q_idx, "B T H D"), "k_idx": (k_idx, "B S D"), "w_idx": (w_idx, "B T H")})
    check_device(q_idx=q_idx, k_idx=k_idx, w_idx=w_idx)
    if sizes["S"] < sizes["T"]:
        raise ValueError(f"k_idx: expected at least q_idx's {sizes['T']} tokens, got {sizes['S']}")
    return sizes


def indexer_loss(scores: Tensor, p: Tensor) -> Tensor:
    """How far the indexer's ranking is from what attention reads: the mean over queries of KL(p_t || softmax(I_t)).

    scores [B, T, S]: index_scores, -inf where a token can't be read; p [B, H, T, S]: attention weights, summed over
    the heads, normalized, and taken as given (no gradient). For the sparse stage give both over the chosen tokens
    only. Returns a scalar, float32 (float64 for float64 scores). Raises TypeError or ValueError that names the
    argument. Source: DeepSeek-V3.2, eq. 3 and 4.
    """
    check_shapes({"scores": (scores, "B T S"), "p": (p, "B H T S")})
    check_device(scores=scores, p=p)
    scores = scores.to(inner_dtype(scores))
    p = p.detach().to(scores.dtype).sum(1)
    p = p / p.sum(-1, keepdim=True)
    log_guess = scores.log_softmax(-1)
    terms = p * (p.clamp(min=torch.finfo(p.dtype).tiny).log() - log_guess.masked_fill(p == 0, 0.0))
    return terms.sum(-1).mean()


@torch.no_grad()
def lightning_indexer(
    q_idx: Tensor,
    k_idx: Tensor,
    w_idx: Tensor,
    *,
    top_k: int,
    scale: float | None = None,
    keep_first: int = 0,
    left_padding: Tensor | None = None,
) -> Tensor:
    """For each query the top_k tokens of highest index score: int64 indices [B, T, top_k], best first.

    Arguments as index_scores; keep_first tokens at the start are always chosen (an attention sink that falls
    out of the selection breaks generation, https://github.com/ml-explore/mlx-lm/issues/1443). A query that has
    fewer than top_k tokens to choose from gets all of them, then -1. left_padding [B]: so many keys at the start
    of each row are no tokens; they are never chosen, but for a padding query, which gets itself. Chosen in blocks of
    queries, so that memory grows with S and not with T·S. Ties, common because of the ReLU, go to the earlier token.
    Raises TypeError or ValueError that names the argument. Source: DeepSeek-V3.2, eq. 1 and 2.
    """
    check_positive_int("top_k", top_k)
    check_count("keep_first", keep_first, most=top_k)
    sizes = _check_index_inputs(q_idx, k_idx, w_idx)
    check_left_padding(left_padding, sizes["B"], sizes["S"], q_idx.device)
    T, S, chosen = sizes["T"], sizes["S"], []
    for start in range(0, T, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, T)
        until = S - T + stop  # no query of the block sees further
        scores = index_scores(q_idx[:, start:stop], k_idx[:, :until], w_idx[:, start:stop], scale=scale)
        if left_padding is not None:
            scores = _without_padding(scores, left_padding, S - T + start)
        first = scores[..., :keep_first]
        first[first > float("-inf")] = float("inf")
        values, indices = scores.sort(dim=-1, descending=True, stable=True)
        indices = indices.masked_fill(values == float("-inf"), NOTHING)[..., :top_k]
        chosen.append(torch.nn.functional.pad(indices, (0, top_k - indices.shape[-1]), value=NOTHING))
    return torch.cat(chosen, 1)


def _without_padding(scores: Tensor, left_padding: Tensor, begin: int) -> Tensor:
    """-inf at keys that are no tokens; a padding query keeps its own, so that it has something to read."""
    query = torch.arange(begin, begin + scores.shape[1], device=scores.device)[:, None]
    key = torch.arange(scores.shape[2], device=scores.device)
    return scores.masked_fill((key < left_padding[:, None, None]) & (key != query), float("-inf"))


def sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, indices: Tensor, *, scale: float | None = None, sinks: Tensor | None = None
) -> Tensor:
    """Softmax attention of each query over the tokens that `indices` names, gathered: O(T top_k) work and memory.

    q [B, T, H, D]; k [B, S, HK, D], v [B, S, HK, Dv], H a multiple of HK; indices [B, T, K] integers, shared
    by the heads, -1 for no token; every query needs at least one. An index is taken as it is: causality is the
    indexer's affair. sinks [H] as in softmax_attention. scale: None means D**-0.5.
    Returns o [B, T, H, Dv] in v's dtype. Raises TypeError or ValueError that names the argument.
    Source: DeepSeek-V3.2, eq. 2, in the form of its multi-query mode (HK = 1) or any other.
    """
    arguments = {"q": (q, "B T H D"), "k": (k, "B S HK D"), "v": (v, "B S HK Dv"), "sinks": (sinks, "H")}
    sizes = check_shapes(arguments, optional=("sinks",))
    if sizes["H"] % sizes["HK"]:
        raise ValueError(f"q: the number of heads must be a multiple of k's {sizes['HK']}, got {sizes['H']}")
    _check_indices(indices, sizes)
    check_device(q=q, k=k, v=v, indices=indices, sinks=sinks)
    kept, (q, k, v), scale = v.dtype, one_dtype(q, k, v), check_scale(scale, sizes["D"])
    dtype = inner_dtype(v)
    outputs = []
    for start in range(0, sizes["T"], QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, sizes["T"])
        outputs.append(_attend(q[:, start:stop].to(dtype), k, v, indices[:, start:stop], scale, sinks, dtype))
    return torch.cat(outputs, 1).to(kept)


def _attend(q, k, v, indices, scale, sinks, dtype):
    (B, T, H, D), HK = q.shape, k.shape[2]
    row = torch.arange(B, device=q.device)[:, None, None]
    at = indices.clamp(min=0)
    keys, values = k[row, at].to(dtype), v[row, at].to(dtype)  # [B, T, K, HK, D or Dv]
    grouped = q.view(B, T, HK, H // HK, D)
    scores = scale * torch.einsum("btngd,btknd->btngk", grouped, keys)
    scores = scores.masked_fill((indices == NOTHING)[:, :, None, None], float("-inf"))
    if sinks is not None:
        column = sinks.to(dtype).view(HK, H // HK, 1).expand(B, T, -1, -1, -1)
        scores = torch.cat([scores, column], -1)
    p = scores.softmax(-1)[..., : indices.shape[-1]]
    return torch.einsum("btngk,btknd->btngd", p, values).reshape(B, T, H, -1)


def _check_indices(indices: Tensor, sizes: dict[str, int]) -> None:
    if not isinstance(indices, Tensor) or indices.dtype not in (torch.int32, torch.int64):
        raise TypeError("indices: expected an int32 or int64 tensor [B, T, K]")
    if indices.dim() != 3 or list(indices.shape[:2]) != [sizes["B"], sizes["T"]] or indices.shape[2] == 0:
        raise ValueError(f"indices: expected [B={sizes['B']}, T={sizes['T']}, K >= 1], got {list(indices.shape)}")
    if torch.compiler.is_compiling():
        return
    low, high = indices.min().item(), indices.max().item()
    if low < NOTHING or high >= sizes["S"]:
        raise ValueError(f"indices: expected -1 (no token) to S - 1 = {sizes['S'] - 1}, got {low} to {high}")
    if (indices == NOTHING).all(-1).any():
        raise ValueError("indices: every query needs at least one token, got a query with none")
