"""Sharded checkpoints: each process writes and reads its own part, as safetensors, for any number of processes."""

import warnings
from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor, distribute_tensor


def write_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Every process calls it with its tensors (DTensors, or whole ones that are the same everywhere)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own notes on its storage
        dcp.save(tensors, storage_writer=HuggingFaceStorageWriter(path=str(folder), save_distributed=True))


def read_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Fill tensors in place from what any number of processes wrote. Raises ValueError if names or shapes differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dcp.load(
                tensors, storage_reader=HuggingFaceStorageReader(path=str(folder)), no_dist=not dist.is_initialized()
            )
        except (dcp.api.CheckpointException, ValueError, RuntimeError) as error:
            raise ValueError(f"resume: {folder} holds another model than this configuration's ({error})") from None


def read_whole(tensors: dict[str, Tensor], file: Path) -> None:
    """Fill tensors in place from one safetensors file; a DTensor takes its own part."""
    with safe_open(file, framework="pt") as stored:
        names = set(stored.keys())
        for name, x in tensors.items():
            if name not in names or list(x.shape) != stored.get_slice(name).get_shape():
                raise ValueError(f"resume: {file.parent} holds another model than this configuration's ({name})")
            full = stored.get_tensor(name)
            if isinstance(x, DTensor):
                full = distribute_tensor(full.to(x.device), x.device_mesh, x.placements)
            x.copy_(full)
