"""`python -m reference generate`: continue a text with a model that `train` wrote, or with a published one."""

import argparse
import sys
import time
from pathlib import Path

import torch

from reference.checkpoints.chat import HubTokenizer
from reference.checkpoints.hub import find_folder
from reference.checkpoints.trained import is_trained_here, load_model
from reference.model.generation import check_sampling, generate
from reference.model.hybrid import HybridLM
from reference.options import add_threads, seed_below, token_count
from reference.training.tokenizer import ByteTokenizer, load_tokenizer

UNKNOWN = "\ufffd"  # what broken UTF-8 is decoded as
LOOK_BACK = 64  # tokens that are decoded again with each new one


class Terminal:
    """Prints text as it comes; a character of several tokens is held back until it is whole. finish() prints the rest.

    All that is printed, end to end, is the text of all tokens.
    """

    def __init__(self, tokenizer: ByteTokenizer | HubTokenizer | None = None):
        self.tokenizer = ByteTokenizer() if tokenizer is None else tokenizer
        self.ids: list[int] = []
        self.printed = 0  # characters of their text

    def __call__(self, token: torch.Tensor) -> None:
        self.ids.append(int(token[0]))
        text = self.tokenizer.decode(self.ids)
        self._print(text.removesuffix(UNKNOWN))  # at the end it may be the beginning of a character
        if len(self.ids) > LOOK_BACK and self.printed == len(text):
            self.ids = self.ids[-LOOK_BACK // 2 :]  # enough to know whether a space belongs before the next word
            self.printed = len(self.tokenizer.decode(self.ids))

    def finish(self) -> None:
        """Print what was held back: a character that never became whole is the replacement character."""
        self._print(self.tokenizer.decode(self.ids))

    def _print(self, text: str) -> None:
        print(text[self.printed :], end="", flush=True)
        self.printed = max(self.printed, len(text))


def open_model(
    place: str, dtype: str | None, ignore_fields: tuple[str, ...] = ()
) -> tuple[HybridLM, ByteTokenizer | HubTokenizer]:
    """A model and its tokenizer, from a folder that `load_model` reads or from the Hub. Raises ValueError."""
    kept = None if dtype is None else getattr(torch, dtype)
    if not is_trained_here(place):
        tokenizer = HubTokenizer(find_folder(place, weights=False))  # before the weights: they may be a long download
        return load_model(place, kept, ignore_fields=ignore_fields), tokenizer
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
    parser.add_argument("--system", help="with --chat: the system message before it")
    parser.add_argument(
        "--ignore-fields",
        nargs="+",
        default=[],
        metavar="NAME",
        help="fields of config.json that you know to be harmless",
    )
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
        _check_prompt(chosen)
        model, tokenizer = open_model(chosen.model, chosen.dtype, tuple(chosen.ignore_fields))
        ids = torch.tensor([_encode(tokenizer, chosen)])
        if not chosen.chat:
            print(chosen.prompt, end="", flush=True)
        began = time.perf_counter()
        filters = {"top_k": chosen.top_k, "top_p": chosen.top_p, "min_p": chosen.min_p, "seed": chosen.seed}
        filters["stop"] = getattr(tokenizer, "stops", ())
        terminal = Terminal(tokenizer)
        out = generate(model, ids, chosen.tokens, chosen.temperature, **filters, stream=terminal)
        terminal.finish()
    except (ValueError, OSError) as error:
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


def _check_prompt(chosen: argparse.Namespace) -> None:
    if chosen.system is not None and not chosen.chat:
        raise ValueError("--system: is a message of a conversation: give --chat, too")
    for name in ("prompt", "system"):
        try:
            (getattr(chosen, name) or "").encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"--{name}: holds bytes that are no UTF-8") from None


def _encode(tokenizer: ByteTokenizer | HubTokenizer, chosen: argparse.Namespace) -> list[int]:
    if chosen.chat and not isinstance(tokenizer, HubTokenizer):
        raise ValueError("--chat: a model that train wrote has no chat template")
    if chosen.chat:
        system = [] if chosen.system is None else [{"role": "system", "content": chosen.system}]
        ids = tokenizer.encode_chat([*system, {"role": "user", "content": chosen.prompt}])
    else:
        ids = tokenizer.encode(chosen.prompt)
    if not ids:
        raise ValueError("--prompt: is empty, and this tokenizer puts nothing before a text")
    return ids
