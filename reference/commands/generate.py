"""`python -m reference generate`: continue a text with a model that `train` wrote, or with a published one."""

import argparse
import sys
from pathlib import Path

import torch

from reference.arguments import NotANumber
from reference.checkpoints.chat import HubTokenizer
from reference.checkpoints.hub import find_folder
from reference.checkpoints.trained import is_trained_here, load_model
from reference.model.drafts import DecodingStats
from reference.model.generation import generate
from reference.model.hybrid import HybridLM
from reference.model.sampling import check_sampling
from reference.model.text import StopStrings, TextStream, stream_text
from reference.options import add_threads, at_least, json_object, model_place, seed_below, token_count
from reference.training.tokenizer import ByteTokenizer, load_tokenizer

MOST_SAMPLES, MOST_GUESSES = 1024, 64
PASSED_ON = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "draft", "draft_tokens")


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
        type=model_place,
        required=True,
        help="a folder that train wrote to (its --out) or in Hugging Face's layout, or owner/name on the Hub",
    )
    parser.add_argument("--prompt", default="", help="text to continue")
    parser.add_argument("--chat", action="store_true", help="the prompt is a user's message: use the chat template")
    parser.add_argument("--system", help="with --chat: the system message before it")
    parser.add_argument(
        "--chat-template-kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="""with --chat: what else the template asks for, such as '{"enable_thinking": false}'""",
    )
    parser.add_argument(
        "--ignore-fields",
        nargs="+",
        default=[],
        metavar="NAME",
        help="fields of config.json that you know to be harmless",
    )
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="default: as stored")
    parser.add_argument("--tokens", type=at_least(0, token_count), default=200, help="new tokens (default 200)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (default 0.8)")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--min-p", type=float)
    parser.add_argument(
        "--repetition-penalty", type=float, default=1.0, help="above 1: less of what stands there already (default 1)"
    )
    parser.add_argument("--stop", nargs="+", default=[], metavar="TEXT", help="end before one of these texts")
    parser.add_argument("--samples", type=at_least(1, most=MOST_SAMPLES), default=1, help="so many texts (default 1)")
    parser.add_argument(
        "--draft",
        choices=["head", "ngrams"],
        help="guess tokens ahead and verify them in one pass: by the head that train --predict-ahead makes, or by what "
        "followed the last tokens before. The text stays the same",
    )
    parser.add_argument(
        "--draft-tokens", type=at_least(1, most=MOST_GUESSES), default=4, help="guesses in each pass (default 4)"
    )
    parser.add_argument("--seed", type=seed_below(63))
    add_threads(parser, 2)
    chosen = parser.parse_args(argv)
    _check(parser, chosen)
    torch.set_num_threads(chosen.threads)
    try:
        _check_prompt(chosen)
        model, tokenizer = open_model(chosen.model, chosen.dtype, tuple(chosen.ignore_fields))
        ids = torch.tensor([_encode(tokenizer, chosen)])
        if not chosen.chat and chosen.samples == 1:
            print(chosen.prompt, end="", flush=True)
        options = {name: getattr(chosen, name) for name in PASSED_ON}
        options["stop"] = getattr(tokenizer, "stops", ())
        stats = DecodingStats()
        options["stats"] = stats
        if chosen.samples > 1:
            until = StopStrings(tokenizer.decode, chosen.stop) if chosen.stop else None
            out = generate(model, ids, chosen.tokens, **options, n=chosen.samples, until=until)
            _print_samples(tokenizer, out, ids.shape[1], chosen)
        else:
            for text in stream_text(model, ids, chosen.tokens, tokenizer.decode, **options, stops=chosen.stop):
                print(text, end="", flush=True)
    except NotANumber as error:
        about = "its weights may be damaged, or too large for this dtype"
        print(f"generate: model: {chosen.model} computes NaN or infinity; {about} ({error})", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    speed = f"{stats.tokens} tokens, {stats.tokens / stats.seconds:.0f} tokens/s"
    if chosen.draft is not None:
        speed += f", {stats.tokens_per_pass:.2f} tokens a pass, {stats.accepted} of {stats.drafted} guesses right"
    print(f"\n\n{speed}", file=sys.stderr)
    return 0


def _print_samples(
    tokenizer: ByteTokenizer | HubTokenizer, out: torch.Tensor, prompt: int, chosen: argparse.Namespace
) -> None:
    """One text behind the other, each under its number, up to where it ended."""
    stops = torch.tensor(getattr(tokenizer, "stops", ()), dtype=torch.int64)
    for number, row in enumerate(out, 1):
        print(f"--- {number}", flush=True)
        if not chosen.chat:
            print(chosen.prompt, end="")
        text = TextStream(tokenizer.decode, chosen.stop)
        for token in row[prompt:]:
            print(text.push(token), end="")
            if torch.isin(token, stops).any():
                break
        print(text.finish())


def _check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    """End with a sentence that names the option, before a model is read or a word is printed."""
    try:
        filters = (chosen.temperature, chosen.top_k, chosen.top_p, chosen.min_p, chosen.repetition_penalty)
        check_sampling(chosen.tokens, *filters)
        StopStrings(str, chosen.stop)
    except ValueError as error:
        name, _, rest = str(error).partition(": ")
        option = {"max_new_tokens": "tokens", "strings": "stop"}.get(name, name).replace("_", "-")
        parser.error(f"--{option}: {rest.replace(' or None', '')}")


def _check_prompt(chosen: argparse.Namespace) -> None:
    if chosen.system is not None and not chosen.chat:
        raise ValueError("--system: is a message of a conversation: give --chat, too")
    if chosen.chat_template_kwargs and not chosen.chat:
        raise ValueError("--chat-template-kwargs: are for the template of a conversation: give --chat, too")
    if "messages" in chosen.chat_template_kwargs:
        raise ValueError("--chat-template-kwargs: messages are what --prompt and --system give")
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
        messages = [*system, {"role": "user", "content": chosen.prompt}]
        ids = tokenizer.encode_chat(messages, **chosen.chat_template_kwargs)
    else:
        ids = tokenizer.encode(chosen.prompt)
    if not ids:
        raise ValueError("--prompt: is empty, and this tokenizer puts nothing before a text")
    return ids
