"""One reflection per token is enough for any product of permutations of three things, in two layers: chapter 10 says so
of the study permutations_3_long."""

from itertools import permutations

import numpy as np

from reference.equations import delta_step


def test_two_layers_with_one_reflection_per_token_track_s3():
    """The first layer tells whether even permutations so far are odd or even in number. With a fixed swap in front of
    the product wherever they are odd, each token multiplies it by one swap."""
    moves = [np.eye(3)[list(p)] for p in permutations(range(3))]
    swap, rng = np.eye(3)[[1, 0, 2]], np.random.default_rng(0)
    count, S, product, before = np.ones((1, 1)), np.eye(3), np.eye(3), np.eye(3)
    for n in rng.integers(6, size=500):
        is_even = np.linalg.det(moves[n]) > 0
        count = delta_step(count, np.ones(1), np.zeros(1), 2.0 * is_even)  # layer 1
        front = swap if count < 0 else np.eye(3)
        size, axes = np.linalg.eigh(front @ moves[n] @ before)
        assert np.allclose(size, [-1, 1, 1])  # one reflection, whatever the token
        S = delta_step(S, axes[:, 0], np.zeros(3), 2.0)  # layer 2
        before, product = front, moves[n] @ product
        assert np.allclose(front @ S, product)
