"""One hybrid model, many ways to run it: all give the same logits."""

from dataclasses import replace

import pytest
import torch

import reference
from reference.layers.mlp import MixtureOfExperts, collect_routing, load_balancing_loss
from reference.model.config import HybridConfig, pattern, preset

STACKS = {
    "hybrid": pattern(3, 1, 4),
    "softmax": ("full_attention",) * 2,
    "linear": ("linear_attention",) * 2,
    "mixed": ("kda", "lightning_attention", "sliding_attention", "linear_attention"),
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 16,
}


def build(stack, **changes):
    torch.manual_seed(0)
    config = replace(preset("tiny"), layer_types=STACKS[stack], sliding_window=7, hidden_size=64, **changes)
    return reference.HybridLM(config).eval()


def some_ids(T, B=2):
    return torch.randint(0, 256, (B, T), generator=torch.Generator().manual_seed(T))


def assert_close(got, wanted):
    assert ((got - wanted).abs().max() / wanted.abs().max()).item() < 1e-5


@pytest.mark.parametrize("T", [1, 63, 64, 65, 129])
@pytest.mark.parametrize("stack", STACKS)
@torch.no_grad()
def test_prefill_in_pieces_and_token_by_token_give_the_uncached_logits(stack, T):
    model, ids = build(stack), some_ids(T)
    whole = model(ids)
    for sizes in ([T], [T // 2, T - T // 2], [T - min(T, 5), *[1] * min(T, 5)]):
        cache, parts, start = reference.new_cache(model, 2), [], 0
        for n in filter(None, sizes):
            parts.append(model(ids[:, start : start + n], cache=cache))
            start += n
        assert_close(torch.cat(parts, 1), whole)
        assert cache.seen == T


@pytest.mark.parametrize("experts", [{}, EXPERTS], ids=["dense", "experts"])
@pytest.mark.parametrize("stack", STACKS)
@torch.no_grad()
def test_packed_texts_are_read_as_if_alone(stack, experts):
    model, lengths = build(stack, **experts), [1, 63, 64, 65, 129]
    texts = [some_ids(T, B=1) for T in lengths]
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    packed = model(torch.cat(texts, 1), cu_seqlens=bounds)
    for ids, logits in zip(texts, packed.split(lengths, 1), strict=True):
        assert_close(logits, model(ids))


@pytest.mark.parametrize("stack", STACKS)
@torch.no_grad()
def test_left_padded_rows_give_the_logits_of_the_texts_alone(stack):
    model, lengths = build(stack), [65, 1, 64, 20]
    texts = [some_ids(T, B=1)[0] for T in lengths]
    ids, left_padding = reference.pad_left(texts, pad_id=7)
    more = some_ids(9, B=4)
    cache = reference.new_cache(model, 4)
    padded = [model(ids, cache=cache, left_padding=left_padding)]
    padded += [model(piece, cache=cache) for piece in more.split([1, 1, 7], 1)]
    padded = torch.cat(padded, 1)
    for b, (text, skip) in enumerate(zip(texts, left_padding.tolist(), strict=True)):
        alone = model(torch.cat([text, more[b]])[None])
        assert padded[b, skip:].isfinite().all()
        assert_close(padded[b : b + 1, skip:], alone)
    assert cache.snapshot().left_padding is left_padding


@torch.no_grad()
def test_ragged_prompts_are_continued_as_one_by_one():
    model = build("hybrid")
    prompts = [some_ids(T, B=1)[0] for T in (5, 30, 17)]
    ids, left_padding = reference.pad_left(prompts)
    together = reference.generate(model, ids, 12, left_padding=left_padding)
    for row, prompt in zip(together, prompts, strict=True):
        assert torch.equal(row[-12:], reference.generate(model, prompt[None], 12)[0, -12:])


@pytest.mark.parametrize(
    "arguments,kind,message",
    [
        ({"left_padding": torch.tensor([0, 9])}, ValueError, "left_padding: expected 0 to T - 1 = 8, got 0 to 9"),
        ({"left_padding": torch.tensor([0])}, ValueError, r"left_padding: expected \[B\] = \[2\], got \[1\]"),
        ({"left_padding": [0, 1]}, TypeError, "left_padding: expected an int32 or int64 tensor"),
        ({"cu_seqlens": torch.tensor([0, 9])}, ValueError, "cu_seqlens: packed sequences need batch size B = 1, got 2"),
    ],
)
def test_rows_that_do_not_fit_are_named(arguments, kind, message):
    with pytest.raises(kind, match=message):
        build("hybrid")(some_ids(9), **arguments)


def test_padding_comes_with_the_first_tokens_and_packed_texts_take_no_cache():
    model = build("hybrid")
    cache = reference.new_cache(model, 2)
    model(some_ids(9), cache=cache)
    with pytest.raises(ValueError, match="left_padding: give it with the first tokens"):
        model(some_ids(3), cache=cache, left_padding=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="cu_seqlens: packed texts take no cache"):
        model(some_ids(9, B=1), cache=reference.new_cache(model), cu_seqlens=torch.tensor([0, 9]))
    with pytest.raises(ValueError, match="prompts: expected at least one"):
        reference.pad_left([])


@pytest.mark.parametrize("experts", [{}, EXPERTS], ids=["dense", "experts"])
@torch.no_grad()
def test_a_second_turn_continues_a_filled_cache(experts):
    model, ids = build("hybrid", **experts), some_ids(80, B=1)
    cache = reference.new_cache(model)
    first = reference.generate(model, ids[:, :30], 5, cache=cache)
    turn = torch.cat([first[:, -1:], ids[:, 40:60]], 1)  # the last token was produced, not yet read
    assert_close(model(turn, cache=cache)[:, -1], model(torch.cat([first, ids[:, 40:60]], 1))[:, -1])


@torch.no_grad()
def test_a_snapshot_restores_a_prefix():
    model, ids = build("hybrid"), some_ids(50, B=1)
    cache = reference.new_cache(model)
    model(ids[:, :30], cache=cache)
    prefix = cache.snapshot()
    once = model(ids[:, 30:], cache=cache)
    cache.restore(prefix)
    assert cache.seen == 30
    assert torch.equal(model(ids[:, 30:], cache=cache), once)


@torch.no_grad()
def test_only_softmax_layers_grow():
    sizes = {}
    for stack in ("hybrid", "linear", "softmax"):
        model = build(stack)
        for T in (20, 40):
            cache = reference.new_cache(model)
            model(some_ids(T, B=1), cache=cache)
            sizes[stack, T] = cache.nbytes()
    assert sizes["linear", 20] == sizes["linear", 40]
    assert sizes["softmax", 40] == 2 * sizes["softmax", 20]
    growth = {stack: sizes[stack, 40] - sizes[stack, 20] for stack in ("hybrid", "softmax")}
    assert growth["hybrid"] * 2 == growth["softmax"]  # one softmax layer of four, against two of two


@torch.no_grad()
def test_an_error_inside_leaves_the_cache_as_it_was():
    model = build("hybrid")
    cache = reference.new_cache(model)
    model(some_ids(10, B=1), cache=cache)
    before = cache.snapshot()
    with pytest.raises(ValueError, match="ids: expected 0 to vocab_size - 1 = 255, got 0 to 256"):
        model(torch.tensor([[0, 256]]), cache=cache)
    model.layers[-1].mlp.forward = None
    with pytest.raises(TypeError):
        model(some_ids(3, B=1), cache=cache)
    assert cache.seen == 10 and all(a is b for a, b in zip(cache.states, before.states, strict=True))


@torch.no_grad()
def test_the_model_is_causal():
    model, ids = build("mixed"), some_ids(40)
    other = ids.clone()
    other[:, 25] = (ids[:, 25] + 1) % 256
    before, after = model(ids), model(other)
    assert torch.allclose(before[:, :25], after[:, :25], atol=1e-6)
    assert not torch.allclose(before[:, 25:], after[:, 25:], atol=1e-3)


@pytest.mark.parametrize("stack", STACKS)
def test_every_parameter_gets_a_gradient(stack):
    model = build(stack, **EXPERTS)
    model(some_ids(64)).square().mean().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing


def test_tied_embeddings_are_one_parameter():
    tied, untied = build("hybrid"), build("hybrid", tie_word_embeddings=False)
    assert tied.lm_head.weight is tied.embed_tokens.weight
    count = {name: sum(p.numel() for p in m.parameters()) for name, m in (("tied", tied), ("untied", untied))}
    assert count["untied"] - count["tied"] == 256 * 64


def test_experts_are_the_weighted_sum_of_the_chosen_ones():
    torch.manual_seed(0)
    moe = MixtureOfExperts(8, 16, 5, 2, d_shared=4)
    x = torch.randn(2, 7, 8)
    logits = moe.gate(x)
    weights, chosen = logits.softmax(-1).topk(2)
    weights = weights / weights.sum(-1, keepdim=True)
    for b in range(2):
        for t in range(7):
            wanted = moe.shared_expert_gate(x[b, t]).sigmoid() * moe.shared_expert(x[b, t])
            for w, e in zip(weights[b, t], chosen[b, t], strict=True):
                gate, up = (moe.gate_up_proj[e] @ x[b, t]).chunk(2)
                wanted = wanted + w * (moe.down_proj[e] @ (torch.nn.functional.silu(gate) * up))
            assert torch.allclose(moe(x)[b, t], wanted, atol=1e-5)
    with collect_routing() as found:
        moe(x)
    (routing,) = found
    balanced = routing._replace(
        logits=torch.zeros(5, 5), experts=torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0]])
    )
    assert load_balancing_loss(balanced).item() == pytest.approx(2.0)
    assert load_balancing_loss(balanced._replace(logits=5.0 * torch.eye(5)[0].expand(5, 5))).item() == pytest.approx(
        2.0
    )
    assert load_balancing_loss(routing).item() > 1.9


BAD = {
    "layer_types": ({"layer_types": ("full_attention", "mamba")}, r"layer_types\[1\]: expected one of .* got 'mamba'"),
    "no layers": ({"layer_types": ()}, "layer_types: expected at least one layer"),
    "heads": ({"num_key_value_heads": 3}, "num_attention_heads: expected a multiple of num_key_value_heads = 3, got 4"),
    "window": ({"layer_types": ("sliding_attention",)}, "sliding_window: expected a whole number >= 1, got None"),
    "size": ({"hidden_size": 0}, "hidden_size: expected a whole number >= 1, got 0"),
    "linear": ({"linear_num_value_heads": 0}, "linear_num_value_heads: expected a whole number"),
    "rotary": ({"partial_rotary_factor": 1.5}, "partial_rotary_factor: expected 0 to 1, got 1.5"),
    "experts": ({"num_experts": 4}, "num_experts_per_tok: expected a whole number"),
    "a word for a number": ({"rms_norm_eps": "x"}, "rms_norm_eps: expected a finite number, got 'x'"),
    "a word for a switch": ({"zero_centered_norm": "x"}, "zero_centered_norm: expected True or False, got 'x'"),
    "infinity": ({"rope_theta": float("inf")}, "rope_theta: expected a finite number, got inf"),
    "no kinds": ({"layer_types": ([],)}, r"layer_types: expected a list of names, got \(\[\],\)"),
    "scaling": ({"rope_scaling": 5}, "rope_scaling: expected a RopeScaling, its fields or None, got 5"),
    "inside scaling": ({"rope_scaling": {"beta_fast": "x"}}, "beta_fast: expected a finite number, got 'x'"),
}


@pytest.mark.parametrize("changes, message", BAD.values(), ids=BAD)
def test_a_bad_config_names_its_field(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(preset("tiny"), **changes)


def test_a_config_goes_through_a_dictionary_and_back():
    config = preset("laptop")
    assert HybridConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match=r"unknown field\(s\) \['depth'\]"):
        HybridConfig.from_dict(config.to_dict() | {"depth": 3})
    assert pattern(3, 1, 8) == ("linear_attention",) * 3 + ("full_attention",) + ("linear_attention",) * 3 + (
        "full_attention",
    )
    with pytest.raises(ValueError, match="layers: expected a multiple of linear"):
        pattern(3, 1, 6)


def test_bad_calls_are_named():
    model = build("softmax")
    with pytest.raises(TypeError, match="ids: expected an int32 or int64 tensor"):
        model(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="ids: expected at least one token"):
        model(torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"cache: holds 1 row\(s\), ids has 2"):
        model(some_ids(3), cache=reference.new_cache(model))
    with pytest.raises(ValueError, match="batch_size: expected a whole number >= 1, got 0"):
        reference.new_cache(model, 0)
