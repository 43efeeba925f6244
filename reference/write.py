"""`python -m reference generate`: continue a text with a model that `train` wrote."""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from reference.config import HybridConfig
from reference.generation import generate
from reference.model import HybridLM
from reference.tokenizer import ByteTokenizer, load_tokenizer


def load_model(folder: Path) -> HybridLM:
    """The model in folder: config.json and model.safetensors as `python -m reference train` leaves them.

    Raises ValueError that names the folder or the file.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"model: {folder} has no {name}; `python -m reference train --out {folder}` writes it")
    model = HybridLM(HybridConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
    weights = load_file(folder / "model.safetensors")
    missing = {name for name, _ in model.named_parameters()} ^ weights.keys()
    if missing:
        raise ValueError(f"model: {folder / 'model.safetensors'} doesn't fit config.json: {sorted(missing)[0]}")
    model.load_state_dict(weights, strict=False)  # tied weights are stored once
    return model.eval()


class Terminal:
    """Prints bytes as they come; a character of several bytes is held back until it is whole."""

    def __init__(self, tokenizer: ByteTokenizer | None = None):
        self.tokenizer, self.pending = ByteTokenizer() if tokenizer is None else tokenizer, b""

    def __call__(self, token: torch.Tensor) -> None:
        self.pending += self.tokenizer.decode_bytes([int(token[0])])
        try:
            text = self.pending.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and len(self.pending) < 4:
                return
            text = self.pending.decode("utf-8", "replace")
        self.pending = b""
        print(text, end="", flush=True)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference generate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the folder that train wrote to (its --out)")
    parser.add_argument("--prompt", default="", help="text to continue")
    parser.add_argument("--tokens", type=int, default=200, help="new tokens (default 200)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (default 0.8)")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--min-p", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(argv)
    if chosen.threads < 1:
        parser.error(f"--threads: expected a number >= 1, got {chosen.threads}")
    torch.set_num_threads(chosen.threads)
    try:
        model = load_model(chosen.model)
        tokenizer = load_tokenizer(chosen.model)
        if model.config.vocab_size != tokenizer.vocab_size:
            sizes = f"{tokenizer.vocab_size} ids, the model {model.config.vocab_size}"
            raise ValueError(f"model: the tokenizer in {chosen.model} has {sizes}")
        ids = torch.tensor([tokenizer.encode(chosen.prompt)])
        print(chosen.prompt, end="", flush=True)
        began = time.perf_counter()
        filters = {"top_k": chosen.top_k, "top_p": chosen.top_p, "min_p": chosen.min_p, "seed": chosen.seed}
        out = generate(model, ids, chosen.tokens, chosen.temperature, **filters, stream=Terminal(tokenizer))
    except ValueError as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    new = out.shape[1] - ids.shape[1]
    print(f"\n\n{new} tokens, {new / (time.perf_counter() - began):.0f} tokens/s", file=sys.stderr)
    return 0
