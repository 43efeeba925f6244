"""Rules that erase with one key and write with another: Comba, Gated DeltaNet-2, RWKV-7; their equations and limits."""

import numpy as np
import pytest
import torch

from reference.equations import rwkv7_scan, two_key_scan
from reference.ops import (
    chunk_gated_delta_rule,
    chunk_gdn2,
    chunk_kda,
    chunk_rwkv7,
    chunk_two_key_rule,
    recurrent_gdn2,
    recurrent_rwkv7,
    recurrent_two_key_rule,
)
from tests.ops.helpers import F32, F64, FLOAT32_ERROR, assert_close, error, inputs, random_state

RWKV = {"chunk": chunk_rwkv7, "recurrent": recurrent_rwkv7}
TWO_KEYS = {"chunk": chunk_two_key_rule, "recurrent": recurrent_two_key_rule}
GDN2 = {"chunk": chunk_gdn2, "recurrent": recurrent_gdn2}
each_form = pytest.mark.parametrize("form", ["chunk", "recurrent"])


def rwkv7_inputs(B=2, T=13, H=2, Dk=5, Dv=3, *, strength=0.6, dtype=F64, seed=0):
    """r, w, k, v, a, b as the model makes them: a the removal key with a minus, b the key times a strength."""
    rng = torch.Generator().manual_seed(seed)
    r, k, removal = (torch.randn(B, T, H, Dk, generator=rng, dtype=F64) for _ in range(3))
    removal = removal / removal.norm(dim=-1, keepdim=True)
    v = torch.randn(B, T, H, Dv, generator=rng, dtype=F64)
    w = -strength * torch.rand(B, T, H, Dk, generator=rng, dtype=F64)
    rate = torch.rand(B, T, H, Dk, generator=rng, dtype=F64)
    x = {"r": r, "w": w, "k": k, "v": v, "a": -removal, "b": removal * rate}
    return {name: y.to(dtype) for name, y in x.items()}


def by_transitions(x, S=None):
    """S_t = (Diag(w) + b a^T) S_{t-1} + k v^T, one matrix after the other, in NumPy and float64."""
    r, w, k, v, a, b = (x[name].double().numpy() for name in ("r", "w", "k", "v", "a", "b"))
    (B, T, H, Dk), Dv = r.shape, v.shape[-1]
    S = np.zeros((B, H, Dk, Dv)) if S is None else S.double().numpy()
    o = np.empty((B, T, H, Dv))
    for t in range(T):
        A = np.exp(w[:, t])[..., None] * np.eye(Dk) + b[:, t, :, :, None] * a[:, t, :, None, :]
        S = A @ S + k[:, t, :, :, None] * v[:, t, :, None, :]
        o[:, t] = (r[:, t, :, None, :] @ S)[..., 0, :]
    return torch.from_numpy(o), torch.from_numpy(S)


@each_form
@pytest.mark.parametrize("T", [1, 2, 33, 70])
@pytest.mark.parametrize("strength", [0.0, 0.6, 40.0])
def test_rwkv7_is_its_product_of_transition_matrices(form, T, strength):
    x = rwkv7_inputs(T=T, strength=strength)
    state = torch.randn(2, 2, 5, 3, dtype=F64)
    got = RWKV[form](**x, initial_state=state, output_final_state=True)
    assert_close(got, by_transitions(x, state), 1e-10)


@each_form
def test_rwkv7_follows_the_numpy_equation(form):
    x = rwkv7_inputs()
    o, S = RWKV[form](**x, scale=0.5, output_final_state=True)
    for h in range(2):
        wanted, final = rwkv7_scan(*(x[name][1, :, h].numpy() for name in ("r", "w", "k", "v", "a", "b")), scale=0.5)
        np.testing.assert_allclose(o[1, :, h].numpy(), wanted, rtol=0, atol=1e-12)
        np.testing.assert_allclose(S[1, h].numpy(), final, rtol=0, atol=1e-12)


@pytest.mark.parametrize("strength", [0.6, 5.0, 80.0])
def test_rwkv7_in_float32_is_right_to_rounding(strength):
    x = rwkv7_inputs(T=150, Dk=16, Dv=16, strength=strength, dtype=F32)
    assert_close(chunk_rwkv7(**x, output_final_state=True), by_transitions(x), FLOAT32_ERROR)
    half = {name: y.to(torch.bfloat16) for name, y in x.items()} | {"w": x["w"]}
    o, S = chunk_rwkv7(**half, output_final_state=True)
    assert o.dtype == torch.bfloat16 and S.dtype == F32
    assert error(S, by_transitions(half)[1]) < FLOAT32_ERROR


def test_rwkv7_packed_texts_and_gradients():
    x = rwkv7_inputs(B=1, T=9)
    states = torch.randn(2, 2, 5, 3, dtype=F64)
    bounds = torch.tensor([0, 4, 9])
    o, finals = chunk_rwkv7(**x, initial_state=states, cu_seqlens=bounds, output_final_state=True, chunk_size=3)
    for n, (start, stop) in enumerate(((0, 4), (4, 9))):
        wanted, final = by_transitions({name: y[:, start:stop] for name, y in x.items()}, states[n : n + 1])
        assert_close((o[:, start:stop], finals[n : n + 1]), (wanted, final), 1e-10)
    small = [y.requires_grad_() for y in rwkv7_inputs(B=1, T=4, H=1, Dk=3, Dv=2).values()]
    assert torch.autograd.gradcheck(lambda *y: chunk_rwkv7(*y, chunk_size=3)[0], small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": torch.full((2, 13, 2, 5), 0.1)}, "w: expected log decays from -80 to 0, got 0.1 to 0.1"),
        ({"w": torch.full((2, 13, 2, 5), -90.0)}, "w: expected log decays from -80 to 0, got -90 to -90"),
        ({"w": torch.full((2, 13, 2, 5), float("nan"))}, "w: expected log decays from -80 to 0"),
        ({"a": torch.zeros(2, 13, 2, 4)}, "a: expected axes"),
        ({"b": torch.full((2, 13, 2, 5), float("inf"))}, "b: expected numbers, got infinity"),
        ({"v": torch.zeros(2, 13, 1, 3)}, "v: expected axes"),
        ({"cu_seqlens": [0, 13]}, "cu_seqlens: expected a 1-d int32 or int64 tensor"),
    ],
)
def test_what_does_not_fit_rwkv7_is_named(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        chunk_rwkv7(**rwkv7_inputs(dtype=F32) | change)


def comba_by_hand(x, b, d):
    """u = beta (v - b S_{t-1}^T k), from the memory before it fades; o = S_t^T (q - d b k), in NumPy."""
    q, k, v, g, beta = (x[name][0, :, 0].numpy() for name in ("q", "k", "v", "g", "beta"))
    S, o = np.zeros((q.shape[1], v.shape[1])), []
    for t in range(len(q)):
        u = beta[t] * (v[t] - b * S.T @ k[t])
        S = np.exp(g[t]) * S + np.outer(k[t], u)
        o.append(S.T @ (q[t] - d * b * k[t]))
    return torch.from_numpy(np.array(o)), torch.from_numpy(S)


@each_form
@pytest.mark.parametrize("strength", [0.3, 20.0])
def test_comba_is_the_rule_with_two_keys(form, strength):
    x = inputs("gated_delta_rule", B=1, T=40, H=1, strength=strength)
    b, d = 0.7, 0.2
    p = b * (-x["g"]).exp()[..., None] * x["k"]
    q = x["q"] - d * b * x["k"]
    o, S = TWO_KEYS[form](q, x["k"], x["v"], p, x["g"], x["beta"], scale=1.0, output_final_state=True)
    assert_close((o[0, :, 0], S[0, 0]), comba_by_hand(x, b, d), 1e-10)
    assert error(TWO_KEYS[form](q, x["k"], x["v"], b * x["k"], x["g"], x["beta"], scale=1.0)[0], o) > 1e-2


@each_form
def test_the_limits_of_two_keys(form):
    x = inputs("kda", T=70, group=2)
    state = random_state(x)
    keywords = {"initial_state": state, "output_final_state": True}
    wanted = chunk_kda(**x, **keywords)
    q, k, v, g, beta = x.values()
    assert_close(TWO_KEYS[form](q, k, v, k, g, beta, **keywords), wanted, 1e-12)
    every = {"b": beta[..., None].expand(*beta.shape, k.shape[-1]), "w": beta[..., None].expand_as(v)}
    assert_close(GDN2[form](q, k, v, g, **every, **keywords), wanted, 1e-12)
    scalar = g[..., 0]
    assert_close(
        TWO_KEYS[form](q, k, v, k, scalar, beta, **keywords),
        chunk_gated_delta_rule(q, k, v, scalar, beta, **keywords),
        1e-12,
    )


def test_a_channel_that_is_not_erased_keeps_what_it_holds_and_one_that_is_not_written_gets_nothing():
    x = inputs("gdn2", B=1, T=2, H=1, Dk=2, Dv=3, strength=0.0)
    x["k"] = torch.tensor([0.6, 0.8], dtype=F64).expand(1, 2, 1, 2).clone()
    x["b"] = torch.zeros(1, 2, 1, 2, dtype=F64)
    x["w"] = torch.tensor([1.0, 1.0, 0.0], dtype=F64).expand(1, 2, 1, 3).clone()
    _, S = chunk_gdn2(**x, output_final_state=True)
    total = x["v"][0, :, 0].sum(0) * x["w"][0, 0, 0]
    torch.testing.assert_close(S[0, 0], torch.outer(x["k"][0, 0, 0], total))
    x["b"] += 1  # the same key, erased whole: only the last value stays
    _, S = chunk_gdn2(**x, output_final_state=True)
    torch.testing.assert_close(S[0, 0].T @ x["k"][0, 0, 0], x["v"][0, 1, 0] * x["w"][0, 0, 0])


@each_form
def test_two_keys_take_a_decay_per_channel(form):
    x = inputs("kda", B=1, T=30, H=1)
    p = torch.randn(1, 30, 1, 4, dtype=F64) * 0.3
    q, k, v, g, beta = x.values()
    o, S = TWO_KEYS[form](q, k, v, p, g, beta, scale=1.0, output_final_state=True)
    wanted, final = two_key_scan(*(y[0, :, 0].numpy() for y in (q, k, v, p, g, beta)))
    np.testing.assert_allclose(o[0, :, 0].numpy(), wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(S[0, 0].numpy(), final, rtol=0, atol=1e-12)
