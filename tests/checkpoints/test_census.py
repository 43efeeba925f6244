"""Which mixers the pinned transformers has, family by family: if this fails after an update, the field has moved.

The table is compared with a walk over the model code that is installed. Then renew it, and the last row of
appendix/timeline.md, whose counts are compared here as well.
"""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import transformers

from reference.book.manifest import ROOT
from reference.checkpoints.families import FAMILIES

MODELS = Path(transformers.__file__).parent / "models"
# What a family's code defines if it has the mixer, in files of this beginning.
SIGNS = {
    "delta rule": ("modeling", r"^def \w*(?:gated_delta_rule|kimi_delta_attention)\("),
    "lightning": ("modeling", r"^class \w+LightningAttention\("),
    "Mamba-2": ("modeling", r"^def mamba2_chunk_scan\("),
    "Mamba-1": ("modeling", r"^def mamba_selective_scan\("),
    "RG-LRU": ("modeling", r"^class \w+Rglru\("),
    "short convolution": ("modeling", r"^class \w+ShortConv(?:olution)?\("),
    "indexer": ("modeling", r"^class \w+Indexer\("),
    "window": ("configuration", r"\"sliding_attention\""),
}
TABLE = {
    "delta rule": "bailing_hybrid glm5_next kimi_linear olmo_hybrid qwen3_5 qwen3_5_moe qwen3_next qwen4_exp",
    "lightning": "minimax",
    "Mamba-2": "bamba falcon_h1 granitemoehybrid mamba2 nemotron_h zamba2",
    "Mamba-1": "falcon_mamba jamba mamba zamba",
    "RG-LRU": "recurrent_gemma",
    "short convolution": "inkling inkling2 lfm2 lfm2_moe lfm3 lfm3_vl",
    "indexer": (
        "axk2 deepseek_v32 deepseek_v4 dots3_note glm5_next glm_moe_dsa hy_v4 minimax_m3_vl mistral_large4 qwen4_exp"
    ),
    "window": (
        "afmoe beam cohere2 cohere2_moe cohere_compass cwm deepseek_ocr2 deepseek_v4 diffusion_gemma dots1 "
        "dots3_note embedding_gemma2 exaone4 exaone_moe flint gemma2 gemma3 gemma3n gemma4 gemma4_unified "
        "gpt_oss granite_swa granitemoe_swa kolibri1 laguna lfm3 mellum mimo_v2_flash ministral modernbert "
        "modernbert_decoder muse_glimmer muse_glimmer_assistant muse_spark neomme olmo3 qwen2 qwen2_5_omni "
        "qwen2_5_vl qwen2_moe qwen2_vl qwen3 qwen3_omni_moe recurrent_gemma smollm3 step3p7 t5gemma t5gemma2 "
        "ultrabert vaultgemma"
    ),
}
LINEAR = ("delta rule", "lightning", "Mamba-2", "Mamba-1", "RG-LRU")


@pytest.fixture(scope="module")
def found():
    """{mixer: families}, from the code that is installed."""
    families = {mixer: set() for mixer in SIGNS}
    for mixer, (beginning, sign) in SIGNS.items():
        for path in MODELS.glob(f"*/{beginning}_*.py"):
            if re.search(sign, path.read_text(encoding="utf-8"), re.M):
                families[mixer].add(path.parent.name)
    return families


@pytest.mark.parametrize("mixer", SIGNS)
def test_the_families_that_have_a_mixer_are_those_of_the_table(found, mixer):
    assert sorted(found[mixer]) == TABLE[mixer].split(), f"transformers {version('transformers')}: {mixer}"


def test_linear_and_sparse_meet_in_two_families(found):
    assert found["delta rule"] & found["indexer"] == {"glm5_next", "qwen4_exp"}


def test_the_last_row_of_the_timeline_counts_the_same(found):
    row = next(
        line
        for line in reversed((ROOT / "appendix" / "timeline.md").read_text(encoding="utf-8").splitlines())
        if line.startswith("|")
    )
    assert "This edition" in row and version("transformers") in row
    said = {words: int(n) for n, words in re.findall(r"(\d+) with (a delta rule|Mamba-2|an indexer|windows)", row)}
    wanted = {"a delta rule": "delta rule", "Mamba-2": "Mamba-2", "an indexer": "indexer", "windows": "window"}
    assert said == {words: len(found[mixer]) for words, mixer in wanted.items()}


def test_what_loads_is_in_the_table(found):
    """A family of ours with linear layers has their mixer in transformers' code, under the same word."""
    words = {"linear_attention": "delta rule", "kda": "delta rule", "lightning_attention": "lightning"}
    words |= {"short_conv": "short convolution", "mamba2": "Mamba-2", "attention_beside_mamba2": "Mamba-2"}
    words |= {"mamba1": "Mamba-1", "rg_lru": "RG-LRU", "indexed_attention": "indexer", "sliding_attention": "window"}
    for family in FAMILIES:
        for kind in set(family.mixers.values()) & set(words):
            folder = family.name.removesuffix("_text")
            assert folder in found[words[kind]], (family.name, kind)
