"""Counted before it is built, measured after: the same parameters and the same bytes."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import reference
from reference.__main__ import main
from reference.checkpoints.published import PUBLISHED, published_config
from reference.config import preset
from reference.costs import (
    bytes_of_cache,
    config_summary,
    count_parameters,
    decode_work,
    layer_cache_bytes,
    mixing_flops,
    prefill_flops,
)
from reference.ledger import H200, decode_seconds, ledger
from tests.model.test_model import EXPERTS, STACKS, build, some_ids


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("tokens", [1, 6, 7, 40])
@torch.no_grad()
def test_cache_bytes_are_those_of_a_filled_cache(stack, tokens):
    model = build(stack)
    cache = reference.new_cache(model)
    for piece in some_ids(tokens, B=1).split(5, 1):
        model(piece, cache=cache)
    assert cache.nbytes() == bytes_of_cache(model.config, tokens, element_bytes=4)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("experts", [{}, EXPERTS], ids=["dense", "experts"])
def test_parameters_are_those_of_the_model(stack, experts):
    model = build(stack, **experts)
    counts = count_parameters(model.config)
    assert counts.total == sum(p.numel() for p in model.parameters())
    if experts:
        routed = [p for layer in model.layers for p in (layer.mlp.gate_up_proj, layer.mlp.down_proj)]
        share = sum(p.numel() for p in routed) // 2  # 2 of 4 experts
        assert counts.active == counts.total - share
    else:
        assert counts.active == counts.total


def test_the_summary_names_every_layer_and_the_totals():
    config = replace(preset("tiny"), **EXPERTS)
    text = config_summary(config, context=1024)
    assert text.count("linear_attention") == 3 and text.count("full_attention") == 1
    assert f"{count_parameters(config).total:,}" in text and "active for a token" in text
    assert layer_cache_bytes(config, 3, 1024) == 2 * config.num_key_value_heads * config.head_dim * 1024 * 2


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_prompt_is_the_sum_of_its_tokens(family):
    config, n = published_config(family), 2500  # beyond DeepSeek's 2,048 and every window
    everything = prefill_flops(config, n)
    mixing = sum(
        config.layer_types.count(kind) * sum(mixing_flops(config, layer, t, chunked=True) for t in range(n))
        for kind in set(config.layer_types)
        for layer in [config.layer_types.index(kind)]
    )
    weights = decode_work(config, 0).weight_bytes / 2
    head = config.hidden_size * config.vocab_size
    assert everything == pytest.approx(mixing + 2 * (weights - head) * n + 2 * head, rel=1e-9)


def test_formula_and_counter_agree_on_a_softmax_model():
    # without the gate no matrix is large enough for oneDNN, whose products the counter doesn't know
    config, n = replace(preset("tiny"), layer_types=("full_attention",) * 2, attention_gate=None), 96
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        reference.HybridLM(config).eval()(torch.zeros(1, n, dtype=torch.long))
    heads = 2 * config.hidden_size * config.vocab_size * (n - 1)  # logits at every token
    masked = 2 * 4 * config.num_attention_heads * config.head_dim * n * (n - 1) / 2  # the counter has the whole square
    assert prefill_flops(config, n) + heads + masked == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_ledger(capsys):
    entry = ledger("qwen3_next", 262_144)
    assert entry["crossover_tokens"] == {"linear_attention": 1049}
    assert entry["decode_flops"] == decode_work(published_config("qwen3_next"), 262_144).flops
    one, many = (decode_seconds(published_config("kimi_linear"), 1024, H200, batch_size=b) for b in (1, 4096))
    assert one < many < 4096 * one  # texts share weights
    assert main(["cost", "--family", "kimi_linear", "--context", "1000"]) == 0
    assert "kda from 1,885 tokens on" in capsys.readouterr().out
    assert main(["cost", "--family", "llama", "--context", "1000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cache_bytes"] == 1000 * 32 * 2 * 8 * 128 * 2
    with pytest.raises(SystemExit):
        main(["cost", "--family", "llama", "--context", "0"])
    assert "context: expected a whole number >= 1, got 0" in capsys.readouterr().err
