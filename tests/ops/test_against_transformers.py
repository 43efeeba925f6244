"""transformers 5.23's CPU functions, imported and compared: outputs, states, gradients."""

import pytest
import torch
from transformers.models.kimi_linear import modeling_kimi_linear as kimi
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

from reference.layers.lightning import decay_slopes
from reference.ops import causal_conv, causal_conv_step, chunk_lightning_attention
from tests.ops.helpers import chunk, error, independent, random_inputs, random_state, recurrent

GATED = [qwen.torch_chunk_gated_delta_rule, qwen.torch_recurrent_gated_delta_rule]
KDA = [kimi.chunk_kimi_delta_attention, kimi.recurrent_kimi_delta_attention]
PAIRS = [("gated_delta_rule", f) for f in GATED] + [("kda", f) for f in KDA]
IDS = [f.__name__ for _, f in PAIRS]


def theirs(function, inputs, state, l2norm):
    names = {"q": "query", "k": "key", "v": "value", "g": "g", "beta": "beta"}
    arguments = {names[key]: x for key, x in inputs.items()}
    keywords = {"initial_state": state, "output_final_state": True, "use_qk_l2norm_in_kernel": l2norm}
    return function(**arguments, **keywords)


@pytest.mark.parametrize("l2norm", [True, False])
@pytest.mark.parametrize("T", [1, 5, 63, 64, 65, 130])
@pytest.mark.parametrize("name, function", PAIRS, ids=IDS)
def test_outputs_and_states_agree(name, function, T, l2norm):
    HV = 4 if name == "gated_delta_rule" else 2  # their KDA has no grouped heads
    inputs = random_inputs(name, B=2, T=T, H=2, HV=HV, Dk=16, Dv=24)
    state = random_state(inputs)
    wanted_o, wanted_S = theirs(function, inputs, state, l2norm)
    for form in (chunk, recurrent):
        o, S = form(name)(**inputs, initial_state=state, output_final_state=True, use_qk_l2norm_in_kernel=l2norm)
        assert error(o, wanted_o) < 2e-5 and error(S, wanted_S) < 2e-5


@pytest.mark.parametrize("name, function", [PAIRS[0], PAIRS[2]], ids=[IDS[0], IDS[2]])
def test_gradients_agree(name, function):
    inputs = random_inputs(name, T=70, H=2, HV=2, Dk=16, Dv=16)
    state = random_state(inputs)

    def gradients(run):
        leaves = {key: x.clone().requires_grad_() for key, x in (inputs | {"state": state}).items()}
        o, S = run({key: leaves[key] for key in inputs}, leaves["state"])
        return torch.autograd.grad(o.square().sum() + S.square().sum(), list(leaves.values()))

    ours = gradients(
        lambda x, S: chunk(name)(**x, initial_state=S, output_final_state=True, use_qk_l2norm_in_kernel=True)
    )
    wanted = gradients(lambda x, S: theirs(function, x, S, True))
    assert all(error(a, b) < 1e-4 for a, b in zip(ours, wanted, strict=True))


@pytest.mark.parametrize("name, function", [PAIRS[0], PAIRS[2]], ids=[IDS[0], IDS[2]])
def test_a_full_reset_is_right_here_whatever_it_is_there(name, function):
    """At the time of writing theirs is NaN from the reset on: a sum of log decays that is -inf minus itself."""
    inputs = random_inputs(name, T=64, Dk=16, Dv=16, low=-0.05)
    inputs["g"][:, 20] = -torch.inf
    wanted = independent(inputs)[0]
    assert error(chunk(name)(**inputs)[0], wanted) < 2e-5
    their_o = theirs(function, inputs, None, False)[0]
    assert torch.isnan(their_o).any() or error(their_o, wanted) < 1e-2


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("T", [1, 2, 9])
def test_the_short_convolution_agrees(T, activation):
    r = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=r) for shape in ((2, T, 6), (6, 4), (6,)))
    y = causal_conv(x, weight, bias, activation=activation)[0]
    assert error(y.mT, qwen.causal_conv1d_fn(x.mT, weight, bias, activation=activation)) < 1e-5


def test_the_convolution_of_one_token_agrees():
    r = torch.Generator().manual_seed(0)
    x, weight, before = (torch.randn(*shape, generator=r) for shape in ((2, 6), (6, 4), (2, 6, 4)))
    state = before[..., 1:].clone()  # theirs keeps one column more than it needs
    y = causal_conv_step(x, weight, None, state, activation="silu")
    theirs_y = qwen.causal_conv1d_update(x[..., None], before, weight, None, "silu")
    assert error(y, theirs_y[..., 0]) < 1e-5
    assert torch.equal(state, before[..., 1:])  # theirs moved on in place


def test_lightning_attention_is_minimax_between_its_projections():
    """Their layer with identity projections: q, k, v = silu(x) and the norm undone."""
    from transformers import AutoConfig
    from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

    config = AutoConfig.for_model("minimax", hidden_size=48, num_attention_heads=4, head_dim=16, num_hidden_layers=4)
    layer = MiniMaxLightningAttention(config, 2)
    layer.norm, layer.out_proj, layer.output_gate = torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity()
    x = torch.randn(2, 300, 48, generator=torch.Generator().manual_seed(0))
    layer.output_gate = torch.nn.Linear(48, 64)
    with torch.no_grad():
        layer.output_gate.weight.zero_()
        layer.output_gate.bias.fill_(100.0)  # sigmoid(100) is 1 in float32
        wanted = layer(x, None, None)[0]
        q, k, v = torch.nn.functional.silu(layer.qkv_proj(x)).unflatten(-1, (4, 48)).chunk(3, -1)
        o = chunk_lightning_attention(q, k, v, -decay_slopes(4, 2, 4), scale=1.0)[0]
    assert error(o.flatten(2), wanted) < 2e-5
