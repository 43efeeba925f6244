"""softmax_attention: against NumPy row by row, explicit against fused, windows, sinks, gradients, bad input."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference.ops import attention_weights, softmax_attention
from reference.ops.softmax import visible
from tests.ops.helpers import F64, steady


def draw(B=2, T=7, S=None, H=4, HK=2, D=6, Dv=5, seed=0, dtype=F64):
    rng = torch.Generator().manual_seed(seed)
    S = T if S is None else S
    shapes = (B, T, H, D), (B, S, HK, D), (B, S, HK, Dv)
    return [torch.randn(*shape, generator=rng, dtype=F64).to(dtype) for shape in shapes]


def by_rows(q, k, v, *, causal=True, scale=None, window=None, keep_first=0, sinks=None):
    """One query, one head, one sum at a time; in NumPy."""
    q, k, v = (x.numpy() for x in (q, k, v))
    (B, T, H, D), (_, S, HK, _) = q.shape, k.shape
    o, p = np.zeros((B, T, H, v.shape[-1])), np.zeros((B, H, T, S))
    for b, t, h in np.ndindex(B, T, H):
        at = S - T + t
        for s in range(S):
            near = window is None or abs(at - s) < window or s < keep_first
            if near and (s <= at or not causal):
                p[b, h, t, s] = np.exp((D**-0.5 if scale is None else scale) * q[b, t, h] @ k[b, s, h * HK // H])
        total = p[b, h, t].sum() + (0 if sinks is None else np.exp(sinks[h].item()))
        p[b, h, t] /= total
        o[b, t, h] = p[b, h, t] @ v[b, :, h * HK // H]
    return o, p


CASES = {
    "causal": {},
    "all to all": {"causal": False},
    "scale": {"scale": -0.7},
    "window": {"window": 3},
    "window of one": {"window": 1},
    "window both ways": {"window": 2, "causal": False},
    "window and first tokens": {"window": 2, "keep_first": 2},
    "window longer than the text": {"window": 50},
    "sinks": {"sinks": torch.tensor([0.5, -1, 2, 0], dtype=F64)},
    "sinks and window": {"sinks": torch.tensor([0.5, -1, 2, 0], dtype=F64), "window": 3},
}


@pytest.mark.parametrize("T,S", [(1, 1), (7, 7), (1, 6), (3, 8)])
@pytest.mark.parametrize("case", CASES)
def test_every_row_is_the_sum_of_the_definition(case, T, S):
    q, k, v = draw(T=T, S=S)
    wanted_o, wanted_p = by_rows(q, k, v, **CASES[case])
    o, p = softmax_attention(q, k, v, **CASES[case], return_weights=True)
    np.testing.assert_allclose(o.numpy(), wanted_o, rtol=0, atol=1e-13)
    np.testing.assert_allclose(p.numpy(), wanted_p, rtol=0, atol=1e-13)
    assert torch.equal(attention_weights(q, k, **CASES[case]), p)
    np.testing.assert_allclose(softmax_attention(q, k, v, **CASES[case]).numpy(), wanted_o, rtol=0, atol=1e-13)


@steady
@given(
    T=st.integers(1, 80),
    past=st.integers(0, 60),
    group=st.sampled_from([1, 3]),
    window=st.sampled_from([None, 1, 4, 100]),
    first=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_fused_and_explicit_agree_in_float32(T, past, group, window, first, seed):
    q, k, v = draw(1, T, T + past, 2 * group, 2, 16, 8, seed=seed, dtype=torch.float32)
    fused = softmax_attention(q, k, v, window=window, keep_first=first)
    explicit, p = softmax_attention(q, k, v, window=window, keep_first=first, return_weights=True)
    assert (fused - explicit).abs().max() <= 2e-5 * explicit.abs().max()
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p.sum(-1)))


def test_sinks_take_weight_and_minus_infinity_takes_none():
    q, k, v = draw()
    none = torch.full((4,), -torch.inf, dtype=F64)
    torch.testing.assert_close(softmax_attention(q, k, v, sinks=none), softmax_attention(q, k, v))
    p = attention_weights(q, k, sinks=torch.zeros(4, dtype=F64))
    assert (p.sum(-1) < 1).all()  # "softmax off by one": e^0 = 1 more in the normalizer
    huge = softmax_attention(q, k, v, sinks=torch.full((4,), 800.0, dtype=F64))
    assert huge.abs().max() < 1e-300


def test_no_query_reads_the_future_and_every_query_reads_itself():
    q, k, v = draw(T=9)
    before = softmax_attention(q, k, v)
    k[:, 5], v[:, 5] = 3.0, 100.0
    after = softmax_attention(q, k, v)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).flatten(2).any(-1).all()


@pytest.mark.parametrize("case", ["causal", "window and first tokens", "sinks", "all to all"])
def test_gradients_are_those_of_finite_differences(case):
    arguments = [x.requires_grad_() for x in draw(1, 4, 4, 4, 2, 3, 2)]
    options = dict(CASES[case])
    assert torch.autograd.gradcheck(lambda q, k, v: softmax_attention(q, k, v, **options), arguments)
    if "sinks" in options:
        sinks = options.pop("sinks").clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda s: softmax_attention(*arguments, sinks=s), [sinks])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_come_back_and_the_explicit_form_computes_in_float32(dtype):
    q, k, v = draw(dtype=dtype)
    o, p = softmax_attention(q, k, v, return_weights=True)
    exact = softmax_attention(*(x.to(F64) for x in (q, k, v)))
    assert o.dtype == dtype and p.dtype == torch.float32
    assert (o.to(F64) - exact).abs().max() <= 2 * torch.finfo(dtype).eps * exact.abs().max()


def test_huge_scores_do_not_overflow():
    q, k, v = draw(dtype=torch.float32)
    o, p = softmax_attention(1e4 * q, 1e4 * k, v, return_weights=True)
    assert o.isfinite().all() and p.isfinite().all()


def test_visible_names_what_a_window_reaches():
    assert visible(2, 5, causal=True, window=2, device="cpu").int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    kept = visible(1, 5, causal=True, window=2, keep_first=1, device="cpu")
    assert kept.int().tolist() == [[1, 0, 0, 1, 1]]


def test_a_decoding_step_and_plain_causal_attention_build_no_mask(monkeypatch):
    monkeypatch.setattr("reference.ops.softmax.visible", None)
    q, k, v = draw(T=5)
    softmax_attention(q, k, v)
    softmax_attention(q[:, :1], k, v)
    softmax_attention(q[:, :1], k, v, window=5)


def nested(x):
    with warnings.catch_warnings(action="ignore"):  # of a prototype
        return torch.nested.as_nested_tensor([*x])


BAD = {
    "k of another width": (lambda q, k, v: (q, k[..., :5], v), {}, ValueError, r"k: expected axes \[B, S, HK, D\]"),
    "v of another length": (lambda q, k, v: (q, k, v[:, :3]), {}, ValueError, "v: expected axes"),
    "heads": (
        lambda q, k, v: (q[:, :, :3], k, v),
        {},
        ValueError,
        "q: the number of heads must be a multiple of",
    ),
    "nested": (lambda q, k, v: (q, nested(k), v), {}, TypeError, "k: expected a dense tensor, got a nested one"),
    "integers": (lambda q, k, v: (q.long(), k, v), {}, TypeError, "q: expected a floating dtype"),
    "a list": (lambda q, k, v: (q, k, v.tolist()), {}, TypeError, "v: expected a tensor, got list"),
    "short past": (lambda q, k, v: (q, k[:, :4], v[:, :4]), {}, ValueError, "k: causal attention needs at least q's 7"),
    "window with a short past": (
        lambda q, k, v: (q, k[:, :4], v[:, :4]),
        {"window": 2, "causal": False},
        ValueError,
        "k: a window needs at least q's 7 tokens, got 4",
    ),
    "window 0": (lambda *x: x, {"window": 0}, ValueError, "window: expected a whole number >= 1, got 0"),
    "window True": (lambda *x: x, {"window": True}, ValueError, "window: expected a whole number"),
    "first": (lambda *x: x, {"keep_first": -1}, ValueError, "keep_first: expected a whole number >= 0, got -1"),
    "scale": (lambda *x: x, {"scale": float("nan")}, ValueError, "scale: expected a finite number"),
    "sinks": (lambda *x: x, {"sinks": torch.zeros(3)}, ValueError, r"sinks: expected axes \[H\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    change, options, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        softmax_attention(*change(*draw()), **options)
