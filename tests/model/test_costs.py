"""Counted before it is built, measured after: the same parameters and the same bytes."""

from dataclasses import replace

import pytest
import torch

import reference
from reference.config import preset
from reference.costs import bytes_of_cache, config_summary, count_parameters, layer_cache_bytes
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
