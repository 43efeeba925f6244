"""`python -m reference generate`: continue a text with a model that `train` wrote, or with a published one."""

import argparse
import sys
import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from reference.checkpoints import load_pretrained
from reference.checkpoints.chat import HubTokenizer
from reference.checkpoints.given import read_json
from reference.checkpoints.hub import find_folder
from reference.model.config import HybridConfig
from reference.model.generation import check_sampling, generate
from reference.model.hybrid import HybridLM
from reference.options import add_threads, seed_below, token_count
from reference.training.tokenizer import ByteTokenizer, load_tokenizer

UNKNOWN = "\ufffd"  # what broken UTF-8 is decoded as


def load_model(folder: Path) -> HybridLM:
    """The model in folder: config.json and model.safetensors as `python -m reference train` leaves them.

    Raises ValueError that names the folder or the file.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"model: {folder} has no {name}; `python -m reference train --out {folder}` writes it")
    try:
        model = HybridLM(HybridConfig.from_dict(read_json(folder / "config.json")))
    except (TypeError, ValueError) as error:
        path = folder / "config.json"
        raise ValueError(f"model: {path}: has no model_type, and `train` didn't write it ({error})") from None
    try:
        weights = load_file(folder / "model.safetensors")
    except SafetensorError as error:
        raise ValueError(f"model: {folder / 'model.safetensors'}: is not a whole safetensors file ({error})") from None
    missing = {name for name, _ in model.named_parameters()} ^ weights.keys()
    if missing:
        raise ValueError(f"model: {folder / 'model.safetensors'} doesn't fit config.json: {sorted(missing)[0]}")
    for name, p in model.named_parameters():
        if weights[name].shape != p.shape:
            shapes = f"{name}: expected shape {list(p.shape)} by config.json, got {list(weights[name].shape)}"
            raise ValueError(f"model: {folder / 'model.safetensors'}: {shapes}")
    model.load_state_dict(weights, strict=False)  # tied weights are stored once
    return model.eval()


class Terminal:
    """Prints text as it comes; a character of several tokens is held back until it is whole."""

    def __init__(self, tokenizer: ByteTokenizer | HubTokenizer | None = None):
        self.tokenizer, self.ids, self.shown = ByteTokenizer() if tokenizer is None else tokenizer, [], ""

    def __call__(self, token: torch.Tensor) -> None:
        self.ids.append(int(token[0]))
        text = self.tokenizer.decode(self.ids)
        unfinished = text.endswith(UNKNOWN) and len(text) - len(self.shown) < 4
        if text.startswith(self.shown) and not unfinished:
            print(text[len(self.shown) :], end="", flush=True)
            self.shown = text
        if len(self.ids) > 64 and self.shown.endswith((" ", "\n")):  # a whole word: what follows can be read without it
            self.ids, self.shown = [], ""


def open_model(place: str, dtype: str | None) -> tuple[HybridLM, ByteTokenizer | HubTokenizer]:
    """What `train` wrote, or a checkpoint in Hugging Face's layout, here or on the Hub. Raises ValueError."""
    folder = Path(place)
    ours = folder.is_dir() and not (folder / "config.json").is_file()
    if (folder / "config.json").is_file():
        ours = "model_type" not in read_json(folder / "config.json")
    if ours:
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        if model.config.vocab_size != tokenizer.vocab_size:
            sizes = f"{tokenizer.vocab_size} ids, the model {model.config.vocab_size}"
            raise ValueError(f"model: the tokenizer in {place} has {sizes}")
        return (model if dtype is None else model.to(getattr(torch, dtype))), tokenizer
    tokenizer = HubTokenizer(find_folder(place, weights=False))
    return load_pretrained(place, dtype=None if dtype is None else getattr(torch, dtype)), tokenizer


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference generate", description=__doc__)
    parser.add_argument(
        "--model",
        required=True,
        help="a folder that train wrote to (its --out) or in Hugging Face's layout, or owner/name on the Hub",
    )
    parser.add_argument("--prompt", default="", help="text to continue")
    parser.add_argument("--chat", action="store_true", help="the prompt is a user's message: use the chat template")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="default: as stored")
    parser.add_argument("--tokens", type=token_count, default=200, help="new tokens (default 200)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (default 0.8)")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--min-p", type=float)
    parser.add_argument("--seed", type=seed_below(63))
    add_threads(parser, 2)
    chosen = parser.parse_args(argv)
    _check(parser, chosen)
    torch.set_num_threads(chosen.threads)
    try:
        model, tokenizer = open_model(chosen.model, chosen.dtype)
        ids = torch.tensor([_encode(tokenizer, chosen.prompt, chosen.chat)])
        if not chosen.chat:
            print(chosen.prompt, end="", flush=True)
        began = time.perf_counter()
        filters = {"top_k": chosen.top_k, "top_p": chosen.top_p, "min_p": chosen.min_p, "seed": chosen.seed}
        filters["stop"] = getattr(tokenizer, "stops", ())
        out = generate(model, ids, chosen.tokens, chosen.temperature, **filters, stream=Terminal(tokenizer))
    except ValueError as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    new = out.shape[1] - ids.shape[1]
    print(f"\n\n{new} tokens, {new / (time.perf_counter() - began):.0f} tokens/s", file=sys.stderr)
    return 0


def _check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    """End with a sentence that names the option, before a model is read or a word is printed."""
    try:
        check_sampling(chosen.tokens, chosen.temperature, chosen.top_k, chosen.top_p, chosen.min_p)
    except ValueError as error:
        name, _, rest = str(error).partition(": ")
        parser.error(f"--{name.replace('max_new_', '').replace('_', '-')}: {rest.replace(' or None', '')}")


def _encode(tokenizer: ByteTokenizer | HubTokenizer, prompt: str, chat: bool) -> list[int]:
    if chat and not isinstance(tokenizer, HubTokenizer):
        raise ValueError("--chat: a model that train wrote has no chat template")
    ids = tokenizer.encode_chat([{"role": "user", "content": prompt}]) if chat else tokenizer.encode(prompt)
    if not ids:
        raise ValueError("--prompt: is empty, and this tokenizer puts nothing before a text")
    return ids
