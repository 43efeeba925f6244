"""Log-linear attention: the recurrence with O(log T) memories is a matrix of levels, and one weight makes it linear."""

import numpy as np
import pytest

from reference.equations import decayed_hebbian_scan, log_linear_scan


def arguments(T, L, Dk=4, Dv=3, seed=0):
    rng = np.random.default_rng(seed)
    g = -rng.uniform(0, 0.3, size=T)
    return rng.normal(size=(T, Dk)), rng.normal(size=(T, Dk)), rng.normal(size=(T, Dv)), g, rng.uniform(size=(T, L))


def level(t, s):
    """The memory in which token s lies when token t reads: the highest bit in which their numbers differ, plus one."""
    return (t ^ s).bit_length()


@pytest.mark.parametrize("T", [1, 2, 3, 8, 21, 64, 65])
def test_it_is_a_matrix_of_levels(T):
    q, k, v, g, weights = arguments(T, (T - 1).bit_length() + 1)
    G, M = np.cumsum(g), np.zeros((T, T))
    for t in range(T):
        for s in range(t + 1):
            M[t, s] = weights[t, level(t, s)] * np.exp(G[t] - G[s]) * (q[t] @ k[s])
    np.testing.assert_allclose(log_linear_scan(q, k, v, g, weights), M @ v, rtol=0, atol=1e-12)


def test_equal_weights_make_it_linear_attention_with_decay():
    q, k, v, g, weights = arguments(50, 7)
    wanted, _ = decayed_hebbian_scan(q, k, v, g)
    np.testing.assert_allclose(log_linear_scan(q, k, v, g, np.ones_like(weights)), wanted, rtol=0, atol=1e-12)
    assert np.abs(log_linear_scan(q, k, v, g, weights) - wanted).max() > 0.1


@pytest.mark.parametrize(("T", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (1024, 11)])
def test_the_memories_grow_with_the_logarithm(T, needed):
    q, k, v, g, _ = arguments(T, 1)
    log_linear_scan(q, k, v, g, np.ones((T, needed)))
    with pytest.raises(ValueError, match=f"weights: {T} tokens need {needed} memories, got {needed - 1}"):
        log_linear_scan(q, k, v, g, np.ones((T, needed - 1)))
