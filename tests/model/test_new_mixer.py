"""A kind of layer has one home: a new one is a file like the first half of this one, and one entry in MIXERS."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import reference
from reference.bench.mixers import ALL_NAMES, bytes_in_state, filled_state, mixer_config
from reference.commands.cost import H200, decode_seconds, time_crossover
from reference.commands.families import pattern_of, ratio_of
from reference.distributed.sequence import read_in_stretches
from reference.distributed.world import World
from reference.experiments.models.looking import look_inside
from reference.layers.attention import FullMixer
from reference.layers.batch import PLAIN
from reference.layers.mixer import LinearMixer, Mixer, tensors_of
from reference.layers.mixers import MIXERS, mixer
from reference.model.block import Block, build_mixer
from reference.model.config import pattern, preset
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
from reference.ops import chunk_linear_attention
from reference.training.data import PackedText
from reference.training.trainer import build_optimizer, train_step


class Toy(nn.Module):
    """Linear attention between projections: no decay, no erase, no norm."""

    def __init__(self, d_model, n_heads, head_dim):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * n_heads * head_dim, bias=False)
        self.out = nn.Linear(n_heads * head_dim, d_model, bias=False)

    def forward(self, x, state=None, layout=PLAIN):
        q, k, v = self.qkv(layout.without_padding(x)).unflatten(-1, (3 * self.n_heads, -1)).chunk(3, 2)
        keywords = {"initial_state": state, "output_final_state": True, "cu_seqlens": layout.cu_seqlens}
        o, state = chunk_linear_attention(F.elu(q) + 1, F.elu(k) + 1, v, **keywords)
        return self.out(o.flatten(2)), state


class ToyMixer(LinearMixer):
    kind, short = "toy_attention", "toy"
    needs = ("linear_num_value_heads", "linear_key_head_dim")

    def build(self, config, index):
        return Toy(config.hidden_size, *self.sizes(config)[:2])

    def sizes(self, config):
        return config.linear_num_value_heads, config.linear_key_head_dim, config.linear_key_head_dim


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(MIXERS, "toy_attention", ToyMixer())
    return replace(preset("tiny"), layer_types=pattern(2, 1, 6, kind="toy_attention"), hidden_size=64, vocab_size=257)


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return reference.HybridLM(config)


IDS = torch.randint(0, 256, (2, 75), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_it_continues_from_a_cache_and_its_bytes_are_those_on_the_bill(model, config):
    cache = reference.new_cache(model, 2)
    pieces = [model(piece, cache=cache) for piece in IDS.split([40, 1, 1, 33], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(IDS), rtol=1e-5, atol=1e-5)
    assert cache.nbytes() == 2 * bytes_of_cache(config, 75, element_bytes=4)
    assert reference.generate(model, IDS[:, :9], 3).shape == (2, 12)


@torch.no_grad()
def test_it_packs_and_pads(model):
    packed = model(IDS[:1], cu_seqlens=torch.tensor([0, 30, 75]))
    apart = torch.cat([model(IDS[:1, :30]), model(IDS[:1, 30:])], 1)
    torch.testing.assert_close(packed, apart, rtol=1e-5, atol=1e-5)
    padded = model(F.pad(IDS[:1], (7, 0)), left_padding=torch.tensor([7]))[:, 7:]
    torch.testing.assert_close(padded, model(IDS[:1]), rtol=1e-5, atol=1e-5)


def test_it_trains(model):
    data = PackedText(["one two three four five six seven eight\n" * 40], length=40, batch_size=2)
    before = model.layers[0].mixer.qkv.weight.clone()
    optimizer = build_optimizer(model, 1e-2, 0.1)
    losses = [train_step(model, optimizer, data, step)[0] for step in range(20)]
    assert losses[-1] < losses[0] - 0.5
    assert not torch.equal(before, model.layers[0].mixer.qkv.weight)


def test_it_is_billed_and_printed(model, config):
    heads, D = config.linear_num_value_heads, config.linear_key_head_dim
    assert layer_cache_bytes(config, 0, 1000) == 4 * heads * D * D
    assert count_parameters(config).total == sum(p.numel() for p in model.parameters())
    assert decode_work(config, 5).flops == 2 * count_parameters(config).active + sum(
        mixing_flops(config, layer, 5, chunked=False) for layer in range(6)
    )
    assert layer_decode_work(config, 0, 5).state_bytes == 2 * 4 * heads * D * D
    assert prefill_flops(config, 64) > 0 and decode_seconds(config, 64, H200) > 0
    assert set(crossover_tokens(config)) == set(time_crossover(config, H200)) == {"toy_attention"}
    assert config_summary(config).count("toy_attention") == 4
    assert pattern_of(config) == "(2 toy, 1 softmax) x 2" and ratio_of(config) == "2:1"
    assert json.loads(json.dumps(config.to_dict()))["layer_types"][0] == "toy_attention"


@torch.no_grad()
def test_its_state_is_filled_without_a_prompt_and_its_operator_runs(model, config):
    state = filled_state(config, 99, 3)
    assert bytes_in_state(state) == 3 * layer_cache_bytes(config, 0, 99, element_bytes=4)
    layer = model.layers[0].mixer
    assert layer(torch.randn(3, 1, 64), state)[1].shape == state.shape
    assert mixer("toy_attention").operator_step(config, state)().shape == state.shape[:2] + state.shape[3:]


def test_its_fields_are_checked(config):
    with pytest.raises(ValueError, match="linear_key_head_dim: expected a whole number >= 1, got 0"):
        replace(config, linear_key_head_dim=0)


def test_what_its_record_does_not_answer_is_named(model):
    with pytest.raises(NotImplementedError, match="toy_attention: its record, ToyMixer, has no answer to `look`"):
        look_inside(model, IDS)
    with pytest.raises(NotImplementedError, match=r"toy_attention: .* has no answer to `state_before`"):
        read_in_stretches(model, IDS, World())


QUESTIONS = ("build", "cache_bytes", "flops", "moved_bytes", "filled_state", "operator_step", "state_before", "look")


def test_a_record_that_says_only_what_it_is_names_every_question_that_it_lacks():
    class Bare(Mixer):
        kind, short, softmax, grows = "bare", "bare", False, False

    for question in QUESTIONS:
        needed = {"cache_bytes": 3, "flops": 2, "moved_bytes": 3, "filled_state": 3, "state_before": 3}.get(question, 2)
        keywords = {"chunked": True} if question == "flops" else {}
        with pytest.raises(NotImplementedError, match=f"bare: its record, Bare, has no answer to `{question}`"):
            getattr(Bare(), question)(*[None] * needed, **keywords)


@pytest.mark.parametrize("fact", ["kind", "short", "softmax", "grows"])
def test_a_record_without_a_fact_is_refused_when_it_is_made(fact):
    facts = {"kind": "bare", "short": "bare", "softmax": False, "grows": False}
    del facts[fact]
    with pytest.raises(NotImplementedError, match=f"Bare: a record of a kind of layer must say `{fact}`"):
        type("Bare", (Mixer,), facts)()


def wrong_config():
    """A config whose check was dodged, so that every entry is on its own."""
    config = preset("tiny")
    object.__setattr__(config, "layer_types", ("mamba",) * 4)
    return config


ENTRIES = {
    "pattern": lambda config: pattern(3, 1, 8, kind="mamba"),
    "model": reference.HybridLM,
    "build_mixer": lambda config: build_mixer(config, 0),
    "block": lambda config: Block(config, 0),
    "cache bytes of a layer": lambda config: layer_cache_bytes(config, 0, 10),
    "cache bytes": lambda config: bytes_of_cache(config, 10),
    "summary": config_summary,
    "flops": lambda config: mixing_flops(config, 0, 10, chunked=True),
    "work of a layer": lambda config: layer_decode_work(config, 0, 10),
    "work": lambda config: decode_work(config, 10),
    "prompt": lambda config: prefill_flops(config, 10),
    "crossover": crossover_tokens,
    "crossover in time": lambda config: time_crossover(config, H200),
    "pattern_of": pattern_of,
    "ratio_of": ratio_of,
    "filled state": lambda config: filled_state(config, 10),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_unknown_kind_is_refused_at_every_entry_and_the_known_ones_are_named(entry):
    with pytest.raises(ValueError, match=r"expected one of .*'full_attention'.*'kda'.*, got 'mamba'"):
        ENTRIES[entry](wrong_config())


def test_every_word_and_every_short_name_belong_to_one_kind():
    assert all(record.kind == kind for kind, record in MIXERS.items())
    assert len({record.short for record in MIXERS.values()}) == len(MIXERS)


@pytest.mark.parametrize("kind", MIXERS)
def test_a_state_is_a_tensor_or_a_tuple(kind):
    config = mixer_config(next(name for name, word in ALL_NAMES.items() if word == kind))
    assert tensors_of(filled_state(config, 5))


def test_what_is_no_state_is_refused():
    assert tensors_of(None) == []
    with pytest.raises(TypeError, match="state: expected None, a tensor or a tuple of tensors and numbers, got dict"):
        tensors_of({"k": torch.zeros(1)})


def test_a_kind_can_change_one_answer_of_another(monkeypatch):
    class Twice(FullMixer):
        kind, short = "twice", "twice"

        def cache_bytes(self, config, tokens, element_bytes):
            return 2 * super().cache_bytes(config, tokens, element_bytes)

    monkeypatch.setitem(MIXERS, "twice", Twice())
    config = replace(preset("tiny"), layer_types=("twice", "full_attention"))
    assert layer_cache_bytes(config, 0, 10) == 2 * layer_cache_bytes(config, 1, 10)
    assert reference.HybridLM(config)(IDS).shape == (2, 75, 256)
