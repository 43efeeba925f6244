"""One token of decoding for all heads in one launch: the state is read once and written once."""

from reference.kernels.language import jit, tl


@jit
def decode_token(
    q, k, v, g, beta, state, out, o, scale, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, CHANNEL: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (B, HV, DV / BV). q, k [B, H, DK]; v, o [B, HV, DV]; g [B, HV] or [B, HV, DK]; beta [B, HV].

    state, out [B, HV, DK, DV] float32; out may be state itself: a program reads its part before it writes it.
    """
    n, h, j = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    keys, values = tl.arange(0, DK), j * BV + tl.arange(0, BV)
    own, shared = n * HV + h, n * H + h // (HV // H)
    Q = tl.load(q + shared * DK + keys).to(tl.float32)
    K = tl.load(k + shared * DK + keys).to(tl.float32)
    V = tl.load(v + own * DV + values).to(tl.float32)
    b = tl.load(beta + own).to(tl.float32)
    at = own * DK * DV + keys[:, None] * DV + values[None, :]
    S = tl.load(state + at)
    if CHANNEL:
        S = tl.exp(tl.load(g + own * DK + keys).to(tl.float32))[:, None] * S
    else:
        S = tl.exp(tl.load(g + own).to(tl.float32)) * S
    U = b * (V - tl.sum(K[:, None] * S, 0))  # (4.2)
    S = S + K[:, None] * U[None, :]  # (4.1)
    tl.store(out + at, S)
    tl.store(o + own * DV + values, scale * tl.sum(Q[:, None] * S, 0))  # (2.2)
