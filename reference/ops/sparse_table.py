"""What softmax attention keeps of a text and reads for one token, layer by layer: the numbers of appendix/sparse.md.

Tests compare the sizes with the published configurations, and the page with this table.
"""

from typing import NamedTuple

NUMBER_BYTES = 2  # of a number in bfloat16


class SoftmaxLayerCost(NamedTuple):
    """One kind of softmax layer in a published model. Numbers per layer, of which each takes NUMBER_BYTES bytes."""

    name: str
    model: str
    operators: str
    token: float  # numbers kept for each token of the text
    fixed: int  # numbers kept whatever the length, once the text is longer
    scanned: float  # of those per token, what the indexer reads of every one
    read: float  # numbers that attention reads for each token of the text, if it makes no choice
    chosen: int  # numbers that attention reads of what was chosen and of a window

    def kept(self, tokens: int) -> float:
        """Bytes kept for a text."""
        return NUMBER_BYTES * (self.token * tokens + self.fixed)

    def moved(self, tokens: int) -> float:
        """Bytes read for one token behind a text."""
        return NUMBER_BYTES * ((self.scanned + self.read) * tokens + self.chosen)


def _gqa(heads: int, dim: int) -> int:
    return 2 * heads * dim


_LATENT, _INDEX, _TOP_K = 512 + 64, 128, 2048  # DeepSeek V3.2: latent and rotary key, index key, tokens chosen
_ENTRY, _SMALL, _LARGE, _ENTRIES, _NEAR = 512, 4, 128, 512, 128  # V4: entry, its two rates, entries chosen, window
READERS = (
    SoftmaxLayerCost("dense, grouped heads", "MiniMax-M2", "`softmax_attention`", _gqa(8, 128), 0, 0, _gqa(8, 128), 0),
    SoftmaxLayerCost("dense, latents", "DeepSeek V3", "`softmax_attention`", _LATENT, 0, 0, _LATENT, 0),
    SoftmaxLayerCost(
        "chosen tokens",
        "DeepSeek V3.2",
        "`lightning_indexer`, `sparse_attention`",
        _LATENT + _INDEX,
        0,
        _INDEX,
        0,
        _TOP_K * _LATENT,
    ),
    SoftmaxLayerCost(
        "chosen blocks",
        "MiniMax-M3",
        "`block_indexer`, `block_sparse_attention`",
        _gqa(4, 128) + 128,
        0,
        128,
        0,
        16 * 128 * _gqa(4, 128),
    ),
    SoftmaxLayerCost(
        "chosen entries and a window (CSA)",
        "DeepSeek V4",
        "`chunk_compression`, `compressed_indexer`, `compressed_attention`",
        (_ENTRY + _INDEX) / _SMALL,
        _NEAR * _ENTRY,
        _INDEX / _SMALL,
        0,
        (_ENTRIES + _NEAR) * _ENTRY,
    ),
    SoftmaxLayerCost(
        "all entries and a window (HCA)",
        "DeepSeek V4",
        "`chunk_compression`, `compressed_attention`",
        _ENTRY / _LARGE,
        _NEAR * _ENTRY,
        0,
        _ENTRY / _LARGE,
        _NEAR * _ENTRY,
    ),
)


def readers_table(tokens: int) -> str:
    """READERS as a table in Markdown: MiB of one layer for a text of so many tokens."""
    heads = ("a layer", "in", "bytes per token", "MiB kept", "MiB read for one token", "operators")
    rows = [
        (
            r.name,
            r.model,
            f"{NUMBER_BYTES * r.token:,.0f}",
            f"{r.kept(tokens) / 2**20:,.1f}",
            f"{r.moved(tokens) / 2**20:,.1f}",
            r.operators,
        )
        for r in READERS
    ]
    rule = ("---", "---", "--:", "--:", "--:", "---")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))
