"""Models that also see: their language model is read out of the whole, and nothing else."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

import reference
from tests.checkpoints.tiny import difference, perturb, some_ids, tiny_fields

TINY_EYES = {
    "qwen3_5_moe": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 64},
    "kimi_k25": {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "patch_size": 4,
    },
}
TEXTS = {"qwen3_5_moe": "qwen3_5_moe_text", "kimi_k25": "deepseek_v3"}


@pytest.fixture(scope="module", params=TEXTS)
def seeing(request, tmp_path_factory):
    """(transformers' model, its folder, model_type)"""
    kind, torch_seed = request.param, 0
    torch.manual_seed(torch_seed)
    text = tiny_fields(TEXTS[kind]) | {"model_type": TEXTS[kind]}
    ids = {name: 90 + n for n, name in enumerate(("image_token_id", "video_token_id"))}
    more = {"projection_hidden_size": 16} if kind == "kimi_k25" else {}
    config = AutoConfig.for_model(
        kind, text_config=text, vision_config=TINY_EYES[kind], tie_word_embeddings=False, **ids, **more
    )
    theirs = perturb(AutoModelForImageTextToText.from_config(config).eval())
    folder = tmp_path_factory.mktemp("seeing")
    theirs.save_pretrained(folder)
    if kind == "kimi_k25":  # transformers 5.23 saves the language model's `layers` as `blocks`; the Hub has layers
        tensors = load_file(folder / "model.safetensors")
        blocks = "language_model.model.blocks."
        assert any(name.startswith(blocks) for name in tensors)
        found = {name.replace(blocks, "language_model.model.layers."): x for name, x in tensors.items()}
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    return theirs, folder, kind


@torch.no_grad()
def test_the_language_model_is_read(seeing):
    theirs, folder, _ = seeing
    ids = some_ids().clamp(max=80)
    assert difference(reference.load_pretrained(folder)(ids), theirs(ids).logits) < 1e-3


def with_experts_stacked(tensors):
    """Qwen3.5-MoE as on the Hub: all experts of a layer in two tensors."""
    found, experts = {}, {}
    for name, x in tensors.items():
        if (part := re.search(r"experts\.(\d+)\.(\w+)\.weight", name)) is None:
            found[name] = x
        else:
            experts.setdefault(name[: part.start()], {})[part[2], int(part[1])] = x
    for where, of_layer in experts.items():
        gate, up, down = (
            torch.stack([of_layer[part, n] for n in range(8)]) for part in ("gate_proj", "up_proj", "down_proj")
        )
        found |= {f"{where}experts.gate_up_proj": torch.cat([gate, up], 1), f"{where}experts.down_proj": down}
    return found


def with_the_names_of_transformers(tensors):
    """Kimi K2.5 as transformers calls the tensors in memory."""
    found = {name.replace("language_model.model.", "model.language_model."): x for name, x in tensors.items()}
    return {name.replace("language_model.lm_head", "lm_head"): x for name, x in found.items()}


@torch.no_grad()
def test_the_other_layout_is_read_as_well(seeing, tmp_path):
    _, folder, kind = seeing
    tensors = load_file(folder / "model.safetensors")
    found = {"qwen3_5_moe": with_experts_stacked, "kimi_k25": with_the_names_of_transformers}[kind](tensors)
    assert not set(found) <= set(tensors)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(found, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ids = some_ids()
    assert torch.equal(reference.load_pretrained(tmp_path)(ids), reference.load_pretrained(folder)(ids))
