"""What the emulated programs compute with and touch: blocks, memories, addresses, and the record of a launch."""

from typing import NamedTuple

import numpy as np
import torch

NOBODY, SEVERAL = -1, -2  # who read a number


class Tile(np.ndarray):
    """What a program computes with: an array whose only index is a new axis, as in Triton."""

    def __getitem__(self, index: object) -> "Tile":
        parts = index if isinstance(index, tuple) else (index,)
        if not all(part is None or part == slice(None) for part in parts):
            raise IndexError(f"a tile has no single entries: only [:, None] and the like, got [{index}]")
        return super().__getitem__(index)

    def to(self, dtype: object) -> "Tile":
        """The same numbers in another format; bfloat16 is computed in float32 here."""
        return self.astype(np.float32 if dtype is BFLOAT16 else dtype)


BFLOAT16 = "bfloat16"  # NumPy has no such format


class Memory:
    """One argument of a kernel: its numbers in a row, and who touched them."""

    def __init__(self, name: str, array: object) -> None:
        self.name = name
        numbers, self.is_bfloat16 = _as_numbers(array)
        if not numbers.flags.c_contiguous:
            raise ValueError(f"{name}: expected a contiguous array: a kernel computes its addresses")
        self.numbers = numbers.reshape(-1)
        self.reader, self.writer = (np.full(self.numbers.size, NOBODY) for _ in range(2))
        self.reads, self.writes = 0, 0

    def __add__(self, offset: object) -> "Address":
        return Address(self, offset)

    __radd__ = __add__


class Address(NamedTuple):
    """A place in a Memory, or a tile of places."""

    memory: Memory
    offset: object

    def __add__(self, more: object) -> "Address":
        return Address(self.memory, self.offset + more)

    __radd__ = __add__


class Touch(NamedTuple):
    """One load or store of one program: which numbers of which argument."""

    program: tuple[int, ...]
    name: str
    is_store: bool
    places: np.ndarray


class Ran(NamedTuple):
    """What a launch did: counts over all programs, every load and store, and the races."""

    programs: int
    reads: dict[str, int]  # numbers read, by argument; one that is read twice counts twice
    writes: dict[str, int]
    multiply_adds: int  # of tl.dot
    touches: list[Touch]
    races: list[str]  # a sentence for each argument that two programs touched

    def bytes_moved(self, size: int = 4) -> int:
        """Bytes read and written, `size` for each number."""
        return size * (sum(self.reads.values()) + sum(self.writes.values()))


def _as_numbers(array: object) -> tuple[np.ndarray, bool]:
    """A view of an array's or a CPU tensor's numbers; bfloat16 as its upper 16 bits."""
    if isinstance(array, np.ndarray):
        return array, False
    array = array.detach()
    if array.dtype == torch.bfloat16:
        return array.view(torch.int16).numpy().view(np.uint16), True
    return array.numpy(), False


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper 16 bits of float32, rounded to the nearest, to even in the middle."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
