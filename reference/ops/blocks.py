"""MiniMax-M3's sparse attention: an indexer chooses whole blocks of keys, other ones for each head of keys and values.

DeepSeek's indexer (sparse.py) chooses single tokens, one selection for all heads. A block is a stretch of memory that
is read in one piece, and a selection per head costs nothing more where each head has keys of its own.
"""

import torch
from torch import Tensor

from reference.arguments import check_count, check_positive_int
from reference.dtypes import inner_dtype, one_dtype
from reference.ops.shapes import check_device, check_shapes
from reference.ops.sparse import NOTHING, QUERY_BLOCK, sparse_attention


@torch.no_grad()
def block_indexer(q_idx: Tensor, k_idx: Tensor, *, top_k: int, block_size: int, local_blocks: int = 1) -> Tensor:
    """For each query and head the top_k blocks of block_size keys: int64 block numbers [B, T, HK, top_k], best first.

        I_ths = q_th · k_s        a block's score is the largest I_ths of its keys that don't lie after t

    q_idx [B, T, HK, D], one index head for each head of keys and values; k_idx [B, S, D], one key for all of them; the
    queries are the last T of S tokens. The query's own block and the local_blocks - 1 before it are always chosen.
    Blocks begin at multiples of block_size in the text. A query that has fewer than top_k blocks gets all of them,
    then -1; ties go to the earlier block. Raises TypeError or ValueError that names the argument.
    Source: MiniMax-M3, as transformers' minimax_m3_vl has it.
    """
    check_positive_int("top_k", top_k)
    check_positive_int("block_size", block_size)
    check_count("local_blocks", local_blocks, most=top_k)
    sizes = check_shapes({"q_idx": (q_idx, "B T HK D"), "k_idx": (k_idx, "B S D")})
    check_device(q_idx=q_idx, k_idx=k_idx)
    T, S, chosen = sizes["T"], sizes["S"], []
    if S < T:
        raise ValueError(f"k_idx: expected at least q_idx's {T} tokens, got {S}")
    q_idx, k_idx = one_dtype(q_idx, k_idx)
    dtype, key = inner_dtype(q_idx), torch.arange(S, device=q_idx.device)
    n_blocks = -(-S // block_size)
    for start in range(0, T, QUERY_BLOCK):
        q = q_idx[:, start : start + QUERY_BLOCK].to(dtype)
        at = S - T + start + torch.arange(q.shape[1], device=q.device)
        scores = torch.einsum("bthd,bsd->bths", q, k_idx.to(dtype))
        scores = scores.masked_fill((key > at[:, None])[:, None], float("-inf"))
        scores = torch.nn.functional.pad(scores, (0, n_blocks * block_size - S), value=float("-inf"))
        scores = scores.unflatten(-1, (n_blocks, block_size)).amax(-1)
        own, block = at[:, None] // block_size, torch.arange(n_blocks, device=q.device)
        local = (block <= own) & (block > own - local_blocks)
        values, blocks = scores.masked_fill(local[:, None], float("inf")).sort(dim=-1, descending=True, stable=True)
        blocks = blocks.masked_fill(values == float("-inf"), NOTHING)[..., :top_k]
        chosen.append(torch.nn.functional.pad(blocks, (0, top_k - blocks.shape[-1]), value=NOTHING))
    return torch.cat(chosen, 1)


def block_sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, *, block_size: int, scale: float | None = None
) -> Tensor:
    """Softmax attention of each query over the keys of its blocks that don't lie after it.

    q [B, T, H, D]; k [B, S, HK, D], v [B, S, HK, Dv], H a multiple of HK; the queries are the last T of S tokens;
    blocks [B, T, HK, K] integers, as block_indexer gives them, -1 for none. scale: None means D**-0.5.
    Returns o [B, T, H, Dv] in v's dtype; has gradients. Raises TypeError or ValueError that names the argument.
    Source: MiniMax-M3, as transformers' minimax_m3_vl has it.
    """
    check_positive_int("block_size", block_size)
    sizes = check_shapes({"q": (q, "B T H D"), "k": (k, "B S HK D"), "v": (v, "B S HK Dv")})
    B, T, H, S, HK = (sizes[axis] for axis in ("B", "T", "H", "S", "HK"))
    if H % HK or S < T:
        raise ValueError(f"q: expected a multiple of k's {HK} heads and at most its {S} tokens, got {H} and {T}")
    if not isinstance(blocks, Tensor) or blocks.dtype not in (torch.int32, torch.int64):
        raise TypeError("blocks: expected an int32 or int64 tensor [B, T, HK, K]")
    if blocks.dim() != 4 or list(blocks.shape[:3]) != [B, T, HK]:
        raise ValueError(f"blocks: expected [B={B}, T={T}, HK={HK}, K], got {list(blocks.shape)}")
    at = S - T + torch.arange(T, device=q.device)
    tokens = blocks[..., None] * block_size + torch.arange(block_size, device=q.device)  # [B, T, HK, K, block_size]
    missing = (blocks < 0)[..., None] | (tokens > at[:, None, None, None])
    tokens = tokens.masked_fill(missing, NOTHING).flatten(3)
    # one selection per head of keys: such a head is a row of its own to sparse_attention
    q, k, v = (x.unflatten(2, (HK, -1)).transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    o = sparse_attention(q, k, v, tokens.transpose(1, 2).flatten(0, 1), scale=scale)
    return o.unflatten(0, (B, HK)).transpose(1, 2).flatten(2, 3)
