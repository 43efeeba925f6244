"""Checkpoints of a training run: written beside and renamed, with hashes; a run resumes from the newest whole one."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from reference.distributed.shards import read_shards, read_whole, write_shards
from reference.distributed.world import World
from reference.training.folder import checkpoints_of

KEEP = 2  # the one before the last serves when the last is damaged
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
ONE_PROCESS = World()
UNSEALED = {"step", "sharded", "processes", "sha256", "config", "run"}  # state.json's fields before it was sealed


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    about: dict,
    world: World = ONE_PROCESS,
) -> Path:
    """Write folder/step_N and delete all but the last KEEP. A crash leaves at most a .part folder behind.

    Sharded parameters are written by the processes that hold them, all into one folder, which they must share.
    """
    target, part = folder / f"step_{step:08d}", folder / f"step_{step:08d}.part"
    weights, moments = _weights(model), _moments(model, optimizer)
    sharded = any(isinstance(x, DTensor) for x in weights.values())
    if world.is_main:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    world.wait()
    try:
        if sharded:
            write_shards(weights | moments, part)
            world.wait()
        if world.is_main:
            if not sharded:
                save_file(weights, part / "model.safetensors")
                save_file(moments, part / "optimizer.safetensors")
            save_file({"rng_state": torch.get_rng_state()}, part / "random.safetensors")
            seal = {path.name: _sha256(path) for path in sorted(part.iterdir())}
            state = {"step": step, "sharded": sharded, "processes": world.size, "sha256": seal, **about}
            state["seal"] = _seal(state)
            (part / "state.json").write_text(json.dumps(state), encoding="utf-8")
            for path in part.iterdir():
                _flush(path)
    except BaseException as error:
        if world.is_main:
            shutil.rmtree(part, ignore_errors=True)  # no room on the disk, or Ctrl-C: the older ones are untouched
        if isinstance(error, SafetensorError):
            raise OSError(f"{part}: can't be written ({error})") from None
        raise
    if world.is_main:
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
        for old in checkpoints_of(folder)[:-KEEP]:
            shutil.rmtree(old)
    world.wait()
    return target


def load_newest(folder: Path, say=print) -> tuple[Path, dict] | None:
    """The newest checkpoint whose files are what its seal says, and its state.json; None if there is none."""
    for path in reversed(checkpoints_of(folder)):
        problem = _problem(path)
        if problem is None:
            return path, json.loads((path / "state.json").read_text(encoding="utf-8"))
        say(f"{path.name} can't be used: {problem}. Trying the one before it.")
    return None


@torch.no_grad()
def restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint's weights, optimizer state and random state; one process or many may have written it."""
    optimizer.state.clear()
    weights, moments = _weights(model), _moments(model, optimizer)
    if json.loads((path / "state.json").read_text(encoding="utf-8"))["sharded"]:
        read_shards(weights | moments, path)
    else:
        read_whole(weights, path / "model.safetensors")
        read_whole(moments, path / "optimizer.safetensors")
    torch.set_rng_state(load_file(path / "random.safetensors")["rng_state"])


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}  # a tied weight has one name


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {}
    for name, p in model.named_parameters():
        if not optimizer.state[p]:  # no gradient so far: AdamW starts from zeros
            optimizer.state[p] |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(p.detach())}
            optimizer.state[p]["exp_avg_sq"] = torch.zeros_like(p.detach())
        found |= {f"{name}/{key}": optimizer.state[p][key] for key in MOMENTS}
    return found


def _problem(path: Path) -> str | None:
    """Why a checkpoint can't be used, None if it is whole: every file, state.json itself, and the folder's name."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        older = state.keys() == UNSEALED and "text" not in state["run"]  # from before there was a seal
        if not older and state.pop("seal") != _seal(state):
            return "state.json isn't what was written"
        for name, digest in state["sha256"].items():
            if _sha256(path / name) != digest:
                return f"{name} isn't what was written"
        if path.name != f"step_{state['step']:08d}":
            return f"it holds step {state['step']}"
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        return f"it is incomplete ({type(error).__name__})"
    return None


def _seal(state: dict) -> str:
    """A digest of state.json's content but the seal."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
