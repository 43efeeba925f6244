"""A memory that can take its last tokens back: the state before them, and beside it what they have written.

A token of decoding turns one state into another, and nothing turns it back to the last digit. So the state stays what
it was some tokens ago. Of each token since, three things are kept: its key, its corrected value u, its log decay. The
equations of chapter 04 do the rest. New outputs are read with (4.5), from the state and from what is kept; new values
are corrected with (4.4); when enough tokens are kept, (4.6) writes the oldest into the state. Taking back n tokens
leaves out the last n entries of three lists; in a batch, n may be another one in each row.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from reference.arguments import check_count
from reference.dtypes import full_precision, inner_dtype, one_dtype
from reference.ops._recurrent import repeat_heads
from reference.ops._run import l2norm
from reference.ops.chunk import carry_state, chunk_decay, chunk_inverse, decayed_scores, read_state
from reference.ops.shapes import check_scale


class Replay(NamedTuple):
    """The memory of a linear layer in the replay form: a state, and what n tokens have written since.

    Rows that went back by different numbers end together: in front of a row that has fewer tokens stand zeros, which
    write nothing and let nothing fade. `blank` of the n may be such.
    """

    S: Tensor  # [B, HV, Dk, Dv], before these tokens
    k: Tensor  # [B, HV, n, Dk], as it was written: normalized, heads repeated
    u: Tensor  # [B, HV, n, Dv], the corrected values
    g: Tensor  # [B, HV, n], or one per key channel [B, HV, n, Dk]
    blank: int = 0

    @property
    def tokens(self) -> int:
        """n - blank: how many tokens can be taken back in every row."""
        return self.k.shape[2] - self.blank


@torch.no_grad()
def replay_rule(
    op: Callable,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor | None,
    memory: Tensor | Replay | None,
    keep: int,
    *,
    scale: float | None = None,
    use_qk_l2norm_in_kernel: bool = False,
) -> tuple[Tensor, Tensor | Replay]:
    """Read and write tokens so that the last `keep` can be taken back: (o [B, T, HV, Dv], memory behind them).

    op      the chunked operator of the rule; tokens too early to be taken back go through it
    memory  the one before: None (empty), a state [B, HV, Dk, Dv], or a Replay. It is not changed
    keep    tokens that `take_back` must be able to forget; 0 gives a state again. From keep to 2 keep - 1 are kept, so
            that the state is written once in `keep` tokens

    q, k, v, g, beta and the keywords as the operator has them: g None where nothing fades, beta None for an additive
    rule. No gradients.
    Outputs are those of the operator up to rounding. Raises ValueError that names `keep`; the operator's own errors.
    Source: (4.4) to (4.6); ReplaySSM (Dao AI Lab and NVIDIA, 2026).
    """
    check_count("keep", keep)
    dtype, (q, k, v) = v.dtype, one_dtype(q, k, v)
    early, outputs = max(v.shape[1] - keep, 0), []
    if early:
        rule = [x[:, :early] for x in (q, k, v, g, beta) if x is not None]
        keywords = {"scale": scale, "use_qk_l2norm_in_kernel": use_qk_l2norm_in_kernel, "output_final_state": True}
        o, memory = op(*rule, initial_state=state_of(memory), **keywords)
        outputs.append(o)
    if keep:
        q, k, v, g, beta = (None if x is None else x[:, early:] for x in (q, k, v, g, beta))
        with full_precision(v):
            if use_qk_l2norm_in_kernel:
                q, k = l2norm(q), l2norm(k)
            if g is None:
                g = v.new_zeros(v.shape[:3])
            o, memory = _read(q, k, v, g, beta, memory, check_scale(scale, q.shape[-1]))
            if memory.k.shape[2] >= 2 * keep:
                memory = _write_oldest(memory, memory.k.shape[2] - keep)
        outputs.append(o)
    return torch.cat(outputs, 1).to(dtype), memory


def take_back(memory: Replay, n: int | Sequence[int]) -> Replay:
    """The memory without its last n tokens, one number or one per row. Raises ValueError if fewer are kept."""
    rows = [n] if isinstance(n, int) else n
    for one in rows:
        check_count("n", one, most=memory.tokens)
    kept = (without_last(x, n, 2) for x in (memory.k, memory.u, memory.g))
    return Replay(memory.S, *kept, memory.blank + max(rows) - min(rows))


def without_last(x: Tensor, n: int | Sequence[int], axis: int, size: int | None = None) -> Tensor:
    """x [B, ...] without its last n entries on an axis, n one number or one per row. The rows end together: `size`
    entries are left (None: as many as the longest row has), with zeros in front of a row that has fewer."""
    if isinstance(n, int):
        return x.narrow(axis, 0, x.shape[axis] - n)
    size = x.shape[axis] - min(n) if size is None else size
    after = x.new_zeros(*x.shape[:axis], size, *x.shape[axis + 1 :])
    for row, (new, old) in enumerate(zip(after, x, strict=True)):
        stop = x.shape[axis] - n[row]
        left = min(stop, size)
        new.narrow(axis - 1, size - left, left).copy_(old.narrow(axis - 1, stop - left, left))
    return after


def state_of(memory: Tensor | Replay | None) -> Tensor | None:
    """The state [B, HV, Dk, Dv] with everything written; None: an empty one."""
    return _write_oldest(memory, memory.k.shape[2]).S if isinstance(memory, Replay) else memory


def _read(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None, memory: Tensor | Replay | None, scale: float
) -> tuple[Tensor, Replay]:
    """One chunk of n kept tokens and C new ones, whose outputs [B, C, HV, Dv] and corrected values are found."""
    (B, _, HV, _), dtype = v.shape, inner_dtype(v)
    q, k = repeat_heads(q, HV), repeat_heads(k, HV)
    q, k, V, g, beta = (None if x is None else x.to(dtype).transpose(1, 2).flatten(0, 1) for x in (q, k, v, g, beta))
    before = memory if isinstance(memory, Replay) else _nothing_kept(memory, q, V, g, B)
    S, kept_k, kept_u, kept_g = (x.flatten(0, 1) for x in before[:4])
    n, K, G = kept_k.shape[1], torch.cat([kept_k, k], 1), torch.cat([kept_g, g], 1)
    decay = chunk_decay(G)  # (4.3)
    if beta is None:
        u = V
    else:
        scores = decayed_scores(K, K, decay)[:, n:]  # [N, C, n + C]: the rows of the system that aren't solved yet
        error = V - (k * decay.since_start[:, n:]) @ S - scores[:, :, :n] @ kept_u
        u = chunk_inverse(scores[:, :, n:], beta[..., None]) @ (beta[..., None] * error)  # (4.4)
    U = torch.cat([kept_u, u], 1)
    o = read_state(pad(q, (0, 0, n, 0)), K, U, decay, S, scale)[:, n:]  # (4.5)
    after = Replay(*(x.unflatten(0, (B, HV)) for x in (S, K, U, G)), before.blank)
    return o.unflatten(0, (B, HV)).transpose(1, 2).to(v.dtype), after


def _nothing_kept(S: Tensor | None, q: Tensor, v: Tensor, g: Tensor, B: int) -> Replay:
    """The state S, or zeros, as a Replay of no tokens; q, v, g: heads first."""
    if S is None:
        S = v.new_zeros(v.shape[0], q.shape[-1], v.shape[-1]).unflatten(0, (B, -1))
    return Replay(S.to(v.dtype), *(x[:, :0].unflatten(0, (B, -1)) for x in (q, v, g)))


def _write_oldest(memory: Replay, n: int) -> Replay:
    """The first n tokens that are kept, written into the state."""
    if n == 0:
        return memory
    S, k, u, g = (x.flatten(0, 1) for x in memory[:4])
    S = carry_state(k[:, :n], u[:, :n], chunk_decay(g[:, :n]), S)  # (4.6)
    return Replay(S.view_as(memory.S), *(x[:, :, n:] for x in memory[1:4]), max(memory.blank - n, 0))
