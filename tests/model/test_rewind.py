"""A cache that was rewound continues as one that never read what was taken back; rows are chosen and repeated."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import reference
from reference.bench.mixers import ALL_NAMES, mixer_config
from reference.layers.mixer import Mixer
from reference.layers.mixers import MIXERS
from reference.model.config import pattern, preset
from tests.model.test_model import STACKS, assert_close, build, some_ids

REWIND = 5
# Tokens read (positive) and taken back (negative): across a write, across the windows, to the start of what is kept.
SCRIPT = [30, 1, 1, -2, 1, 3, 4, -5, 1, -1, 2, 2, -4, 6, -5, 1, 1, 1, -3, 40, -5, 3, 1]


def of_kind(kind):
    """A model of three such layers, windows and choices smaller than the text."""
    torch.manual_seed(0)
    config = mixer_config(next(name for name, word in ALL_NAMES.items() if word == kind), width=64)
    return reference.HybridLM(replace(config, layer_types=(kind,) * 3, sliding_window=7, index_topk=8)).eval()


def read_with_detours(model, ids, script=SCRIPT, **keywords):
    """Logits of ids [B, T], the script's detours into other texts taken back again."""
    random, cache = torch.Generator().manual_seed(2), reference.new_cache(model, ids.shape[0], rewind=REWIND)
    logits, at = [], 0
    for n, back in zip(script, [*script[1:], 0], strict=True):
        if n < 0:
            cache.rewind(-n)
            continue
        wrong = min(max(-back, 0), n)  # of these tokens, so many are taken back next: let them be others
        good = ids[:, at : at + n - wrong]
        detour = torch.randint(0, 256, (ids.shape[0], wrong), generator=random)
        out = model(torch.cat([good, detour], 1), cache=cache, **(keywords if at == 0 else {}))
        logits.append(out[:, : n - wrong])
        earlier = max(-back, 0) - wrong  # and so many that were right and are read again
        if earlier:
            logits = [torch.cat(logits, 1)[:, : at + n - wrong - earlier]]
        at += n - wrong - earlier
    return torch.cat(logits, 1), cache, at


@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_every_kind_of_layer_goes_back(kind):
    if type(MIXERS[kind]).rewind is Mixer.rewind:
        with pytest.raises(NotImplementedError, match=f"{kind}: its record, .* has no answer to `rewind`"):
            read_with_detours(of_kind(kind), some_ids(90))
        return
    model, ids = of_kind(kind), some_ids(90)
    logits, cache, at = read_with_detours(model, ids)
    assert logits.shape[1] == at == cache.seen > 60
    assert_close(logits, model(ids[:, :at]))


@pytest.mark.parametrize("stack", STACKS)
@torch.no_grad()
def test_padded_rows_go_back(stack):
    model, lengths = build(stack), [30, 1, 17]
    texts = [some_ids(n + 60, B=1)[0] for n in lengths]
    ids = torch.stack([F.pad(text, (30 - n, 0)) for text, n in zip(texts, lengths, strict=True)])
    padding = 30 - torch.tensor(lengths)
    logits, _, at = read_with_detours(model, ids, left_padding=padding)
    for row, text, skip in zip(logits, texts, padding.tolist(), strict=True):
        assert_close(row[None, skip:], model(text[None, : at - skip]))


@pytest.mark.parametrize("stack", STACKS)
@torch.no_grad()
def test_it_gives_the_logits_of_packed_prompts(stack):
    """The same prompts end to end in one row, and each in a cache that took wrong turns."""
    model, lengths = build(stack), [63, 64, 65]
    texts = [some_ids(n, B=1) for n in lengths]
    packed = model(torch.cat(texts, 1), cu_seqlens=torch.tensor([0, *lengths]).cumsum(0)).split(lengths, 1)
    for ids, wanted in zip(texts, packed, strict=True):
        logits, _, at = read_with_detours(model, ids, [30, 4, -3, 20, -5, 1, 1, 4])
        assert_close(logits, wanted[:, :at])


@torch.no_grad()
def test_nothing_changes_for_a_cache_that_cannot_go_back():
    for stack in STACKS:
        model, ids = build(stack), some_ids(40)
        plain, kept = reference.new_cache(model, 2), reference.new_cache(model, 2, rewind=REWIND)
        for piece in ids.split([30, 1, 9], 1):
            assert_close(model(piece, cache=kept), model(piece, cache=plain))
        assert kept.nbytes() > plain.nbytes() or stack == "softmax"
        plain.restore(kept.snapshot())  # a snapshot of either goes into either
        assert_close(model(ids[:, :5], cache=plain), model(ids[:, :5], cache=kept))
        same = reference.new_cache(model, 2)
        model(torch.cat([ids, ids[:, :5]], 1), cache=same)
        assert plain.nbytes() == same.nbytes() or stack == "mixed"  # a window is cut at the next read


@pytest.mark.parametrize("kind", ["linear_attention", "kda", "lightning_attention", "sliding_attention"])
@torch.no_grad()
def test_a_layer_that_does_not_keep_enough_says_so_and_nothing_changes(kind):
    model = of_kind(kind)
    cache = reference.new_cache(model)
    model(some_ids(30, B=1), cache=cache)
    before = cache.snapshot()
    with pytest.raises(ValueError, match=rf"n: a {kind} layer can take back its last 0 token\(s\), got 2; .*rewind=2"):
        cache.rewind(2)
    assert cache.snapshot() == before
    kept = reference.new_cache(model, rewind=3)
    model(some_ids(30, B=1), cache=kept)
    with pytest.raises(ValueError, match=r"can take back its last \d token\(s\), got 7"):
        kept.rewind(7)


@torch.no_grad()
def test_the_start_can_always_be_reached_and_no_further():
    model, ids = build("mixed"), some_ids(30)
    cache = reference.new_cache(model, 2)
    model(ids, cache=cache, left_padding=torch.tensor([3, 0]))
    with pytest.raises(ValueError, match="n: expected a whole number from 0 to 30, got 31"):
        cache.rewind(31)
    cache.rewind(30)
    assert cache.seen == 0
    assert torch.equal(model(ids, cache=cache), model(ids, cache=reference.new_cache(model, 2)))


def test_gradients_are_refused():
    model = build("linear")
    with pytest.raises(ValueError, match=r"cache: one that can be rewound takes no gradients; .* torch\.no_grad"):
        model(some_ids(3), cache=reference.new_cache(model, 2, rewind=1))
    with pytest.raises(ValueError, match="rewind: expected a whole number >= 0, got -1"):
        reference.new_cache(model, rewind=-1)


@pytest.mark.parametrize("rewind", [0, REWIND])
@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_rows_are_repeated_dropped_and_reordered(kind, rewind):
    model, ids, more = of_kind(kind), some_ids(20, B=3), some_ids(9, B=4)
    cache = reference.new_cache(model, 3, rewind=rewind)
    model(ids, cache=cache, left_padding=torch.tensor([0, 4, 1]))
    cache.select([2, 0, 0, 1])
    assert cache.batch_size == 4
    whole = torch.cat([ids[[2, 0, 0, 1]], more], 1)
    wanted = model(whole, left_padding=torch.tensor([1, 0, 0, 4]))[:, 20:]
    assert_close(torch.cat([model(more[:, :1], cache=cache), model(more[:, 1:], cache=cache)], 1), wanted)


@torch.no_grad()
def test_one_row_is_restored_into_many_and_two_are_refused_at_once():
    model, ids, more = build("mixed"), some_ids(20, B=1), some_ids(9, B=3)
    one, three = reference.new_cache(model), reference.new_cache(model, 3)
    model(ids, cache=one)
    three.restore(one.snapshot())
    wanted = model(torch.cat([ids.expand(3, -1), more], 1))[:, 20:]
    assert_close(model(more, cache=three), wanted)
    two = reference.new_cache(model, 2)
    with pytest.raises(ValueError, match=r"snapshot: expected 2 batch row\(s\), or one to repeat, got 3"):
        two.restore(three.snapshot())
    assert two.seen == 0
    for rows in ([], [3], [-1], [True], [0.5]):
        with pytest.raises(ValueError, match="rows: expected indices from 0 to 2"):
            three.select(rows)


@torch.no_grad()
def test_beams_that_share_caches_find_the_best_text_of_all():
    """Beam search over a vocabulary of four, wide enough to be exhaustive, against every text of four tokens."""
    config = replace(preset("tiny"), vocab_size=4, layer_types=pattern(1, 1, 2), hidden_size=32)
    torch.manual_seed(1)
    model, prompt = reference.HybridLM(config).eval(), torch.tensor([[1, 2, 3]])
    texts = torch.cartesian_prod(*[torch.arange(4)] * 4)
    log_p = model(torch.cat([prompt.expand(256, -1), texts], 1)).log_softmax(-1)[:, 2:6]
    best = log_p.gather(2, texts[..., None]).sum((1, 2))
    cache, ids, score = reference.new_cache(model), prompt, torch.zeros(1)
    for _ in range(4):
        log_p = model(ids[:, cache.seen :], cache=cache)[:, -1].log_softmax(-1)
        score, chosen = (score[:, None] + log_p).flatten().topk(min(64, 4 * len(ids)))
        cache.select(chosen // 4)
        ids = torch.cat([ids[chosen // 4], chosen[:, None] % 4], 1)
    assert ids[0, 3:].tolist() == texts[best.argmax()].tolist()
    assert abs(score[0] - best.max()) < 1e-5
