"""Files as they lie on the Hub, made small: every field is read, and means what it means to transformers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import reference
from reference.book.manifest import ROOT
from reference.checkpoints import read_config
from reference.checkpoints.translate import layers_of_blocks
from tests.checkpoints.tiny import difference, perturb, some_ids

FOLDER = ROOT / "tests" / "checkpoints" / "published"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
QUANTIZED = {"deepseek-v3.2": "fp8", "gpt-oss-20b": "mxfp4", "minimax-m2": "fp8"}
QUANTIZED |= {"deepseek-v3": "fp8", "minimax-m2.5": "fp8", "kimi-k2.5": "compressed-tensors"}
LAYERS = 8
# Sizes: theirs in the file -> small. Ratios that a layout rests on stay: heads per group, value heads per key head.
SMALL = {
    "hidden_size": 48,
    "intermediate_size": 40,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 20,
    "head_dim": 16,
    "linear_key_head_dim": 12,
    "linear_value_head_dim": 20,
    "linear_num_key_heads": 2,
    "num_key_value_heads": 2,
    "num_experts": 16,
    "num_local_experts": 16,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "num_experts_per_token": 4,
    "experts_per_token": 4,
    "rotary_dim": 8,
    "vocab_size": 97,
    "q_lora_rank": 24,
    "kv_lora_rank": 20,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "index_head_dim": 16,
    "index_n_heads": 16,
    "index_topk": 16,
    "sliding_window": 8,
    "shared_intermediate_size": 20,
    "moe_shared_expert_intermediate_size": 20,
    "moe_latent_size": 16,
    "mamba_d_ssm": 96,
    "mamba_d_head": 4,
    "mamba_d_state": 12,
    "mamba_num_heads": 16,
    "mamba_head_dim": 6,
    "ssm_state_size": 12,
    "lru_width": 64,
    "state_size": 6,
    "time_step_rank": 3,
    "mamba_dt_rank": 5,
    "attention_window_size": 8,
    "num_hidden_layers": LAYERS,
}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def small(fields):
    """The published fields with small numbers; what was null, missing or a rule stays so."""
    found = {}
    for name, value in fields.items():
        if name == "text_config":
            value = small(value)
        elif name in SMALL and value:
            value = SMALL[name]
        elif name in IDS and value is not None:
            value = IDS[name]
        elif name == "hybrid_override_pattern":
            value = "MEM*EMME" if "n_routed_experts" in fields else "M-MM*-M-"
        elif name in ("layer_types", "attn_type_list", "layers_block_type"):
            value = value[:LAYERS]
        elif name == "linear_attn_config":
            short = {"num_heads": 3, "head_dim": 12}
            value = (
                value | short | {k: [n for n in value[k] if n <= LAYERS] for k in ("full_attn_layers", "kda_layers")}
            )
        found[name] = value
    for name, key in (
        ("num_attention_heads", "num_key_value_heads"),
        ("linear_num_value_heads", "linear_num_key_heads"),
    ):
        if name in fields:
            found[name] = found[key] * (fields[name] // fields[key])
    if "kv_lora_rank" in fields:  # as many key heads as query heads
        found["num_key_value_heads"] = found["num_attention_heads"] = 4
    if fields.get("model_type") == "recurrent_gemma":
        found["num_attention_heads"] = 4
    if fields.get("model_type") in ("kimi_linear", "recurrent_gemma"):
        found["head_dim"] = found["hidden_size"] // found["num_attention_heads"]
    elif "head_dim" not in fields and "num_attention_heads" in fields and "qk_rope_head_dim" not in fields:
        found["hidden_size"] = 16 * found["num_attention_heads"]
    return found


def published(name):
    """The small file, without what it says of its weights' format."""
    return small(unquantized(name))


def unquantized(name):
    fields = json.loads(FILES[name].read_text())
    for part in (fields, fields.get("text_config", {})):
        part.pop("quantization_config", None)
    return fields


def as_transformers_says_it(fields):
    """The fields of the language model, in the names of transformers' own class."""
    outer, fields = fields, dict(fields.get("text_config", fields))
    if "tie_word_embeddings" in outer:
        fields["tie_word_embeddings"] = outer["tie_word_embeddings"]
    if fields["model_type"] in ("minimax_m1", "MiniMaxText01"):  # transformers has another name, and turns whole heads
        kinds = [["linear_attention", "full_attention"][kind] for kind in fields.pop("attn_type_list")]
        del fields["rotary_dim"]
        scales = {
            f"{new}_{end}_factor": fields.pop(f"layernorm_{old}_{end}")
            for end in ("alpha", "beta")
            for new, old in SCALES
        }
        fields |= {"model_type": "minimax", "layer_types": kinds} | scales
    if fields["model_type"] == "kimi_k2":
        fields["model_type"] = "deepseek_v3"
    return {k: x for k, x in fields.items() if k not in ("auto_map", "architectures", "transformers_version")}


SCALES = (("full_attn", "full_attention"), ("linear_attn", "linear_attention"), ("mlp", "mlp"))


@pytest.mark.filterwarnings("ignore:.*rope_scaling. is deprecated:FutureWarning")  # of transformers, for Kimi's null
@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_a_published_file_is_read_as_transformers_reads_it(name, tmp_path):
    fields = published(name)
    known = as_transformers_says_it(fields)
    torch.manual_seed(0)
    config = AutoConfig.for_model(known.pop("model_type"), **known)
    theirs = perturb(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval())
    theirs.save_pretrained(tmp_path)
    if name in ("minimax-m1", "minimax-text-01"):
        del fields["rotary_dim"]
    if fields["model_type"] == "kimi_k25":
        tensors = {f"language_model.{key}": x for key, x in load_file(tmp_path / "model.safetensors").items()}
        save_file(tensors | {"vision_tower.patch_embed.proj.weight": torch.ones(2, 3)}, tmp_path / "model.safetensors")
    elif "text_config" in fields:  # beside a model that sees and one that predicts ahead
        tensors = load_file(tmp_path / "model.safetensors")
        tensors = {key.replace("model.", "model.language_model.", 1): x for key, x in tensors.items()}
        more = {"model.visual.patch_embed.proj.weight": torch.ones(2, 3), "mtp.fc.weight": torch.ones(3, 2)}
        save_file(tensors | more, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(fields))
    ours = reference.load_pretrained(tmp_path)
    ids = some_ids()
    wanted = theirs(ids).logits
    assert wanted.std() > 0.02  # Falcon-H1 multiplies its logits by 0.04
    assert difference(ours(ids), wanted) < 1e-3


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_read_at_its_full_size(name, tmp_path):
    fields = unquantized(name)
    (tmp_path / "config.json").write_text(json.dumps(fields))
    family, config = read_config(tmp_path)
    inner = fields.get("text_config", fields)
    layers = sum(map(len, layers_of_blocks(family, config)))
    assert layers == inner.get("num_hidden_layers", len(inner.get("layers_block_type", ())))
    assert config.hidden_size == inner["hidden_size"]
    tied = inner.get("tie_word_embeddings", family.fields["tie_word_embeddings"].default)
    assert config.tie_word_embeddings is tied


@pytest.mark.parametrize("name", FILES)
def test_quantized_weights_are_refused_by_their_name(name, tmp_path):
    fields = json.loads(FILES[name].read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields))
    said = "quantization_config" in fields or "quantization_config" in fields.get("text_config", ())
    assert said is (name in QUANTIZED)
    if name in QUANTIZED:
        with pytest.raises(ValueError, match=f"quantization_config: '{QUANTIZED[name]}' weights are not read"):
            read_config(tmp_path)


def test_the_table_names_every_file():
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {
        line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ") and "](http" in line
    } == set(FILES)


@pytest.mark.parametrize("method", ["fp8", "mxfp4", "awq", "gptq", "bitsandbytes", "compressed-tensors"])
def test_a_quantization_inside_text_config_is_refused_too(method, tmp_path):
    fields = json.loads(FILES["qwen3.5-0.8b"].read_text())
    fields["text_config"]["quantization_config"] = {"quant_method": method}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=f"quantization_config: '{method}' weights are not read"):
        read_config(tmp_path)
