"""The family in one table, for the reader of chapter 03: which operator does what with its memory.

A test compares it with the chapter and with the public operators, each of which stands in one row.
"""

from typing import NamedTuple


class Member(NamedTuple):
    """One row: operators of reference.ops (or a scan of reference.equations), and what they do, in words."""

    operators: tuple[str, ...]
    known_from: str
    write: str  #  nothing asked of the memory (add), a step of gradient descent on |S^T k - v|^2, several, or the best
    decay: str  #  what fades, and at whose rate
    erases: str  # the key that reads what is erased
    states: str  # how many memories [Dk, Dv] there are after T tokens


def _forms(name: str) -> tuple[str, str]:
    return f"recurrent_{name}", f"chunk_{name}"


FAMILY = (
    Member(_forms("linear_attention"), "linear attention", "adds", "nothing", "no key", "1"),
    Member(_forms("lightning_attention"), "RetNet, Mamba-2", "adds", "a head", "no key", "1"),
    Member(_forms("hgrn"), "HGRN, RG-LRU", "adds", "a channel", "no key", "1, a vector"),
    Member(("log_linear_scan",), "log-linear attention", "adds", "a head", "no key", "up to log2(T) + 1"),
    Member(_forms("delta_rule"), "DeltaNet", "one step", "nothing", "k", "1"),
    Member(_forms("gated_delta_rule"), "Gated DeltaNet", "one step", "a head", "k", "1"),
    Member(_forms("kda"), "KDA; Kimi K3 with g > -5", "one step", "a channel", "k", "1"),
    Member(_forms("two_key_rule"), "Comba", "one step, two keys", "a head or a channel", "p", "1"),
    Member(_forms("gdn2"), "Gated DeltaNet-2", "one step, strengths by channel", "a channel", "b ⊙ k", "1"),
    Member(_forms("rwkv7"), "RWKV-7", "one step, then adds", "a channel, g > -0.61", "κ", "1"),
    Member(("chunk_gated_delta_product",), "DeltaProduct", "n steps", "a head", "n keys", "1"),
    Member(
        ("least_squares_scan",), "MesaNet without decay", "solved for the best", "nothing", "all keys", "1 and Dk x Dk"
    ),
    Member(("softmax_attention",), "softmax attention", "keeps every token", "nothing", "no key", "T keys and values"),
    Member(("sparse_attention",), "DeepSeek V3.2", "keeps every token", "nothing", "no key", "T keys and values"),
    Member(("block_sparse_attention",), "MiniMax-M3", "keeps every token", "nothing", "no key", "T keys and values"),
    Member(
        (*_forms("compression"), "compressed_attention"),
        "DeepSeek V4",
        "keeps means of every few tokens",
        "nothing",
        "no key",
        "T / 4 or T / 128 of them, a window",
    ),
)


def family_table() -> str:
    """FAMILY as a table in Markdown."""
    heads = ("known from", "a write", "what fades", "erases with", "memories", "operators")
    rows = [
        (row.known_from, row.write, row.decay, row.erases, row.states, ", ".join(f"`{name}`" for name in row.operators))
        for row in FAMILY
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ("---",) * len(heads), *rows))
