"""Values that no plan foresees, in the operators that look at padding, windows and types: refused by name, or right."""

import copy
import pickle

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import reference
from reference.ops import (
    OPERATORS,
    attention_weights,
    block_sparse_attention,
    causal_conv,
    causal_conv_step,
    chunk_linear_attention,
    decode_step,
    index_scores,
    indexer_loss,
    lightning_indexer,
    replay_rule,
    softmax_attention,
    sparse_attention,
)
from tests.ops.helpers import FORMS, NAMES, chunk, random_inputs, recurrent

B, T, H, D = 2, 5, 2, 4
F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64


def numbers(*shape, dtype=F32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=F64).to(dtype)


def attend(**keywords):
    return softmax_attention(*(numbers(B, T, H, D) for _ in range(3)), **keywords)


def weigh(**keywords):
    return attention_weights(*(numbers(B, T, H, D) for _ in range(2)), **keywords)


def choose(**keywords):
    return lightning_indexer(numbers(B, T, H, D), numbers(B, T, D), numbers(B, T, H), top_k=2, **keywords)


@pytest.mark.parametrize("call", [attend, weigh, choose])
@pytest.mark.parametrize(
    ("padding", "error"),
    [
        (0, TypeError),
        (True, TypeError),
        ("x", TypeError),
        ([1, 1], TypeError),
        (torch.tensor([0.0, 1.0]), TypeError),
        (torch.tensor([True, False]), TypeError),
        (torch.tensor([1, 1, 1]), ValueError),
        (torch.tensor([1]), ValueError),
        (torch.tensor([[1, 1]]), ValueError),
        (torch.tensor([0, -1]), ValueError),
        (torch.tensor([0, T + 1]), ValueError),
    ],
    ids=str,
)
def test_padding_is_a_whole_number_of_keys_per_row(call, padding, error):
    with pytest.raises(error, match="left_padding: expected"):
        call(left_padding=padding)


def test_padding_may_cover_a_whole_row():
    assert choose(left_padding=torch.tensor([0, T])).shape == (B, T, 2)
    assert attend(left_padding=torch.tensor([0, T])).isfinite().all()


@pytest.mark.parametrize("call", [attend, weigh])
@pytest.mark.parametrize("causal", [None, 0, 1, "x", torch.tensor(True), torch.tensor([1, 0])], ids=str)
def test_causal_is_true_or_false(call, causal):
    with pytest.raises(TypeError, match="causal: expected True or False, got"):
        call(causal=causal)


@pytest.mark.parametrize("indices", [None, [[0]], 0, torch.zeros(B, T, 1)], ids=str)
def test_indices_are_a_tensor_of_whole_numbers(indices):
    with pytest.raises(TypeError, match="indices: expected"):
        sparse_attention(*(numbers(B, T, H, D) for _ in range(3)), indices)


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_the_indexers_loss_is_computed_in_float32(dtype):
    scores = (numbers(B, T, T) * 3).to(dtype).masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
    p = (numbers(B, H, T, T).exp() * torch.ones(T, T).tril()).to(dtype)
    exact = indexer_loss(scores.double(), p.double())
    found = indexer_loss(scores, p)
    assert found.dtype == F32
    assert abs(found.double() - exact) < 1e-5 * exact
    near = p.float().sum(1).log().to(dtype)  # a small loss is the difference of two large sums
    assert abs(indexer_loss(near, p).double() - indexer_loss(near.double(), p.double())) < 1e-5


def test_one_float64_input_makes_the_scores_float64():
    q, k, w = numbers(B, T, H, D), numbers(B, T, D, dtype=F64), numbers(B, T, H)
    found, exact = index_scores(q, k, w), index_scores(q.double(), k, w.double())
    assert found.dtype == F64
    assert torch.equal(found, exact)


def test_a_state_of_a_half_type_doesnt_round_the_token_that_is_read():
    x, weight, bias = numbers(B, 6, D), numbers(D, 3), numbers(D)
    state = numbers(B, D, 2).to(BF16)
    wanted, _ = causal_conv(x[:, :1], weight, bias, initial_state=state, activation="silu")
    found = causal_conv_step(x[:, 0], weight, bias, state.clone(), activation="silu")
    assert (found - wanted[:, 0]).abs().max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("short", [F16, BF16, F32])
def test_the_longest_type_of_q_k_and_v_is_computed_in_and_the_output_has_vs(name, form, short):
    """Under autocast a norm leaves q and k in float32 while v is in bfloat16: the call is right, and has gradients."""
    op = (chunk if form == "chunk" else recurrent)(name)
    for shortened in (("v",), ("q", "k"), ("k",)):
        inputs = {key: x.to(F64) for key, x in random_inputs(name, T=70).items()}
        inputs |= {key: inputs[key].to(short) for key in shortened}
        exact, _ = op(**{key: x.to(F64) for key, x in inputs.items()})
        inputs["q"].requires_grad_()
        found, _ = op(**inputs)
        assert found.dtype == inputs["v"].dtype
        assert torch.equal(found, exact.to(found.dtype))
        (gradient,) = torch.autograd.grad(found.sum(), inputs["q"])
        assert gradient.dtype == inputs["q"].dtype
        assert gradient.isfinite().all()


def test_the_other_operators_take_two_types_too():
    q, k, v = numbers(B, T, H, D, dtype=F64), numbers(B, T, H, D, dtype=F16), numbers(B, T, H, D)
    indices = torch.arange(T)[None, :, None].expand(B, T, 1)
    state = numbers(B, H, D, D, dtype=F64)
    blocks = indices[:, :, None].expand(B, T, H, 1)

    def calls(q, k, v):
        yield softmax_attention(q, k, v)
        yield from softmax_attention(q, k, v, return_weights=True)
        yield softmax_attention(q, k, v, sinks=numbers(H))
        yield sparse_attention(q, k, v, indices)
        yield block_sparse_attention(q, k, v, blocks, block_size=1)
        yield decode_step(q[:, 0], k[:, 0], v[:, 0], None, None, state.clone())
        yield replay_rule(chunk_linear_attention, q, k, v, None, None, None, 3)[0]

    for n, (found, exact) in enumerate(zip(calls(q, k, v), calls(q.double(), k.double(), v.double()), strict=True)):
        assert found.dtype == (F64 if n == 2 else v.dtype)  # n = 2: attention weights, which have no v
        assert (found - exact).abs().max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_tensors_without_values(name):
    """On the device meta every operator gives shapes; boundaries have to have values."""
    inputs = {key: x.to("meta") for key, x in random_inputs(name, B=1, T=4).items()}
    for op in (OPERATORS[name].chunk, OPERATORS[name].recurrent):
        o, state = op(**inputs, output_final_state=True)
        assert o.shape == inputs["v"].shape and state.shape[0] == 1
        with pytest.raises(TypeError, match="cu_seqlens: expected a tensor with values"):
            op(**inputs, cu_seqlens=torch.tensor([0, 4], device="meta"))


@pytest.mark.parametrize("preset", ["tiny", "tiny_moe"])
def test_a_model_can_be_copied_averaged_and_pickled_after_a_step_of_training(preset):
    torch.manual_seed(0)
    model = reference.HybridLM(reference.preset(preset))
    ids = torch.randint(0, model.config.vocab_size, (2, 9))
    optimizer, average = torch.optim.SGD(model.parameters(), lr=0.1), AveragedModel(model)
    weights = []
    for _ in range(2):
        model(ids).logsumexp(-1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)
        weights.append([p.detach().clone() for p in model.parameters()])
    model(ids)  # with a graph that nobody goes back through
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(ids), model(ids))
    for p, first, second in zip(average.module.parameters(), *weights, strict=True):
        assert torch.allclose(p, (first + second) / 2, atol=1e-6)
