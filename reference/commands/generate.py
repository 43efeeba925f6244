"""`python -m reference generate`: continue a text with a model that `train` wrote, or with a published one."""

import argparse
import sys
import time
from pathlib import Path

import torch

from reference.checkpoints.chat import HubTokenizer
from reference.checkpoints.hub import find_folder
from reference.checkpoints.trained import is_trained_here, load_model
from reference.commands.options import token_count
from reference.model.generation import check_sampling, generate
from reference.model.hybrid import HybridLM
from reference.training.tokenizer import ByteTokenizer, load_tokenizer

UNKNOWN = "\ufffd"  # what broken UTF-8 is decoded as


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
    """A model and its tokenizer, from a folder that `load_model` reads or from the Hub. Raises ValueError."""
    kept = None if dtype is None else getattr(torch, dtype)
    if not is_trained_here(place):
        tokenizer = HubTokenizer(find_folder(place, weights=False))  # before the weights: they may be a long download
        return load_model(place, kept), tokenizer
    model, tokenizer = load_model(place, kept), load_tokenizer(Path(place))
    if model.config.vocab_size != tokenizer.vocab_size:
        sizes = f"{tokenizer.vocab_size} ids, the model {model.config.vocab_size}"
        raise ValueError(f"model: the tokenizer in {place} has {sizes}")
    return model, tokenizer


def main(argv: list[str]) -> int:
    """Continue a text; returns the exit status."""
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
    parser.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, default=2)
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
    if chosen.threads < 1:
        parser.error(f"--threads: expected a number >= 1, got {chosen.threads}")
    if chosen.seed is not None and not 0 <= chosen.seed < 2**63:
        parser.error(f"--seed: expected a whole number from 0 to 2^63 - 1, got {chosen.seed}")
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
