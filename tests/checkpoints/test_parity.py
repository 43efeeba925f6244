"""Every family: transformers builds and saves a model, we load it, and it computes the same."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

import reference
from reference.checkpoints.families import FAMILIES
from tests.checkpoints.tiny import PLAIN, VARIANTS, build, difference, some_ids

BOUND = 1e-3  # of the logits' standard deviation
BOUND_BF16 = 0.1  # the median difference; both round every product to 8 bits, in different places
PIECES = [9, 1, 1, 12, 2, 1, 15]
FORGETFUL = ("recurrent_gemma", "mamba", "falcon_mamba", "jamba")  # see test_why_others_are_left_out


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request, tmp_path_factory):
    """(transformers' model, ours, the folder)"""
    theirs = build(request.param)
    folder = tmp_path_factory.mktemp("checkpoint")
    theirs.save_pretrained(folder)
    return theirs, reference.load_pretrained(folder), folder


def test_every_family_is_here():
    assert set(PLAIN) == {family.name for family in FAMILIES} and len(PLAIN) >= 10
    assert {kind for kind, _ in VARIANTS.values()} == set(PLAIN)


@torch.no_grad()
def test_logits(pair):
    theirs, ours, _ = pair
    ids = some_ids()
    wanted = theirs(ids).logits
    assert wanted.std() > 0.1
    assert difference(ours(ids), wanted) < BOUND


@torch.no_grad()
def test_a_cache_fed_in_ragged_pieces(pair):
    theirs, ours, _ = pair
    ids, cache, past = some_ids(length=sum(PIECES), seed=1), reference.new_cache(ours, 2), None
    whole = theirs(ids).logits.split(PIECES, 1)
    argument = "cache_params" if theirs.config.model_type == "mamba2" else "past_key_values"
    places = torch.arange(sum(PIECES))[None].split(PIECES, 1)
    for piece, wanted, place in zip(ids.split(PIECES, 1), whole, places, strict=True):
        got = ours(piece, cache=cache)
        assert difference(got, wanted) < BOUND
        if ours.config.layer_types[0] != "lightning_attention" and theirs.config.model_type not in FORGETFUL:
            more = {argument: past}
            if theirs.config.model_type == "bamba":  # left to itself, 5.23 counts a second piece's positions from 0
                more["position_ids"] = place
            out = theirs(piece, **more, use_cache=True)
            past = out[argument]
            assert difference(got, out.logits) < BOUND


@torch.no_grad()
def test_why_one_cache_of_transformers_is_left_out(tmp_path):
    """MiniMax with a lightning layer first, as published: transformers 5.23 asks that layer how many tokens were seen,
    hears 0, and a second piece of more than one token is masked as if it were the first. If this fails, compare it."""
    theirs, ids = build("minimax, 7:1, scaled"), some_ids(length=30)
    first = theirs(ids[:, :15], use_cache=True)
    assert first.past_key_values.get_seq_length() == 0
    second = theirs(ids[:, 15:], past_key_values=first.past_key_values, use_cache=True)
    assert difference(second.logits, theirs(ids).logits[:, 15:]) > 0.1


@torch.no_grad()
@pytest.mark.parametrize("family", FORGETFUL)
def test_why_others_are_left_out(family):
    """transformers 5.23 reads a second piece of more than one token as if nothing stood before it: RecurrentGemma's
    convolution, Mamba-1's scan. If this fails, compare it."""
    theirs, ids = build(family), some_ids(length=30)
    past = DynamicCache(config=theirs.config)
    argument = "cache_params" if "mamba" in family else "past_key_values"
    keywords = {argument: past, "use_cache": True}
    first, second = (theirs(piece, **keywords).logits for piece in ids.split(15, 1))
    whole = theirs(ids).logits
    assert difference(first, whole[:, :15]) < BOUND and difference(second, whole[:, 15:]) > 0.01


@torch.no_grad()
def test_the_same_greedy_text(pair):
    theirs, ours, _ = pair
    ids = some_ids(batch=1, length=13, seed=2)
    wanted = theirs.generate(ids, max_new_tokens=24, do_sample=False, attention_mask=torch.ones_like(ids))
    assert reference.generate(ours, ids, 24).tolist() == wanted.tolist()


@torch.no_grad()
def test_in_bfloat16(pair, tmp_path):
    theirs, _, _ = pair
    rounded = type(theirs)(theirs.config).eval()
    rounded.load_state_dict(theirs.state_dict())
    rounded.to(torch.bfloat16).save_pretrained(tmp_path)
    ours = reference.load_pretrained(tmp_path)
    assert {p.dtype for p in ours.parameters()} == {torch.bfloat16}
    exact = reference.load_pretrained(tmp_path, dtype=torch.float32)  # the same rounded weights, exact arithmetic
    ids = some_ids(seed=3)
    wanted, middle = AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, exact(ids)
    typical = (wanted.float() - middle).abs().median()  # how far transformers itself is from exact arithmetic
    assert (ours(ids).float() - middle).abs().median() < 2 * typical
    assert (ours(ids).float() - wanted.float()).abs().median() / middle.std() < BOUND_BF16


@torch.no_grad()
def test_what_we_save_transformers_opens(pair, tmp_path):
    theirs, ours, _ = pair
    reference.save_pretrained(ours, tmp_path, family=theirs.config.model_type)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is type(theirs)
    ids = some_ids(seed=4)
    assert difference(again(ids).logits, theirs(ids).logits) < 1e-5
    assert torch.equal(reference.load_pretrained(tmp_path)(ids), ours(ids))
