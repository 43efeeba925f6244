"""The mixer that solves: NumPy's equation, its gradients, what it keeps, and that no rule beats it on its own keys."""

import pytest
import torch

from reference.equations import least_squares_scan
from reference.experiments.toys.least_squares import PENALTY, least_squares_attention
from reference.experiments.toys.mixers import toy_cache_bytes
from reference.ops import chunk_delta_rule, chunk_linear_attention


def inputs(B=2, T=9, H=3, Dk=4, Dv=5):
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, T, H, D, generator=rng, dtype=torch.float64) for D in (Dk, Dk, Dv))
    return q, k, v, torch.rand(B, T, H, generator=rng, dtype=torch.float64)


def test_it_is_numpys_scan_for_every_head():
    q, k, v, beta = inputs()
    o, state = least_squares_attention(q, k, v, beta)
    assert o.shape == v.shape and state is None
    for b in range(2):
        for h in range(3):
            own = [x[b, :, h].numpy() for x in (q, k, v, beta)]
            assert torch.allclose(o[b, :, h], torch.from_numpy(least_squares_scan(*own, penalty=PENALTY)), atol=1e-9)
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in (q, k)]
    normed, _ = least_squares_attention(q, k, v, beta, use_qk_l2norm_in_kernel=True)
    assert torch.allclose(normed, least_squares_attention(*unit, v, beta)[0]) and not torch.allclose(normed, o)


def test_its_gradients_are_right():
    arguments = [x.requires_grad_() for x in inputs(B=1, T=4, H=1, Dk=2, Dv=2)]
    assert torch.autograd.gradcheck(lambda *x: least_squares_attention(*x)[0], arguments)


def test_with_as_many_pairs_as_channels_it_reads_what_the_rules_blur():
    _, k, v, beta = inputs(T=4)
    k, beta = torch.nn.functional.normalize(k, dim=-1), torch.ones_like(beta)

    query = k[:, :1].expand_as(k)  # the first pair, read after three others

    def error(read):
        return (read[:, -1] - v[:, 0]).norm().item()

    best = error(least_squares_attention(query, k, v, beta)[0])
    assert best < 0.5 * error(chunk_delta_rule(query, k, v, beta, scale=1.0)[0])
    assert best < 0.5 * error(chunk_linear_attention(query, k, v, scale=1.0)[0])


def test_it_keeps_a_second_matrix():
    heads = {"n_heads": 2, "key_dim": 8, "value_dim": 32}
    more = toy_cache_bytes(("least_squares",), 1000, **heads) - toy_cache_bytes(("deltanet",), 1000, **heads)
    assert more == 4 * 2 * 8 * 8
    assert toy_cache_bytes(("least_squares",), 10, **heads) == toy_cache_bytes(("least_squares",), 1000, **heads)


@pytest.mark.parametrize("pairs", [4, 8])
def test_the_penalty_costs_little_beside_unit_keys(pairs):
    rng = torch.Generator().manual_seed(1)
    k = torch.nn.functional.normalize(torch.randn(20, pairs, 1, 8, generator=rng, dtype=torch.float64), dim=-1)
    v = torch.randn(20, pairs, 1, 16, generator=rng, dtype=torch.float64)
    o, _ = least_squares_attention(k, k, v, torch.ones(20, pairs, 1, dtype=torch.float64))
    exact = torch.linalg.pinv(k[:, :, 0]) @ v[:, :, 0]
    wanted = k[:, -1] @ exact
    assert ((o[:, -1] - wanted).square().sum() / wanted.square().sum()).item() < 0.1
