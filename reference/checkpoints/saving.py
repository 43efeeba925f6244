"""From a HybridLM to Hugging Face's layout, which transformers opens, and everything that reads the same files."""

import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from reference.arguments import check_place, check_positive_int, cut_short
from reference.checkpoints.families import BY_TYPE, FAMILIES
from reference.checkpoints.family import Family
from reference.checkpoints.files import INDEX, SINGLE
from reference.checkpoints.pieces import Pieces
from reference.checkpoints.translate import config_to_json, tensor_plan
from reference.files import write_text
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM

SHARD = 5 * 10**9
OF_A_MODEL = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")  # others beside them are not ours to remove
# The first that can say a config is taken: Qwen3-Next can say a dense model, too, as an exception in every layer.
DENSE_FIRST = sorted(FAMILIES, key=lambda family: "num_experts" in family.fields)


def save_pretrained(
    model: HybridLM,
    path: str | Path,
    *,
    family: str | None = None,
    max_shard_bytes: int = SHARD,
    overwrite: bool = False,
) -> Path:
    """Write config.json and safetensors, under the names and in the layout of a family that can say the
    model's config, or of `family` (a model_type). Returns the folder.

    Files are written beside and renamed, config.json last. Raises ValueError, before any file is touched: no family
    can say the config (the message names the field that each lacks), or the folder holds a model already and overwrite
    is False. A dense 3:1 hybrid of this book is a Qwen3.5, one with experts a Qwen3-Next.
    """
    folder = check_place("path", path)
    check_positive_int("max_shard_bytes", max_shard_bytes)
    chosen, theirs = choose_family(model.config, family)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file, expected a folder")
    there = sorted(x.name for x in folder.iterdir()) if folder.is_dir() else []
    model_files = [name for name in there if name.endswith((".safetensors", ".bin"))]
    model_files += [name for name in there if name == "config.json"]
    if model_files and not overwrite:
        raise ValueError(f"{folder}: holds {model_files[0]} already; give another folder, or overwrite=True")
    theirs["dtype"] = str(model.embed_tokens.weight.dtype).removeprefix("torch.")
    with torch.no_grad():
        plan = tensor_plan(chosen, model, chosen.prefixes[0])
        shards = _shards(plan, max_shard_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        files = [SINGLE]
        if len(shards) > 1:
            files = [f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))]
        for file, names in zip(files, shards, strict=True):
            _write_shard({name: _joined(plan[name]) for name in names}, folder / file)
    for name in there:
        if OF_A_MODEL.fullmatch(name) and name not in files:
            (folder / name).unlink()
    (folder / INDEX).unlink(missing_ok=True)
    if len(shards) > 1:
        where = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        about = {"metadata": {"total_size": sum(_nbytes(p) for p in plan.values())}, "weight_map": where}
        write_text(folder / INDEX, json.dumps(about, indent=2) + "\n")
    write_text(folder / "config.json", json.dumps(theirs, indent=2) + "\n")
    return folder


def _write_shard(tensors: dict[str, Tensor], path: Path) -> None:
    """Beside the target, then renamed. OSError that names the file where the disk is full; then nothing is left."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, beside, metadata={"format": "pt"})
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, SafetensorError):
            raise OSError(f"{path}: can't be written ({error})") from None
        raise


def choose_family(config: HybridConfig, name: str | None = None) -> tuple[Family, dict]:
    """The family whose config.json can say config, and that config.json. Raises ValueError."""
    if name is not None and name not in BY_TYPE:
        raise ValueError(f"family: expected one of {sorted(f.name for f in FAMILIES)}, got {cut_short(name)}")
    reasons = []
    for family in DENSE_FIRST if name is None else (BY_TYPE[name],):
        try:
            return family, config_to_json(family, config)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError("model: no family that transformers reads has this config: " + "; ".join(reasons))


def _joined(pieces: Pieces) -> Tensor:
    views = pieces.views
    whole = views[0] if len(views) == 1 else torch.cat(views, pieces.dim)
    return whole.detach().to("cpu").reshape(pieces.file_shape).clone(memory_format=torch.contiguous_format)


def _nbytes(pieces: Pieces) -> int:
    return sum(view.nbytes for view in pieces.views)


def _shards(plan: dict[str, Pieces], most: int) -> list[list[str]]:
    shards, size = [[]], 0
    for name, pieces in plan.items():
        if shards[-1] and size + _nbytes(pieces) > most:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _nbytes(pieces)
    return shards
