"""config.json as people edit it: a field left out, said twice or elsewhere means what it means to transformers."""

import json
import re

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

import reference
from reference.checkpoints.families import BY_TYPE
from reference.checkpoints.given import REQUIRED
from tests.checkpoints.tiny import PLAIN, build, difference, some_ids

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
BESIDE = {  # what is added to a file that transformers saved
    "yarn by hand": {"rope_scaling": YARN},
    "older yarn by hand": {"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}},
    "yarn and theta by hand": {"rope_scaling": YARN | {"rope_theta": 5000.0}},
    "linear by hand, theta outside": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 777.0},
    "null by hand": {"rope_scaling": None},
    "theta outside": {"rope_theta": 777.0},
    "nothing inside": {"rope_parameters": None},
    "nothing inside, theta outside": {"rope_parameters": None, "rope_theta": 777.0},
    "empty inside": {"rope_parameters": {}},
    "empty fields": {"mlp_only_layers": [], "some_list": [], "some_field": None, "some_object": {}, "some_bias": False},
}


# What transformers loads all the same: it drops a tensor, or chooses experts that their groups don't offer.
CONTRADICTS = re.compile(
    "has no such tensor by config.json|n_groups, top_groups: .* can't give"
    "|rope_parameters: expected .* the former alone|name it in rope_parameters"
)


def outcome(load):
    """The logits, or None where the file is refused, or makes a model that can't run."""
    try:
        model = load()
        with torch.no_grad():
            return None if model is None else model(some_ids(length=39))
    except Exception:
        return None


def why_refused(folder):
    with pytest.raises(ValueError) as refused:
        reference.load_pretrained(folder)
    return str(refused.value)


def theirs_from(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    if info["missing_keys"] or info["mismatched_keys"]:
        return None  # some weights would be random
    return lambda ids: model(ids).logits


def compare(folder, fields):
    """ "same", "differ", or who refuses."""
    (folder / "config.json").write_text(json.dumps(fields))
    ours, theirs = outcome(lambda: reference.load_pretrained(folder)), outcome(lambda: theirs_from(folder))
    if ours is None and theirs is not None and CONTRADICTS.search(why_refused(folder)):
        return "the files say otherwise"
    if ours is None or theirs is None:
        return "both refuse" if ours is theirs else "ours refuses" if ours is None else "theirs refuses"
    return "same" if difference(ours, theirs) < 1e-3 else "differ"


@pytest.mark.parametrize("family", PLAIN)
def test_no_edit_of_a_config_means_something_else(family, tmp_path):
    build(family).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    edits = {
        f"without {name}": {k: x for k, x in fields.items() if k != name} for name in fields if name != "model_type"
    }
    edits |= {name: fields | more for name, more in BESIDE.items()}
    found = {name: compare(tmp_path, edited) for name, edited in edits.items()}
    assert found["empty fields"] == "same"
    wrong = [name for name, what in found.items() if what in ("differ", "ours refuses")]
    assert not wrong, f"{family}: {wrong}"


@pytest.mark.parametrize("family", [name for name in BY_TYPE if name == BY_TYPE[name].name and name in CONFIG_MAPPING])
def test_a_field_left_out_is_what_transformers_fills_in(family):
    theirs, ours, other = CONFIG_MAPPING[family](), dict(BY_TYPE[family].always), {}
    for name, entry in BY_TYPE[family].fields.items():
        filled = getattr(theirs, entry.theirs, None)
        ours[name] = entry.default(ours) if callable(entry.default) else entry.default
        if ours[name] is REQUIRED:
            ours[name] = filled
        elif ours[name] != filled:
            other[name] = filled
    if other.get("head_dim") is None:  # its class leaves it to the model: hidden_size / num_attention_heads
        other.pop("head_dim", None)
    other.pop("num_nextn_predict_layers", None)  # transformers doesn't read this head
    assert other == ({"sliding_window": None} if family == "qwen3" else {})  # None, as use_sliding_window is false


def test_the_outer_tie_governs(tmp_path):
    text = build("qwen3_5_text", tie_word_embeddings=True)
    text.save_pretrained(tmp_path)
    inner = json.loads((tmp_path / "config.json").read_text())
    for outer, tied in ((True, True), (False, False), (None, False)):
        both = {"model_type": "qwen3_5", "text_config": inner} | (
            {} if outer is None else {"tie_word_embeddings": outer}
        )
        (tmp_path / "config.json").write_text(json.dumps(both))
        assert reference.checkpoints.read_config(tmp_path)[1].tie_word_embeddings is tied


@pytest.mark.parametrize("family", ["qwen3_5_text", "llama"])
def test_quantized_weights_are_refused_wherever_it_is_said(family, tmp_path):
    build(family).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    quantized = {"quantization_config": {"quant_method": "fp8"}}
    nested = {"model_type": "qwen3_5", "text_config": fields | quantized}
    for edited in [fields | quantized, *([nested] if family == "qwen3_5_text" else [])]:
        (tmp_path / "config.json").write_text(json.dumps(edited))
        with pytest.raises(ValueError, match="quantization_config: 'fp8' weights are not read"):
            reference.load_pretrained(tmp_path)


SMOLLM2 = {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"kv_cache_dtype": "float16"}}
M2 = {"mlp_intermediate_size": 8192, "shared_moe_mode": "sigmoid", "sliding_window": None, "attention_bias": False}
M2 |= {f"layernorm_{part}_beta": 1.0 for part in ("full_attention", "linear_attention", "mlp")}
PUBLISHED = {"llama": SMOLLM2, "minimax_m2": M2, "qwen3": {"mlp_only_layers": [], "unsloth_fixed": True}}
PUBLISHED |= {
    "qwen3_5_text": {"mlp_only_layers": [], "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False}
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_fields_of_published_files_are_read(family, tmp_path):
    """Fields that files on the Hub have and transformers doesn't save (SmolLM2, MiniMax-M2, Qwen3.5, re-uploads)."""
    theirs = build(family)
    theirs.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | PUBLISHED[family]))
    with torch.no_grad():
        assert difference(reference.load_pretrained(tmp_path)(some_ids()), theirs(some_ids()).logits) < 1e-3
    for name, value in {"mlp_only_layers": [1], "use_qk_norm": False, "embedding_multiplier": 2.0, "new": 1}.items():
        if name in BY_TYPE[family].only:
            continue
        (tmp_path / "config.json").write_text(json.dumps(fields | {name: value}))
        with pytest.raises(ValueError, match=f"{name}: not known here"):
            reference.load_pretrained(tmp_path)


def test_more_layers_than_the_files_have_are_refused_at_once(tmp_path):
    build("llama").save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"num_hidden_layers": 10_000}))
    with pytest.raises(ValueError, match="num_hidden_layers: expected at most 4, the layers in the files, got 10000"):
        reference.load_pretrained(tmp_path)


def test_heads_wider_than_any_tensor_are_refused_before_their_angles_take_memory(tmp_path):
    build("llama").save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"head_dim": 2**31 - 2}))
    with pytest.raises(ValueError, match="head_dim: expected at most 97, the longest axis in the files, got 21"):
        reference.load_pretrained(tmp_path)


@pytest.mark.parametrize("family", ["llama", "minimax_m2", "deepseek_v3"])
def test_layers_may_be_named_where_the_family_has_one_kind(family, tmp_path):
    """transformers passes over layer_types in these families: right where it says what they are anyway."""
    build(family).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    full = ["full_attention"] * fields["num_hidden_layers"]
    assert compare(tmp_path, fields | {"layer_types": full, "max_sequence_length": 128}) == "same"
    for other in (full[1:], ["sliding_attention", *full[1:]]):
        (tmp_path / "config.json").write_text(json.dumps(fields | {"layer_types": other}))
        with pytest.raises(ValueError, match="layer_types: this family has"):
            reference.load_pretrained(tmp_path)


@torch.no_grad()
def test_one_dtype_where_a_file_mixes_them(tmp_path):
    theirs = build("qwen3_5_text").bfloat16()
    for name, p in theirs.named_parameters():
        if "in_proj_a" in name or "embed_tokens" in name:
            p.data = p.data.float()
    theirs.save_pretrained(tmp_path)
    ours = reference.load_pretrained(tmp_path)
    kept = {name for name, p in ours.named_parameters() if p.dtype != torch.bfloat16}
    assert all(name.endswith(("A_log", "dt_bias")) for name in kept)
    assert ours(some_ids()).isfinite().all()
