"""Reused prefixes change nothing but the work: same logits, fewer tokens read, never more memory than allowed."""

import pytest
import torch

import reference
from reference.model.prefixes import PrefixCache
from tests.model.test_model import STACKS, assert_close, build, some_ids


@pytest.mark.parametrize("stack", STACKS)
@torch.no_grad()
def test_reused_prefixes_give_the_logits_of_a_fresh_prefill(stack):
    model = build(stack)
    prefixes, system = PrefixCache(model, every=16), some_ids(40, B=1)
    for turn in range(3):
        ids = torch.cat([system, some_ids(9 + turn, B=1)], 1)
        logits, cache = prefixes.prefill(ids)
        assert_close(logits, model(ids)[:, -1])
        assert cache.seen == ids.shape[1]
        follow = some_ids(5, B=1)
        assert_close(model(follow, cache=cache), model(torch.cat([ids, follow], 1))[:, ids.shape[1] :])
    found = prefixes.statistics()
    assert found.prompts == 3 and found.hits == 2 and found.reused == 2 * 32  # the shared 40 tokens hold 2 snapshots
    assert found.tokens == 49 + 50 + 51


@torch.no_grad()
def test_a_second_turn_starts_at_the_end_of_the_first_and_a_repeated_prompt_before_its_last_token():
    model, ids = build("hybrid"), some_ids(50, B=1)
    prefixes = PrefixCache(model, every=1000)
    prefixes.prefill(ids)
    prefixes.prefill(torch.cat([ids, some_ids(7, B=1)], 1))
    assert prefixes.statistics().reused == 50
    logits, _ = prefixes.prefill(ids)  # the snapshot at its very end has no logits: read again
    assert prefixes.statistics().reused == 50
    assert_close(logits, model(ids)[:, -1])


@torch.no_grad()
def test_the_budget_is_kept_and_the_least_recently_used_goes_first():
    model = build("linear")
    one = reference.new_cache(model)
    model(some_ids(3, B=1), cache=one)
    prefixes = PrefixCache(model, every=100, budget_bytes=2 * one.nbytes())
    a, b, c = (some_ids(n, B=1) for n in (10, 11, 12))
    more = some_ids(4, B=1)
    for ids in (a, b):
        prefixes.prefill(ids)
    prefixes.prefill(torch.cat([a, more], 1))  # a is used again, b goes
    assert prefixes.statistics().stored_bytes <= 2 * one.nbytes()
    before = prefixes.statistics().reused
    prefixes.prefill(torch.cat([b, more], 1))
    assert prefixes.statistics().reused == before
    tiny = PrefixCache(model, budget_bytes=1)
    tiny.prefill(c)
    assert tiny.statistics().stored_bytes == 0


@pytest.mark.parametrize("ids", [torch.zeros(2, 3).long(), torch.zeros(3).long(), [1, 2]])
def test_one_prompt_at_a_time(ids):
    with pytest.raises(ValueError, match=r"ids: expected one prompt \[1, T\]"):
        PrefixCache(build("linear")).prefill(ids)
    with pytest.raises(ValueError, match="every: expected a whole number >= 1, got 0"):
        PrefixCache(build("linear"), every=0)


@torch.no_grad()
def test_where_two_prompts_part_a_snapshot_is_kept_and_the_third_starts_there():
    model, system = build("hybrid"), some_ids(40, B=1)
    prefixes = PrefixCache(model, every=1000, branches=True)
    prompts = [torch.cat([system, torch.full((1, 1), n), some_ids(9 + n, B=1)], 1) for n in range(4)]
    read = []
    for ids in prompts:
        before = prefixes.statistics().reused
        logits, _ = prefixes.prefill(ids)
        read.append(prefixes.statistics().reused - before)
        assert_close(logits, model(ids)[:, -1])
    assert read == [0, 0, 40, 40]  # the second is read to the branch and kept there


@pytest.mark.parametrize("draft", [None, "ngrams", "head", lambda ids, x, n: torch.full((1, n), 3)])
@pytest.mark.parametrize("stack", STACKS)
def test_turns_through_prefixes_and_drafts_give_the_text_of_plain_decoding(stack, draft):
    """Drafts that are rejected must not get into a snapshot that a later turn, or another talk, starts from.

    Seen in public: https://github.com/vllm-project/vllm/issues/47194, .../issues/43559, NovaSky-AI/SkyRL issue 1981.
    """
    model = build(stack, num_nextn_predict_layers=1)
    prefixes, system = PrefixCache(model, every=16, branches=True), some_ids(21, B=1)
    options = {"temperature": 0.7, "seed": 3}
    for talk in range(2):
        text = torch.cat([system, some_ids(5 + talk, B=1)], 1)
        for turn in range(3):
            wanted = reference.generate(model, text, 14, **options)
            got = reference.generate(model, text, 14, **options, prefixes=prefixes, draft=draft, draft_tokens=5)
            assert torch.equal(got, wanted)
            text = torch.cat([got, some_ids(4 + turn, B=1)], 1)
    found = prefixes.statistics()
    assert found.hits == 5 and found.reused > 0.6 * found.tokens


@torch.no_grad()
def test_the_end_of_an_answer_is_kept_and_a_repeated_prompt_reads_only_its_last_token():
    model, ids = build("mixed"), some_ids(30, B=1)
    prefixes = PrefixCache(model, every=1000)
    text = reference.generate(model, ids, 10, prefixes=prefixes, draft="ngrams")
    cache = prefixes.read(torch.cat([text, ids[:, :3]], 1))
    assert prefixes.statistics().reused == 39 and cache.seen == 42
    prefixes.read(ids)
    assert prefixes.statistics().reused == 39 + 29
    assert prefixes.read(ids[:, :1]).seen == 0
    assert reference.generate(model, ids, 4, n=3, temperature=1.0, seed=0, prefixes=prefixes).shape == (3, 34)
    with pytest.raises(ValueError, match="prefixes: makes the cache itself"):
        reference.generate(model, ids, 4, prefixes=prefixes, cache=reference.new_cache(model))
