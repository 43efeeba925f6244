"""Wrong arguments are refused before any work, in a sentence that names the argument, what came, what was expected."""

import pytest
import torch

import reference.ops
from reference.ops import (
    causal_conv,
    causal_conv_step,
    decode_step,
    lightning_indexer,
    softmax_attention,
)
from tests.ops.helpers import NAMES, chunk, random_inputs, random_state, recurrent

GATED, ERASING = ["lightning_attention", "gated_delta_rule", "kda"], ["delta_rule", "gated_delta_rule", "kda"]


def changed(inputs, **changes):
    return {key: changes.get(key, lambda x: x)(x) for key, x in inputs.items()}


def poisoned(x):
    x = x.clone()
    x.view(-1)[3] = torch.nan
    return x


def call(name, form, change=None, **keywords):
    inputs = random_inputs(name, B=2, T=10, H=2, HV=4)
    form(name)(**(change(inputs) if change else inputs), **keywords)


INPUT = {
    "q with 3 axes": (
        lambda i: changed(i, q=lambda x: x[0]),
        ValueError,
        r"q: expected axes \[B, T, H, Dk\], got shape",
    ),
    "k too short": (lambda i: changed(i, k=lambda x: x[:, :9]), ValueError, r"k: expected .* got shape \[2, 9, 2, 8\]"),
    "k of other Dk": (lambda i: changed(i, k=lambda x: x[..., :7]), ValueError, r"k: expected .*got shape.*Dk=8"),
    "v of other T": (lambda i: changed(i, v=lambda x: x[:, :3]), ValueError, r"v: expected axes \[B, T, HV, Dv\]"),
    "heads": (
        lambda i: {k: x[:, :, :3] if k not in "qk" else x for k, x in i.items()},
        ValueError,
        "multiple of q's 2 heads, got 3",
    ),
    "no tokens": (lambda i: {k: x[:, :0] for k, x in i.items()}, ValueError, r"q: every axis needs at least one entry"),
    "a list": (lambda i: changed(i, v=lambda x: x.tolist()), TypeError, "v: expected a tensor, got list"),
    "integers": (
        lambda i: changed(i, q=lambda x: x.long()),
        TypeError,
        r"q: expected a floating dtype, got torch.int64",
    ),
    "another device": (
        lambda i: changed(i, v=lambda x: x.to("meta")),
        ValueError,
        "v: expected q's device cpu, got meta",
    ),
    "NaN in q": (
        lambda i: changed(i, q=poisoned),
        ValueError,
        r"q: expected numbers, got NaN \(first at index \[0, 0, 0, 3\]\)",
    ),
    "NaN in k": (lambda i: changed(i, k=poisoned), ValueError, "k: expected numbers, got NaN"),
    "NaN in v": (lambda i: changed(i, v=poisoned), ValueError, "v: expected numbers, got NaN"),
}


@pytest.mark.parametrize("change, kind, message", INPUT.values(), ids=INPUT)
@pytest.mark.parametrize("form", [recurrent, chunk])
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_tensor_is_named(name, form, change, kind, message):
    with pytest.raises(kind, match=message):
        call(name, form, change)


@pytest.mark.parametrize("form", [recurrent, chunk])
@pytest.mark.parametrize("name", GATED)
def test_a_wrong_decay_is_named(name, form):
    with pytest.raises(ValueError, match=r"g: a log decay must be <= 0, got 0.5 \(did you pass exp\(g\)\?\)"):
        call(name, form, lambda i: changed(i, g=lambda x: torch.full_like(x, 0.5)))
    with pytest.raises(ValueError, match="g: expected numbers, got NaN"):
        call(name, form, lambda i: changed(i, g=poisoned))
    with pytest.raises(ValueError, match=r"g: expected axes \[.*HV.*\], got shape"):
        call(name, form, lambda i: changed(i, g=lambda x: x[:, :, :3]))
    with pytest.raises(TypeError, match="g: expected a tensor, got float"):
        call(name, form, lambda i: i | {"g": -0.1})


def test_kda_wants_a_decay_per_channel_and_the_gated_delta_rule_one_per_head():
    with pytest.raises(ValueError, match=r"g: expected axes \[B, T, HV, Dk\], got shape \[2, 10, 4\]"):
        call("kda", chunk, lambda i: changed(i, g=lambda x: x[..., 0]))
    with pytest.raises(ValueError, match=r"g: expected axes \[B, T, HV\], got shape \[2, 10, 4, 8\]"):
        call("gated_delta_rule", chunk, lambda i: changed(i, g=lambda x: x[..., None].expand(2, 10, 4, 8)))
    with pytest.raises(ValueError, match=r"g: expected axes \[HV\], got shape \[3\]"):
        call("lightning_attention", chunk, lambda i: i | {"g": -torch.ones(3)})


@pytest.mark.parametrize("form", [recurrent, chunk])
@pytest.mark.parametrize("name", ERASING)
def test_a_wrong_beta_is_named(name, form):
    with pytest.raises(ValueError, match=r"beta: expected axes \[B, T, HV\], got shape \[2, 10, 4, 6\]"):
        call(name, form, lambda i: changed(i, beta=lambda x: x[..., None].expand(2, 10, 4, 6)))
    with pytest.raises(ValueError, match="beta: expected numbers, got NaN"):
        call(name, form, lambda i: changed(i, beta=poisoned))


STATE = torch.zeros(2, 4, 8, 6)
KEYWORDS = {
    "state transposed": (
        {"initial_state": STATE.mT},
        ValueError,
        r"initial_state: expected \[B, HV, Dk, Dv\] = \[2, 4, 8, 6\], got \[2, 4, 6, 8\]",
    ),
    "state of one row": ({"initial_state": STATE[:1]}, ValueError, "initial_state: expected"),
    "state of integers": (
        {"initial_state": STATE.long()},
        TypeError,
        "initial_state: expected a floating dtype, got torch.int64",
    ),
    "state not a tensor": ({"initial_state": 0}, TypeError, "initial_state: expected a tensor, got int"),
    "state elsewhere": (
        {"initial_state": STATE.to("meta")},
        ValueError,
        "initial_state: expected q's device cpu, got meta",
    ),
    "state with NaN": ({"initial_state": poisoned(STATE)}, ValueError, "initial_state: expected numbers, got NaN"),
    "scale": ({"scale": float("nan")}, ValueError, r"scale: expected a finite number or None \(Dk\*\*-0.5\), got nan"),
    "scale as text": ({"scale": "1"}, ValueError, "scale: expected a finite number .* got '1'"),
    "packed batch": (
        {"cu_seqlens": torch.tensor([0, 10])},
        ValueError,
        "cu_seqlens: packed sequences need batch size B = 1, got 2",
    ),
}


@pytest.mark.parametrize("keywords, kind, message", KEYWORDS.values(), ids=KEYWORDS)
@pytest.mark.parametrize("form", [recurrent, chunk])
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_keyword_is_named(name, form, keywords, kind, message):
    with pytest.raises(kind, match=message):
        call(name, form, **keywords)


@pytest.mark.parametrize("chunk_size", [0, -1, 1.5, True, None, "64"])
def test_a_wrong_chunk_size_is_named(chunk_size):
    with pytest.raises(ValueError, match="chunk_size: expected a whole number >= 1, got"):
        call("delta_rule", chunk, chunk_size=chunk_size)


@pytest.mark.parametrize(
    "bounds, kind, message",
    [
        ([0, 5], ValueError, r"rising boundaries from 0 to T = 10, got \[0, 5\]"),
        ([1, 10], ValueError, r"got \[1, 10\]"),
        ([0, 8, 3, 10], ValueError, r"rising boundaries"),
        ([10], ValueError, r"rising boundaries"),
        ([0.0, 10.0], TypeError, "cu_seqlens: expected a 1-d int32 or int64 tensor"),
        ([[0, 10]], TypeError, "cu_seqlens: expected a 1-d"),
    ],
)
@pytest.mark.parametrize("form", [recurrent, chunk])
def test_wrong_boundaries_are_named(form, bounds, kind, message):
    inputs = random_inputs("delta_rule", B=1, T=10)
    with pytest.raises(kind, match=message):
        form("delta_rule")(**inputs, cu_seqlens=torch.tensor(bounds))
    with pytest.raises(TypeError, match="cu_seqlens"):
        form("delta_rule")(**inputs, cu_seqlens=[0, 10])


def token():
    inputs = random_inputs("gated_delta_rule", B=2, T=1, H=2, HV=4)
    return {key: x[:, 0] for key, x in inputs.items()} | {"state": random_state(inputs)}


TOKEN = {
    "a time axis": ({"q": torch.zeros(2, 1, 2, 8)}, ValueError, r"q: expected axes \[B, H, Dk\]"),
    "a longer dtype than the state's": (
        {"k": torch.zeros(2, 2, 8).double()},
        TypeError,
        "state: expected a contiguous torch.float64",
    ),
    "state in half precision": (
        {"state": torch.zeros(2, 4, 8, 6).half()},
        TypeError,
        "state: expected a contiguous torch.float32",
    ),
    "state as a view": ({"state": torch.zeros(2, 4, 6, 8).mT}, TypeError, "state: .* not contiguous"),
    "state of other shape": ({"state": torch.zeros(2, 4, 6, 8)}, ValueError, r"state: expected axes \[B, HV, Dk, Dv\]"),
    "beta": ({"beta": torch.zeros(2, 3)}, ValueError, r"beta: expected axes \[B, HV\]"),
    "g": ({"g": 0.5}, TypeError, "g: expected a tensor, got float"),
    "device": ({"g": torch.zeros(2, 4, device="meta")}, ValueError, "g: expected q's device cpu, got meta"),
}


@pytest.mark.parametrize("changes, kind, message", TOKEN.values(), ids=TOKEN)
def test_a_wrong_decoding_argument_is_named(changes, kind, message):
    arguments = token() | changes
    before = arguments["state"].clone()
    with pytest.raises(kind, match=message):
        decode_step(**arguments)
    assert torch.equal(arguments["state"], before)


CONV = {
    "x": ({"x": torch.zeros(2, 5)}, ValueError, r"x: expected axes \[B, T, D\]"),
    "weight": ({"weight": torch.zeros(4, 3)}, ValueError, r"weight: expected axes \[D, W\], got shape \[4, 3\]"),
    "bias": ({"bias": torch.zeros(4)}, ValueError, r"bias: expected axes \[D\]"),
    "activation": ({"activation": "relu"}, ValueError, "activation: expected None or 'silu', got 'relu'"),
    "state": (
        {"initial_state": torch.zeros(2, 3, 4)},
        ValueError,
        r"initial_state: expected \[B, D, W-1\] = \[2, 3, 3\]",
    ),
    "state kind": ({"initial_state": 1}, TypeError, "initial_state: expected a floating tensor, got int"),
    "NaN": ({"x": torch.full((2, 5, 3), torch.nan)}, ValueError, "x: expected numbers, got NaN"),
}


@pytest.mark.parametrize("changes, kind, message", CONV.values(), ids=CONV)
def test_a_wrong_convolution_argument_is_named(changes, kind, message):
    with pytest.raises(kind, match=message):
        causal_conv(**{"x": torch.zeros(2, 5, 3), "weight": torch.zeros(3, 4)} | changes)


@pytest.mark.parametrize(
    "state, kind", [(torch.zeros(2, 3, 4), ValueError), (None, TypeError), (torch.zeros(2, 3, 3).long(), TypeError)]
)
def test_a_wrong_convolution_state_is_named(state, kind):
    with pytest.raises(kind, match="state: expected"):
        causal_conv_step(torch.zeros(2, 3), torch.zeros(3, 4), None, state)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [chunk, recurrent])
def test_none_is_no_tensor(name, form):
    """An operator without beta or g is another operator: fla reads beta=None as ones."""
    inputs = random_inputs(name)
    for argument in inputs:
        with pytest.raises(TypeError, match=f"^{argument}: expected a tensor, got NoneType"):
            form(name)(**(inputs | {argument: None}))


def test_none_is_no_tensor_for_the_others():
    x, weight, state = torch.randn(1, 4, 3), torch.randn(3, 2), torch.zeros(1, 3, 1)
    q, v = torch.randn(1, 4, 2, 8), torch.randn(1, 4, 2, 8)
    calls = {
        "x": lambda: causal_conv(None, weight),
        "weight": lambda: causal_conv(x, None),
        "state": lambda: causal_conv_step(x[:, 0], weight, None, None),
        "q": lambda: softmax_attention(None, q, v),
        "k": lambda: softmax_attention(q, None, v),
        "v": lambda: softmax_attention(q, q, None),
        "k_idx": lambda: lightning_indexer(q, None, q[..., 0], top_k=2),
        "w_idx": lambda: lightning_indexer(q, q[:, :, 0], None, top_k=2),
    }
    for argument, call_it in calls.items():
        with pytest.raises(TypeError, match=rf"^{argument}: expected a (floating )?tensor, got NoneType"):
            call_it()
    assert causal_conv(x, weight)[0].shape == x.shape and state.shape == (1, 3, 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [chunk, recurrent])
def test_infinity_is_refused_before_it_spoils_the_tokens_before_it(name, form):
    inputs = random_inputs(name, T=10)
    inputs["v"][0, 5] = torch.inf
    with pytest.raises(ValueError, match=r"v: expected numbers, got infinity \(first at index \[0, 5, 0, 0\]\)"):
        form(name)(**inputs)


def test_large_numbers_whose_sum_overflows_are_taken():
    inputs = {key: x.half() for key, x in random_inputs("linear_attention", T=200, Dv=64).items()}
    inputs["v"][:] = 6e4
    chunk("linear_attention")(**inputs, scale=1e-6)


@pytest.mark.parametrize("option", ["output_final_state", "use_qk_l2norm_in_kernel"])
@pytest.mark.parametrize("value", ["no", None, 1, torch.tensor(True)])
def test_switches_are_true_or_false(option, value):
    for name in NAMES:
        with pytest.raises(TypeError, match=f"{option}: expected True or False, got"):
            call(name, chunk, None, **{option: value})


# Keywords of flash-linear-attention that reference.ops has another way for, see its docstring.
OF_FLA = [
    "head_first",
    "state_v_first",
    "transpose_state_layout",
    "use_gate_in_kernel",
    "A_log",
    "dt_bias",
    "safe_gate",
    "lower_bound",
    "use_beta_sigmoid_in_kernel",
    "allow_neg_eigval",
    "cu_seqlens_cpu",
    "chunk_indices",
    "disable_recompute",
    "cp_context",
    "return_intermediate_states",
    "g_gamma",
    "normalize",
    "layer_idx",
]


@pytest.mark.parametrize("keyword", OF_FLA)
def test_what_another_library_can_be_told_is_refused_by_name_and_explained(keyword):
    assert keyword in reference.ops.__doc__
    for name in NAMES:
        for form in (recurrent, chunk):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{keyword}'"):
                call(name, form, None, **{keyword: None})


def test_a_convolution_takes_the_tokens_that_it_can_still_read_of_a_longer_state():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 10, 6), torch.randn(6, 4)
    y, _ = reference.ops.causal_conv(x, weight)
    last = x[:, :5].mT[..., -4:]  # W tokens, as fla keeps them
    assert torch.allclose(reference.ops.causal_conv(x[:, 5:], weight, initial_state=last[..., 1:])[0], y[:, 5:])
    with pytest.raises(ValueError, match=r"initial_state: expected \[B, D, W-1\] = \[2, 6, 3\], got \[2, 6, 4\]"):
        reference.ops.causal_conv(x[:, 5:], weight, initial_state=last)
