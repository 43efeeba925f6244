"""Speculative decoding: the text is that of plain decoding whatever the draft says; its distribution is the model's."""

from dataclasses import replace

import pytest
import torch

import reference
from reference.model.config import pattern, preset
from reference.model.drafts import DecodingStats, HeadDraft, NGramDraft
from reference.model.text import StopStrings
from tests.model.test_model import STACKS, assert_close, build, some_ids

NEW = 32


class Oracle:
    """Knows the texts to come, [B, T], and lies at the places given: (row, place), or a place of every row."""

    def __init__(self, text, lies=()):
        self.text, self.asked = text, []
        self.lies = {lie if isinstance(lie, tuple) else (row, lie) for lie in lies for row in range(len(text))}

    def __call__(self, ids, features, n):
        at = ids.shape[1]
        row = next((b for b, text in enumerate(self.text) if torch.equal(text[:at], ids[0])), 0)
        self.asked.append(n)
        guesses = self.text[row : row + 1, at : at + n].clone()
        for place in range(at, at + n):
            if (row, place) in self.lies:
                guesses[:, place - at] = (guesses[:, place - at] + 1) % 256
        return guesses


def never_right(ids, features, n):
    """Guesses that are wrong nearly always: the same odd token."""
    return torch.full((len(ids), n), 3)


def run(model, ids, **options):
    stats = DecodingStats()
    return reference.generate(model, ids, NEW, stats=stats, **options), stats


@pytest.fixture(scope="module", params=[*STACKS, "head"])
def model(request):
    return build("hybrid", num_nextn_predict_layers=1) if request.param == "head" else build(request.param)


DRAFTS = {
    "oracle": lambda text: Oracle(text),
    "sometimes": lambda text: Oracle(text, lies=range(22, 100, 5)),
    "in rows": lambda text: Oracle(text, lies=[(b, at) for b in range(3) for at in range(21 + b, 100, 2 + 5 * b)]),
    "never": lambda text: never_right,
    "ngrams": lambda text: "ngrams",
    "mostly ngrams": lambda text: NGramDraft(longest=1),
}


@pytest.mark.parametrize("temperature", [0.0, 0.9], ids=["greedy", "sampled"])
@pytest.mark.parametrize("draft", DRAFTS)
def test_the_text_is_that_of_plain_decoding(model, draft, temperature):
    options = {"temperature": temperature, "seed": 5, "top_p": 0.95}
    for B in (1, 3):
        ids = some_ids(20, B=B)
        wanted, plain = run(model, ids, **options)
        got, stats = run(model, ids, **options, draft=DRAFTS[draft](wanted), draft_tokens=5)
        assert torch.equal(got, wanted)
        assert plain.passes == plain.tokens == stats.tokens == NEW and plain.tokens_per_pass == 1
        assert stats.accepted <= stats.drafted
        tokens = B * stats.passes + stats.accepted  # of all rows, if none ended before the last pass
        assert tokens == NEW if B == 1 else tokens >= B * NEW
        if draft == "oracle":
            assert stats.accepted == stats.drafted and stats.passes == 1 + -(-(NEW - 1) // 6)


@pytest.mark.parametrize("draft_tokens", [1, 3, 8])
def test_the_head_drafts_and_the_text_stays(draft_tokens):
    model, ids = build("hybrid", num_nextn_predict_layers=1), some_ids(20, B=2)
    for options in ({}, {"temperature": 0.8, "seed": 1}):
        wanted, _ = run(model, ids, **options)
        got, stats = run(model, ids, **options, draft="head", draft_tokens=draft_tokens)
        assert torch.equal(got, wanted) and stats.drafted > 0


def test_the_head_reads_in_pieces_what_it_was_trained_to_read():
    """Its first guess is the one of predict_ahead on the whole text, whatever was accepted before."""
    model, ids = build("hybrid", num_nextn_predict_layers=1), some_ids(33, B=2)
    with torch.no_grad():
        wanted = model.predict_ahead(ids)[1].argmax(-1)  # at t: the token t + 2, from the ids up to t + 1
        features, draft, begin = model.features(ids), HeadDraft(model), 0
        for stop in (20, 21, 24, 30, 32):
            guesses = draft(ids[:, : stop + 1], features[:, begin:stop], 3)
            assert torch.equal(guesses[:, 0], wanted[:, stop - 1]) and guesses.shape == (2, 3)
            begin = stop


def test_padded_rows_draft_and_give_the_texts_of_the_prompts_alone():
    model = build("hybrid", num_nextn_predict_layers=1)
    prompts = [some_ids(T, B=1)[0] for T in (9, 30, 17)]
    ids, left_padding = reference.pad_left(prompts)
    for draft in ("head", "ngrams", never_right):
        together = reference.generate(model, ids, 12, left_padding=left_padding, draft=draft)
        for row, prompt in zip(together, prompts, strict=True):
            assert torch.equal(row[-12:], reference.generate(model, prompt[None], 12)[0, -12:])


def test_a_row_that_has_ended_repeats_its_stop_token_whatever_is_drafted():
    model, ids = build("hybrid"), some_ids(20, B=3)
    free = reference.generate(model, ids, NEW)
    stop = (int(free[0, 20 + 7]),)
    wanted = reference.generate(model, ids, NEW, stop=stop)
    for draft in (Oracle(free), Oracle(wanted), "ngrams"):
        assert torch.equal(reference.generate(model, ids, NEW, stop=stop, draft=draft), wanted)


def test_the_cache_behind_drafts_is_the_one_without_and_a_second_turn_goes_on():
    model, ids, turn = build("mixed"), some_ids(20, B=1), some_ids(6, B=1)
    plain, kept = reference.new_cache(model), reference.new_cache(model, rewind=6)
    wanted = reference.generate(model, ids, 11, cache=plain)
    for draft in (Oracle(wanted, lies=(24, 28)), never_right):
        kept.restore(reference.new_cache(model).snapshot())
        assert torch.equal(reference.generate(model, ids, 11, cache=kept, draft=draft), wanted)
        assert kept.seen == plain.seen and torch.equal(kept.unread, plain.unread)
        before = plain.snapshot(), kept.snapshot()
        more = [reference.generate(model, turn, 9, cache=plain)]
        more += [reference.generate(model, turn, 9, cache=kept, draft=draft, draft_tokens=n) for n in (6,)]
        assert torch.equal(*more)
        plain.restore(before[0]), kept.restore(before[1])


def test_no_more_is_drafted_than_can_be_needed():
    model, ids = build("softmax"), some_ids(9, B=1)
    text = reference.generate(model, ids, 8)
    draft = Oracle(text)
    assert torch.equal(reference.generate(model, ids, 8, draft=draft, draft_tokens=4), text)
    assert draft.asked == [4, 1]  # 1 token of the prompt's pass, 5 of the next, then 2: the last needs no guess
    assert torch.equal(reference.generate(model, ids, 0, draft="ngrams"), ids)


def test_streaming_sees_every_token_in_order():
    model, ids, seen = build("hybrid"), some_ids(9), []
    text = reference.generate(model, ids, 12)
    reference.generate(model, ids, 12, stream=seen.append, draft=Oracle(text, lies=(13,)))
    assert torch.equal(torch.stack(seen, 1), text[:, 9:])


@torch.no_grad()
def four_tokens():
    """A model of four tokens with a head, a prompt, and the probabilities [64] of texts of three tokens behind it."""
    torch.manual_seed(3)
    config = replace(preset("tiny"), vocab_size=4, layer_types=pattern(1, 1, 2), hidden_size=32, initializer_range=0.1)
    config = replace(config, num_nextn_predict_layers=1)
    model, prompt = reference.HybridLM(config).eval(), torch.tensor([[1, 2, 3, 1, 2]])
    texts = torch.cartesian_prod(*[torch.arange(4)] * 3)
    log_p = model(torch.cat([prompt.expand(64, -1), texts], 1)).log_softmax(-1)[:, 4:7]
    p = log_p.gather(2, texts[..., None]).sum((1, 2)).exp()
    assert 0.03 < p.max() < 0.3  # not flat, and no text is nearly certain
    return model, prompt, p


def test_sampled_texts_have_the_models_distribution():
    """Counts of all texts of three tokens over a vocabulary of four, against their probabilities."""
    (model, prompt, p), many = four_tokens(), 400
    common = p * many >= 3  # the others are counted together
    for draft in ("head", lambda ids, features, n: (ids[:, -1:] + torch.arange(1, n + 1)) % 4):
        counts = torch.zeros(64)
        for seed in range(many):
            out = reference.generate(model, prompt, 3, temperature=1.0, seed=seed, draft=draft, draft_tokens=2)[0, 5:]
            counts[out @ torch.tensor([16, 4, 1])] += 1
        seen, wanted = (torch.cat([x[common], x[~common].sum()[None]]) for x in (counts, many * p))
        chi2, freedom = ((seen - wanted) ** 2 / wanted).sum(), len(wanted) - 1
        assert chi2 < freedom + 4 * (2 * freedom) ** 0.5, f"chi2 {chi2:.0f} with {freedom} degrees of freedom"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"draft": "medusa"}, "draft: expected None, 'head', 'ngrams' or a function, got 'medusa'"),
        ({"draft": "head"}, "draft: 'head' needs a model with a multi-token head"),
        ({"draft": "ngrams", "draft_tokens": 0}, "draft_tokens: expected a whole number >= 1, got 0"),
        ({"draft": lambda ids, x, n: ids[:, :1].expand(-1, n + 1)}, r"draft: expected torch.int64 \[1, up to 4\]"),
        ({"draft": lambda ids, x, n: ids[:, 0]}, r"draft: expected torch.int64 \[1, up to 4\], got torch.int64 \[1\]"),
        ({"n": 0}, "n: expected a whole number >= 1, got 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: expected a number > 0, got 0.0"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        reference.generate(build("linear"), some_ids(9), 9, **options)


def test_a_cache_that_cannot_go_back_is_refused_before_any_work():
    model = build("linear")
    cache = reference.new_cache(model, 2, rewind=3)
    with pytest.raises(ValueError, match=r"cache: to take back 4 guesses .* rewind=4\); this one's rewind is 3"):
        reference.generate(model, some_ids(9), 9, cache=cache, draft="ngrams")
    assert cache.seen == 0


def test_the_latest_place_with_the_longest_match_counts():
    draft = NGramDraft(longest=2)
    row = torch.tensor([[1, 2, 7, 8, 9, 2, 5, 6, 1, 2]])
    assert draft(row, None, 3).tolist() == [[7, 8, 9]]
    assert NGramDraft(longest=1)(row, None, 5).tolist() == [[5, 6, 1, 2, 5]]  # and on with what it guessed itself
    assert draft(torch.tensor([[1, 2, 3]]), None, 3).shape == (1, 0)
    assert draft(torch.tensor([[4, 4]]), None, 3).tolist() == [[4, 4, 4]]
    two = torch.tensor([[1, 2, 7, 8, 1, 2], [9, 9, 9, 9, 9, 5]])
    assert draft(two, None, 3).shape == (2, 0)  # a row without a place


def test_samples_share_the_reading_of_the_prompt():
    model = build("mixed", num_nextn_predict_layers=1)
    prompts = [some_ids(T, B=1)[0] for T in (9, 14)]
    ids, left_padding = reference.pad_left(prompts)
    options = {"temperature": 1.0, "seed": 4, "left_padding": left_padding}
    stats = DecodingStats()
    out = reference.generate(model, ids, 8, n=3, stats=stats, **options)
    assert out.shape == (6, 22) and torch.equal(out[:, :14], ids[[0, 0, 0, 1, 1, 1]])
    assert len({tuple(row) for row in out[:3, 14:].tolist()}) == 3
    repeated = {**options, "left_padding": left_padding[[0, 0, 0, 1, 1, 1]]}
    assert torch.equal(out, reference.generate(model, ids[[0, 0, 0, 1, 1, 1]], 8, **repeated))
    assert torch.equal(out, reference.generate(model, ids, 8, n=3, draft="head", **options))
    assert stats.passes == 8


def test_the_repetition_penalty_is_transformers():
    from transformers import RepetitionPenaltyLogitsProcessor

    from reference.model.sampling import penalized

    ids, logits = some_ids(12), torch.randn(2, 256, generator=torch.Generator().manual_seed(0))
    present = torch.zeros(2, 256, dtype=torch.bool).scatter(1, ids, True)
    wanted = RepetitionPenaltyLogitsProcessor(1.3)(ids, logits.clone())
    assert_close(penalized(logits, present, 1.3), wanted)
    model, options = build("hybrid"), {"repetition_penalty": 3.0}
    plain = reference.generate(model, some_ids(9), 30)
    out = reference.generate(model, some_ids(9), 30, **options)
    assert len(set(out[0, 9:].tolist())) > len(set(plain[0, 9:].tolist()))
    assert torch.equal(reference.generate(model, some_ids(9), 30, **options, draft=Oracle(out, lies=(15,))), out)
    padded, left_padding = reference.pad_left([some_ids(9)[0], some_ids(4)[1]], pad_id=int(out[1, 20]))
    row = reference.generate(model, padded, 12, **options, left_padding=left_padding)[1, 9:]
    assert torch.equal(row, reference.generate(model, some_ids(4)[1:], 12, **options)[0, 4:])


def test_a_stop_string_ends_its_row():
    model, ids, decode = build("hybrid"), some_ids(9, B=1), lambda ids: "".join(chr(0x100 + i) for i in ids)
    free = reference.generate(model, ids, 30)
    text = decode(free[0, 9:].tolist())
    string = text[10:13]
    until = StopStrings(decode, [string, "never"])
    out = reference.generate(model, ids, 30, until=until)
    assert decode(out[0, 9:].tolist()) == text[: text.index(string) + 3]
    assert torch.equal(reference.generate(model, ids, 30, until=until, draft=Oracle(free)), out)
    assert until(torch.tensor([[1, 2], [3, 4]])).tolist() == [False, False]
    for strings in ("ab", [""], [3]):
        with pytest.raises(ValueError, match="strings: expected a list of strings, none of them empty"):
            StopStrings(decode, strings)
