"""A softmax model made a hybrid: what is carried over, that it imitates, and that it is a model like any other."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import reference
from reference.checkpoints.trained import load_model
from reference.model.config import HybridConfig
from reference.training.convert import convert, converted_layers, distil, distil_layers, layer_errors, put_back

IDS = torch.randint(0, 40, (2, 24), generator=torch.Generator().manual_seed(0))
CONFIG = HybridConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=48,
    layer_types=("short_conv",) + ("full_attention",) * 3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    initializer_range=0.2,
    tie_word_embeddings=True,
)


def model_of(config=CONFIG):
    torch.manual_seed(0)
    return reference.HybridLM(config).eval()


@torch.no_grad()
def test_with_all_layers_kept_the_logits_are_the_models_and_the_weights_are_copies():
    model = model_of()
    same = convert(model, keep=[1, 2, 3])
    assert same.config == model.config and torch.equal(same(IDS), model(IDS))
    same.embed_tokens.weight.zero_()
    assert model.embed_tokens.weight.abs().sum() > 0


@pytest.mark.parametrize("gate", [None, "elementwise", "headwise"])
def test_q_k_v_and_o_are_carried_over_exactly_with_grouped_heads(gate):
    """Also through the layers: the conv is the identity at first, so a token's q, k and v are silu of the old ones."""
    model = model_of(replace(CONFIG, attention_gate=gate, qk_norm=None, partial_rotary_factor=0.0))
    student = convert(model, keep=[2])
    assert student.config.layer_types == ("short_conv", "linear_attention", "full_attention", "linear_attention")
    h = torch.randn(1, 5, 32)
    for n in (1, 3):
        old, new = model.layers[n].mixer.heads(h), student.layers[n].mixer.project(h)
        silu = torch.nn.functional.silu
        torch.testing.assert_close(new.q, silu(old.q))
        torch.testing.assert_close(new.k, silu(old.k.repeat_interleave(2, 2)))
        torch.testing.assert_close(new.v, silu(old.v.repeat_interleave(2, 2)))
        assert torch.equal(student.layers[n].mixer.out_proj.weight, model.layers[n].mixer.o_proj.weight)
    for name, p in model.named_parameters():  # all else is the model's
        if "layers.1.mixer" not in name and "layers.3.mixer" not in name:
            assert torch.equal(student.get_parameter(name), p), name


def test_layers_learn_to_imitate_and_nothing_else_changes():
    model, batches = model_of(), [IDS] * 30
    student = convert(model, keep=[3])
    before = {name: p.clone() for name, p in student.named_parameters()}
    errors = distil_layers(student, model, batches, lr=1e-2)
    assert len(errors) == 30 and len(errors[0]) == 2
    assert all(last < 0.5 * first for first, last in zip(errors[0], errors[-1], strict=True))
    with torch.no_grad():
        again = layer_errors(student, model, IDS)
    assert all(x < 0.5 * first for x, first in zip(again, errors[0], strict=True))
    for name, p in student.named_parameters():
        assert torch.equal(p, before[name]) != (name.startswith(("layers.1.mixer", "layers.2.mixer"))), name
    assert all(p.grad is None for p in model.parameters())
    assert distil_layers(convert(model, keep=[1, 2, 3]), model, batches, lr=1e-2) == []


def test_the_whole_model_is_drawn_towards_the_teacher():
    model, looks = model_of(), []
    gaps = distil(student := convert(model, keep=[2]), model, [IDS] * 30, lr=3e-3, look=looks.append)
    assert gaps[-1] < 0.3 * gaps[0] and looks == list(range(1, 31))
    p, q = (m(IDS).log_softmax(-1) for m in (model, student))
    assert abs((p.exp() * (p - q)).sum(-1).mean().item() - gaps[-1]) < 0.2 * gaps[0]
    same = distil(convert(model, keep=[1, 2, 3]), model, [IDS], lr=1e-9)
    assert abs(same[0]) < 1e-6


@torch.no_grad()
def test_layers_are_put_back_without_training_again():
    model = model_of()
    linear = convert(model, keep=[])
    linear.layers[1].mixer.in_proj_z.weight.fill_(0.5)
    mixed = put_back(linear, model, keep=[2, 3])
    assert converted_layers(model, mixed) == [1]
    assert torch.equal(mixed.layers[1].mixer.in_proj_z.weight, linear.layers[1].mixer.in_proj_z.weight)
    assert torch.equal(mixed.layers[2].mixer.q_proj.weight, model.layers[2].mixer.q_proj.weight)
    with pytest.raises(ValueError, match="student: its layer 3 is full_attention"):
        put_back(convert(model, keep=[3]), model, keep=[])


@torch.no_grad()
def test_a_converted_model_saves_loads_caches_and_generates(tmp_path):
    student = convert(model_of(), keep=[2])
    (tmp_path / "config.json").write_text(json.dumps(student.config.to_dict()))
    save_file({name: p.detach().contiguous() for name, p in student.named_parameters()}, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path)
    assert torch.equal(loaded(IDS), student(IDS))
    cache = reference.new_cache(loaded, 2)
    parts = torch.cat([loaded(IDS[:, :10], cache=cache), loaded(IDS[:, 10:], cache=cache)], 1)
    torch.testing.assert_close(parts, student(IDS), rtol=1e-4, atol=1e-4)
    text = reference.generate(student, IDS, 6)
    for t in range(24, 30):
        assert torch.equal(student(text[:, :t])[:, -1].argmax(-1), text[:, t])


def test_a_hybrid_is_converted_further():
    model = model_of()
    once = convert(model, keep=[2])
    twice = convert(once, keep=[])
    assert torch.equal(twice.layers[1].mixer.in_proj_z.weight, once.layers[1].mixer.in_proj_z.weight)
    assert twice.config.layer_types == ("short_conv",) + ("linear_attention",) * 3


@pytest.mark.parametrize(
    ("changes", "keep", "sentence"),
    [
        ({}, [0], r"keep: expected indices of full_attention layers, \[1, 2, 3\], got 0"),
        ({}, [4], "keep: .* got 4"),
        ({}, [1.0], "keep: .* got 1.0"),
        ({"attention_bias": True}, [1], "model: attention_bias has no counterpart"),
        ({"softmax_norm_after": True, "layer_types": ("full_attention",) * 3}, [1], "model: softmax_norm_after"),
        (
            {
                "layer_types": ("full_attention", "linear_attention"),
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
            },
            [],
            "model: its linear layers have linear_num_key_heads = 2, and its softmax layers need 4",
        ),
    ],
)
def test_what_cant_be_converted_is_named(changes, keep, sentence):
    with pytest.raises(ValueError, match=sentence):
        convert(model_of(replace(CONFIG, **changes)), keep)


def test_two_models_of_different_depth_are_refused():
    short = model_of(CONFIG.with_layers(("full_attention",)))
    with pytest.raises(ValueError, match="student: expected 4 layers as in the teacher, got 1"):
        converted_layers(model_of(), short)
