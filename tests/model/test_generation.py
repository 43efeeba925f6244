"""Generation: what the cache gives is what the whole text gives; the sampling filters do what they say."""

import copy

import pytest
import torch

import reference
from reference.model.config import preset
from reference.model.sampling import sample


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return reference.HybridLM(preset("tiny"))


def prompt(B=2, T=9):
    return torch.randint(0, 256, (B, T), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_greedy_generation_equals_running_the_whole_text_again(model):
    ids = prompt()
    for _ in range(8):
        ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], 1)
    assert torch.equal(reference.generate(model, prompt(), 8), ids)


def test_a_seed_repeats_and_another_seed_differs(model):
    runs = [reference.generate(model, prompt(), 20, temperature=1.0, seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_streaming_sees_every_token_in_order(model):
    seen = []
    out = reference.generate(model, prompt(), 6, stream=seen.append)
    assert torch.equal(torch.stack(seen, 1), out[:, 9:])


def test_a_stop_token_ends_a_row_and_then_the_run(model):
    free = reference.generate(model, prompt(1), 12)[0, 9:].tolist()
    stop = free[3]
    ended = reference.generate(model, prompt(1), 12, stop=(stop,))[0, 9:].tolist()
    assert ended == free[: free.index(stop) + 1]
    both = reference.generate(model, prompt(2), 12, stop=(stop,))
    assert both.shape[1] <= 21


def test_training_mode_is_put_back(model):
    model.train()
    reference.generate(model, prompt(), 1)
    assert model.training


def frequencies(logits, **filters):
    r = torch.Generator().manual_seed(0)
    drawn = sample(torch.tensor(logits).expand(4000, -1), 1.0, **filters, random=r)
    return torch.bincount(drawn, minlength=len(logits)) / 4000


def test_filters_keep_what_they_name():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = p.log().tolist()
    assert torch.allclose(frequencies(logits), p, atol=0.03)
    assert (frequencies(logits, top_k=2) > 0).tolist() == [True, True, False, False]
    assert (frequencies(logits, top_p=0.7) > 0).tolist() == [True, True, False, False]
    assert (frequencies(logits, top_p=0.85) > 0).tolist() == [True, True, True, False]
    assert (frequencies(logits, min_p=0.2) > 0).tolist() == [True, True, True, False]
    assert torch.allclose(frequencies(logits, top_k=2)[:2], torch.tensor([0.625, 0.375]), atol=0.03)
    assert sample(torch.tensor([logits]), 0.0).item() == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"temperature": -0.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 2.0}, "min_p"),
    ],
)
def test_bad_settings_are_named_before_any_work(model, arguments, message):
    cache = reference.new_cache(model, 2)
    with pytest.raises(ValueError, match=message):
        reference.generate(model, prompt(), **{"max_new_tokens": 3, **arguments}, cache=cache)
    assert cache.seen == 0


@pytest.mark.parametrize("ends", [3, 8])
def test_a_second_turn_reads_the_whole_text(model, ends):
    """Two calls with a cache say what one call says on the whole text, the last token of the first answer included."""
    first, turn, cache = prompt(1), prompt(2)[:1], reference.new_cache(model)
    answer = reference.generate(model, first, ends, cache=cache)
    kept = cache.snapshot()
    wanted = reference.generate(model, torch.cat([answer, turn], 1), 6)[:, -6:]
    for _ in range(2):
        assert torch.equal(reference.generate(model, turn, 6, cache=cache)[:, -6:], wanted)
        cache.restore(kept)
    again = reference.generate(model, torch.cat([answer, turn], 1), 6)
    assert again.shape[1] == answer.shape[1] + turn.shape[1] + 6


def test_tiny_temperatures_and_shares_take_the_likeliest():
    logits = torch.tensor([[1.0, 3.0, 2.9], [200.0, -200.0, 199.0]])
    for options in ({"temperature": 1e-320}, {"temperature": 1e-30}, {"temperature": 1.0, "top_p": 1e-320}):
        assert sample(logits, **options, random=torch.Generator().manual_seed(0)).tolist() == [1, 0]


def test_weights_that_are_no_numbers_are_named(model):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.norm.weight[0] = torch.nan
    with pytest.raises(ValueError, match="model: its logits are NaN"):
        reference.generate(broken, prompt(1), 3)


def test_a_snapshot_of_another_batch_is_refused_at_once(model):
    two, three = reference.new_cache(model, 2), reference.new_cache(model, 3)
    model(prompt(2), cache=two)
    with pytest.raises(ValueError, match=r"snapshot: expected 3 batch row\(s\), or one to repeat, got 2"):
        three.restore(two.snapshot())
    assert three.seen == 0
