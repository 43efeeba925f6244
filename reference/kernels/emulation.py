"""A grid of programs in NumPy: the words of Triton that the book's kernels use, on any machine.

A kernel says what one program does; `emulate` runs it once for each place in a grid, one after the other. The kernel's
source is a Triton kernel's, since `tl` here has the names, arguments and order of `triton.language`:

    def double(x, y, n, BLOCK: tl.constexpr):
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(y + i, 2 * tl.load(x + i, mask=i < n, other=0.0), mask=i < n)

    ran = emulate(double, (3,), x, y, 10, BLOCK=4)

A tensor arrives as the address of its first number, as on a GPU: no shape, no bounds. Three things are better here than
there. An address outside the tensor is an error that names the program. Each number that a program reads or writes is
noted. And two programs that touch one number, at least one of them writing, are reported: on a GPU they run in no
order, and the result would change from run to run.

`tl.dot` rounds what it multiplies as `input_precision` says, "ieee" not at all, "tf32" (Triton's default) to 11
significant bits, "bf16" to 8, and adds up in float32. Nothing here is about time.
"""

import inspect
import types
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from reference.kernels.memory import BFLOAT16, NOBODY, SEVERAL, Address, Memory, Ran, Tile, Touch, to_bfloat16

SIGNIFICANT_BITS = {"ieee": 24, "tf32": 11, "bf16": 8}


class Language:
    """The emulated `triton.language`. Between launches it only knows its constants."""

    constexpr = staticmethod(lambda value: value)
    tensor = Tile
    float32, float64, int32, int64, bfloat16 = np.float32, np.float64, np.int32, np.int64, BFLOAT16

    def __init__(self) -> None:
        self._launch: _Launch | None = None

    @property
    def _now(self) -> "_Launch":
        if self._launch is None:
            raise RuntimeError("tl.program_id, load, store and dot need a program: call emulate(kernel, grid, ...)")
        return self._launch

    def program_id(self, axis: int) -> Tile:
        return _tile((*self._now.program, 0, 0)[axis])

    def num_programs(self, axis: int) -> int:
        return (*self._now.grid, 1, 1)[axis]

    def load(self, at: Address, mask: object = None, other: float = 0.0) -> Tile:
        return self._now.load(at, mask, other)

    def store(self, at: Address, value: object, mask: object = None) -> None:
        self._now.store(at, value, mask)

    def dot(self, a: Tile, b: Tile, input_precision: str = "tf32") -> Tile:
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
            raise ValueError(f"tl.dot: expected [m, k] and [k, n], got {list(a.shape)} and {list(b.shape)}")
        if input_precision not in SIGNIFICANT_BITS:
            known = ", ".join(SIGNIFICANT_BITS)
            raise ValueError(f"tl.dot: input_precision is one of {known}, got {input_precision!r}")
        self._now.multiply_adds += a.shape[0] * a.shape[1] * b.shape[1]
        bits = SIGNIFICANT_BITS[input_precision]
        return _tile(_rounded(a, bits) @ _rounded(b, bits))

    @staticmethod
    def arange(start: int, stop: int) -> Tile:
        size = stop - start
        if size < 1 or size & (size - 1):
            raise ValueError(f"tl.arange: the length must be a power of two, got {size} (from {start} to {stop})")
        return _tile(np.arange(start, stop))

    static_range = range
    trans = staticmethod(lambda x: _tile(np.asarray(x).T))
    zeros = staticmethod(lambda shape, dtype: _tile(np.zeros(shape, dtype)))
    full = staticmethod(lambda shape, value, dtype: _tile(np.full(shape, value, dtype)))
    where = staticmethod(lambda condition, x, y: _tile(np.where(condition, _narrow(x), _narrow(y))))
    exp = staticmethod(lambda x: _tile(np.exp(x)))
    sqrt = staticmethod(lambda x: _tile(np.sqrt(x)))
    maximum = staticmethod(lambda x, y: _tile(np.maximum(x, y)))
    minimum = staticmethod(lambda x, y: _tile(np.minimum(x, y)))
    sum = staticmethod(lambda x, axis: _tile(np.asarray(x).sum(axis)))
    max = staticmethod(lambda x, axis: _tile(np.asarray(x).max(axis)))

    @staticmethod
    def cumsum(x: Tile, axis: int = 0, reverse: bool = False) -> Tile:
        x = np.asarray(x)
        if not reverse:
            return _tile(x.cumsum(axis))
        return _tile(np.flip(np.flip(x, axis).cumsum(axis), axis))


tl = Language()


class _Launch:
    """The programs of one launch, one after the other, and what they touch."""

    def __init__(self, grid: tuple[int, ...]) -> None:
        self.grid, self.program, self.number = grid, (0,) * len(grid), 0
        self.multiply_adds, self.touches, self.races = 0, [], {}

    def load(self, at: Address, mask: object, other: float) -> Tile:
        memory, places, live = self._places(at, mask, "reads")
        own = places[live]
        self._note_race(memory, own, memory.writer[own], "is read by program {} and written by program {}")
        reader = memory.reader[own]
        memory.reader[own] = np.where((reader == NOBODY) | (reader == self.number), self.number, SEVERAL)
        memory.reads += own.size
        self.touches.append(Touch(self.program, memory.name, False, own))
        values = memory.numbers[np.where(live, places, 0)]
        if memory.is_bfloat16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return _tile(np.where(live, values, np.asarray(other, values.dtype)))

    def store(self, at: Address, value: object, mask: object) -> None:
        memory, places, live = self._places(at, mask, "writes")
        own = places[live]
        self._note_race(memory, own, memory.writer[own], "is written by program {} and by program {}")
        self._note_race(memory, own, memory.reader[own], "is written by program {} and read by program {}")
        memory.writer[own] = self.number
        memory.writes += own.size
        self.touches.append(Touch(self.program, memory.name, True, own))
        values = np.broadcast_to(np.asarray(value), places.shape)[live]
        memory.numbers[own] = to_bfloat16(values) if memory.is_bfloat16 else values

    def _places(self, at: Address, mask: object, does: str) -> tuple[Memory, np.ndarray, np.ndarray]:
        at = Address(at, 0) if isinstance(at, Memory) else at
        if not isinstance(at, Address):
            raise TypeError(f"expected an address (an argument, plus offsets), got {type(at).__name__}")
        places = np.asarray(at.offset)
        live = np.asarray(True if mask is None else mask)
        shape = np.broadcast_shapes(places.shape, live.shape)
        places, live = np.broadcast_to(places, shape), np.broadcast_to(live, shape)
        size = at.memory.numbers.size
        outside = live & ((places < 0) | (places >= size))
        if outside.any():
            raise IndexError(
                f"program {self.program} {does} {at.memory.name} at {places[outside].flat[0]}, "
                f"which has {size} numbers: is a mask missing?"
            )
        return at.memory, places, live

    def _note_race(self, memory: Memory, own: np.ndarray, others: np.ndarray, words: str) -> None:
        there = (others != NOBODY) & (others != self.number)
        if there.any() and memory.name not in self.races:
            place, other = own[there].flat[0], others[there].flat[0]
            name = "others" if other == SEVERAL else np.unravel_index(other, self.grid)
            name = name if isinstance(name, str) else tuple(int(n) for n in name)
            self.races[memory.name] = f"{memory.name}[{place}] " + words.format(self.program, name)


def emulate(
    kernel: Callable, grid: tuple[int, ...], *arguments: object, order: str = "forward", **constants: object
) -> Ran:
    """Run a kernel's programs on NumPy arrays or CPU tensors, which it changes in place.

    kernel: a function in the language above, or a Triton kernel (its `tl` and the kernels that it calls are replaced).
    grid: how many programs along each axis. order: "forward" or "backward", in which order the programs run; a kernel
    without a race doesn't notice. constants: the kernel's tl.constexpr arguments.
    Raises IndexError for an address outside its tensor, ValueError for other mistakes.
    """
    if order not in ("forward", "backward"):
        raise ValueError(f"order: expected 'forward' or 'backward', got {order!r}")
    function = emulated(kernel)
    names = function.__code__.co_varnames
    inputs = [Memory(n, x) if hasattr(x, "shape") else x for n, x in zip(names, arguments, strict=False)]
    launch, before = _Launch(grid), tl._launch
    tl._launch = launch
    try:
        for launch.number, launch.program in _programs(grid, order):
            function(*inputs, **constants)
    finally:
        tl._launch = before
    memories = [x for x in inputs if isinstance(x, Memory)]
    return Ran(
        int(np.prod(grid)),
        {m.name: m.reads for m in memories if m.reads},
        {m.name: m.writes for m in memories if m.writes},
        launch.multiply_adds,
        launch.touches,
        list(launch.races.values()),
    )


def emulated(kernel: Callable) -> Callable:
    """A kernel as a Python function in this module's language, whether Triton has wrapped it or not."""
    function = inspect.unwrap(getattr(kernel, "fn", kernel))
    world = dict(function.__globals__)
    for name in {*function.__code__.co_names} & world.keys():
        value = world[name]
        if name == "tl":
            world[name] = tl
        elif hasattr(value, "is_kernel") or isinstance(getattr(value, "fn", None), types.FunctionType):
            world[name] = emulated(value)
    closed = types.FunctionType(
        function.__code__, world, function.__name__, function.__defaults__, function.__closure__
    )
    closed.__kwdefaults__ = function.__kwdefaults__
    return closed


def _programs(grid: tuple[int, ...], order: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    places = list(enumerate(product(*map(range, grid))))
    yield from places if order == "forward" else reversed(places)


def _narrow(x: object) -> object:
    """Python's numbers shouldn't widen a block."""
    return np.float32(x) if isinstance(x, float) else x


def _tile(x: object) -> Tile:
    return np.asarray(x).view(Tile)


def _rounded(x: object, bits: int) -> np.ndarray:
    """x with so many significant bits, to the nearest; float32's 24 are left alone."""
    x = np.asarray(x)
    if bits == SIGNIFICANT_BITS["ieee"]:
        return x
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits).astype(x.dtype)
