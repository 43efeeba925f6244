"""Arithmetic whose last bits are another machine's: a noise for `make everywhere` and for the tests, never for readers.

Two processors agree on a sum up to its last bits, since each adds in its own order. `install(seed)` makes this process
differ as another machine might, at random:

    products and sums     add their terms in another order (so sums of whole numbers stay exact, as everywhere)
    exp, log, tanh, ...   may be off by one unit in the last place, as the libraries that compute them are
    solvers               (svd, lstsq, ...) see their inputs changed in the last bit, which is what they promise to bear

What prints differently under it rests on rounding: a tie, a rounding edge, a chaotic iteration.
"""

import ctypes
import gc
import os
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

VARIABLE = "BOOK_LAST_BITS"  # the seed; `tools.everywhere` sets it for the kernels that it starts
REDUCTIONS = ("sum", "mean", "std", "var")
UFUNCS = ("exp", "log", "log1p", "expm1", "log2", "log10", "tanh", "sin", "cos", "logaddexp")
SOLVERS = (
    "lstsq",
    "solve",
    "inv",
    "pinv",
    "svd",
    "qr",
    "eigh",
    "eigvalsh",
    "eig",
    "eigvals",
    "cholesky",
    "det",
    "slogdet",
)
MATMUL_SLOT, NUMBER_METHODS = 34, 96 // 8  # of CPython's PyNumberMethods and PyTypeObject, in pointers

_random = np.random.default_rng()
_kept_alive: list[Any] = []


def install(seed: int) -> None:
    """From here on NumPy (and torch) compute with other last bits. For the whole process; there is no way back."""
    global _random
    _random = np.random.default_rng(seed)
    _patch_numpy()
    from tools import last_bits_torch

    last_bits_torch.enter(seed)


def install_from_environment() -> None:
    """What the `sitecustomize` of a kernel calls."""
    if os.environ.get(VARIABLE):
        install(int(os.environ[VARIABLE]))


def jitter(x: Any) -> Any:
    """x with each float moved by -1, 0 or 1 units in the last place; values of few bits (0, 1, 0.25, ...) stay."""
    y = np.asarray(x)
    if y.dtype not in (np.float32, np.float64) or y.size == 0 or tracemalloc.is_tracing():
        return x
    with np.errstate(all="ignore"):
        few_bits = ~np.isfinite(y) | (y * 64 == np.rint(y * 64))
        moved = np.where(
            few_bits, y, y * (1 + np.finfo(y.dtype).eps * _random.integers(-1, 2, y.shape).astype(y.dtype))
        )
    return moved if isinstance(x, np.ndarray) else y.dtype.type(moved)


def _is_float(*arrays: Any) -> bool:
    """Whether to act on these: not while memory is measured, where our copies would count."""
    return not tracemalloc.is_tracing() and all(
        isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.ndim > 0 for a in arrays
    )


def _reordered(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors of a @ b with the terms of each sum in another order."""
    axis = b.ndim - 2 if b.ndim > 1 else 0
    if a.shape[-1] != b.shape[axis]:
        return a, b  # an error is coming; it is not ours
    order = _random.permutation(a.shape[-1])
    return np.take(a, order, axis=-1), np.take(b, order, axis=axis)


def _shuffled(a: np.ndarray, axis: int | Sequence[int] | None) -> np.ndarray:
    axes = range(a.ndim) if axis is None else np.atleast_1d(axis)
    for i in axes:
        a = np.take(a, _random.permutation(a.shape[i]), axis=i)
    return a


def _patch_numpy() -> None:
    _patch_matmul_operator()
    methods = gc.get_referents(np.ndarray.__dict__)[0]  # the dictionary behind the read-only view of a C type
    for name in REDUCTIONS:
        setattr(np, name, _reduction(getattr(np, name)))
        methods[name] = _reduction(methods[name])
    for name in ("matmul", "dot"):
        setattr(np, name, _product(getattr(np, name)))
    methods["dot"] = _product(methods["dot"])
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(np.ndarray))
    np.einsum = _einsum(np.einsum)
    np.linalg.norm = _reduction(np.linalg.norm, position=2)
    for name in UFUNCS:
        setattr(np, name, _Jittered(getattr(np, name)))
    for name in SOLVERS:
        setattr(np.linalg, name, _solver(getattr(np.linalg, name)))


def _patch_matmul_operator() -> None:
    """Python can't replace the operator of a C type, so put a function into its slot."""
    methods = ctypes.c_void_p.from_address(id(np.ndarray) + NUMBER_METHODS * 8).value
    slot = ctypes.c_void_p.from_address(methods + MATMUL_SLOT * 8)
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.py_object)
    original = kind(slot.value)

    def product(a: Any, b: Any) -> Any:
        try:
            return original(*(_reordered(a, b) if _is_float(a, b) else (a, b)))
        except Exception:  # none can cross this border: Python says "unsupported operand" in its place
            return NotImplemented

    replacement = kind(product)
    _kept_alive.append(replacement)
    slot.value = ctypes.cast(replacement, ctypes.c_void_p).value


def _product(original: Callable) -> Callable:
    def product(a: Any, b: Any, *args: Any, **options: Any) -> Any:
        return original(*(_reordered(a, b) if _is_float(a, b) else (a, b)), *args, **options)

    return product


def _reduction(original: Callable, position: int = 1) -> Callable:
    """sum(a, axis), or norm(a, ord, axis): axis stands at that position."""

    def reduction(a: Any, *args: Any, **options: Any) -> Any:
        axis = options.get("axis", args[position - 1] if len(args) >= position else None)
        shuffle = _is_float(a) and not options.keys() & {"where", "mean"}
        return original(_shuffled(a, axis) if shuffle else a, *args, **options)

    return reduction


def _einsum(original: Callable) -> Callable:
    """Each letter that is summed over gets another order, the same in all operands."""

    def einsum(letters: str, *operands: Any, **options: Any) -> Any:
        inputs, arrow, output = letters.replace(" ", "").partition("->")
        if not arrow or "." in letters or not _is_float(*operands):
            return original(letters, *operands, **options)
        operands = list(operands)
        for letter in sorted(set(inputs) - set(output) - {","}):
            order = None
            for i, axes in enumerate(inputs.split(",")):
                for axis in (n for n, name in enumerate(axes) if name == letter):
                    order = _random.permutation(operands[i].shape[axis]) if order is None else order
                    operands[i] = np.take(operands[i], order, axis=axis)
        return original(letters, *operands, **options)

    return einsum


def _solver(original: Callable) -> Callable:
    def solver(*args: Any, **options: Any) -> Any:
        result = original(*(jitter(a) if _is_float(a) else a for a in args), **options)
        if not isinstance(result, tuple):
            return jitter(result)
        parts = [jitter(part) if _is_float(part) else part for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)

    return solver


class _Jittered:
    """A ufunc whose values move in the last place; everything else about it stays."""

    def __init__(self, ufunc: np.ufunc):
        self.ufunc = ufunc

    def __call__(self, *args: Any, **options: Any) -> Any:
        result = self.ufunc(*args, **options)
        if "out" in options or len(args) > self.ufunc.nin:
            result[...] = jitter(result)
            return result
        return jitter(result) if type(result) in (np.ndarray, np.float32, np.float64) else result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ufunc, name)


if __name__ == "__main__":
    sys.exit("This is the noise of `make everywhere`; on its own it does nothing.")
