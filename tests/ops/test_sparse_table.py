"""appendix/sparse.md: its table is computed, from the sizes of the published configurations."""

import pytest
import torch

from reference.book.manifest import ROOT
from reference.ops import chunk_compression
from reference.ops.sparse_table import NUMBER_BYTES, READERS, readers_table

PAGE = (ROOT / "appendix" / "sparse.md").read_text(encoding="utf-8")
BY_NAME = {reader.name: reader for reader in READERS}


def test_the_page_shows_the_table():
    assert readers_table(2**20) in PAGE, f"in appendix/sparse.md, put\n{readers_table(2**20)}"


def test_sizes_are_those_of_the_pinned_configurations():
    from transformers import AutoConfig

    m2 = AutoConfig.for_model("minimax_m2")
    assert BY_NAME["dense, grouped heads"].token == 2 * m2.num_key_value_heads * m2.head_dim
    v3, v32 = AutoConfig.for_model("deepseek_v3"), AutoConfig.for_model("deepseek_v32")
    latent = v3.kv_lora_rank + v3.qk_rope_head_dim
    assert BY_NAME["dense, latents"].token == latent == v32.kv_lora_rank + v32.qk_rope_head_dim
    chosen = BY_NAME["chosen tokens"]
    assert (chosen.token, chosen.scanned) == (latent + v32.index_head_dim, v32.index_head_dim)
    assert chosen.chosen == v32.index_topk * latent
    m3 = AutoConfig.for_model("minimax_m3_vl").text_config
    blocks, kv = BY_NAME["chosen blocks"], 2 * m3.num_key_value_heads * m3.head_dim
    assert (blocks.token, blocks.scanned) == (kv + m3.index_head_dim, m3.index_head_dim)
    assert blocks.chosen == m3.index_topk_blocks * m3.index_block_size * kv


def test_deepseek_v4_keeps_what_the_page_says():
    from transformers import AutoConfig

    v4 = AutoConfig.for_model("deepseek_v4")
    few, many = (v4.compress_rates[f"{kind}_attention"] for kind in ("compressed_sparse", "heavily_compressed"))
    csa, hca = BY_NAME["chosen entries and a window (CSA)"], BY_NAME["all entries and a window (HCA)"]
    window = v4.sliding_window * v4.head_dim
    assert csa.token == (v4.head_dim + v4.index_head_dim) / few and csa.scanned == v4.index_head_dim / few
    assert csa.chosen == v4.index_topk * v4.head_dim + window and csa.fixed == hca.fixed == hca.chosen == window
    assert hca.token == hca.read == v4.head_dim / many
    counts = [v4.layer_types.count(f"{kind}_attention") for kind in ("compressed_sparse", "heavily_compressed")]
    tokens = 2**20
    kept = counts[0] * csa.kept(tokens) + counts[1] * hca.kept(tokens)
    share = kept / (sum(counts) * BY_NAME["chosen tokens"].kept(tokens))
    assert f"{counts[0]} are CSA and {counts[1]} are HCA. Together they keep {share:.2f} of what as many" in PAGE
    assert f"{32 * 128 * 128 * 4 / 2**20:.0f} MiB at any length" in PAGE


@pytest.mark.parametrize("name, rate, overlap", [("CSA", 4, True), ("HCA", 128, False)])
def test_what_a_compressor_keeps_grows_as_the_table_says(name, rate, overlap):
    """Entries counted, not computed: bytes of a text twice as long minus those of the text."""
    reader, D, sizes = next(r for r in READERS if name in r.name), 512 + 128 * overlap, []
    for T in (512, 1024):
        x = torch.zeros(1, T, D * (1 + overlap), dtype=torch.bfloat16)
        c, state = chunk_compression(x, x, x[0, :rate], overlap=overlap, output_final_state=True)
        assert state.x.shape[1] == rate * overlap
        sizes.append(NUMBER_BYTES * c.numel())
    assert sizes[1] - sizes[0] == reader.kept(1024) - reader.kept(512)


def test_the_worked_entry_of_the_page():
    x, gate = torch.tensor([[[4.0], [8.0]]]), torch.tensor([[[1.0], [3.0]]]).log()
    entry, _ = chunk_compression(x, gate, torch.zeros(2, 1))
    assert "the entry is 7." in PAGE and abs(entry.item() - 7) < 1e-6
