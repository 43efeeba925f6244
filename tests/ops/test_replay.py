"""The replay form: outputs and states are the recurrence's, and the last tokens can be taken back."""

import pytest
import torch

from reference.ops import OPERATORS, Replay, replay_rule, state_of, take_back
from tests.ops.helpers import (
    F32,
    F64,
    FLOAT32_ERROR,
    assert_close,
    each_replayed,
    error,
    inputs,
    random_state,
    recurrence,
)

T, KEEP = 50, 4


def replayed(name, x, pieces, memory=None, keep=KEEP, **keywords):
    outputs, start = [], 0
    for n in pieces:
        q, k, v, g, beta = (x[key][:, start : start + n] if key in x else None for key in ("q", "k", "v", "g", "beta"))
        o, memory = replay_rule(OPERATORS[name].chunk, q, k, v, g, beta, memory, keep, **keywords)
        outputs.append(o)
        start += n
    return torch.cat(outputs, 1), memory


def part(x, start, stop):
    return {key: value[:, start:stop] for key, value in x.items()}


@pytest.mark.parametrize("pieces", [[T], [1] * T, [30, 1, 1, 1, 3, 9, 5], [4, 4, 8, 3, 31]], ids=str)
@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
@each_replayed
def test_it_is_the_recurrence_however_the_text_comes(name, pieces, filled):
    x = inputs(name, T=T, group=2)
    state = random_state(x) if filled else None
    o, memory = replayed(name, x, pieces, state)
    assert_close((o, state_of(memory)), recurrence(x, initial_state=state), 1e-10)
    assert KEEP <= memory.tokens < 2 * KEEP


@each_replayed
def test_in_float32_it_is_right_to_rounding(name):
    x = inputs(name, T=T, group=2, dtype=F32)
    o, memory = replayed(name, x, [20] + [1] * 30)
    assert_close((o, state_of(memory)), recurrence(x), FLOAT32_ERROR)
    half, _ = replayed(name, inputs(name, T=T, dtype=torch.bfloat16), [T])
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("n", range(KEEP + 1))
@each_replayed
def test_tokens_taken_back_were_never_read(name, n):
    """Whatever stands in the place of the n last tokens, the text goes on as if they had not been there."""
    x = inputs(name, T=T, group=2)
    for read in (1, 7, 8, 9, 30):
        o, memory = replayed(name, part(x, 0, read), [read])
        wrong = inputs(name, T=n or 1, group=2, seed=9)
        _, memory = replayed(name, wrong, [1] * n or [1], memory)
        memory = take_back(memory, max(n, 1))
        more, memory = replayed(name, part(x, read, T), [1] * 5 + [T - read - 5], memory)
        assert_close((torch.cat([o, more], 1), state_of(memory)), recurrence(x), 1e-10)


@each_replayed
def test_nothing_that_was_passed_in_is_changed(name):
    x = inputs(name, T=T)
    _, memory = replayed(name, x, [T])
    before = [y.clone() for y in memory[:4]]
    replayed(name, x, [1] * 9, memory)
    take_back(memory, 2)
    state_of(memory)
    assert all(torch.equal(a, b) for a, b in zip(before, memory[:4], strict=True))


@each_replayed
def test_without_tokens_to_keep_it_is_the_operator_again(name):
    x = inputs(name, T=T)
    o, memory = replayed(name, part(x, 0, 20), [20])
    more, state = replayed(name, part(x, 20, T), [1, T - 21], memory, keep=0)
    assert isinstance(memory, Replay) and isinstance(state, torch.Tensor)
    assert_close((torch.cat([o, more], 1), state), recurrence(x), 1e-10)


def test_strong_decays_and_full_resets_stay_numbers():
    for name in ("gated_delta_rule", "kda", "lightning_attention"):
        x = inputs(name, T=T)
        x["g"][:, 10] = -torch.inf
        x["g"][:, 23:26] = -900.0
        o, memory = replayed(name, x, [9] + [1] * 41)
        limit = x | {"g": x["g"].clamp(min=-1000.0)}
        assert error(o, recurrence(limit)[0]) < 1e-10 and state_of(memory).isfinite().all()


def test_scale_and_norm_are_the_operators():
    x = inputs("gated_delta_rule", T=T, dtype=F64)
    x["k"] = 3 * x["k"]
    o, _ = replayed("gated_delta_rule", x, [3, 1, 46], scale=0.7, use_qk_l2norm_in_kernel=True)
    wanted, _ = OPERATORS["gated_delta_rule"].chunk(*x.values(), scale=0.7, use_qk_l2norm_in_kernel=True)
    assert error(o, wanted) < 1e-10


def test_what_is_not_kept_is_refused():
    _, memory = replayed("delta_rule", inputs("delta_rule", T=T), [T])
    with pytest.raises(ValueError, match="n: expected a whole number from 0 to 4, got 5"):
        take_back(memory, 5)
    with pytest.raises(ValueError, match="keep: expected a whole number >= 0, got -1"):
        replayed("delta_rule", inputs("delta_rule", T=T), [T], keep=-1)


@each_replayed
def test_rows_go_back_by_numbers_of_their_own(name):
    """Each row is then what it would be alone, and promises no more than it keeps."""
    x = inputs(name, T=T, B=2)
    wanted = [replayed(name, {key: y[b : b + 1] for key, y in x.items()}, [9])[1] for b in range(2)]
    _, memory = replayed(name, x, [9])
    both = take_back(memory, [1, 3])
    assert both.tokens == memory.tokens - 3 and both.k.shape[2] == memory.tokens - 1
    for b, back in enumerate((1, 3)):
        assert_close(state_of(both)[b : b + 1], state_of(take_back(wanted[b], back)), 1e-10)
    with pytest.raises(ValueError, match="n: expected a whole number from 0 to"):
        take_back(both, [0, both.tokens + 1])
