"""Any folder with a model: what `python -m reference train` wrote, under our own names, or Hugging Face's layout."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from reference.arguments import check_place
from reference.checkpoints.given import read_json
from reference.checkpoints.loading import check_sizes, load_pretrained
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM


def load_model(place: str | Path, dtype: torch.dtype | None = None, *, ignore_fields: tuple[str, ...] = ()) -> HybridLM:
    """The model at a place, in eval mode: a folder that `train` wrote or in Hugging Face's layout, or owner/name on the
    Hub. dtype: None keeps what is stored. ignore_fields: as in load_pretrained. Raises ValueError that names the file.
    """
    if not is_trained_here(place):
        return load_pretrained(place, dtype=dtype, ignore_fields=ignore_fields)
    model = _load_trained(Path(place))
    return model if dtype is None else model.to(dtype)


def is_trained_here(place: str | Path) -> bool:
    """Whether a place is a folder of `train`'s: its config.json has no model_type. One without config.json counts, too,
    so that the error says how to make one."""
    folder = check_place("place", place)
    if (folder / "config.json").is_file():
        return "model_type" not in read_json(folder / "config.json")
    return folder.is_dir()


def _load_trained(folder: Path) -> HybridLM:
    """The model in folder: config.json and model.safetensors as `python -m reference train` leaves them.

    Raises ValueError that names the folder or the file.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"model: {folder} has no {name}; `python -m reference train --out {folder}` writes it")
    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"model: {path}: is not a whole safetensors file ({error})") from None
    except OSError as error:
        raise ValueError(f"model: {path}: can't be read ({error})") from None
    try:
        config = HybridConfig.from_dict(read_json(folder / "config.json"))
        check_sizes(config, shapes, folder)
        with torch.device("meta"):
            model = HybridLM(config)  # without memory, until it is known to fit the file
    except (ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        about = f"has no model_type, and `train` didn't write it ({str(error)[:300]})"
        raise ValueError(f"model: {folder / 'config.json'}: {about}") from None
    missing = {name for name, _ in model.named_parameters()} ^ shapes.keys()
    if missing:
        raise ValueError(f"model: {path} doesn't fit config.json: {sorted(missing)[0]}")
    for name, p in model.named_parameters():
        if shapes[name] != list(p.shape):
            wanted = f"{name}: expected shape {list(p.shape)} by config.json, got {shapes[name]}"
            raise ValueError(f"model: {path}: {wanted}")
    model = HybridLM(config)
    model.load_state_dict(load_file(path), strict=False)  # tied weights are stored once
    return model.eval()
