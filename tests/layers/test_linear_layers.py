"""Gated DeltaNet, KDA and lightning attention as layers: transformers' modules with the same weights; states."""

from itertools import pairwise

import pytest
import torch
from transformers import AutoConfig
from transformers.models.kimi_linear.modeling_kimi_linear import KimiLinearDeltaAttention
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from reference.layers import GatedDeltaNet, KimiDeltaAttention, LightningAttention
from reference.layers.batch import BatchLayout
from reference.layers.gates import initial_A_log, initial_dt_bias, log_decay
from reference.layers.lightning import decay_slopes

LENGTHS = [1, 2, 63, 65, 300]


def randomized(module):
    with torch.no_grad():
        for p in module.parameters():
            p.uniform_(-0.3, 0.3)
    return module


def relative(got, wanted):
    return ((got - wanted).abs().max() / wanted.abs().max()).item()


def gated_deltanet():
    sizes = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16}
    config = AutoConfig.for_model("qwen3_5_text", hidden_size=32, linear_value_head_dim=8, num_hidden_layers=4, **sizes)
    return randomized(Qwen3_5GatedDeltaNet(config, 0)), GatedDeltaNet(32, 2, 4, 16, 8)


def kda():
    config = AutoConfig.for_model(
        "kimi_linear", hidden_size=32, linear_head_dim=8, linear_num_heads=4, num_hidden_layers=5
    )
    theirs = randomized(KimiLinearDeltaAttention(config, 0))
    return theirs, KimiDeltaAttention(32, 4, 8, norm_eps=config.rms_norm_eps)


def lightning():
    config = AutoConfig.for_model("minimax", hidden_size=32, num_attention_heads=4, head_dim=8, num_hidden_layers=4)
    theirs = randomized(MiniMaxLightningAttention(config, 1))
    return (lambda x: theirs(x, None, None)[0]), LightningAttention(32, 4, 8, layer=1, n_layers=4), theirs


PAIRS = {"gated_deltanet": gated_deltanet, "kda": kda, "lightning": lightning}


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("name", PAIRS)
def test_outputs_are_those_of_transformers_with_the_same_weights(name, T):
    torch.manual_seed(0)
    theirs, ours, *module = PAIRS[name]()
    weights = (module[0] if module else theirs).state_dict()
    ours.load_state_dict({key: x for key, x in weights.items() if "decay" not in key and "slope" not in key})
    x = torch.randn(2, T, 32)
    with torch.no_grad():
        assert relative(ours(x)[0], theirs(x)) < 1e-5


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_a_text_in_pieces_gives_the_whole_and_leaves_the_states_alone(name, grad):
    torch.manual_seed(1)
    ours = PAIRS[name]()[1]
    x = torch.randn(2, 70, 32)
    with torch.set_grad_enabled(grad):
        whole, end = ours(x)
        state, outputs, start = None, [], 0
        for n in (1, 3, 1, 1, 60, 4):
            kept = None if state is None else [y.clone() for y in (state if isinstance(state, tuple) else [state])]
            y, after = ours(x[:, start : start + n], state)
            if kept is not None:
                now = state if isinstance(state, tuple) else [state]
                assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))
            outputs.append(y)
            state, start = after, start + n
    assert relative(torch.cat(outputs, 1), whole) < 1e-5
    pairs = zip(state, end, strict=True) if isinstance(end, tuple) else [(state, end)]
    assert all(relative(a, b) < 1e-5 for a, b in pairs)


@pytest.mark.parametrize("name", PAIRS)
def test_packed_sequences_are_strangers(name):
    torch.manual_seed(2)
    ours, x, bounds = PAIRS[name]()[1], torch.randn(1, 40, 32), [0, 1, 17, 40]
    packed = ours(x, layout=BatchLayout(cu_seqlens=torch.tensor(bounds)))[0]
    alone = [ours(x[:, a:b])[0] for a, b in pairwise(bounds)]
    assert relative(packed, torch.cat(alone, 1)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", PAIRS)
def test_padding_leaves_the_memory_empty(name):
    torch.manual_seed(3)
    ours, x, padding = PAIRS[name]()[1], torch.randn(2, 40, 32), torch.tensor([0, 7])
    y, state = ours(x, layout=BatchLayout.padded(padding, 0, 40))
    wanted, end = ours(x[1:, 7:])
    assert relative(y[1, 7:], wanted[0]) < 1e-5
    memory = [s.S if isinstance(s, tuple) else s for s in (state, end)]
    assert relative(memory[0][1], memory[1][0]) < 1e-5
    assert ours(x[:, :7], layout=BatchLayout.padded(padding, 0, 7))[0][1].abs().max() < 1e-6


@pytest.mark.parametrize("name", PAIRS)
def test_the_state_does_not_grow(name):
    ours = PAIRS[name]()[1]
    sizes = {}
    for T in (8, 80):
        state = ours(torch.randn(1, T, 32))[1]
        sizes[T] = sum(y.nbytes for y in (state if isinstance(state, tuple) else [state]))
    assert sizes[8] == sizes[80]


def test_the_state_of_a_half_precision_layer_is_float32():
    x = torch.randn(1, 9, 32).bfloat16()
    assert GatedDeltaNet(32, 2, 4, 16, 8).bfloat16()(x)[1].S.dtype == torch.float32
    assert LightningAttention(32, 4, 8, layer=0, n_layers=2).bfloat16()(x)[1].dtype == torch.float32


def test_a_decay_starts_with_a_memory_of_some_ten_tokens():
    torch.manual_seed(0)
    g = log_decay(torch.zeros(20_000), initial_A_log(20_000), initial_dt_bias(20_000))
    half_life = (torch.tensor(0.5).log() / g).median().item()
    assert 5 < half_life < 20
    assert g.max() <= 0


def test_slopes_are_those_of_alibi_and_vanish_with_depth():
    first, last = decay_slopes(8, 0, 80), decay_slopes(8, 79, 80)
    assert torch.allclose(first, 2.0 ** -torch.arange(1.0, 9), rtol=1e-4)
    assert last.max() < 1e-4


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: GatedDeltaNet(32, 3, 4, 8, 8), "n_value_heads: expected a multiple of n_key_heads = 3, got 4"),
        (lambda: GatedDeltaNet(32, 2, 4, 8, 8, beta_max=3.0), "beta_max: .* got 3.0"),
        (lambda: GatedDeltaNet(32, 2, 4, 8, 8, norm_activation="tanh"), "activation: expected one of .* got 'tanh'"),
        (lambda: LightningAttention(32, 4, 8, layer=4, n_layers=4), "layer: expected 0 to n_layers - 1 = 3, got 4"),
    ],
)
def test_bad_sizes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_fixed_decays_stay_in_float32_when_weights_change_their_dtype():
    layer = LightningAttention(32, 4, 8, layer=1, n_layers=4)
    g = layer.g.clone()
    for dtype in (torch.bfloat16, torch.float64, torch.float32):
        layer.to(dtype)
        assert torch.equal(layer.g, g) and layer.qkv_proj.weight.dtype == dtype
        assert layer(torch.randn(1, 5, 32, dtype=dtype))[0].dtype == dtype
