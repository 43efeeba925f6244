"""The update rules of chapters 01 to 03 in NumPy, one token at a time.

Notation (the same in every chapter)
    w      [D]           weights of a single unit
    x, y   [D], scalar   input and label of a single unit
    S      [Dk, Dv]      memory: reading it with a key gives a value, S.T @ k
    q, k   [Dk]          query, key            v, o   [Dv]   value, output
    beta   scalar        write strength; in (0, 1) usually, up to 2 allowed
    g      scalar, [Dk]  log decay, <= 0; exp(g) is what survives one step

A step takes the old state and returns the new one; it changes nothing in place.
A scan runs a step over T tokens of one head, reads *after* each write, and returns
(o [T, Dv], final state [Dk, Dv]). Numbers at line ends are the chapters' equations.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


# ---------------------------------------------------------------- chapter 01: one unit


def perceptron_step(w: Array, x: Array, y: float, lr: float = 1.0) -> Array:
    """Rosenblatt's rule: change the weights only when the thresholded answer is wrong.

    w, x [D]; y 0 or 1. Source: after Rosenblatt 1958; this error-correcting form: Rosenblatt 1962.
    """
    return w + lr * (y - float(w @ x > 0)) * x  # (1.1)


def hebb_step(w: Array, x: Array, y: float, lr: float = 1.0) -> Array:
    """Hebb's rule: input and output active together strengthen their connection.

    w, x [D]; y scalar, the unit's activity. No error appears. Source: Hebb 1949, p. 62.
    """
    return w + lr * y * x  # (1.2)


def widrow_hoff_step(w: Array, x: Array, y: float, lr: float) -> Array:
    """The delta rule (least mean squares): correct by the error before any threshold.

    w, x [D]; y scalar target. One gradient step of size lr on (y - w @ x)**2 / 2.
    Source: Widrow and Hoff 1960.
    """
    return w + lr * (y - w @ x) * x  # (1.3)


# ---------------------------------------------------------------- chapter 02: a matrix as memory


def read(S: Array, q: Array) -> Array:
    """What the memory answers to a query. S [Dk, Dv], q [Dk] -> o [Dv]."""
    return S.T @ q  # (2.2)


def hebbian_step(S: Array, k: Array, v: Array, beta: float = 1.0) -> Array:
    """Write a pair as an outer product, whatever the memory holds already.

    S [Dk, Dv], k [Dk], v [Dv] -> S [Dk, Dv]. Source: linear attention without its
    normalizer, Katharopoulos et al. 2020, eq. 18; fast weights, Schmidhuber 1992.
    """
    return S + beta * np.outer(k, v)  # (2.1)


def delta_step(S: Array, k: Array, v: Array, beta: float) -> Array:
    """Write the difference between the value and what the key already retrieves.

    S [Dk, Dv], k [Dk] of unit length, v [Dv] -> S [Dk, Dv]. beta = 1 replaces the
    stored value, 0 leaves it. Source: Schlag et al. 2021, eq. 24; Yang et al. 2024.
    """
    u = beta * (v - S.T @ k)  # (2.3)
    return S + np.outer(k, u)  # (2.4)


# ---------------------------------------------------------------- chapter 03: learning to forget


def decay(S: Array, g: ArrayLike) -> Array:
    """Let the memory fade. g is the log decay: a scalar, or [Dk] for one rate per row."""
    return np.exp(np.asarray(g))[..., None] * S  # (3.1)


def decayed_hebbian_step(S: Array, k: Array, v: Array, g: ArrayLike, beta: float = 1.0) -> Array:
    """Fade, then add. Fixed g: RetNet, lightning attention; g from the token: Mamba-2.

    S [Dk, Dv], k [Dk], v [Dv], g scalar or [Dk] (gated linear attention) -> S [Dk, Dv].
    Source: Sun et al. 2023 (RetNet), eq. 5-6; Dao and Gu 2024 (Mamba-2); Yang et al. 2024 (GLA).
    """
    return hebbian_step(decay(S, g), k, v, beta)  # (3.2)


def gated_delta_step(S: Array, k: Array, v: Array, g: float, beta: float) -> Array:
    """Gated DeltaNet: fade, then correct what the *faded* memory answers.

    S [Dk, Dv], k [Dk] of unit length, v [Dv], g scalar -> S [Dk, Dv].
    Source: Yang, Kautz and Hatamizadeh 2025, eq. 10 (their S is our S.T).
    """
    return delta_step(decay(S, g), k, v, beta)  # (3.8)


def kda_step(S: Array, k: Array, v: Array, g: Array, beta: float) -> Array:
    """Kimi Delta Attention: Gated DeltaNet with one decay per key channel.

    S [Dk, Dv], k [Dk] of unit length, v [Dv], g [Dk] -> S [Dk, Dv]. Fading comes first:
    with a vector g, fading and erasing do not commute. Source: Kimi Team 2025, eq. 1.
    """
    return delta_step(decay(S, g), k, v, beta)  # (3.9)


def two_key_step(S: Array, k: Array, v: Array, p: Array, g: ArrayLike, beta: float) -> Array:
    """Fade, then replace what the memory answers to p by v, under the key k. Comba: p = b e^{-g} k.

    S [Dk, Dv], k, p [Dk], v [Dv], g scalar or [Dk] -> S [Dk, Dv]. With p = k it is Gated DeltaNet or KDA.
    Source: Hu et al. 2025 (Comba), whose b k reads the memory before it fades.
    """
    S = decay(S, g)
    return S + np.outer(k, beta * (v - S.T @ p))  # (3.12)


def gdn2_step(S: Array, k: Array, v: Array, g: Array, b: Array, w: Array) -> Array:
    """Gated DeltaNet-2: b [Dk] says how much each key channel erases, w [Dv] how much each value channel writes.

    S [Dk, Dv], k, g [Dk], v [Dv] -> S [Dk, Dv]. With b = w = beta it is KDA.
    Source: Hatamizadeh, Choi and Kautz 2026.
    """
    S = decay(S, g)
    return S + np.outer(k, w * v - S.T @ (b * k))  # (3.13)


def rwkv7_step(S: Array, k: Array, v: Array, w: Array, a: Array, b: Array) -> Array:
    """RWKV-7: what the old memory answers to a is added under b, and v under k.

    S [Dk, Dv], k, a, b [Dk], v [Dv], w [Dk] log decay -> S [Dk, Dv]. The model has a = -κ, κ of unit length,
    and b = κ times a strength per channel. Source: Peng et al. 2025; their S is our S.T, letters as in fla.
    """
    return decay(S, w) + np.outer(b, S.T @ a) + np.outer(k, v)  # (3.14)


# ---------------------------------------------------------------- scans over a sequence


def hebbian_scan(
    q: Array, k: Array, v: Array, *, scale: float = 1.0, initial_state: Array | None = None
) -> tuple[Array, Array]:
    """Linear attention. q, k [T, Dk], v [T, Dv] -> o [T, Dv], S [Dk, Dv]."""
    return _scan(hebbian_step, q, k, v, {}, scale, initial_state)


def delta_scan(
    q: Array, k: Array, v: Array, beta: Array, *, scale: float = 1.0, initial_state: Array | None = None
) -> tuple[Array, Array]:
    """DeltaNet. q, k [T, Dk], v [T, Dv], beta [T] -> o [T, Dv], S [Dk, Dv]."""
    return _scan(delta_step, q, k, v, {"beta": (beta, "T")}, scale, initial_state)


def decayed_hebbian_scan(
    q: Array, k: Array, v: Array, g: Array, *, scale: float = 1.0, initial_state: Array | None = None
) -> tuple[Array, Array]:
    """Linear attention with decay. q, k [T, Dk], v [T, Dv], g [T] or [T, Dk] -> o, S."""
    wanted = "T" if np.ndim(g) == 1 else "T Dk"
    return _scan(decayed_hebbian_step, q, k, v, {"g": (g, wanted)}, scale, initial_state)


def gated_delta_scan(
    q: Array, k: Array, v: Array, g: Array, beta: Array, *, scale: float = 1.0, initial_state: Array | None = None
) -> tuple[Array, Array]:
    """Gated DeltaNet. q, k [T, Dk], v [T, Dv], g, beta [T] -> o [T, Dv], S [Dk, Dv]."""
    return _scan(gated_delta_step, q, k, v, {"g": (g, "T"), "beta": (beta, "T")}, scale, initial_state)


def kda_scan(
    q: Array, k: Array, v: Array, g: Array, beta: Array, *, scale: float = 1.0, initial_state: Array | None = None
) -> tuple[Array, Array]:
    """Kimi Delta Attention. q, k, g [T, Dk], v [T, Dv], beta [T] -> o [T, Dv], S [Dk, Dv]."""
    return _scan(kda_step, q, k, v, {"g": (g, "T Dk"), "beta": (beta, "T")}, scale, initial_state)


def two_key_scan(
    q: Array,
    k: Array,
    v: Array,
    p: Array,
    g: Array,
    beta: Array,
    *,
    scale: float = 1.0,
    initial_state: Array | None = None,
) -> tuple[Array, Array]:
    """The rule with two keys. q, k, p [T, Dk], v [T, Dv], g [T] or [T, Dk], beta [T] -> o, S."""
    wanted = "T" if np.ndim(g) == 1 else "T Dk"
    extras = {"p": (p, "T Dk"), "g": (g, wanted), "beta": (beta, "T")}
    return _scan(two_key_step, q, k, v, extras, scale, initial_state)


def gdn2_scan(
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    b: Array,
    w: Array,
    *,
    scale: float = 1.0,
    initial_state: Array | None = None,
) -> tuple[Array, Array]:
    """Gated DeltaNet-2. q, k, g, b [T, Dk], v, w [T, Dv] -> o [T, Dv], S [Dk, Dv]."""
    extras = {"g": (g, "T Dk"), "b": (b, "T Dk"), "w": (w, "T Dv")}
    return _scan(gdn2_step, q, k, v, extras, scale, initial_state)


def rwkv7_scan(
    r: Array,
    w: Array,
    k: Array,
    v: Array,
    a: Array,
    b: Array,
    *,
    scale: float = 1.0,
    initial_state: Array | None = None,
) -> tuple[Array, Array]:
    """RWKV-7. r (the query), w, k, a, b [T, Dk], v [T, Dv] -> o [T, Dv], S [Dk, Dv]."""
    extras = {"w": (w, "T Dk"), "a": (a, "T Dk"), "b": (b, "T Dk")}
    return _scan(rwkv7_step, r, k, v, extras, scale, initial_state)


def log_linear_scan(q: Array, k: Array, v: Array, g: Array, weights: Array, *, scale: float = 1.0) -> Array:
    """Log-linear attention: several memories, each of the tokens of a stretch that is twice as long as the one before.

    q, k [T, Dk], v [T, Dv], g [T] log decay, weights [T, L] of the memories at each read, L at least
    (T - 1).bit_length() + 1 -> o [T, Dv]. Memory 0 has the token itself; where the number of the token t ends in
    n zero bits, memories 0 to n are added and become memory n + 1, as carries do in a binary counter.
    Source: Guo et al. 2025 (log-linear attention).
    """
    sizes = _check({"q": (q, "T Dk"), "k": (k, "T Dk"), "v": (v, "T Dv"), "g": (g, "T"), "weights": (weights, "T L")})
    needed = (sizes["T"] - 1).bit_length() + 1
    if sizes["L"] < needed:
        raise ValueError(f"weights: {sizes['T']} tokens need {needed} memories, got {sizes['L']}")
    memories, o = np.zeros((sizes["L"], sizes["Dk"], sizes["Dv"])), np.empty((sizes["T"], sizes["Dv"]))
    for t in range(sizes["T"]):
        if t:
            full = (t & -t).bit_length()  # one more than the zero bits at t's end
            memories[full], memories[:full] = memories[:full].sum(0), 0
        memories = decay(memories, np.full((sizes["L"], sizes["Dk"]), g[t]))
        memories[0] = np.outer(k[t], v[t])
        o[t] = scale * sum(weight * read(S, q[t]) for weight, S in zip(weights[t], memories, strict=True))  # (3.15)
    return o


def least_squares_scan(q: Array, k: Array, v: Array, beta: Array, *, penalty: float) -> Array:
    """What the best matrix for all pairs so far answers: no rule can do better with Dk channels.

    q, k [T, Dk], v [T, Dv], beta [T] -> o [T, Dv], o_t = S_t.T q_t with S_t the least of
    sum_s<=t beta_s |S.T k_s - v_s|^2 + penalty |S|^2, penalty > 0. It keeps two sums, [Dk, Dk] and
    [Dk, Dv], and solves a system at each read. Source: von Oswald et al. 2025 (MesaNet), without decay.
    """
    sizes = _check({"q": (q, "T Dk"), "k": (k, "T Dk"), "v": (v, "T Dv"), "beta": (beta, "T")})
    if not penalty > 0:
        raise ValueError(f"penalty: expected a number > 0, got {penalty!r}")
    H, G = penalty * np.eye(sizes["Dk"]), np.zeros((sizes["Dk"], sizes["Dv"]))
    o = np.empty((sizes["T"], sizes["Dv"]))
    for t in range(sizes["T"]):
        H, G = H + beta[t] * np.outer(k[t], k[t]), G + beta[t] * np.outer(k[t], v[t])
        o[t] = read(np.linalg.solve(H, G), q[t])
    return o


def _scan(step: Callable[..., Array], q, k, v, extras, scale, initial_state) -> tuple[Array, Array]:
    """Run one step per token; extras maps an argument's name to (array, wanted axes)."""
    sizes = _check({"q": (q, "T Dk"), "k": (k, "T Dk"), "v": (v, "T Dv"), **extras})
    if "g" in extras and np.any(np.asarray(extras["g"][0]) > 0):
        raise ValueError("g: a log decay must be <= 0, got a positive value (did you pass exp(g)?)")
    S = np.zeros((sizes["Dk"], sizes["Dv"])) if initial_state is None else np.array(initial_state, dtype=float)
    if S.shape != (sizes["Dk"], sizes["Dv"]):
        raise ValueError(f"initial_state: expected [Dk, Dv] = {(sizes['Dk'], sizes['Dv'])}, got {S.shape}")
    o = np.empty((sizes["T"], sizes["Dv"]))
    for t in range(sizes["T"]):
        S = step(S, k[t], v[t], **{name: array[t] for name, (array, _) in extras.items()})
        o[t] = scale * read(S, q[t])
    return o, S


def _check(arguments: dict[str, tuple[Array, str]]) -> dict[str, int]:
    """Bind axis names to sizes; a shape that does not fit is named with what was expected."""
    sizes: dict[str, int] = {}
    for name, (array, axes) in arguments.items():
        shape, letters = np.shape(array), axes.split()
        fits = len(shape) == len(letters)
        fits = fits and all(sizes.setdefault(axis, n) == n for axis, n in zip(letters, shape, strict=True))
        if not fits:
            known = ", ".join(f"{axis}={n}" for axis, n in sizes.items())
            raise ValueError(f"{name}: expected axes [{', '.join(letters)}], got shape {shape} (so far {known})")
    return sizes
