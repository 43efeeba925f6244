"""The safetensors files of a checkpoint: what is in them, checked before anything is read, and then one at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reference.arguments import cut_short
from reference.checkpoints.given import read_json

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Bytes: what was read of a mapped file counts as memory, so the file is mapped anew after this many.
REMAP = 16 * 2**20
LONGEST_NAME = 255  # bytes of a file's name, on most systems
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Header(NamedTuple):
    """What a safetensors file says of one tensor, before the tensor is read."""

    file: Path
    shape: list[int]
    dtype: torch.dtype
    nbytes: int


def read_headers(folder: Path) -> dict[str, Header]:
    """Every tensor of the folder's safetensors by name. Raises ValueError that names the file and the tensor."""
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX).get("weight_map")
        if not isinstance(index, dict) or not index or not all(isinstance(file, str) for file in index.values()):
            raise ValueError(f"{folder / INDEX}: expected a weight_map from tensors to files")
        headers = {}
        for name in sorted(set(index.values())):
            if "/" in name or "\\" in name or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
                raise ValueError(f"{folder / INDEX}: expected names of files beside it, got {cut_short(name)}")
            headers |= _headers(folder / name)
        for name, file in index.items():
            if name not in headers or headers[name].file.name != file:
                raise ValueError(f"{folder / file}: has no {name}, where {INDEX} says it is")
        return headers
    if (folder / SINGLE).is_file():
        return _headers(folder / SINGLE)
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        raise ValueError(
            f"{folder}: has its weights as {pickled[0]}, a pickle, which can run code when it is opened, so it is not; "
            "look for the model in safetensors, or convert it where you trust it"
        )
    raise ValueError(f"{folder}: has neither {SINGLE} nor {INDEX}")


def _headers(path: Path) -> dict[str, Header]:
    if not path.is_file():
        raise ValueError(f"{path}: is missing")
    found = {}
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                part = file.get_slice(name)
                kind, shape = part.get_dtype(), list(part.get_shape())
                if kind not in DTYPES:
                    raise ValueError(
                        f"{path}: {name}: expected one of {list(DTYPES)}, got {kind}; quantized weights are not read"
                    )
                dtype = DTYPES[kind]
                found[name] = Header(path, shape, dtype, torch.Size(shape).numel() * dtype.itemsize)
    except SafetensorError as error:
        raise ValueError(f"{path}: is not a whole safetensors file ({error})") from None
    return found


def differing_rows(one: Header, its_name: str, other: Header, other_name: str) -> bool:
    """Whether two tensors of the files differ; read in slabs of rows, so that neither is ever whole in memory."""
    if one.shape != other.shape:
        return True
    step = max(1, REMAP // max(1, one.nbytes // max(1, one.shape[0])))
    for start in range(0, one.shape[0], step):
        with safe_open(one.file, "pt") as here, safe_open(other.file, "pt") as there:
            rows = slice(start, start + step)
            if not torch.equal(here.get_slice(its_name)[rows], there.get_slice(other_name)[rows]):
                return True
    return False


def read_tensors(names: list[str], headers: dict[str, Header]) -> Iterator[tuple[str, Tensor]]:
    """One tensor after the other, file by file; the file is mapped anew every REMAP bytes."""
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(headers[name].file, []).append(name)
    for path, inside in by_file.items():
        file, read = None, 0
        for name in inside:
            if file is None or read > REMAP:
                file, read = None, 0  # the old mapping goes before the new one comes
                file = safe_open(path, "pt").__enter__()
            read += headers[name].nbytes
            yield name, file.get_tensor(name)
        file = None
