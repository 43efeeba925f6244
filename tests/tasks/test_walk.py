"""The texts of chapter 08, read by a plain reader: words follow words, and a key's second answer is its first."""

import numpy as np
import pytest
import torch

from reference.tasks import WordsAndKeys
from reference.tasks.walk import ANSWER, ASKED, KEY, WORD

FOLLOWERS = np.array([[1, 2], [2, 3], [3, 0], [0, 1]])


def test_a_plain_reader_finds_the_rule_and_every_answer():
    ids, kind = WordsAndKeys(FOLLOWERS, n_keys=5).draw(np.random.default_rng(0), 20, 30, pairs=4)
    assert ids.shape == kind.shape == (20, 30) and (ids[:, 0] == 0).all()
    for row, kinds in zip(ids.tolist(), kind.tolist(), strict=True):
        known = {}
        for t in range(1, 30):
            if kinds[t] == KEY:
                assert row[t] > len(FOLLOWERS) and kinds[t + 1] == (ASKED if row[t] in known else ANSWER)
            elif kinds[t] in (ANSWER, ASKED):
                assert kinds[t - 1] == KEY and known.setdefault(row[t - 1], row[t]) == row[t]
            elif t > 1 and kinds[t - 1] == WORD:
                assert row[t] - 1 in FOLLOWERS[row[t - 1] - 1]
        assert len(known) == 4 and kinds.count(ASKED) == 4


def test_a_seed_repeats_itself():
    task = WordsAndKeys(FOLLOWERS, n_keys=5)
    first, again, other = (task.draw(np.random.default_rng(seed), 3, 30, 2)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("T", "pairs", "message"), [(12, 3, "pairs: 3 pairs take 12"), (99, 6, "pairs: expected at most n_keys = 5, got 6")]
)
def test_pairs_that_dont_fit_are_named(T, pairs, message):
    with pytest.raises(ValueError, match=message):
        WordsAndKeys(FOLLOWERS, n_keys=5).draw(np.random.default_rng(0), 2, T, pairs)
