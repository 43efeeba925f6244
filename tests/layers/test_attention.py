"""Softmax layers: transformers' modules with the same weights, dense and cached; window, sinks, kept first tokens."""

import pytest
import torch
from transformers import AutoConfig, DynamicCache
from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32Attention, DeepseekV32RotaryEmbedding
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention, GptOssRotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextAttention, Qwen3NextRotaryEmbedding

from reference.layers import Attention, LatentAttention, RMSNorm, Rotary
from reference.layers.batch import BatchLayout
from reference.layers.streaming import StreamingAttention

WIDTH, SIZES = 32, {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 6}


def randomized(module):
    with torch.no_grad():
        for p in module.parameters():
            p.uniform_(-0.4, 0.4)
    return module


def config_of(name, **sizes):
    config = AutoConfig.for_model(name, num_hidden_layers=2, rope_parameters=dict(PLAIN_ROPE), **(SIZES | sizes))
    config._attn_implementation = "eager"
    return config


def llama():
    config = config_of("llama")
    return LlamaAttention(config, 0), LlamaRotaryEmbedding(config), Attention(WIDTH, 4, 2, 16), None


def qwen3():
    config = config_of("qwen3")
    return Qwen3Attention(config, 0), Qwen3RotaryEmbedding(config), Attention(WIDTH, 4, 2, 16, qk_norm="head"), None


def qwen3_next():
    config = config_of("qwen3_next")
    config.rope_parameters["partial_rotary_factor"] = 0.25
    options = {"rope_dim": 4, "qk_norm": "head", "gate": "elementwise", "zero_centered_norm": True}
    return Qwen3NextAttention(config, 0), Qwen3NextRotaryEmbedding(config), Attention(WIDTH, 4, 2, 16, **options), None


def gpt_oss():
    config = config_of("gpt_oss", sliding_window=7, layer_types=["sliding_attention", "full_attention"])
    ours = Attention(WIDTH, 4, 2, 16, sinks=True, window=7, bias=True)
    return GptOssAttention(config, 0), GptOssRotaryEmbedding(config), ours, 7


def deepseek_v32():
    indexer = {"index_n_heads": 16, "index_head_dim": 12, "index_topk": 9}
    config = config_of("deepseek_v32", num_key_value_heads=4, **LATENT, **indexer)
    ours = LatentAttention(
        WIDTH,
        4,
        q_rank=24,
        kv_rank=12,
        nope_dim=8,
        rope_dim=8,
        v_dim=6,
        top_k=9,
        index_heads=16,
        index_dim=12,
    )
    return DeepseekV32Attention(config, 0), DeepseekV32RotaryEmbedding(config), ours, None


PAIRS = [llama, qwen3, qwen3_next, gpt_oss, deepseek_v32]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.__name__)


def causal_mask(T, S, window):
    query, key = torch.arange(S - T, S)[:, None], torch.arange(S)
    seen = (key <= query) & (key > query - (window or S))
    return torch.zeros(1, 1, T, S).masked_fill(~seen, torch.finfo(torch.float32).min)


def build(pair):
    torch.manual_seed(0)
    theirs, rotary, ours, window = pair()
    randomized(theirs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, rotary, ours, window


def run_theirs(theirs, rotary, x, window, begin=0, cache=None):
    positions = torch.arange(begin, begin + x.shape[1])[None]
    mask = causal_mask(x.shape[1], begin + x.shape[1], window)
    return theirs(x, position_embeddings=rotary(x, positions), attention_mask=mask, past_key_values=cache)[0]


def relative(got, wanted):
    return ((got - wanted).abs().max() / wanted.abs().max()).item()


@torch.no_grad()
@pytest.mark.parametrize("T", [1, 2, 13, 65])
@each_pair
def test_outputs_are_those_of_transformers_with_the_same_weights(pair, T):
    theirs, rotary, ours, window = build(pair)
    x = torch.randn(2, T, WIDTH)
    assert relative(ours(x)[0], run_theirs(theirs, rotary, x, window)) < 1e-5


@torch.no_grad()
@each_pair
def test_cached_outputs_are_those_of_transformers_cached_or_not(pair):
    theirs, rotary, ours, window = build(pair)
    x = torch.randn(2, 40, WIDTH)
    whole = run_theirs(theirs, rotary, x, window)
    cache = DynamicCache(config=theirs.config) if pair is deepseek_v32 else DynamicCache()
    state, begin = None, 0
    for piece in x.split([21, 1, 1, 9, 1, 7], 1):
        y, state = ours(piece, state)
        assert relative(y, run_theirs(theirs, rotary, piece, None, begin, cache) if window is None else y) < 1e-5
        assert relative(y, whole[:, begin : begin + piece.shape[1]]) < 1e-5
        begin += piece.shape[1]
    assert state.seen == 40


@each_pair
def test_gradients_reach_every_parameter_but_the_indexers(pair):
    *_, ours, _ = build(pair)
    ours(torch.randn(2, 20, WIDTH))[0].square().sum().backward()
    silent = {name for name, p in ours.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert all(name.startswith("indexer.") for name in silent), silent


def caches(state):
    return [x for x in state if isinstance(x, torch.Tensor)]


@torch.no_grad()
@pytest.mark.parametrize("keep_first", [0, 3])
@pytest.mark.parametrize("window", [1, 5])
def test_a_window_keeps_a_fixed_number_of_tokens_and_gives_the_outputs_of_the_whole_text(window, keep_first):
    torch.manual_seed(0)
    layer = Attention(WIDTH, 4, 2, 16, window=None if keep_first else window)
    if keep_first:
        layer = StreamingAttention(layer, window=window, keep_first=keep_first)
    randomized(layer)
    x = torch.randn(2, 60, WIDTH)
    whole, _ = layer(x)
    outputs, state = [], None
    for piece in x.split([1, 2, 3, 30, 1, 1, 22], 1):
        y, state = layer(piece, state)
        outputs.append(y)
        assert state.k.shape[1] <= window - 1 + keep_first
        assert state.k.untyped_storage().nbytes() <= 8 * 2 * 2 * 16 * (30 + window + keep_first)
    assert relative(torch.cat(outputs, 1), whole) < 1e-5
    assert state.k.shape[1] == window - 1 + keep_first
    assert caches(state)[0].untyped_storage().nbytes() == state.k.nbytes, "evicted tokens are still held in memory"


@torch.no_grad()
def test_kept_first_tokens_stay_at_the_distance_they_have_in_the_cache():
    torch.manual_seed(0)
    layer = randomized(StreamingAttention(Attention(WIDTH, 4, 4, 8), window=4, keep_first=2))
    x = torch.randn(1, 30, WIDTH)
    y, _ = layer(x)
    # StreamingLLM by hand for the last token: 2 + 4 keys, turned by their places 0 to 5 in the cache
    kept = torch.cat([x[:, :2], x[:, -4:]], 1)
    plain = layer.attention
    assert relative(y[:, -1], plain(kept)[0][:, -1]) < 1e-5
    far = Attention(WIDTH, 4, 4, 8, window=4)
    far.load_state_dict(plain.state_dict())
    assert relative(y[:, -1], far(x)[0][:, -1]) > 1e-2
    torch.testing.assert_close(y[:, :6], plain(x[:, :6])[0], rtol=1e-5, atol=1e-5)  # nothing is evicted yet


def test_the_first_tokens_of_padded_rows_are_not_kept():
    layer, layout = StreamingAttention(Attention(WIDTH, 4), window=4, keep_first=2), torch.tensor([3, 0])
    with pytest.raises(ValueError, match="left_padding: the first tokens of padded rows are not the ones that keep_fi"):
        layer(torch.randn(2, 9, WIDTH), layout=BatchLayout.padded(layout, 0, 9))


LAYERS = {
    "full": lambda: Attention(WIDTH, 4, 2, 16),
    "window": lambda: Attention(WIDTH, 4, 2, 16, window=5),
    "streaming": lambda: StreamingAttention(Attention(WIDTH, 4, 2, 16), window=5, keep_first=2),
    "latent": lambda: LatentAttention(WIDTH, 4, kv_rank=12, nope_dim=8, rope_dim=4, v_dim=6),
}


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
def test_packed_texts_are_read_one_by_one(name):
    torch.manual_seed(0)
    layer, x = randomized(LAYERS[name]()), torch.randn(1, 30, WIDTH)
    y, state = layer(x, layout=BatchLayout(cu_seqlens=torch.tensor([0, 11, 12, 30])))
    assert state is None
    torch.testing.assert_close(y, torch.cat([layer(x[:, a:b])[0] for a, b in ((0, 11), (11, 12), (12, 30))], 1))


@torch.no_grad()
@pytest.mark.parametrize("name", ["full", "window", "latent"])
def test_padding_is_not_read_and_shifts_no_position(name):
    torch.manual_seed(0)
    layer, x, padding = randomized(LAYERS[name]()), torch.randn(2, 30, WIDTH), torch.tensor([0, 7])
    state, outputs = None, []
    for begin, end in ((0, 20), (20, 21), (21, 30)):
        y, state = layer(x[:, begin:end], state, BatchLayout.padded(padding, begin, end - begin))
        outputs.append(y)
    y = torch.cat(outputs, 1)
    torch.testing.assert_close(y[0], layer(x[:1])[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y[1, 7:], layer(x[1:, 7:])[0][0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("gate", ["elementwise", "headwise"])
def test_a_gate_of_large_logits_is_open_and_one_of_small_logits_is_shut(gate):
    torch.manual_seed(0)
    gated, plain = Attention(WIDTH, 4, 2, 8, gate=gate, bias=True), Attention(WIDTH, 4, 2, 8, bias=True)
    channels = 8 if gate == "elementwise" else 1
    assert gated.q_proj.out_features == 4 * (8 + channels)
    weight = gated.q_proj.weight.unflatten(0, (4, -1))
    for name, p in plain.named_parameters():
        if not name.startswith("q_proj"):
            p.copy_(dict(gated.named_parameters())[name])
    plain.q_proj.weight.copy_(weight[:, :8].flatten(0, 1))
    bias = gated.q_proj.bias.unflatten(0, (4, -1))
    plain.q_proj.bias.copy_(bias[:, :8].flatten())
    weight[:, 8:] = 0
    x = torch.randn(2, 9, WIDTH)
    for logit, factor in ((50.0, 1.0), (-50.0, 0.0), (0.0, 0.5)):
        bias[:, 8:] = logit
        wanted = factor * (plain(x)[0] - plain.o_proj.bias) + plain.o_proj.bias
        torch.testing.assert_close(gated(x)[0], wanted)


@torch.no_grad()
def test_full_qk_norm_is_taken_over_all_heads_together():
    torch.manual_seed(0)
    layer = randomized(Attention(WIDTH, 4, 2, 8, qk_norm="full"))
    x = torch.randn(1, 5, WIDTH)
    q, k, *_ = layer.project(x, 0)
    norm = RMSNorm(32)
    norm.weight.copy_(layer.q_norm.weight)
    by_hand = layer.rope(norm(layer.q_proj(x)).unflatten(-1, (4, 8)), torch.arange(5))
    torch.testing.assert_close(q, by_hand)
    assert layer.k_norm.weight.shape == (16,) and k.shape == (1, 5, 2, 8)


@torch.no_grad()
def test_latent_attention_on_latents_and_written_out_are_the_same():
    torch.manual_seed(0)
    layer = randomized(LatentAttention(WIDTH, 4, kv_rank=12, nope_dim=8, v_dim=6)).double()
    assert layer.rope is None and layer.indexer is None
    x = torch.randn(2, 12, WIDTH, dtype=torch.float64)
    whole, _ = layer(x)
    state, outputs = None, []
    for token in x.split(1, 1):  # one token at a time goes the other way
        y, state = layer(token, state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), whole)
    assert state.latent.shape == (2, 12, 12) and state.k_rope.shape == (2, 12, 0) and state.k_idx is None


@torch.no_grad()
def test_a_sparse_layer_reads_everything_up_to_top_k_tokens_and_keeps_the_first_when_told():
    torch.manual_seed(0)
    sizes = {"q_rank": 24, "kv_rank": 12, "nope_dim": 8, "rope_dim": 8, "v_dim": 6}
    index = {"index_heads": 16, "index_dim": 12}
    sparse = randomized(LatentAttention(WIDTH, 4, **sizes, **index, top_k=10))
    dense = LatentAttention(WIDTH, 4, **sizes)
    weights = {name: w for name, w in sparse.state_dict().items() if not name.startswith("indexer")}
    dense.load_state_dict(weights)
    x = torch.randn(2, 30, WIDTH)
    torch.testing.assert_close(sparse(x[:, :10])[0], dense(x[:, :10])[0])
    torch.testing.assert_close(sparse(x)[0][:, :10], dense(x)[0][:, :10])
    assert relative(sparse(x)[0][:, 10:], dense(x)[0][:, 10:]) > 1e-3
    everything = LatentAttention(WIDTH, 4, **sizes, **index, top_k=29, keep_first=2)
    everything.load_state_dict(sparse.state_dict())
    torch.testing.assert_close(everything(x)[0][:, :29], dense(x)[0][:, :29])


def test_angles_stay_in_float32_when_weights_change_their_dtype():
    rotary = Rotary(8, 1e6)
    frequencies = rotary.frequencies.clone()
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert torch.equal(rotary.to(dtype).frequencies, frequencies)
    layer = Attention(WIDTH, 2, rope_dim=8).to(torch.bfloat16)
    assert layer.rope.frequencies.dtype == torch.float32 and layer.q_proj.weight.dtype == torch.bfloat16
    assert layer(torch.randn(1, 4, WIDTH, dtype=torch.bfloat16))[0].dtype == torch.bfloat16


BAD = {
    "heads": (lambda: Attention(32, 4, 3), "n_heads: expected a multiple of n_kv_heads = 3, got 4"),
    "gate": (lambda: Attention(32, 4, gate="tanh"), "gate: expected one of"),
    "norm": (lambda: Attention(32, 4, qk_norm="yes"), "qk_norm: expected None, 'head' or 'full'"),
    "window": (lambda: Attention(32, 4, window=0), "window: expected a whole number >= 1, got 0"),
    "first": (
        lambda: StreamingAttention(Attention(32, 4), window=4, keep_first=-1),
        "keep_first: expected a whole number >= 0, got -1",
    ),
    "odd rope": (lambda: Attention(32, 4, rope_dim=3), "dim: rotary positions turn pairs"),
    "theta": (lambda: Attention(32, 4, rope_theta=0), "theta: expected a positive base, got 0"),
    "rank": (lambda: LatentAttention(32, 4, kv_rank=0, nope_dim=4, v_dim=4), "kv_rank: expected a whole number >= 1"),
    "indexer without latent": (
        lambda: LatentAttention(32, 4, kv_rank=8, nope_dim=4, v_dim=4, rope_dim=4, top_k=4, index_heads=2, index_dim=8),
        "q_rank: the indexer needs the query latent",
    ),
    "indexer narrower than its rope": (
        lambda: LatentAttention(
            32, 4, q_rank=8, kv_rank=8, nope_dim=4, v_dim=4, rope_dim=8, top_k=4, index_heads=2, index_dim=4
        ),
        "rope_dim: expected 2 to index_dim = 4",
    ),
    "more kept than chosen": (
        lambda: LatentAttention(
            32,
            4,
            q_rank=8,
            kv_rank=8,
            nope_dim=4,
            v_dim=4,
            rope_dim=4,
            top_k=4,
            index_heads=2,
            index_dim=8,
            keep_first=5,
        ),
        "keep_first: expected a whole number from 0 to 4, got 5",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sizes_are_refused_at_construction(case):
    build_layer, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        build_layer()
