"""RoPE scalings: frequencies and logits are transformers', at lengths within and beyond those of pretraining."""

import json

import pytest
import torch
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import reference
from reference.checkpoints.tiny import BASE
from reference.layers.rope import RopeScaling, scaled_frequencies
from tests.checkpoints.tiny import build, difference, some_ids

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 24}
KINDS = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "yarn, not truncated": {
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "truncate": False,
        "beta_fast": 20.0,
    },
    "yarn, attention factor": {"factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 0.8},
    "yarn, deepseek": {"factor": 40.0, "original_max_position_embeddings": 32, "mscale": 1.0, "mscale_all_dim": 0.5},
    "llama3": LLAMA3,
}


def parameters(kind, theta=10_000.0):
    return {"rope_type": kind.split(",")[0], "rope_theta": theta, **KINDS[kind]}


@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "default"])
def test_frequencies(kind, head_dim):
    name = kind.split(",")[0]
    config = AutoConfig.for_model(
        "llama", **BASE | {"head_dim": head_dim, "rope_parameters": parameters(kind, 500_000.0)}
    )
    extra = {"max_position_embeddings": 128} if name == "dynamic" else {}
    scaling = RopeScaling(rope_type=name, **KINDS[kind], **extra)
    for length in (None, 60, 128, 200, 1000):
        wanted, magnitude = ROPE_INIT_FUNCTIONS[name](config, seq_len=length)
        got = scaled_frequencies(head_dim, 500_000.0, scaling, length=length)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=0)
        assert scaling.magnitude == pytest.approx(magnitude)


@torch.no_grad()
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_within_and_beyond_the_trained_length(kind, older, tmp_path):
    theirs = build("llama", rope_parameters=parameters(kind))
    theirs.save_pretrained(tmp_path)
    if older:  # the spelling of files from before transformers 5
        path = tmp_path / "config.json"
        values = reference.checkpoints.loading.read_json(path)
        rope = values.pop("rope_parameters")
        values["rope_theta"] = rope.pop("rope_theta")
        values["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
        path.write_text(json.dumps(values))
    ours = reference.load_pretrained(tmp_path)
    for length in (20, 127, 200):
        ids = some_ids(batch=1, length=length)
        assert difference(ours(ids), theirs(ids).logits) < 1e-3
