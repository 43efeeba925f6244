"""A family is one file and its name in families/__init__.py: Mistral, added to a copy of the package, does all that
the others do."""

import os
import re
import shutil
import subprocess
import sys

from reference.book.manifest import ROOT

MISTRAL = '''"""Mistral 7B: Llama with a window in every layer."""

from reference.checkpoints.family import TRUNK, Family, Published, same

MISTRAL = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    published=Published(
        model="mistralai/Mistral-7B-v0.1",
        year=2023,
        licence="Apache-2.0",
        after="Mistral 7B v0.2 has no window",
        billions=7.24,
        fields={
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-5,
        },
    ),
    tiny={"sliding_window": 7},
    fields=TRUNK | same(sliding_window=4096),
    always={"qk_norm": None},
    only={"hidden_act": ("silu",)},
    mixers={"sliding_attention": "sliding_attention"},
    default_layers=lambda n, given: ["sliding_attention"] * n,
    says_layers=False,
)
'''
USE = """
import sys, torch, reference
from pathlib import Path
from transformers import AutoConfig, AutoModelForCausalLM
from reference.__main__ import main
from reference.checkpoints.tiny import tiny_fields

assert Path(reference.__file__).parents[1] == Path(sys.argv[1])
torch.manual_seed(0)
theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model("mistral", **tiny_fields("mistral"))).eval()
theirs.save_pretrained("theirs")
ours, ids = reference.load_pretrained("theirs"), torch.arange(3, 80)[None]
reference.save_pretrained(ours, "ours", family="mistral")
with torch.no_grad():
    wanted = theirs(ids).logits
    for got in (ours(ids), AutoModelForCausalLM.from_pretrained("ours")(ids).logits):
        assert (got - wanted).abs().max() < 1e-3 * wanted.std()
for arguments in (["families"], ["families", "--tensors"], ["cost", "--family", "mistral", "--context", "8K"]):
    assert main(arguments) == 0
"""


def test_a_new_family_is_one_file_and_one_line(tmp_path):
    shutil.copytree(ROOT / "reference", tmp_path / "reference", ignore=shutil.ignore_patterns("__pycache__"))
    families = tmp_path / "reference" / "checkpoints" / "families"
    (families / "mistral.py").write_text(MISTRAL, encoding="utf-8")
    registry = (families / "__init__.py").read_text(encoding="utf-8")
    last = "    *STORY,\n"
    assert registry.count(last) == 1
    registry = registry.replace(last, last + "    MISTRAL,\n")
    line = "from reference.checkpoints.families.mistral import MISTRAL\n"
    (families / "__init__.py").write_text(line + registry.split('"""\n', 1)[1], encoding="utf-8")
    command, env = [sys.executable, "-c", USE, str(tmp_path)], os.environ | {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert re.search(r"mistral +2023  32 window", run.stdout)
    assert "mistralai/Mistral-7B-v0.1, 8,192 tokens" in run.stdout
    assert "## mistral\n" in run.stdout and "| `model.layers.N.self_attn.q_proj.weight` | 4096 × 4096 |" in run.stdout
