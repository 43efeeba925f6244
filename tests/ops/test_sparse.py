"""The indexer and the sparse read: against the definition, against masked dense attention, memory, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from reference.ops import (
    attention_weights,
    index_scores,
    indexer_loss,
    lightning_indexer,
    softmax_attention,
    sparse_attention,
)
from tests.ops.helpers import F64, steady


def index_inputs(B=2, T=9, S=None, H=3, D=4, seed=0, dtype=F64):
    rng = torch.Generator().manual_seed(seed)
    shapes = (B, T, H, D), (B, T if S is None else S, D), (B, T, H)
    return [torch.randn(*shape, generator=rng, dtype=F64).to(dtype) for shape in shapes]


def main_inputs(B=2, T=9, S=None, H=4, HK=2, D=5, Dv=3, seed=1, dtype=F64):
    rng, S = torch.Generator().manual_seed(seed), T if S is None else S
    shapes = (B, T, H, D), (B, S, HK, D), (B, S, HK, Dv)
    return [torch.randn(*shape, generator=rng, dtype=F64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("S", [9, 14])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_index_scores_are_the_sum_over_heads_of_weighted_relus(S, scale):
    q, k, w = index_inputs(S=S)
    I, factor = index_scores(q, k, w, scale=scale), 0.5 if scale is None else scale
    for b, t, s in np.ndindex(2, 9, S):
        if s > S - 9 + t:
            assert I[b, t, s] == -torch.inf
        else:
            wanted = sum(w[b, t, h] * max(0, factor * (q[b, t, h] @ k[b, s])) for h in range(3))
            assert abs(I[b, t, s] - wanted) < 1e-13


@steady
@given(
    T=st.integers(1, 300),
    past=st.integers(0, 40),
    top_k=st.integers(1, 40),
    keep=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_the_chosen_are_the_best_scores_and_never_lie_in_the_future(T, past, top_k, keep, seed):
    keep = min(keep, top_k)
    parts = index_inputs(1, T, T + past, seed=seed)
    chosen = lightning_indexer(*parts, top_k=top_k, keep_first=keep)
    scores = index_scores(*parts)
    assert chosen.shape == (1, T, top_k) and chosen.dtype == torch.int64
    for t in range(0, T, max(1, T // 7)):
        known = past + t + 1
        row = chosen[0, t]
        valid = row[row >= 0]
        assert len(valid) == min(known, top_k) == len(set(valid.tolist())) and valid.max() < known
        assert (row[len(valid) :] == -1).all()
        assert set(range(min(keep, known))) <= set(valid.tolist())
        rest = sorted(set(range(keep, known)), key=lambda s: (-scores[0, t, s].item(), s))
        assert set(valid.tolist()) == set(range(min(keep, known))) | set(rest[: len(valid) - min(keep, known)])


def test_ties_go_to_the_earlier_token():
    q, k, w = torch.zeros(1, 6, 2, 4), torch.randn(1, 6, 4), torch.ones(1, 6, 2)
    assert lightning_indexer(q, k, w, top_k=3)[0].tolist()[-1] == [0, 1, 2]


def test_one_step_of_decoding_chooses_what_the_whole_text_chose():
    parts = index_inputs(T=30)
    whole = lightning_indexer(*parts, top_k=5)
    q, k, w = parts
    for t in (4, 17, 29):
        step = lightning_indexer(q[:, t : t + 1], k[:, : t + 1], w[:, t : t + 1], top_k=5)
        assert torch.equal(step[:, 0], whole[:, t])


@pytest.mark.parametrize("sinks", [None, torch.tensor([0.3, -1, 2, 0.0], dtype=F64)], ids=["plain", "sinks"])
@pytest.mark.parametrize("HK", [1, 2, 4])
@pytest.mark.parametrize("T,S", [(1, 20), (20, 20), (150, 160)])
def test_the_sparse_read_is_dense_attention_with_everything_else_masked(T, S, HK, sinks):
    q, k, v = main_inputs(1, T, S, HK=HK)
    chosen = lightning_indexer(*index_inputs(1, T, S), top_k=7)
    got = sparse_attention(q, k, v, chosen, sinks=sinks)
    seen = torch.zeros(1, T, S + 1, dtype=torch.bool).scatter(-1, chosen.where(chosen >= 0, S), True)[..., :S]
    keys, values = (x.repeat_interleave(4 // HK, 2) for x in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, keys) * 5**-0.5
    scores = scores.masked_fill(~seen[:, None], -torch.inf)
    column = torch.full((4,), -torch.inf, dtype=F64) if sinks is None else sinks
    p = torch.cat([scores, column[None, :, None, None].expand(1, 4, T, 1)], -1).softmax(-1)[..., :S]
    torch.testing.assert_close(got, torch.einsum("bhts,bshd->bthd", p, values), rtol=0, atol=1e-13)


def test_with_every_token_chosen_it_is_softmax_attention():
    q, k, v = main_inputs(T=40)
    chosen = lightning_indexer(*index_inputs(T=40), top_k=40)
    torch.testing.assert_close(sparse_attention(q, k, v, chosen), softmax_attention(q, k, v))


def test_gradients_are_those_of_finite_differences_and_the_indexer_gets_none():
    q, k, v = [x.requires_grad_() for x in main_inputs(1, 5)]
    parts = [x.requires_grad_() for x in index_inputs(1, 5)]
    chosen = lightning_indexer(*parts, top_k=3)
    assert not chosen.requires_grad
    assert torch.autograd.gradcheck(lambda *x: sparse_attention(*x, chosen), (q, k, v))
    assert torch.autograd.gradcheck(lambda *x: index_scores(*x).tril(), parts)


def test_the_read_costs_t_times_k_whatever_the_length():
    counts = []
    for S in (64, 512):
        q, k, v = main_inputs(1, 32, S)
        with FlopCounterMode(display=False) as counter:
            sparse_attention(q, k, v, torch.arange(8).expand(1, 32, 8))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 32 * 8 * 4 * (5 + 3)


def test_indexer_loss_is_the_divergence_by_hand_and_zero_for_the_right_guess():
    p = torch.tensor(
        [[[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], [[0.1, 0.9, 0.0], [0.6, 0.2, 0.2]]]], dtype=F64
    )  # [1, 2, 2, 3]
    scores = torch.tensor([[[0.3, -1.0, -torch.inf], [2.0, 0.0, 1.0]]], dtype=F64)
    wanted = 0.0
    for t in range(2):
        target = p[0, :, t].mean(0).numpy()
        guess = np.exp(scores[0, t].numpy()) / np.exp(scores[0, t].numpy()).sum()
        wanted += sum(a * np.log(a / b) for a, b in zip(target, guess, strict=True) if a > 0) / 2
    assert abs(indexer_loss(scores, p).item() - wanted) < 1e-13
    right = p.mean(1).log()
    assert abs(indexer_loss(right, p).item()) < 1e-13


def test_indexer_loss_teaches_the_indexer_and_not_the_model():
    parts = [x.requires_grad_() for x in index_inputs(1, 12)]
    q, k, _ = [x.requires_grad_() for x in main_inputs(1, 12)]
    p = attention_weights(q, k)
    indexer_loss(index_scores(*parts), p).backward()
    assert all(x.grad.isfinite().all() and x.grad.abs().max() > 0 for x in parts)
    assert q.grad is None and k.grad is None


def test_descending_the_loss_brings_the_chosen_to_what_attention_reads():
    q, k, _ = main_inputs(1, 64, D=8)
    p = attention_weights(3 * q, k)
    parts = [x.requires_grad_() for x in index_inputs(1, 64, H=8, D=8)]
    optimizer, read = torch.optim.Adam(parts, lr=0.05), []
    for _ in range(150):
        chosen = lightning_indexer(*parts, top_k=8)
        mass = p.mean(1).gather(-1, chosen.clamp(min=0)).masked_fill(chosen < 0, 0).sum(-1)
        read.append(mass[:, 16:].mean().item())
        optimizer.zero_grad()
        indexer_loss(index_scores(*parts), p).backward()
        optimizer.step()
    best = p.mean(1).sort(-1, descending=True).values[..., :8].sum(-1)[:, 16:].mean().item()
    assert read[0] < 0.4 * best and read[-1] > 0.9 * best


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(dtype):
    q, k, v = main_inputs(dtype=dtype)
    chosen = lightning_indexer(*index_inputs(dtype=dtype), top_k=4)
    exact = sparse_attention(*(x.to(F64) for x in (q, k, v)), chosen)
    o = sparse_attention(q, k, v, chosen)
    assert o.dtype == dtype and index_scores(*index_inputs(dtype=dtype)).dtype == torch.float32
    assert (o.to(F64) - exact).abs().max() <= 2 * torch.finfo(dtype).eps * exact.abs().max()


def sparse(**changes):
    q, k, v = main_inputs()
    arguments = {"q": q, "k": k, "v": v, "indices": torch.zeros(2, 9, 4, dtype=torch.long)} | changes
    return sparse_attention(**arguments)


def index(q=None, k=None, w=None, **options):
    parts = index_inputs()
    return lightning_indexer(*(a if b is None else b for a, b in zip(parts, (q, k, w), strict=True)), **options)


BAD = {
    "top_k 0": (lambda: index(top_k=0), ValueError, "top_k: expected a whole number >= 1, got 0"),
    "keep_first": (lambda: index(top_k=3, keep_first=4), ValueError, "keep_first: expected a whole number from 0 to 3"),
    "short keys": (lambda: index(k=torch.zeros(2, 8, 4), top_k=3), ValueError, "k_idx: expected at least q_idx's 9"),
    "weights": (lambda: index(w=torch.zeros(2, 9, 2), top_k=3), ValueError, "w_idx: expected axes"),
    "float indices": (lambda: sparse(indices=torch.zeros(2, 9, 4)), TypeError, "indices: expected an int32 or int64"),
    "index shape": (lambda: sparse(indices=torch.zeros(2, 8, 4).long()), ValueError, r"indices: expected \[B=2, T=9"),
    "index too large": (
        lambda: sparse(indices=torch.full((2, 9, 4), 9)),
        ValueError,
        "indices: expected -1 .no token. to S - 1 = 8, got 9 to 9",
    ),
    "nothing to read": (
        lambda: sparse(indices=torch.full((2, 9, 4), -1)),
        ValueError,
        "indices: every query needs at least one token",
    ),
    "heads": (lambda: sparse(q=torch.zeros(2, 9, 3, 5, dtype=F64)), ValueError, "q: the number of heads"),
    "loss shapes": (
        lambda: indexer_loss(torch.zeros(1, 3, 3), torch.zeros(1, 2, 3, 4)),
        ValueError,
        r"p: expected axes \[B, H, T, S\]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        call()
