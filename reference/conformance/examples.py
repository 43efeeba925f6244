"""Adapters between other signatures and that of reference.ops; a test runs each of them."""

NUMPY = """ARRAYS = "numpy"
import numpy as np


def recurrent_delta_rule(q, k, v, beta, initial_state=None, scale=None, output_final_state=False):
    B, T, H, Dk = q.shape
    S = np.zeros((B, H, Dk, v.shape[-1])) if initial_state is None else initial_state.astype(np.float64)
    o, group = np.zeros(v.shape), v.shape[2] // H
    q, k = q.repeat(group, axis=2), k.repeat(group, axis=2)
    S = S if initial_state is not None else S.repeat(group, axis=1)
    for t in range(T):
        held = np.einsum("bhkv,bhk->bhv", S, k[:, t])
        u = beta[:, t, :, None] * (v[:, t] - held)
        S = S + k[:, t, :, :, None] * u[:, :, None]
        o[:, t] = (scale or Dk**-0.5) * np.einsum("bhkv,bhk->bhv", S, q[:, t])
    return o, S"""

ONE_SEQUENCE = """ARRAYS = "numpy"  # a function of one head and one sequence, axes [T, D], as jax.vmap would map it
import numpy as np


def one_head(q, k, v, beta):
    S, rows = np.zeros((q.shape[1], v.shape[1])), []
    for t in range(len(q)):
        S = S + beta[t] * np.outer(k[t], v[t] - S.T @ k[t])
        rows.append(S.T @ q[t])
    return np.stack(rows)


def delta_rule(q, k, v, beta):
    o, group = np.zeros(v.shape), v.shape[2] // q.shape[2]
    for b in range(v.shape[0]):
        for j in range(v.shape[2]):
            i = j // group
            o[b, :, j] = one_head(q[b, :, i] * q.shape[-1] ** -0.5, k[b, :, i], v[b, :, j], beta[b, :, j])
    return o"""

CTYPES = """ARRAYS = "numpy"  # C: void delta_rule(float *o, float *q, float *k, float *v, float *beta, int B, ...)
import ctypes

import numpy as np

LIBRARY = ctypes.CDLL("./libdelta.so")
pointer = ctypes.POINTER(ctypes.c_float)


def delta_rule(q, k, v, beta):
    o = np.zeros_like(v)
    q = np.ascontiguousarray(q.repeat(v.shape[2] // q.shape[2], axis=2))
    k = np.ascontiguousarray(k.repeat(v.shape[2] // k.shape[2], axis=2))
    arrays = [np.ascontiguousarray(x, np.float32) for x in (q, k, v, beta)]
    sizes = [ctypes.c_int(n) for n in (*v.shape, q.shape[-1])]
    LIBRARY.delta_rule(o.ctypes.data_as(pointer), *(x.ctypes.data_as(pointer) for x in arrays), *sizes)
    return o"""

EXAMPLES = {"NumPy, batched": NUMPY, "one head at a time": ONE_SEQUENCE, "C, through ctypes": CTYPES}
