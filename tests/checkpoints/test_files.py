"""Bad files: an error that names file, tensor and expectation, before any allocation; and what happens to memory."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import reference
from reference.checkpoints import load_model, loading
from tests.checkpoints.tiny import build, difference, some_ids


@pytest.fixture
def folder(tmp_path):
    build("qwen3_5_text").save_pretrained(tmp_path)
    return tmp_path


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def refused(folder, *parts, monkeypatch=None):
    """The sentence that load_pretrained refuses the folder with; nothing may be allocated before."""

    def too_early(*args, **kwargs):
        raise AssertionError("memory was taken before everything was checked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "put_in_memory", too_early)
        with pytest.raises(ValueError) as caught:
            reference.load_pretrained(folder)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


K_PROJ = "model.layers.3.self_attn.k_proj.weight"


def test_a_missing_tensor(folder):
    change_tensors(folder, lambda tensors: tensors.pop(K_PROJ))
    refused(folder, str(folder), K_PROJ, "missing", "[32, 64]")


def test_a_surplus_tensor(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.layers.3.self_attn.extra.weight": torch.zeros(2)}))
    refused(folder, "model.safetensors", "self_attn.extra.weight", "no such tensor")


def test_a_tensor_of_another_shape(folder):
    change_tensors(folder, lambda tensors: tensors.update({K_PROJ: torch.zeros(64, 32)}))
    refused(folder, "model.safetensors", K_PROJ, "expected shape [32, 64]", "got [64, 32]")


def test_a_tensor_of_whole_numbers(folder):
    change_tensors(folder, lambda tensors: tensors.update({K_PROJ: torch.zeros(32, 64, dtype=torch.int8)}))
    refused(folder, "model.safetensors", K_PROJ, "I8", "quantized")


def test_a_truncated_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    refused(folder, "model.safetensors", "not a whole safetensors file")


def test_a_truncated_shard_and_a_missing_one(tmp_path):
    build("llama").save_pretrained(tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, shards[1].name, "not a whole safetensors file")
    shards[1].unlink()
    refused(tmp_path, shards[1].name, "is missing")


def test_an_index_that_lies(tmp_path):
    build("llama").save_pretrained(tmp_path, max_shard_size="100KB")
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.weight"] = index["weight_map"][K_PROJ]
    path.write_text(json.dumps(index))
    refused(tmp_path, "has no lm_head.weight", "model.safetensors.index.json")
    index["weight_map"]["lm_head.weight"] = "../elsewhere.safetensors"
    path.write_text(json.dumps(index))
    refused(tmp_path, "names of files beside it")
    for name in ("9" * 5000, "é" * 200, "/etc/passwd", "..\\x.safetensors"):  # of 5,000 and of 400 bytes, and elsewhere
        index["weight_map"]["lm_head.weight"] = name
        path.write_text(json.dumps(index))
        refused(tmp_path, "expected names of files beside it", "model.safetensors.index.json")


def test_pickles_are_refused(tmp_path):
    model = build("llama")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    refused(tmp_path, "pytorch_model.bin", "a pickle, which can run code")


def test_no_weights_at_all(tmp_path):
    build("llama").config.save_pretrained(tmp_path)
    refused(tmp_path, "neither model.safetensors nor")


CONFIGS = {
    "an unknown family": ({"model_type": "gpt2"}, "model_type: expected one of", "'gpt2'"),
    "an activation": ({"hidden_act": "gelu"}, "hidden_act: expected 'silu', got 'gelu', which is not implemented"),
    "a field nobody knows": ({"attn_softcap": 50.0}, "attn_softcap: not known here", "ignore_fields"),
    "a RoPE scaling": (
        {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0}},
        "rope_type: expected one of ['default', 'linear', 'dynamic', 'yarn', 'llama3', 'proportional'], got 'longrope'",
    ),
    "half a RoPE scaling": ({"rope_parameters": {"rope_type": "linear"}}, "factor: rope_type 'linear' needs"),
    "a RoPE field": ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "twist": 1}}, "['twist'] not known"),
    "quantized": ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config: 'fp8' weights are not read"),
    "a layer type": ({"layer_types": ["full_attention"] * 3 + ["mamba"]}, "layer_types: qwen3_5_text has", "'mamba'"),
    "too few layers": ({"layer_types": ["full_attention"]}, "layer_types: expected one for each of", "= 4", "got 1"),
    "heads": ({"num_key_value_heads": 3}, "num_attention_heads: expected a multiple of num_key_value_heads = 3"),
    "nonsense": ({"hidden_size": "64"}, "hidden_size", "'64'"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_that_are_refused(name, folder):
    fields, *parts = CONFIGS[name]
    change_config(folder, **fields)
    refused(folder, "config.json", *parts)


def test_a_missing_field(folder):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values.pop("vocab_size")
    path.write_text(json.dumps(values))
    refused(folder, "config.json", "vocab_size: is missing")


def test_broken_json(folder):
    (folder / "config.json").write_text("{")
    refused(folder, "config.json", "is not JSON")


def test_places_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        reference.load_pretrained(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"expected a folder with config.json and safetensors, got a file"):
        reference.load_pretrained(tmp_path / "file")
    with pytest.raises(ValueError, match=r"neither a folder here nor an owner/name"):
        reference.load_pretrained("no such/folder at/all")


@torch.no_grad()
def test_a_field_the_reader_knows_to_be_harmless(folder):
    before = reference.load_pretrained(folder)
    change_config(folder, attn_softcap=None)
    after = reference.load_pretrained(folder, ignore_fields=("attn_softcap",))
    assert torch.equal(after(some_ids()), before(some_ids()))


def test_dtype_is_kept_or_cast(tmp_path):
    build("kimi_linear").to(torch.bfloat16).save_pretrained(tmp_path)
    change_tensors(
        tmp_path, lambda tensors: tensors.update({k: v.float() for k, v in tensors.items() if k.endswith("A_log")})
    )
    kept = reference.load_pretrained(tmp_path)
    cast = reference.load_pretrained(tmp_path, dtype=torch.float16)
    for name, p in kept.named_parameters():
        assert p.dtype == (torch.float32 if name.endswith("A_log") else torch.bfloat16), name
    for name, p in cast.named_parameters():
        kind = torch.float32 if name.endswith("A_log") else torch.float16
        assert p.dtype == (torch.bfloat16 if name.endswith("dt_bias") else kind), name
    assert all(m.frequencies.dtype == torch.float32 for m in kept.modules() if hasattr(m, "frequencies"))


@torch.no_grad()
def test_shards_hold_the_same(tmp_path):
    theirs = build("qwen3_next")
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="50KB")
    one, many = (reference.load_pretrained(tmp_path / x) for x in ("one", "many"))
    assert torch.equal(one(some_ids()), many(some_ids()))
    reference.save_pretrained(one, tmp_path / "ours", max_shard_bytes=50_000)
    assert len(list((tmp_path / "ours").glob("model-*-of-*.safetensors"))) > 3
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert difference(again(some_ids()).logits, theirs(some_ids()).logits) < 1e-5


def test_saving_loses_nothing(tmp_path):
    model = reference.HybridLM(reference.preset("tiny"))
    (tmp_path / "tokenizer.json").write_text("{}")
    reference.save_pretrained(model, tmp_path)
    with pytest.raises(ValueError, match=r"holds model.safetensors already; give another folder, or overwrite=True"):
        reference.save_pretrained(model, tmp_path)
    (tmp_path / "optimizer.safetensors").write_bytes(b"somebody's")
    reference.save_pretrained(model, tmp_path, overwrite=True, max_shard_bytes=200_000)
    assert (tmp_path / "optimizer.safetensors").read_bytes() == b"somebody's"
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "tokenizer.json").read_text() == "{}"
    assert not list(tmp_path.glob("*.part"))
    reference.load_pretrained(tmp_path)


def test_a_model_that_no_family_can_say(tmp_path):
    values = reference.preset("tiny").to_dict() | {"linear_gate": "sigmoid"}
    model = reference.HybridLM(reference.HybridConfig.from_dict(values))
    with pytest.raises(ValueError, match="qwen3_5_text can't say linear_gate = 'sigmoid'"):
        reference.save_pretrained(model, tmp_path / "new")
    with pytest.raises(ValueError, match="family: expected one of"):
        reference.save_pretrained(model, tmp_path / "new", family="gpt2")
    assert not (tmp_path / "new").exists()


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny", "tiny_moe"])
def test_a_hybrid_of_this_book_is_opened_by_transformers(name, tmp_path):
    values = reference.preset(name).to_dict() | {"num_nextn_predict_layers": 1}
    ours = reference.HybridLM(reference.HybridConfig.from_dict(values)).eval()
    reference.save_pretrained(ours, tmp_path)
    theirs, ids = AutoModelForCausalLM.from_pretrained(tmp_path), some_ids()
    assert type(theirs).__name__ == {"tiny": "Qwen3_5ForCausalLM", "tiny_moe": "Qwen3NextForCausalLM"}[name]
    assert difference(theirs(ids).logits, ours(ids)) < 1e-3
    again = reference.load_pretrained(tmp_path)
    for got, wanted in zip(again.predict_ahead(ids), ours.predict_ahead(ids), strict=True):
        assert torch.equal(got, wanted)  # the second head too, which transformers leaves in the file


PEAK = """
import resource, sys, torch
import reference
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = reference.load_pretrained(sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - base) * 1024 / sum(p.nbytes for p in model.parameters()))
"""


def test_peak_memory_is_the_weights_and_little_more(tmp_path):
    """150 MB here; README says what 1 GB took, and the command."""
    values = reference.preset("tiny_moe").to_dict()
    values |= {"hidden_size": 512, "vocab_size": 20_000, "num_experts": 16, "moe_intermediate_size": 256}
    config = reference.HybridConfig.from_dict(values | {"intermediate_size": 512})
    reference.save_pretrained(reference.HybridLM(config), tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 130e6
    if sys.platform != "linux":
        pytest.skip("ru_maxrss has other units elsewhere")
    out = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    # a mapping is let go after 16 MiB and a tensor, which beside 150 MB is more than beside 1 GB
    assert float(out.stdout) < 1.15 + 32 * 2**20 / size


def test_a_model_is_written_into_a_folder_of_its_own(tmp_path, monkeypatch):
    """Not over another's config.json or pickled weights, not on a file, not into whatever folder is the current one."""
    model = reference.HybridLM(reference.preset("tiny"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    for name in ("config.json", "pytorch_model.bin"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(ValueError, match=f"holds {name} already; give another folder"):
            reference.save_pretrained(model, folder)
        assert [(x.name, x.read_text()) for x in folder.iterdir()] == [(name, "mine")]
    for path, kind, message in (
        (tmp_path / "file", ValueError, "is a file, expected a folder"),
        ("", ValueError, "path: expected a folder's name, got an empty one"),
        (None, TypeError, "path: expected a folder's name, got NoneType"),
        (7, TypeError, "path: expected a folder's name, got int"),
    ):
        with pytest.raises(kind, match=message):
            reference.save_pretrained(model, path)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["config", "file", "pytorch_model"]
    for load in (reference.load_pretrained, load_model):
        with pytest.raises(ValueError, match="expected a folder's name, got an empty one"):
            load("")
        with pytest.raises(TypeError, match="expected a folder's name, got NoneType"):
            load(None)
