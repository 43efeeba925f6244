"""MiniMax-M3's blocks: transformers' indexer chooses the same ones, and a dense mask gives the same attention."""

from types import SimpleNamespace

import pytest
import torch

from reference.ops import block_indexer, block_sparse_attention, softmax_attention
from tests.ops.helpers import F32, F64, error

B, T, HK, H, D, SIZE = 2, 23, 2, 4, 8, 4


def tensors(S=T, dtype=F64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    shapes = ((B, T, H, D), (B, S, HK, D), (B, S, HK, D), (B, T, HK, D), (B, S, D))
    return [torch.randn(shape, generator=rng, dtype=F64).to(dtype) for shape in shapes]


def allowed(blocks, S):
    """The mask [B, HK, T, S] of the chosen blocks, future tokens left out, by a loop."""
    mask = torch.zeros(B, HK, T, S, dtype=torch.bool)
    for b, t, h in torch.cartesian_prod(torch.arange(B), torch.arange(T), torch.arange(HK)).tolist():
        for block in blocks[b, t, h].tolist():
            if block >= 0:
                mask[b, h, t, block * SIZE : min((block + 1) * SIZE, S - T + t + 1)] = True
    return mask


@pytest.mark.parametrize("S", [T, T + 14])
@pytest.mark.parametrize("top_k", [1, 3, 20])
def test_it_is_attention_under_a_dense_mask(S, top_k):
    q, k, v, q_idx, k_idx = tensors(S)
    blocks = block_indexer(q_idx, k_idx, top_k=top_k, block_size=SIZE)
    mask = allowed(blocks, S).repeat_interleave(H // HK, 1)
    scores = torch.einsum("bthd,bshd->bhts", q, k.repeat_interleave(H // HK, 2)) * D**-0.5
    p = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    wanted = torch.einsum("bhts,bshd->bthd", p, v.repeat_interleave(H // HK, 2))
    assert error(block_sparse_attention(q, k, v, blocks, block_size=SIZE), wanted) < 1e-12


def test_all_blocks_are_softmax_attention():
    q, k, v, q_idx, k_idx = tensors(dtype=F32)
    blocks = block_indexer(q_idx, k_idx, top_k=6, block_size=SIZE)
    assert error(block_sparse_attention(q, k, v, blocks, block_size=SIZE), softmax_attention(q, k, v)) < 1e-5


@pytest.mark.parametrize("local", [0, 1, 2])
def test_transformers_chooses_the_same_blocks(local):
    from transformers.models.minimax_m3_vl.modeling_minimax_m3_vl import MiniMaxM3VLIndexer

    torch.manual_seed(1)
    sizes = {"index_head_dim": D, "index_n_heads": HK, "index_block_size": SIZE, "index_topk_blocks": 3}
    rest = {"index_local_blocks": local, "hidden_size": 12, "rms_norm_eps": 1e-6, "num_attention_heads": H}
    indexer = MiniMaxM3VLIndexer(SimpleNamespace(**sizes, **rest), 0)
    h, positions = torch.randn(B, T, 12), torch.arange(T).expand(B, T)
    unturned = torch.ones(B, T, D), torch.zeros(B, T, D)
    with torch.no_grad():
        theirs = indexer(h, unturned, None, positions)
        q_idx = indexer.q_norm(indexer.q_proj(h).view(B, T, HK, D))
        k_idx = indexer.k_norm(indexer.k_proj(h))
    ours = block_indexer(q_idx, k_idx, top_k=3, block_size=SIZE, local_blocks=local)
    assert torch.equal(ours.transpose(1, 2).sort(-1).values, theirs.sort(-1).values)
    mask = indexer.build_block_mask(theirs, None, T, F32, h.device, positions) == 0
    assert torch.equal(mask, allowed(ours, T).repeat_interleave(H // HK, 1))


def test_the_own_block_is_chosen_whatever_its_score_and_heads_choose_apart():
    _, _, _, q_idx, k_idx = tensors()
    blocks = block_indexer(q_idx, k_idx, top_k=2, block_size=SIZE)
    assert torch.equal(blocks[..., 0], (torch.arange(T) // SIZE)[:, None].expand(B, T, HK))
    assert not torch.equal(blocks[:, :, 0], blocks[:, :, 1])
    assert (blocks[:, :SIZE, :, 1] == -1).all()


def test_gradients():
    q, k, v, q_idx, k_idx = tensors()
    blocks = block_indexer(q_idx, k_idx, top_k=2, block_size=SIZE)[:1, -3:]
    small = [x.requires_grad_() for x in (q[:1, -3:, :, :2], k[:1, :, :, :2], v[:1, :, :, :2])]
    assert torch.autograd.gradcheck(lambda *x: block_sparse_attention(*x, blocks, block_size=SIZE), small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 0}, "top_k: expected a whole number >= 1"),
        ({"block_size": 0}, "block_size: expected a whole number >= 1"),
        ({"local_blocks": 4}, "local_blocks: expected a whole number"),
        ({"k_idx": torch.zeros(B, T - 1, D)}, "k_idx: expected at least q_idx's 23 tokens, got 22"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    _, _, _, q_idx, k_idx = tensors(dtype=F32)
    with pytest.raises(ValueError, match=message):
        block_indexer(**{"q_idx": q_idx, "k_idx": k_idx, "top_k": 3, "block_size": SIZE} | change)
    q, k, v, *_ = tensors(dtype=F32)
    with pytest.raises(ValueError, match="blocks: expected"):
        block_sparse_attention(q, k, v, torch.zeros(B, T, H, 1, dtype=torch.int64), block_size=SIZE)
