"""Training checkpoints that survive: written beside and renamed, sealed with hashes, the newest whole one is used."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

KEEP = 2  # the one before the last is there for the day the last is torn
FILES = ("model.safetensors", "optimizer.safetensors")


def save_checkpoint(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, about: dict) -> Path:
    """Write folder/step_N and forget all but the last KEEP. A crash leaves at most a .part folder behind."""
    target = folder / f"step_{step:08d}"
    part = folder / f"step_{step:08d}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        save_file(_weights(model), part / FILES[0])
        save_file(_optimizer_tensors(model, optimizer), part / FILES[1])
        seal = {name: _sha256(part / name) for name in FILES}
        (part / "state.json").write_text(json.dumps({"step": step, "sha256": seal, **about}), encoding="utf-8")
        for path in part.iterdir():
            _flush(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)  # no room on the disk, or Ctrl-C: the older ones are untouched
        raise
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    for old in _all(folder)[:-KEEP]:
        shutil.rmtree(old)
    return target


def load_newest(folder: Path, say=print) -> tuple[Path, dict] | None:
    """The newest checkpoint whose files are what its seal says, and its state.json; None if there is none."""
    for path in reversed(_all(folder)):
        problem = _problem(path)
        if problem is None:
            return path, json.loads((path / "state.json").read_text(encoding="utf-8"))
        say(f"{path.name} can't be used: {problem}. Trying the one before it.")
    return None


def restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights, optimizer state and random state in place."""
    weights = load_file(path / FILES[0])
    own = _weights(model)
    if weights.keys() != own.keys() or any(weights[name].shape != own[name].shape for name in own):
        raise ValueError(f"resume: {path} holds another model than this configuration's")
    model.load_state_dict(weights, strict=False)  # tied weights are stored once
    tensors = load_file(path / FILES[1])
    torch.set_rng_state(tensors.pop("rng_state"))
    for name, p in model.named_parameters():
        moments = {
            key: tensors[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}/{key}" in tensors
        }
        if moments:
            optimizer.state[p] = moments


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().contiguous() for name, p in model.named_parameters()}  # a tied weight has one name


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {"rng_state": torch.get_rng_state()}
    for name, p in model.named_parameters():
        for key, x in optimizer.state.get(p, {}).items():
            tensors[f"{name}/{key}"] = x.contiguous()
    return tensors


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step_*") if path.suffix != ".part")


def _problem(path: Path) -> str | None:
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        for name, digest in state["sha256"].items():
            if _sha256(path / name) != digest:
                return f"{name} isn't what was written"
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return f"it is incomplete ({type(error).__name__})"
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
