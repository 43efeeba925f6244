"""DeepSeek V4's compressed keys: against loops in NumPy and transformers, cut anywhere, causal, with gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from reference.ops import (
    chunk_compression,
    compressed_attention,
    compressed_indexer,
    recurrent_compression,
    softmax_attention,
)
from tests.ops.helpers import F32, F64, error

B, T, H, D, RATE, WINDOW = 2, 23, 3, 4, 4, 5
BOTH = pytest.mark.parametrize("overlap", [False, True], ids=["apart", "overlapping"])
FORMS = pytest.mark.parametrize("form", [chunk_compression, recurrent_compression])


def tokens(overlap, T=T, dtype=F64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    E = 2 * D if overlap else D
    return [torch.randn(*shape, generator=rng, dtype=F64).to(dtype) for shape in ((B, T, E), (B, T, E), (RATE, E))]


def in_numpy(x, gate, bias, overlap):
    """Window by window, channel by channel."""
    x, gate, bias = x.numpy(), gate.numpy(), bias.numpy()
    entries = np.zeros((B, x.shape[1] // RATE, D))
    for b, w, d in np.ndindex(entries.shape):
        own = [(w * RATE + j, j, d + (D if overlap else 0)) for j in range(RATE)]
        earlier = [((w - 1) * RATE + j, j, d) for j in range(RATE)] if overlap and w else []
        weights = np.array([np.exp(gate[b, t, c] + bias[j, c]) for t, j, c in earlier + own])
        entries[b, w, d] = weights @ [x[b, t, c] for t, _, c in earlier + own] / weights.sum()
    return torch.from_numpy(entries)


@BOTH
@FORMS
def test_entries_are_weighted_means_of_windows(form, overlap):
    inputs = tokens(overlap)
    entries, state = form(*inputs, overlap=overlap)
    assert state is None and entries.shape == (B, T // RATE, D)
    assert error(entries, in_numpy(*inputs, overlap)) < 1e-12
    assert error(form(*tokens(overlap, dtype=F32), overlap=overlap)[0].double(), entries) < 1e-5


@BOTH
@FORMS
@pytest.mark.parametrize("pieces", [[1] * T, [3, 1, 9, 10], [4, 8, 4, 7], [2, 21]], ids=str)
def test_a_text_may_be_cut_anywhere(form, overlap, pieces):
    x, gate, bias = tokens(overlap)
    state, entries = None, []
    for part in zip(x.split(pieces, 1), gate.split(pieces, 1), strict=True):
        new, state = form(*part, bias, overlap=overlap, initial_state=state, output_final_state=True)
        entries.append(new)
    assert error(torch.cat(entries, 1), form(x, gate, bias, overlap=overlap)[0]) < 1e-12
    kept = T % RATE + (RATE if overlap else 0)  # beside the entries: a window that isn't full, and the one before it
    assert state.x.shape[1] == state.gate.shape[1] == kept and state.before == overlap


@BOTH
@FORMS
def test_very_different_gates_lose_nothing(form, overlap):
    x, gate, bias = tokens(overlap, dtype=F32)
    gate = 300 * gate
    wanted = chunk_compression(x.double(), gate.double(), bias.double(), overlap=overlap)[0]
    assert error(form(x, gate, bias, overlap=overlap)[0].double(), wanted) < 1e-4


def heads(S=T, T=T, HK=1, dtype=F64, seed=1):
    rng, n = torch.Generator().manual_seed(seed), S // RATE
    shapes = (B, T, H, D), (B, S, HK, D), (B, S, HK, D), (B, n, HK, D), (B, n, HK, D)
    return [torch.randn(*shape, generator=rng, dtype=F64).to(dtype) for shape in shapes]


def index_inputs(S=T, T=T, seed=2):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=rng, dtype=F64) for shape in ((B, T, H, D), (B, S // RATE, D), (B, T, H))]


@pytest.mark.parametrize("top_k", [None, 1, 3])
@pytest.mark.parametrize("new", [T, 6, 1])
def test_it_is_attention_under_a_dense_mask(new, top_k):
    q, k, v, k_c, v_c = heads(T=new)
    chosen = None if top_k is None else compressed_indexer(*index_inputs(T=new), top_k=top_k, rate=RATE, seen=T)
    sinks = torch.randn(H, generator=torch.Generator().manual_seed(3), dtype=F64)
    o = compressed_attention(q, k, v, k_c, v_c, rate=RATE, window=WINDOW, chosen=chosen, sinks=sinks)
    for b, i, h in np.ndindex(B, new, H):
        t = T - new + i
        see = [(k[b, s, 0], v[b, s, 0]) for s in range(max(0, t - WINDOW + 1), t + 1)]
        for w in range(T // RATE):
            if (w + 1) * RATE - 1 <= t and (chosen is None or w in chosen[b, i].tolist()):
                see.append((k_c[b, w, 0], v_c[b, w, 0]))
        scores = torch.stack([D**-0.5 * q[b, i, h] @ key for key, _ in see])
        p = torch.cat([scores, sinks[h, None]]).softmax(0)[:-1]
        assert error(o[b, i, h], p @ torch.stack([value for _, value in see])) < 1e-12
    last = new + WINDOW - 1  # what lies before is evicted
    kept = compressed_attention(
        q, k[:, -last:], v[:, -last:], k_c, v_c, rate=RATE, window=WINDOW, seen=T, chosen=chosen, sinks=sinks
    )
    assert torch.equal(kept, o)


def test_a_window_over_everything_and_no_entry_chosen_is_softmax_attention():
    q, k, v, k_c, v_c = heads(HK=3)
    none = torch.full((B, T, 1), -1)
    o = compressed_attention(q, k, v, k_c, v_c, rate=RATE, window=T, chosen=none)
    assert error(o, softmax_attention(q, k, v)) < 1e-12


@BOTH
def test_a_token_changes_nothing_before_itself(overlap):
    """Tokens to entries, entries to index keys and choices, choices to outputs: nothing looks ahead."""

    def whole(x, gate):
        c, _ = chunk_compression(x, gate, bias, overlap=overlap)
        chosen = compressed_indexer(q, c, w, top_k=2, rate=RATE, seen=T)
        keys, entries = x[..., :D][:, :, None], c[:, :, None]
        return compressed_attention(q, keys, keys, entries, entries, rate=RATE, window=WINDOW, chosen=chosen)

    (x, gate, bias), (q, _, w) = tokens(overlap), index_inputs()
    before = whole(x, gate)
    for t in (0, 3, 4, 10, 22):
        changed = x.clone()
        changed[:, t] += 1.0
        moved = (whole(changed, gate) - before).abs().amax((0, 2, 3))
        assert (moved[:t] == 0).all() and moved[t] > 0


@BOTH
@FORMS
def test_gradients(form, overlap):
    x, gate, bias = (y.requires_grad_() for y in tokens(overlap, T=9))
    assert torch.autograd.gradcheck(lambda *y: form(*y, overlap=overlap)[0], (x, gate, bias))
    q, *rest = (y[:1].requires_grad_() for y in heads(S=9, T=3))
    chosen = torch.tensor([[[0, -1], [1, 0], [1, -1]]])
    attend = lambda *y: compressed_attention(*y, rate=RATE, window=3, chosen=chosen)  # noqa: E731
    assert torch.autograd.gradcheck(attend, (q, *rest))


class NoTurn(nn.Module):
    """In place of rotary embeddings: cosines of one, sines of zero."""

    def forward(self, x, position_ids, layer_type=None):
        shape = (*position_ids.shape, D // 2)
        return torch.ones(shape, dtype=x.dtype), torch.zeros(shape, dtype=x.dtype)


def published(kind):
    """transformers' compressor with random weights; its norm and its rotation are not what is compared."""
    from transformers import DeepseekV4Config
    from transformers.models.deepseek_v4 import modeling_deepseek_v4 as theirs

    config = DeepseekV4Config(
        hidden_size=12, head_dim=D, index_head_dim=D, index_n_heads=H, index_topk=2, q_lora_rank=6, num_hidden_layers=2,
        num_attention_heads=H, compress_rates={"compressed_sparse_attention": RATE, "heavily_compressed_attention": 8},
    )  # fmt: skip
    torch.manual_seed(4)
    module = getattr(theirs, kind)(config).double()
    for part in (module, getattr(module, "indexer", None)):
        if part is not None:
            part.kv_norm, part.rotary_emb = nn.Identity(), NoTurn()
            nn.init.normal_(part.position_bias)
    return module


@torch.no_grad()
def test_transformers_makes_the_same_entries_and_chooses_the_same():
    module, x = published("DeepseekV4CSACompressor"), torch.randn(B, T, 12, dtype=F64)
    latent, positions = torch.randn(B, T, 6, dtype=F64), torch.arange(T).expand(B, T)
    entries, bias = module(x, latent, positions, None, 0)
    ours, _ = chunk_compression(module.kv_proj(x), module.gate_proj(x), module.position_bias, overlap=True)
    assert error(ours, entries[:, 0]) < 1e-6  # they take the softmax in float32
    index = module.indexer
    keys, _ = chunk_compression(index.kv_proj(x), index.gate_proj(x), index.position_bias, overlap=True)
    q = index.q_b_proj(latent).unflatten(-1, (H, D))
    w = index.scorer.weights_proj(x) * H**-0.5
    chosen = compressed_indexer(q, keys, w, top_k=2, rate=RATE, seen=T)
    mask = torch.zeros(B, T, T // RATE + 1, dtype=torch.bool).scatter(-1, chosen % (T // RATE + 1), True)[..., :-1]
    assert torch.equal(mask, bias[:, 0] == 0)


@torch.no_grad()
def test_transformers_heavily_compressed_entries_are_ours():
    module, x = published("DeepseekV4HCACompressor"), torch.randn(B, T, 12, dtype=F64)
    entries, _ = module(x, None, torch.arange(T).expand(B, T), None, 0)
    ours, _ = chunk_compression(module.kv_proj(x), module.gate_proj(x), module.position_bias)
    assert ours.shape == (B, T // 8, D) and error(ours, entries[:, 0]) < 1e-6


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rate": 0}, "rate: expected a whole number >= 1"),
        ({"window": 0}, "window: expected a whole number >= 1"),
        ({"rate": 3}, "k_c: expected an entry for each 3 of 23 tokens, 7, got"),
        ({"seen": 60}, "k: expected the last 27 of 60 tokens or more, got 23"),
        ({"chosen": torch.zeros(B, 3, 1).long()}, r"chosen: expected whole numbers \[B=2, T=23, K\]"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        compressed_attention(*heads(), **{"rate": RATE, "window": WINDOW} | change)
    x, gate, bias = tokens(True)
    with pytest.raises(ValueError, match="x: with overlap expected an even number of channels, got 3"):
        chunk_compression(x[..., :3], gate[..., :3], bias[..., :3], overlap=True)
    state = chunk_compression(x, gate, bias, output_final_state=True)[1]
    with pytest.raises(ValueError, match="initial_state: expected"):
        chunk_compression(x[:1], gate[:1], bias, initial_state=state)
