"""Counted before it is built, measured after: the same parameters and the same bytes."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import reference
from reference.__main__ import main
from reference.bench.ledger import count_mixers
from reference.bench.mixers import ALL_NAMES, mixer_config
from reference.checkpoints.published import ALL_PUBLISHED, published_config
from reference.commands.cost import H200, decode_seconds, ledger, texts_that_fit, time_crossover
from reference.model.config import preset
from reference.model.costs import (
    bytes_of_cache,
    config_summary,
    count_parameters,
    crossover_tokens,
    decode_work,
    layer_cache_bytes,
    layer_decode_work,
    mixing_flops,
    prefill_flops,
)
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


@pytest.mark.parametrize("family", ALL_PUBLISHED)
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


@pytest.fixture(scope="module")
def counted():
    return count_mixers(512, names=ALL_NAMES)  # beyond window and top_k


@pytest.mark.parametrize("name", ALL_NAMES)
def test_formula_and_count_agree_for_every_mixer(counted, name):
    row = counted[name]
    assert row["held_bytes"][0] == row["held_bytes"][1]
    assert row["decode_flops"][0] == pytest.approx(row["decode_flops"][1], rel=0.01)
    paper, ran = row["prefill_flops"]
    if name in ("window", "sparse MLA"):  # pairs are computed that a mask hides, or on the longer latents
        assert paper < ran < 1.4 * paper
    else:
        assert paper == pytest.approx(ran, rel=0.03)


@pytest.mark.parametrize("name", ["softmax", "softmax, 2 key heads", "window"])
def test_attention_touches_the_bytes_that_the_formula_has(counted, name):
    least, touched = counted[name]["operator_bytes"]
    assert least == pytest.approx(touched, rel=0.1)


@pytest.mark.parametrize("name", ["Gated DeltaNet", "KDA", "lightning"])
def test_a_linear_step_of_separate_operations_passes_over_its_state_five_times(counted, name):
    heads, D = 8, 64
    assert counted[name]["operator_bytes"][1] == pytest.approx(5 * heads * D * D * 4, rel=0.15)  # q, k, v on top


def test_a_softmax_layers_step_copies_its_cache(counted):
    least, touched = counted["softmax"]["layer_bytes"]
    assert touched == pytest.approx(3 * least, rel=0.1)  # read and written by the copy, read by attention


def test_absorbed_matrices_are_counted_once():
    config = published_config("kimi_linear")
    layer = config.layer_types.index("latent_attention")
    without_text = mixing_flops(config, layer, 0, chunked=False)
    assert without_text == 2 * 32 * (2 * 512 + 64)
    assert layer_decode_work(config, layer, 0).flops == layer_decode_work(config, layer, 0).weight_bytes + without_text


def test_the_crossover_is_where_the_bytes_cross():
    for family in ALL_PUBLISHED:
        config = published_config(family)
        for kind, n in crossover_tokens(config).items():
            linear = config.layer_types.index(kind)
            softmax = next(
                i for i, other in enumerate(config.layer_types) if other.endswith("full_attention") or "lat" in other
            )
            held = [layer_cache_bytes(config, softmax, m) > layer_cache_bytes(config, linear, m) for m in (n - 1, n)]
            assert held == [False, True]


@pytest.mark.parametrize("batch_size", [1, 64])
def test_the_crossover_in_time_is_where_the_times_cross(batch_size):
    config = published_config("qwen3_next")
    n = time_crossover(config, H200, batch_size=batch_size)["linear_attention"]

    def seconds(layer, tokens):
        work = layer_decode_work(config, layer, tokens)
        return (work.weight_bytes + batch_size * work.state_bytes) / H200.bandwidth

    assert seconds(0, n) < seconds(3, n) and seconds(0, n - 1) >= seconds(3, n - 1)


def test_more_texts_bring_the_crossover_nearer():
    config = published_config("kimi_linear")
    near = [time_crossover(config, H200, batch_size=b)["kda"] for b in (1, 8, 64, 512)]
    assert near == sorted(near, reverse=True)
    assert near[-1] > 1.9 * crossover_tokens(config)["kda"]  # a state is read and written
    assert time_crossover(published_config("llama"), H200) == {}
    tiny_cache = replace(config, kv_lora_rank=1, qk_rope_head_dim=0)  # two bytes a token
    assert time_crossover(tiny_cache, H200)["kda"] is None


def test_what_fits_fits():
    config = published_config("kimi_linear")
    n = texts_that_fit(config, 100_000, H200)
    used = 2 * count_parameters(config).total
    assert used + n * bytes_of_cache(config, 100_000) <= H200.memory < used + (n + 1) * bytes_of_cache(config, 100_000)
    assert texts_that_fit(published_config("qwen3_next"), 1000, H200) == 0


def test_names_of_mixers_are_checked():
    with pytest.raises(ValueError, match=r"name: expected one of .*'softmax'.*, got 'mamba'"):
        mixer_config("mamba")


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
    assert main(["cost", "--family", "qwen3_next", "--context", "1000", "--batch", "64"]) == 0
    printed = capsys.readouterr().out
    assert "next token of 64 texts" in printed and "64 texts at a time" in printed
    with pytest.raises(SystemExit):
        main(["cost", "--family", "llama", "--context", "10", "--batch", "0"])
    assert "batch_size: expected a whole number >= 1, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["cost", "--family", "llama", "--context", "0"])
    assert "context: expected a whole number >= 1, got 0" in capsys.readouterr().err
