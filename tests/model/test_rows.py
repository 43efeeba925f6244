"""Each row of a batch has a cursor of its own: it goes back by its own number, and its text is as if it were alone."""

import pytest
import torch

import reference
from reference.layers.mixers import MIXERS
from reference.model.drafts import DecodingStats
from reference.model.prefixes import PrefixCache
from reference.model.sampling import Draws
from tests.model.test_drafts import Oracle
from tests.model.test_model import STACKS, assert_close, build, some_ids
from tests.model.test_rewind import REWIND, of_kind

# Per step: tokens read, and how many of them each of three rows takes back. Row 0 leads, then falls behind.
STEPS = [(5, (0, 2, 5)), (1, (0, 1, 1)), (5, (5, 0, 4)), (4, (1, 3, 0)), (3, (3, 0, 3)), (5, (2, 2, 2)), (5, (0, 5, 1))]


def read_in_rows(model, texts, padding):
    """The texts [B, T] read with every step's detours; the logits of what stayed, row by row, and the cache."""
    B, begin = len(texts), 30
    cache, random = reference.new_cache(model, B, rewind=REWIND), torch.Generator().manual_seed(2)
    first = model(texts[:, :begin], cache=cache, left_padding=padding)
    logits, at = [[row] for row in first], [begin] * B
    for n, backs in STEPS:
        ids = torch.randint(0, 256, (B, n), generator=random)
        for b, back in enumerate(backs):
            ids[b, : n - back] = texts[b, at[b] : at[b] + n - back]
        out = model(ids, cache=cache)
        cache.rewind(backs)
        for b, back in enumerate(backs):
            logits[b].append(out[b, : n - back])
            at[b] += n - back
    return [torch.cat(row) for row in logits], at, cache


@pytest.mark.parametrize("padded", [False, True], ids=["one length", "padded"])
@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_every_kind_of_layer_goes_back_by_rows(kind, padded):
    model, texts = of_kind(kind), some_ids(60, B=3)
    padding = torch.tensor([0, 9, 2]) if padded else None
    rows, at, cache = read_in_rows(model, texts, padding)
    for b, logits in enumerate(rows):
        skip = int(padding[b]) if padded else 0
        assert_close(logits[None, skip:], model(texts[b : b + 1, skip : at[b]]))
    longest = max(n - skip for n, skip in zip(at, padding.tolist() if padded else [0] * 3, strict=True))
    assert cache.seen == longest  # no place that is padding in every row


@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_after_going_back_by_rows_no_more_than_is_kept_is_promised(kind):
    """A row that went back further keeps less; to go further is refused, and what is promised is right."""
    model, texts = of_kind(kind), some_ids(60, B=2)
    cache = reference.new_cache(model, 2, rewind=REWIND)
    model(texts[:, :30], cache=cache)
    cache.rewind([0, REWIND])
    at, before = [30, 30 - REWIND], cache.snapshot()
    try:
        cache.rewind([2, 2])
    except ValueError as error:
        assert "can take back its last" in str(error) and cache.snapshot() == before
    else:
        at = [28, 28 - REWIND]
    more = torch.stack([texts[b, at[b] : at[b] + 9] for b in range(2)])
    out = model(more, cache=cache)
    for b in range(2):
        assert_close(out[b : b + 1], model(texts[b : b + 1, : at[b] + 9])[:, -9:])


@pytest.mark.parametrize(
    "n, message",
    [
        ([1, 2], r"n: the rows hold \[30, 21, 28\] tokens that can be taken back, got \[1, 2\]"),
        ([1, 22, 0], r"n: the rows hold \[30, 21, 28\] tokens that can be taken back, got \[1, 22, 0\]"),
        ([1, True, 0], "n: the rows hold"),
        (25, r"n: the rows hold \[30, 21, 28\] tokens that can be taken back, got \[25, 25, 25\]"),
    ],
)
@torch.no_grad()
def test_a_row_cannot_go_back_beyond_its_start(n, message):
    model = build("softmax")
    cache = reference.new_cache(model, 3)
    model(some_ids(30, B=3), cache=cache, left_padding=torch.tensor([0, 9, 2]))
    with pytest.raises(ValueError, match=message):
        cache.rewind(n)
    cache.rewind([30, 21, 28])
    assert cache.seen == 0 and cache.left_padding is None


@pytest.mark.parametrize("kind", MIXERS)
def test_each_row_has_the_text_of_its_prompt_alone_and_of_the_packed_prompts(kind):
    """Padded prompts, guesses that fall in other places in each row: greedy text, checked by a packed pass as well."""
    model, new = of_kind(kind), 14
    prompts = [some_ids(T, B=1)[0] for T in (9, 30, 17)]
    alone = [reference.generate(model, prompt[None], new)[0] for prompt in prompts]
    ids, left_padding = reference.pad_left(prompts)

    class Knowing:
        """Right, but for one place in three of the first text, and for the second text never."""

        def __call__(self, ids, features, n):
            row = next(b for b, text in enumerate(alone) if torch.equal(text[: ids.shape[1]], ids[0]))
            at = torch.arange(ids.shape[1], ids.shape[1] + n)
            return (alone[row][None, at] + (row == 1) + (row == 0) * (at % 3 == 0)) % 256

    stats = DecodingStats()
    out = reference.generate(model, ids, new, left_padding=left_padding, draft=Knowing(), draft_tokens=5, stats=stats)
    for row, text in zip(out, alone, strict=True):
        assert torch.equal(row[-len(text) :], text)
    assert stats.passes == stats.tokens == new and 0 < stats.accepted < stats.drafted
    lengths = [len(text) for text in alone]
    with torch.no_grad():
        packed = model(torch.cat(alone)[None], cu_seqlens=torch.tensor([0, *lengths]).cumsum(0))[0].argmax(-1)
    for says, text in zip(packed.split(lengths), alone, strict=True):
        assert torch.equal(says[-new - 1 : -1], text[-new:])


def test_the_slowest_row_sets_the_passes_and_no_other():
    """With one guess right in every second pass, and each time in another row, rows that went on together would take
    a pass per token."""
    model, ids, new = build("mixed"), some_ids(20, B=2), 25
    text = reference.generate(model, ids, new)
    draft = Oracle(text, lies=[(b, at) for b in range(2) for at in range(21, 60) if at % 2 == b])
    stats = DecodingStats()
    assert torch.equal(reference.generate(model, ids, new, draft=draft, draft_tokens=1, stats=stats), text)
    assert stats.passes <= new // 2 + 2
    assert 1.7 < stats.tokens_per_pass < 2


@pytest.mark.parametrize("stack", STACKS)
def test_a_second_turn_of_rows_that_ended_in_different_places(stack):
    """Stop tokens, a cache that is given and goes on: it has read what the cache of plain decoding has read."""
    model, ids, turn = build(stack), some_ids(20, B=3), some_ids(6, B=3)
    free = reference.generate(model, ids, 18)
    stop = int(free[1, 24]), int(free[2, 30])
    plain, kept = reference.new_cache(model, 3), reference.new_cache(model, 3, rewind=4)
    wanted = reference.generate(model, ids, 18, cache=plain, stop=stop)
    draft = Oracle(free, lies=[(0, at) for at in range(21, 40, 2)])
    assert torch.equal(reference.generate(model, ids, 18, cache=kept, stop=stop, draft=draft), wanted)
    assert kept.seen == plain.seen and torch.equal(kept.unread, plain.unread) and kept.left_padding is None
    more = reference.generate(model, turn, 8, cache=plain)
    assert torch.equal(reference.generate(model, turn, 8, cache=kept, draft="ngrams"), more)


def test_streaming_sees_every_step_when_the_last_row_has_it():
    model, ids, seen = build("hybrid"), some_ids(9, B=3), []
    text = reference.generate(model, ids, 12)
    draft = Oracle(text, lies=[(1, at) for at in range(9, 30)])
    reference.generate(model, ids, 12, stream=seen.append, draft=draft)
    assert torch.equal(torch.stack(seen, 1), text[:, 9:])


def test_samples_of_a_shared_prefix_with_drafts_are_those_of_plain_decoding():
    """Prefix cache, several samples and drafts that fall in one sample and stand in another, all at once."""
    model, ids = build("hybrid", num_nextn_predict_layers=1), some_ids(40, B=1)
    options = {"temperature": 0.7, "seed": 3, "n": 3}
    wanted = reference.generate(model, ids, 14, **options)
    prefixes = PrefixCache(model, every=16)
    for draft in ("ngrams", "head", Oracle(wanted, lies=[(1, 44), (2, 41), (2, 43)])):
        got = reference.generate(model, ids, 14, **options, prefixes=prefixes, draft=draft, draft_tokens=3)
        assert torch.equal(got, wanted)
    assert prefixes.statistics().hits == 2


@torch.no_grad()
def test_sampled_rows_have_the_models_distribution():
    """A batch of one prompt: counts of all texts of three tokens over a vocabulary of four, rows guessed for alone."""
    from tests.model.test_drafts import four_tokens

    model, prompt, p = four_tokens()
    counts, many = torch.zeros(64), 1600
    draft = lambda ids, features, n: (ids[:, -1:] + torch.arange(1, n + 1)) % 4  # noqa: E731
    for seed in range(2):
        stats = DecodingStats()
        options = {"temperature": 1.0, "seed": seed, "draft": draft, "draft_tokens": 2, "stats": stats}
        out = reference.generate(model, prompt.expand(many // 2, -1), 3, **options)[:, 5:]
        counts += torch.bincount(out @ torch.tensor([16, 4, 1]), minlength=64)
        assert 0.1 < stats.accepted / stats.drafted < 0.6
    common = p * many >= 5
    seen, wanted = (torch.cat([x[common], x[~common].sum()[None]]) for x in (counts, many * p))
    chi2, freedom = ((seen - wanted) ** 2 / wanted).sum(), len(wanted) - 1
    assert chi2 < freedom + 4 * (2 * freedom) ** 0.5, f"chi2 {chi2:.0f} with {freedom} degrees of freedom"


def test_the_noise_of_a_step_is_the_same_when_it_is_asked_for_again():
    draws, shape, cpu = Draws(3, torch.device("cpu")), torch.Size([2, 5]), torch.device("cpu")
    steps = [draws.at(step, shape, cpu) for step in range(4)]
    assert torch.equal(draws.at(1, shape, cpu), steps[1]) and not torch.equal(steps[0], steps[1])
    draws.forget(2)
    assert torch.equal(draws.at(2, shape, cpu), steps[2]) and sorted(draws.states) == [2, 3]
    assert not any(torch.equal(draws.at(4, shape, cpu), step) for step in steps)
