"""DeepSeek V4's compressed attention: a window of tokens, and of what lies before it one entry for every few tokens.

DeepSeek V3.2 keeps a latent of every token and reads a choice of them. V4 keeps less: each window of `rate` tokens
becomes one entry, a weighted mean channel by channel. Layers with a small rate choose entries with an indexer, layers
with a large one read all of them (CSA, HCA).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from reference.arguments import check_positive_int, is_whole_number
from reference.dtypes import inner_dtype
from reference.ops.shapes import check_device, check_shapes
from reference.ops.sparse import NOTHING, QUERY_BLOCK, sparse_attention


class Compression(NamedTuple):
    """What a compressor keeps between calls: tokens whose window isn't full, with overlap the last full one as well."""

    x: Tensor  # [B, r, E]
    gate: Tensor  # [B, r, E]
    before: bool  # whether a full window comes first: only with overlap


def chunk_compression(
    x: Tensor,
    gate: Tensor,
    bias: Tensor,
    *,
    overlap: bool = False,
    initial_state: Compression | None = None,
    output_final_state: bool = False,
) -> tuple[Tensor, Compression | None]:
    """Entries of the windows that x [B, T, E] fills, all at once: ([B, n, D], state).

        c_w = Σ_j softmax_j(gate_j + bias_j) ⊙ x_j         over the tokens j of window w, each channel by itself

    gate [B, T, E], bias [rate, E]: one row for each place of a window. Without overlap D = E. With it E = 2 D, and an
    entry reads two windows: the second half of the channels of its own tokens, the first half of those one window
    earlier; the first window has none before it. initial_state: of the call before, None at the start of a text.
    Entry w is known as soon as token (w + 1) rate - 1 is. float32 inside (float64 for float64), x's dtype outside.
    Raises TypeError or ValueError that names the argument. Source: DeepSeek-V4, eq. 9 to 12 and 20 to 23.
    """
    x, gate, rate = _joined(x, gate, bias, overlap, initial_state)
    full = x.shape[1] // rate
    first = int(initial_state is not None and initial_state.before)  # a window that has its entry already
    windows, gates = (y[:, : full * rate].unflatten(1, (full, rate)).to(inner_dtype(y)) for y in (x, gate))
    gates = gates + bias.to(gates.dtype)
    if overlap:
        (earlier, own), (gate_earlier, gate_own) = windows.chunk(2, -1), gates.chunk(2, -1)
        behind = (0, 0, 0, 0, 1, 0)  # one window of nothing in front
        windows = torch.cat([pad(earlier, behind)[:, :full], own], 2)
        gates = torch.cat([pad(gate_earlier, behind, value=float("-inf"))[:, :full], gate_own], 2)
    entries = (gates.softmax(2) * windows).sum(2)[:, first:].to(x.dtype)
    return entries, _left(x, gate, rate, full, overlap) if output_final_state else None


def recurrent_compression(
    x: Tensor,
    gate: Tensor,
    bias: Tensor,
    *,
    overlap: bool = False,
    initial_state: Compression | None = None,
    output_final_state: bool = False,
) -> tuple[Tensor, Compression | None]:
    """chunk_compression, token by token: three running sums per channel, no window is looked at twice."""
    x, gate, rate = _joined(x, gate, bias, overlap, initial_state)
    (B, T, E), dtype = x.shape, inner_dtype(x)
    D, first, entries = E // 2 if overlap else E, int(initial_state is not None and initial_state.before), []
    nothing = x.new_full((B, D), float("-inf"), dtype=dtype), x.new_zeros(B, D, dtype=dtype), 0.0
    own, following = nothing, nothing  # of the window's entry, and of what the next entry reads of this window
    for t in range(T):
        logits, values = gate[:, t].to(dtype) + bias[t % rate].to(dtype), x[:, t].to(dtype)
        own = _added(own, logits[:, E - D :], values[:, E - D :])
        following = _added(following, logits[:, :D], values[:, :D])
        if t % rate == rate - 1:
            entries.append(own[1] / own[2])
            own, following = following if overlap else nothing, nothing
    kept = torch.stack(entries, 1)[:, first:].to(x.dtype) if entries else x.new_empty(B, 0, D)
    return kept, _left(x, gate, rate, T // rate, overlap) if output_final_state else None


def _added(sums: tuple, logits: Tensor, values: Tensor) -> tuple:
    """Largest logit, sum of e^{logit - largest} value, and of e^{logit - largest}, with one token more."""
    largest = torch.maximum(sums[0], logits)
    old, new = (sums[0] - largest).exp(), (logits - largest).exp()
    return largest, old * sums[1] + new * values, old * sums[2] + new


def _joined(
    x: Tensor, gate: Tensor, bias: Tensor, overlap: bool, state: Compression | None
) -> tuple[Tensor, Tensor, int]:
    """The tokens that the state kept, then those of x; the same for the gates; and the rate."""
    sizes = check_shapes({"x": (x, "B T E"), "gate": (gate, "B T E"), "bias": (bias, "rate E")})
    check_device(x=x, gate=gate, bias=bias)
    if overlap and sizes["E"] % 2:
        raise ValueError(f"x: with overlap expected an even number of channels, got {sizes['E']}")
    if state is not None:
        if list(state.x.shape[::2]) != [sizes["B"], sizes["E"]] or state.x.shape != state.gate.shape:
            wanted = f"[B={sizes['B']}, r, E={sizes['E']}]"
            raise ValueError(
                f"initial_state: expected {wanted}, got {list(state.x.shape)} and {list(state.gate.shape)}"
            )
        x, gate = torch.cat([state.x.to(x.dtype), x], 1), torch.cat([state.gate.to(gate.dtype), gate], 1)
    return x, gate, sizes["rate"]


def _left(x: Tensor, gate: Tensor, rate: int, full: int, overlap: bool) -> Compression:
    before = overlap and full > 0
    begin = (full - before) * rate
    return Compression(x[:, begin:].clone(), gate[:, begin:].clone(), before)


@torch.no_grad()
def compressed_indexer(
    q_idx: Tensor, k_idx: Tensor, w_idx: Tensor, *, top_k: int, rate: int, seen: int, scale: float | None = None
) -> Tensor:
    """For each query the top_k entries of highest index score, int64 [B, T, top_k], best first; -1 for none.

    q_idx [B, T, H, D], w_idx [B, T, H]; k_idx [B, n, D], compressed index keys, one for rate tokens. The queries are
    the last T of `seen` tokens; query t sees entries whose last token isn't behind it. The score is lightning_indexer's
    (8.1); ties go to the earlier entry. Raises TypeError or ValueError that names the argument.
    Source: DeepSeek-V4, eq. 13 to 17.
    """
    check_positive_int("top_k", top_k)
    sizes = check_shapes({"q_idx": (q_idx, "B T H D"), "w_idx": (w_idx, "B T H")})
    _check_entries("k_idx", k_idx, rate, seen, sizes["T"])
    dtype, scale, chosen = inner_dtype(q_idx), sizes["D"] ** -0.5 if scale is None else scale, []
    entry = torch.arange(k_idx.shape[1], device=q_idx.device)
    for start in range(0, sizes["T"], QUERY_BLOCK):
        q, w = (y[:, start : start + QUERY_BLOCK].to(dtype) for y in (q_idx, w_idx))
        scores = torch.einsum("bthd,bnd->bthn", q, k_idx.to(dtype)).mul(scale).relu()
        scores = torch.einsum("bthn,bth->btn", scores, w)
        at = seen - sizes["T"] + start + torch.arange(q.shape[1], device=q.device)
        scores = scores.masked_fill(entry >= ((at + 1) // rate)[:, None], float("-inf"))
        values, entries = scores.sort(dim=-1, descending=True, stable=True)
        entries = entries.masked_fill(values == float("-inf"), NOTHING)[..., :top_k]
        chosen.append(pad(entries, (0, top_k - entries.shape[-1]), value=NOTHING))
    return torch.cat(chosen, 1)


def compressed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_c: Tensor,
    v_c: Tensor,
    *,
    rate: int,
    window: int,
    seen: int | None = None,
    chosen: Tensor | None = None,
    scale: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Softmax attention over the last `window` tokens, one by one, and compressed entries: o [B, T, H, Dv].

    q [B, T, H, D]; k [B, S, HK, D], v [B, S, HK, Dv], the last S of the `seen` tokens of the text (None: S), of which
    the queries are the last T; k_c [B, n, HK, D], v_c [B, n, HK, Dv], the text's entries, n = seen // rate, none may be
    missing; chosen [B, T, K], as compressed_indexer gives it, None: all. An entry is read once its last token isn't
    behind the query, its tokens may still be in the window. sinks [H] as in softmax_attention. scale: None means
    D**-0.5. Has gradients. Raises TypeError or ValueError that names the argument.
    Source: DeepSeek-V4, section 2.3, where keys and values are the same (one head for all queries).
    """
    check_positive_int("window", window)
    sizes = check_shapes({"q": (q, "B T H D"), "k": (k, "B S HK D"), "v": (v, "B S HK Dv")})
    T, S, device = sizes["T"], sizes["S"], q.device
    seen = S if seen is None else seen
    if not is_whole_number(seen, S) or min(seen, T + window - 1) > S:
        raise ValueError(f"k: expected the last {min(seen, T + window - 1)} of {seen} tokens or more, got {S}")
    _check_entries("k_c", k_c, rate, seen, T)
    _check_entries("v_c", v_c, rate, seen, T)
    at = seen - T + torch.arange(T, device=device)[:, None]
    local = at - torch.arange(min(window, seen), device=device)
    local = torch.where(local < 0, NOTHING, local - (seen - S)).expand(sizes["B"], -1, -1)
    if chosen is None:
        chosen = torch.arange(k_c.shape[1], device=device).expand(sizes["B"], T, -1)
    elif not isinstance(chosen, Tensor) or list(chosen.shape[:2]) != [sizes["B"], T] or chosen.is_floating_point():
        raise ValueError(f"chosen: expected whole numbers [B={sizes['B']}, T={T}, K]")
    full = (at + 1) // rate
    entries = torch.where((chosen < 0) | (chosen >= full), NOTHING, S + chosen)
    keys, values = torch.cat([k, k_c.to(k.dtype)], 1), torch.cat([v, v_c.to(v.dtype)], 1)
    return sparse_attention(q, keys, values, torch.cat([local, entries], -1), scale=scale, sinks=sinks)


def _check_entries(name: str, entries: Tensor, rate: int, seen: int, T: int) -> None:
    check_positive_int("rate", rate)
    if not is_whole_number(seen, T):
        raise ValueError(f"seen: expected a whole number from q's {T} tokens, got {seen}")
    if not isinstance(entries, Tensor) or entries.dim() < 3 or entries.shape[1] != seen // rate:
        got = list(entries.shape) if isinstance(entries, Tensor) else type(entries).__name__
        raise ValueError(f"{name}: expected an entry for each {rate} of {seen} tokens, {seen // rate}, got {got}")
