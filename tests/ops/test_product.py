"""DeltaProduct: several steps of the delta rule for each token, against a product of transition matrices."""

import math

import pytest
import torch

from reference.ops import chunk_gated_delta_product, chunk_gated_delta_rule

F64 = torch.float64


def product_inputs(n, B=2, T=9, H=2, HV=4, Dk=5, Dv=3, dtype=F64):
    q, k = torch.randn(B, T, H, Dk, dtype=F64), torch.randn(B, T * n, H, Dk, dtype=F64)
    v, g = torch.randn(B, T * n, HV, Dv, dtype=F64), -torch.rand(B, T, HV, dtype=F64)
    beta = 2 * torch.rand(B, T * n, HV, dtype=F64)
    return [x.to(dtype) for x in (q, k / k.norm(dim=-1, keepdim=True), v, g, beta)]


def by_matrices(q, k, v, g, beta, n, S=None):
    """S_t = A_n ... A_1 e^g S_{t-1} + writes, with A_j = I - beta_j k_j k_j^T, one matrix after the other."""
    (B, T, H, Dk), (HV, Dv) = q.shape, v.shape[2:]
    q, k = (x.to(F64).repeat_interleave(HV // H, 2) for x in (q, k))
    v, g, beta = v.to(F64), g.to(F64), beta.to(F64)
    S, o = torch.zeros(B, HV, Dk, Dv, dtype=F64) if S is None else S.to(F64), []
    for t in range(T):
        S = g[:, t].exp()[..., None, None] * S
        for step in range(n * t, n * t + n):
            key, b = k[:, step], beta[:, step, :, None, None]
            A = torch.eye(Dk, dtype=F64) - b * key[..., :, None] * key[..., None, :]
            S = A @ S + b * key[..., :, None] * v[:, step, :, None, :]
        o.append(Dk**-0.5 * (q[:, t, :, None, :] @ S)[..., 0, :])
    return torch.stack(o, 1), S


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_it_is_the_product_of_transition_matrices(n, chunk_size):
    x = product_inputs(n)
    S = torch.randn(2, 4, 5, 3, dtype=F64)
    o, final = chunk_gated_delta_product(*x, n, initial_state=S, output_final_state=True, chunk_size=chunk_size)
    wanted, last = by_matrices(*x, n, S)
    torch.testing.assert_close(o, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(final, last, rtol=1e-10, atol=1e-10)


def test_one_step_a_token_is_the_gated_delta_rule():
    x = product_inputs(1, dtype=torch.float32)
    assert torch.equal(chunk_gated_delta_product(*x, 1)[0], chunk_gated_delta_rule(*x)[0])


def test_packed_texts_and_no_decay():
    q, k, v, g, beta = product_inputs(2, B=1, T=10)
    packed = chunk_gated_delta_product(q, k, v, None, beta, 2, cu_seqlens=torch.tensor([0, 4, 10]))[0]
    apart = [by_matrices(q[:, a:b], k[:, 2 * a : 2 * b], v[:, 2 * a : 2 * b], 0 * g[:, a:b], beta[:, 2 * a : 2 * b], 2)
             for a, b in ((0, 4), (4, 10))]  # fmt: skip
    torch.testing.assert_close(packed, torch.cat([o for o, _ in apart], 1), rtol=1e-6, atol=1e-6)


def test_two_reflections_a_token_turn_and_one_does_not():
    """A turn by a third of a circle, three times, is nothing; every reflection has determinant -1."""
    angle = math.pi / 3
    mirrors = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=F64)  # turn by twice the angle
    k, nothing = mirrors.repeat(3, 1)[None, :, None], torch.zeros(1, 6, 1, 2, dtype=F64)
    beta, start = torch.full((1, 6, 1), 2.0, dtype=F64), torch.eye(2, dtype=F64)[None, None]
    q = torch.zeros(1, 3, 1, 2, dtype=F64)
    states = [
        chunk_gated_delta_product(
            q[:, :t], k[:, : 2 * t], nothing[:, : 2 * t], None, beta[:, : 2 * t], 2,
            initial_state=start, output_final_state=True,
        )[1][0, 0]
        for t in (1, 2, 3)
    ]  # fmt: skip
    for S in states:
        torch.testing.assert_close(torch.linalg.det(S), torch.tensor(1.0, dtype=F64))
    torch.testing.assert_close(states[0] @ states[0], states[1])
    torch.testing.assert_close(states[2], start[0, 0])
    assert (states[0] - start[0, 0]).abs().max() > 0.5


def test_gradients():
    x = [y.requires_grad_() for y in product_inputs(2, B=1, T=3, H=1, HV=2, Dk=3, Dv=2)]
    assert torch.autograd.gradcheck(lambda *y: chunk_gated_delta_product(*y, 2, chunk_size=4)[0], x)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_householder": 0}, "num_householder: expected a whole number >= 1, got 0"),
        ({"num_householder": 3}, "k: expected T · num_householder = 27 steps, got 18"),
        ({"beta": torch.zeros(2, 9, 4)}, "beta: expected axes"),
        ({"g": torch.zeros(2, 18, 4)}, "g: expected axes"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    names = ("q", "k", "v", "g", "beta")
    arguments = dict(zip(names, product_inputs(2, dtype=torch.float32), strict=True)) | {"num_householder": 2}
    with pytest.raises(ValueError, match=message):
        chunk_gated_delta_product(**arguments | change)
