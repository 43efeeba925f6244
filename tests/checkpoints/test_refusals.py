"""Configs and files that are odd in ways nobody plans for: refused by name, or read as transformers reads them."""

import json
import re
import shutil
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3_5ForConditionalGeneration

import reference
from reference.__main__ import main
from reference.book.manifest import ROOT
from reference.checkpoints import loading, read_config
from reference.checkpoints.families import BY_TYPE, FAMILIES
from reference.checkpoints.missing import MISSING, what_is_missing
from reference.checkpoints.tiny import tiny_fields
from reference.model.config import HybridConfig
from tests.checkpoints.test_census import LINEAR, TABLE
from tests.checkpoints.tiny import PLAIN, build, difference, perturb, some_ids

NONSENSE = [None, "x", [], ["x"], [["x"]], {}, -1, 0, 1.5, float("nan"), float("inf"), True, 10**12, 10**30]


FLOATS = [name for name, hint in get_type_hints(HybridConfig).items() if hint is float]


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def every_change(values, path=()):
    """(path, config) for each field, also of objects in it, replaced by each piece of nonsense."""
    for name, value in values.items():
        for odd in NONSENSE:
            yield (*path, name), values | {name: odd}
        if isinstance(value, dict):
            yield from ((inner, values | {name: changed}) for inner, changed in every_change(value, (*path, name)))


@pytest.mark.parametrize("name", PLAIN)
def test_nonsense_in_any_field_is_a_valueerror_that_names_the_file(name, tmp_path):
    """Or it is read, since some fields may be null, or don't matter here. Nothing else is raised."""
    build(name).config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    refused = 0
    for field, changed in every_change(values):
        path.write_text(json.dumps(changed))
        try:
            _, config = read_config(tmp_path)
        except ValueError as error:
            assert str(path) in str(error), field
            refused += 1
        else:  # torch multiplies by no whole number of 100 bits
            assert all(type(getattr(config, number)) is float for number in FLOATS), field
    assert refused > 5 * len(values)


@pytest.mark.parametrize(
    "fields,sentence",
    [
        ({"model_type": ["llama"]}, r"model_type: expected one of .*, got \['llama'\]"),
        ({"model_type": "9" * 5000}, "model_type: expected one of .*, got '9{99}\\.\\.\\.$"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers: expected a whole number from 1, got 1000000000000"),
        ({"rms_norm_eps": None}, "rms_norm_eps: expected a number from 0, got None"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: expected true or false, got 'no'"),
        ({"rope_parameters": "yarn"}, "rope_parameters: expected an object or null, got 'yarn'"),
        ({"rope_theta": None, "rope_parameters": None}, "rope_theta: expected a number from 1, got None"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": float("nan")}},
            "rope_parameters: factor: expected a number from 0 or null, got nan",
        ),
    ],
)
def test_what_is_said(fields, sentence, tmp_path):
    build("llama").config.save_pretrained(tmp_path)
    change_config(tmp_path, **fields)
    with pytest.raises(ValueError, match=f"config.json: {sentence}"):
        read_config(tmp_path)


def test_heads_that_do_not_divide_name_the_file(tmp_path):
    build("qwen3_next").save_pretrained(tmp_path)
    change_config(tmp_path, linear_num_value_heads=3)
    with pytest.raises(ValueError, match=r"config.json: n_value_heads: expected a multiple of n_key_heads = 2, got 3"):
        reference.load_pretrained(tmp_path)


@pytest.mark.parametrize("index", [{}, {"weight_map": [1]}, {"weight_map": {"a": 3}}])
def test_an_index_that_is_none(index, tmp_path):
    build("llama").config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index.json: expected a weight_map from tensors to files"):
        reference.load_pretrained(tmp_path)


def test_fields_inside_kimis_own_object_are_not_passed_over(tmp_path):
    build("kimi_linear").save_pretrained(tmp_path)
    own = {"num_heads": 3, "head_dim": 12, "short_conv_kernel_size": 4, "full_attn_layers": [5], "kda_layers": [1, 2]}
    values = json.loads((tmp_path / "config.json").read_text())
    for name in ("layer_types", "linear_num_heads", "linear_head_dim"):
        values.pop(name)
    (tmp_path / "config.json").write_text(json.dumps(values | {"linear_attn_config": own}))
    assert reference.load_pretrained(tmp_path).config.layer_types == ("kda",) * 4 + ("latent_attention",)
    change_config(tmp_path, linear_attn_config=own | {"gate_lower_bound": -5.0})
    with pytest.raises(ValueError, match=r"linear_attn_config: \['gate_lower_bound'\] not known here"):
        reference.load_pretrained(tmp_path)


def test_a_dtype_that_weights_cannot_have(tmp_path):
    build("llama").save_pretrained(tmp_path)
    for dtype in ("float16", torch.int8):
        with pytest.raises(ValueError, match="dtype: expected None or one of"):
            reference.load_pretrained(tmp_path, dtype=dtype)


@pytest.mark.parametrize("name", PLAIN)
def test_a_layer_more_than_config_json_says(name, tmp_path):
    """DeepSeek, GLM and Ling keep the layer that predicts the token after the next there; elsewhere it is surplus."""
    build(name).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    layers = fields["num_hidden_layers"] if name != "nemotron_h" else len(fields["layers_block_type"])
    extra = f"{BY_TYPE[name].prefixes[0]}layers.{layers}.self_attn.q_proj.weight"
    change_tensors(tmp_path, lambda tensors: tensors.update({extra: torch.zeros(64, 64)}))
    if any("num_hidden_layers" in part for part in BY_TYPE[name].ignored):
        assert name.startswith(("bailing", "deepseek", "glm"))
        reference.load_pretrained(tmp_path)
    else:
        with pytest.raises(ValueError, match=f"{extra}: {name} has no such tensor by config.json"):
            reference.load_pretrained(tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("name", ["qwen3_next", "qwen3_5_text"])
def test_the_published_head_for_the_token_after_the_next_stays_in_the_file(name, tmp_path):
    """As in transformers, whose logits don't need it."""
    theirs = build(name)
    theirs.save_pretrained(tmp_path)
    change_tensors(tmp_path, lambda tensors: tensors.update({"mtp.fc.weight": torch.zeros(64, 128)}))
    change_config(tmp_path, mtp_num_hidden_layers=1)
    ours, ids = reference.load_pretrained(tmp_path), some_ids()
    assert ours.mtp is None and difference(ours(ids), theirs(ids).logits) < 1e-3


@torch.no_grad()
def test_a_copy_of_the_embedding_may_stand_in_a_tied_file_and_nothing_else(tmp_path):
    theirs, ids = build("llama", tie_word_embeddings=True), some_ids()
    theirs.save_pretrained(tmp_path)
    same = "model.embed_tokens.weight"
    change_tensors(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors[same].clone()}))
    assert difference(reference.load_pretrained(tmp_path)(ids), theirs(ids).logits) < 1e-3
    change_tensors(tmp_path, lambda tensors: tensors["lm_head.weight"][96].add_(1))
    with pytest.raises(ValueError, match=r"lm_head.weight: expected the same as model.embed_tokens.weight"):
        reference.load_pretrained(tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_the_language_model_of_one_that_also_sees(tied, tmp_path):
    """qwen3_5: text_config, names behind model.language_model, positions of images; its vision tower is left alone."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5, "mrope_section": [3, 3, 2]}
    text = tiny_fields("qwen3_5_text", head_dim=32, tie_word_embeddings=tied, rope_parameters=rope)
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
    vision |= {"num_position_embeddings": 64, "patch_size": 4}
    marks = {"image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93}
    config = AutoConfig.for_model("qwen3_5", text_config=text, vision_config=vision, tie_word_embeddings=tied, **marks)
    torch.manual_seed(7)
    theirs = perturb(Qwen3_5ForConditionalGeneration(config).eval())
    theirs.save_pretrained(tmp_path)
    assert any(name.startswith("model.visual.") for name in load_file(tmp_path / "model.safetensors"))
    ours, ids = reference.load_pretrained(tmp_path), some_ids() % 90
    assert difference(ours(ids), theirs(ids).logits) < 1e-3
    change_config(tmp_path, quantization_config={"quant_method": "fp8"})
    with pytest.raises(ValueError, match="quantization_config: 'fp8' weights are not read"):
        reference.load_pretrained(tmp_path)


@torch.no_grad()
def test_where_minimax_is_read_as_its_makers_do_and_not_as_transformers(tmp_path):
    """rotary_dim: MiniMax's code turns so many channels of each head; transformers 5.23 passes the field over and
    turns all. If this fails, compare them."""
    theirs, ids = build("minimax"), some_ids()
    theirs.save_pretrained(tmp_path)
    change_config(tmp_path, rotary_dim=16)  # all of head_dim: they agree
    assert difference(reference.load_pretrained(tmp_path)(ids), theirs(ids).logits) < 1e-3
    change_config(tmp_path, rotary_dim=8)
    ours = reference.load_pretrained(tmp_path)
    assert ours.config.rotary_dim == 8 and difference(ours(ids), theirs(ids).logits) > 0.1
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert difference(again(ids).logits, theirs(ids).logits) < 1e-5


def test_the_hub_brings_the_small_files_first(tmp_path, monkeypatch):
    """What config.json or a missing tokenizer rules out is refused before the weights travel."""
    import huggingface_hub

    build("llama").save_pretrained(tmp_path / "there")
    asked = []

    def snapshot_download(repository, allow_patterns):
        asked.append(("*.safetensors" in allow_patterns, repository))
        return str(tmp_path / "there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert reference.load_pretrained("some/model").config.num_hidden_layers == 4
    assert asked == [(False, "some/model"), (True, "some/model")]
    asked.clear()
    assert main(["generate", "--model", "some/model", "--prompt", "a"]) == 1  # there is no tokenizer.json
    change_config(tmp_path / "there", quantization_config={"quant_method": "fp8"})
    with pytest.raises(ValueError, match="quantization_config"):
        reference.load_pretrained("some/model")
    assert not any(weights for weights, _ in asked)


def test_a_hub_that_does_not_answer_is_a_sentence(monkeypatch, capsys):
    import huggingface_hub

    def snapshot_download(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no such thing\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert main(["generate", "--model", "some/model", "--prompt", "a"]) == 1
    assert "some/model: the Hugging Face Hub did not give it (no such thing)" in capsys.readouterr().err


def test_the_progress_bar_counts_every_byte(tmp_path, monkeypatch):
    build("qwen3_next").save_pretrained(tmp_path)
    bars = []

    class Bar(loading.tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"disable": True})
            bars.append([options["total"], 0])

        def update(self, n=1):
            bars[-1][1] += n

    monkeypatch.setattr(loading, "tqdm", Bar)
    model = reference.load_pretrained(tmp_path)
    assert bars == [[sum(p.nbytes for p in model.parameters())] * 2]


def test_a_gigabyte_was_loaded_within_the_bound():
    record = json.loads((ROOT / "figures/data/bench_load.json").read_text(encoding="utf-8"))
    assert record["weights_MB"] >= 1000 and not record["quick"]
    assert all(entry["peak_over_weights"] <= 1.15 for entry in record["table"].values())


@pytest.mark.parametrize("config", ["{", "[]", '{"model_type": 3}', "{}", '{"vocab_size": 3}'])
def test_the_command_line_says_it_in_a_sentence(config, tmp_path, capsys):
    build("llama").save_pretrained(tmp_path)
    shutil.copy(tmp_path / "config.json", tmp_path / "tokenizer.json")  # no tokenizer, but JSON
    (tmp_path / "config.json").write_text(config)
    assert main(["generate", "--model", str(tmp_path), "--prompt", "a"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("generate: ") and str(tmp_path) in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("~nobody-of-this-name/x", "is no folder of anybody"),
        ("no/such/place", "is neither a folder"),
        ("", "path_or_hub_id: expected a folder's name, got an empty one"),
    ],
)
def test_what_is_no_place_is_named(place, problem):
    with pytest.raises(ValueError, match=problem):
        reference.load_pretrained(place)


@pytest.mark.parametrize("inner", [{"model_type": "llama"}, {"model_type": ["deepseek_v3"]}, [], "deepseek_v3"])
def test_the_language_model_inside_is_of_the_family_that_the_file_names(inner, tmp_path):
    """Kimi K2.5's is kimi_k2, which is one of deepseek_v3's names: see published/kimi-k2.5.json."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "kimi_k25", "text_config": inner}))
    with pytest.raises(ValueError, match="text_config: expected an object of model_type 'deepseek_v3'"):
        read_config(tmp_path)


@pytest.mark.parametrize("family", MISSING)
def test_a_family_that_does_not_load_says_what_is_missing(family, tmp_path):
    """And is one of transformers' that has no table here: once it has one, it leaves the list."""
    assert (Path(transformers.__file__).parent / "models" / family).is_dir() and family not in BY_TYPE
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(ValueError, match=f"model_type: '{family}' is not read here; it needs {MISSING[family]}"):
        read_config(tmp_path)


# What a sentence names is in the model code of transformers, as classes of these endings.
SIGNS_OF_WHAT_IS_MISSING = {
    "deepseek_v4": ("HyperConnection", "CSACompressor", "HCACompressor"),
    "glm5_next": ("HyperConnection", "Indexer"),
    "qwen4_exp": ("GatedResidual", "NGramEmbedding", "QSAIndexer"),
    "hy_v4": ("HyperConnection", "Indexer"),
    "minimax_m3_vl": ("Indexer",),
    "inkling": ("RelativeLogits", "ShortConvolution"),
    "inkling2": ("RelativeLogits", "BlockAttentionResidual"),
    "zamba2": ("HybridLayer", "AttentionDecoderLayer"),
}


@pytest.mark.parametrize("family", SIGNS_OF_WHAT_IS_MISSING)
def test_what_is_missing_is_what_transformers_has(family):
    code = (Path(transformers.__file__).parent / "models" / family / f"modeling_{family}.py").read_text()
    for ending in SIGNS_OF_WHAT_IS_MISSING[family]:
        assert re.search(rf"^class \w*{ending}\(", code, re.M), ending


def test_the_families_of_the_census_load_or_say_what_is_missing():
    """Every family with a linear layer or an indexer."""
    names = {family.name.removesuffix("_text") for family in FAMILIES} | set(MISSING)
    for mixer in (*LINEAR, "indexer"):
        assert set(TABLE[mixer].split()) <= names, mixer
    (other, said) = ("minimax_m3", "glm5_next_text")
    assert what_is_missing(other) == MISSING["minimax_m3_vl"] and what_is_missing(said) == MISSING["glm5_next"]
    assert what_is_missing("llama") is None and what_is_missing(3) is None
