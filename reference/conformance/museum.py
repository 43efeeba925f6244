"""Wrong recurrences that people ship: each is the right one with one fault, so that a port's answers can be recognized.

`tests/mutants` holds the same kind of faults as patches of this package; here they are switches of one float64
recurrence, written for comparison with an unknown implementation and not for speed.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from reference.equations import Array

EPS = 1e-6  # under the root of the norm, as fla and transformers


@dataclass(frozen=True)
class Recurrence:
    """Switches of the recurrence; the defaults are right.

    error_from   the state that the error v - S^T k is read from: "decayed" or "undecayed"
    reads        the state that q reads: "written", "before", or "last" (the state after the last token)
    write_beta   whether the correction is multiplied by beta once (1), not at all (0), or also inside the error (2)
    erases       whether the delta rule reads before it writes
    decay        "exp" of g; "exp2"; "g" itself as a factor; "none"
    decays       what KDA's factors multiply: "rows" (keys) or "columns" (values)
    heads        value head j's key head: "grouped", j // (HV / H), or "tiled", j % H
    scale        "o", "none", "q and state" (k is scaled, too), or "Dv" (Dv**-0.5)
    norm         eps of the L2 norm: "under the root", "floor" (at least eps), "none" (not normalized)
    state        the initial state: "taken", "ignored", "transposed"
    documents    whether each sequence of cu_seqlens has a state of its own
    rounds       bits of the state's mantissa (8: bfloat16, 11: half, 53: none)
    chunk        0, or the length of chunks that lose the state between them
    """

    error_from: str = "decayed"
    reads: str = "written"
    write_beta: int = 1
    erases: bool = True
    decay: str = "exp"
    decays: str = "rows"
    heads: str = "grouped"
    scale: str = "o"
    norm: str = "under the root"
    state: str = "taken"
    documents: bool = True
    rounds: int = 53
    chunk: int = 0


RIGHT = Recurrence()
MUSEUM = {
    "the error v - S^T k is read from the state before its decay": replace(RIGHT, error_from="undecayed"),
    "q reads the state before the token is written": replace(RIGHT, reads="before"),
    "every q reads the state after the last token: nothing is causal": replace(RIGHT, reads="last"),
    "the correction isn't multiplied by beta": replace(RIGHT, write_beta=0),
    "beta multiplies the read value as well as the correction": replace(RIGHT, write_beta=2),
    "nothing is read before the write: this is Hebb's rule, not the delta rule": replace(RIGHT, erases=False),
    "g is taken as a power of 2, not of e": replace(RIGHT, decay="exp2"),
    "g multiplies the state itself; it is a logarithm, exp(g) multiplies": replace(RIGHT, decay="g"),
    "there is no decay": replace(RIGHT, decay="none"),
    "the decay multiplies the columns of the state (values), not its rows (keys)": replace(RIGHT, decays="columns"),
    "value head j reads key head j % H; it is j // (HV / H)": replace(RIGHT, heads="tiled"),
    "o isn't scaled: scale=None means Dk**-0.5": replace(RIGHT, scale="none"),
    "o is scaled by Dv**-0.5; it is Dk**-0.5": replace(RIGHT, scale="Dv"),
    "the scale is in the keys, so that the state has it, too": replace(RIGHT, scale="q and state"),
    "q and k aren't normalized, though use_qk_l2norm_in_kernel is set": replace(RIGHT, norm="none"),
    "the norm is at least eps; eps belongs under the root": replace(RIGHT, norm="floor"),
    "the initial state is ignored": replace(RIGHT, state="ignored"),
    "the initial state is taken transposed: it is [B, HV, Dk, Dv]": replace(RIGHT, state="transposed"),
    "a sequence of cu_seqlens begins with the state of the one before": replace(RIGHT, documents=False),
    "the state is lost between chunks of 64 tokens": replace(RIGHT, chunk=64),
    "the state is kept in bfloat16": replace(RIGHT, rounds=8),
    "the state is kept in half precision": replace(RIGHT, rounds=11),
}


def run_recurrence(inputs: dict[str, Array], keywords: dict, how: Recurrence = RIGHT) -> tuple[Array, Array]:
    """(o [B, T, HV, Dv], final_state [N, HV, Dk, Dv]) of float64 inputs q, k, v and, where there are any, g, beta,
    p, b, w, initial_state; keywords: scale, use_qk_l2norm_in_kernel, cu_seqlens."""
    q, k, v = (inputs[name].astype(np.float64) for name in "qkv")
    Dk, Dv, HV = q.shape[-1], v.shape[-1], v.shape[2]
    if keywords.get("use_qk_l2norm_in_kernel"):
        q, k = _normalized(q, how.norm), _normalized(k, how.norm)
    key_head = [j % q.shape[2] if how.heads == "tiled" else j // (HV // q.shape[2]) for j in range(HV)]
    q, k = q[:, :, key_head], k[:, :, key_head]
    scale = keywords.get("scale") or {"Dv": Dv**-0.5}.get(how.scale, Dk**-0.5)
    q, k = {"none": (q, k), "q and state": (scale * q, scale * k)}.get(how.scale, (scale * q, k))
    decays, erases = _factors(inputs, how), ("beta" in inputs or "b" in inputs) and how.erases
    p = inputs["p"].astype(np.float64)[:, :, key_head] if "p" in inputs else k * inputs.get("b", 1.0)
    v = v * inputs.get("w", 1.0)
    beta = inputs.get("beta", np.ones(v.shape[:3])).astype(np.float64)
    bounds = keywords.get("cu_seqlens")
    pieces = [(row, 0, q.shape[1]) for row in range(q.shape[0])]
    if bounds is not None:
        pieces = [(0, begin, end) for begin, end in pairwise(bounds)]
    o, states = np.zeros(v.shape), np.zeros((len(pieces), HV, Dk, Dv))
    for n, (row, begin, end) in enumerate(pieces):
        S = states[n - 1] if n and not how.documents else _first_state(inputs, n, states[n].shape, how)
        for t in range(begin, end):
            if how.chunk and t > begin and (t - begin) % how.chunk == 0:
                S = np.zeros_like(S)
            before, S = S, _decayed(S, None if decays is None else decays[row, t], how)
            b = beta[row, t][:, None]
            source = before if how.error_from == "undecayed" else S
            held = np.einsum("hkv,hk->hv", source, p[row, t]) if erases else 0.0
            u = v[row, t] - (b * held if how.write_beta == 2 else held)
            u = u if how.write_beta == 0 else b * u
            old, S = S, _rounded(S + k[row, t][:, :, None] * u[:, None], how.rounds)
            o[row, t] = np.einsum("hkv,hk->hv", old if how.reads == "before" else S, q[row, t])
        if how.reads == "last":
            o[row, begin:end] = np.einsum("hkv,thk->thv", S, q[row, begin:end])
        states[n] = S
    return o, states


def _normalized(x: Array, how: str) -> Array:
    squares = (x * x).sum(-1, keepdims=True)
    if how == "none":
        return x
    return x / (np.maximum(np.sqrt(squares), EPS) if how == "floor" else np.sqrt(squares + EPS))


def _factors(inputs: dict[str, Array], how: Recurrence) -> Array | None:
    if "g" not in inputs or how.decay == "none":
        return None
    g = inputs["g"].astype(np.float64)
    return {"exp": np.exp, "exp2": np.exp2, "g": np.nan_to_num}[how.decay](g)


def _first_state(inputs: dict[str, Array], n: int, shape: tuple, how: Recurrence) -> Array:
    given = inputs.get("initial_state")
    if given is None or how.state == "ignored":
        return np.zeros(shape)
    S = given[n].astype(np.float64)
    return S.swapaxes(-1, -2) if how.state == "transposed" and S.shape[-1] == S.shape[-2] else S


def _decayed(S: Array, factors: Array | None, how: Recurrence) -> Array:
    if factors is None:
        return S
    if factors.ndim == 1:
        return S * factors[:, None, None]
    columns = how.decays == "columns" and S.shape[-1] == S.shape[-2]
    return S * (factors[:, None, :] if columns else factors[:, :, None])


def _rounded(S: Array, bits: int) -> Array:
    if bits >= 53:
        return S
    mantissa, exponent = np.frexp(S)
    return np.ldexp(np.round(mantissa * 2.0**bits), exponent - bits)
