"""The table of families, and the tool that finds where two models part."""

import json
import re

import pytest
import torch

import reference
from reference.__main__ import main
from reference.book.manifest import ROOT
from reference.checkpoints.compare import compare_activations, first_difference
from reference.checkpoints.families import FAMILIES, GPT_OSS, KIMI_LINEAR, OLMO_HYBRID
from reference.checkpoints.published import ALL_PUBLISHED, published_config
from reference.checkpoints.table import adapter_modules, tensor_rows
from reference.checkpoints.translate import tensor_plan
from reference.commands.families import describe
from reference.model.costs import bytes_of_cache, count_parameters
from reference.model.hybrid import HybridLM
from tests.checkpoints.tiny import PLAIN, VARIANTS, build, some_ids


def test_published_configs_have_the_parameters_that_their_makers_state():
    assert set(ALL_PUBLISHED) == {family.name for family in FAMILIES}
    for name, published in ALL_PUBLISHED.items():
        assert describe(name)["parameters"] / 1e9 == pytest.approx(published.billions, rel=0.065), name
    assert describe("minimax")["active_parameters"] / 1e9 == pytest.approx(45.9, rel=0.06)
    assert describe("minimax_m2")["active_parameters"] / 1e9 == pytest.approx(10, rel=0.11)


def test_the_table(capsys):
    assert main(["families"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) == 3 * len(FAMILIES) + 2
    assert "(3 KDA, 1 MLA) x 6, 2 KDA, 1 MLA" in text and "7:1" in text
    assert text.split("\n\n")[0] in (ROOT / "README.md").read_text(encoding="utf-8")
    assert main(["families", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["family"]: row["cache_bytes_per_token"] for row in rows}["llama"] == 32 * 2 * 8 * 128 * 2
    assert all(row["source"].startswith("https://") and row["licence"] and row["after"] for row in rows)
    with pytest.raises(ValueError, match="family: expected one of"):
        published_config("gpt2")


def test_the_page_of_tensors_is_current(capsys):
    assert main(["families", "--tensors"]) == 0
    page = capsys.readouterr().out
    kept = (ROOT / "appendix" / "checkpoints.md").read_text(encoding="utf-8")
    assert page == kept, "run `python -m reference families --tensors > appendix/checkpoints.md`"
    line = "| `model.layers.N.linear_attn.in_proj_qkvz.weight` | 12288 × 2048 | `layers.N.mixer.in_proj_qkv.weight`, "
    assert line in page
    line = "| `model.layers.N.mlp.experts.E.up_proj.weight` | 512 × 2048 | `layers.N.mlp.gate_up_proj[E, 512:]` | all |"
    assert line in page


@torch.no_grad()
@pytest.mark.parametrize("family", [KIMI_LINEAR, GPT_OSS, OLMO_HYBRID], ids=lambda family: family.name)
def test_the_page_leaves_no_tensor_out_and_cuts_where_the_plan_cuts(family):
    rows = {(row.theirs, row.shape): row for row in tensor_rows(family)}
    with torch.device("meta"):
        model = HybridLM(published_config(family.name))
    ours, named, met = dict(model.named_parameters()) | dict(model.named_buffers()), set(), set()
    for theirs, pieces in tensor_plan(family, model, "model.").items():
        layer = re.search(r"layers\.(\d+)\.", theirs)
        name = re.sub(r"experts\.\d+\.", "experts.E.", re.sub(r"layers\.\d+\.", "layers.N.", theirs))
        row = rows[name, tuple(pieces.file_shape)]
        met.add(row)
        for said in re.findall(r"`(.+?)`", row.ours):
            whole, cut = re.fullmatch(r"([\w.]+?)((?:\[.+\])?(?:\.mT)?)", said).groups()
            whole = whole.replace("layers.N.", layer[0] if layer else "")
            named.add(whole)
            if "reordered" not in row.ours:
                assert eval(f"x{cut}", {"x": ours[whole], "E": 0}).shape == row.shape, said
    assert named == set(model.state_dict()) and met == set(rows.values())


@torch.no_grad()
@pytest.mark.parametrize("name", PLAIN)
def test_cache_bytes_and_parameters_are_those_of_the_model(name, tmp_path):
    build(name).save_pretrained(tmp_path)
    model = reference.load_pretrained(tmp_path)
    for tokens in (5, 30):
        cache = reference.new_cache(model)
        model(some_ids(1, tokens), cache=cache)
        assert cache.nbytes() == bytes_of_cache(model.config, tokens, element_bytes=4)
    counts = count_parameters(model.config)
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert (counts.active < counts.total) == (model.config.num_experts > 0)


MAMBA_ONLY = ("mamba", "falcon_mamba", "mamba2")


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_models_that_agree_agree_everywhere(name, tmp_path):
    theirs = build(name)
    theirs.save_pretrained(tmp_path)
    ours = reference.load_pretrained(tmp_path)
    found = compare_activations(ours, theirs, some_ids(), inside=1)
    # Mamba has no MLP, and Granite's experts have a name of their own
    fewer = {"granitemoehybrid": 3, "granitemoe": 3, "granitemoe_swa": 3} | dict.fromkeys(MAMBA_ONLY, 2)
    parts = fewer.get(theirs.config.model_type, 4)
    assert len(found) >= ours.config.num_hidden_layers + 3 + parts
    assert max(x.size for x in found) < 1e-3
    assert first_difference(ours, theirs, some_ids()) is None


@torch.no_grad()
@pytest.mark.parametrize(
    "part,found",
    [
        ("embed_tokens.weight", "embed_tokens"),
        ("layers.1.mixer.in_proj_z.weight", "layers.1.mixer"),
        ("layers.2.input_layernorm.weight", "layers.2.input_layernorm"),
        ("layers.3.mlp.gate_proj.weight", "layers.3.mlp"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_the_first_difference_is_where_it_was_planted(part, found, tmp_path):
    theirs = build("qwen3_5_text")
    theirs.save_pretrained(tmp_path)
    ours = reference.load_pretrained(tmp_path)
    weight = ours.get_parameter(part)
    weight[-1] = weight[-1] + 0.5
    assert (
        first_difference(ours, theirs, torch.full((1, 9), 96) if part == "embed_tokens.weight" else some_ids()).ours
        == found
    )


def test_the_modules_for_lora_are_those_of_each_kind_of_layer():
    linear = ["linear_attn.in_proj_qkvz", "linear_attn.in_proj_ba", "linear_attn.out_proj"]
    softmax = [f"self_attn.{letter}_proj" for letter in "qkvo"]
    modules = adapter_modules(next(family for family in FAMILIES if family.name == "qwen3_next"))
    assert modules["linear_attention"] == linear and modules["full_attention"] == softmax
    assert all("norm" not in name and "conv" not in name for names in modules.values() for name in names)
    for family in FAMILIES:
        assert not {"gate", "router"} & {
            name.rpartition(".")[2] for x in adapter_modules(family).values() for name in x
        }
