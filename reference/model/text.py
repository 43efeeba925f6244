"""Text while it comes: tokens in, characters out as soon as they are certain; and strings that end a text."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from reference.arguments import cut_short
from reference.model.generation import decode_steps
from reference.model.hybrid import HybridLM

UNKNOWN = "\ufffd"  # what broken UTF-8 is decoded as
LOOK_BACK = 64  # tokens that are decoded again with each new one


class TextStream:
    """The text of tokens that come one by one: push(token) -> what is certain by now, finish() -> the rest.

    decode  from a list of ids to text, as a tokenizer has it
    stops   strings that end the text before them; `ended` says that one came

    A character of several tokens is held back until it is whole, and what may be the beginning of a stop string until
    it is none. All that is returned, end to end, is decode(all ids), broken UTF-8 as the replacement character, up to
    the first of the stop strings. Raises ValueError that names stops.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()):
        self.decode, self.stops, self.ended = decode, _checked("stops", stops), False
        self.ids: list[int] = []  # the last tokens
        self.told = 0  # characters of their text that were returned

    def push(self, token: int | Tensor) -> str:
        """What is certain with one token more; nothing behind a stop string."""
        if self.ended:
            return ""
        self.ids.append(int(token))
        text = self.decode(self.ids)
        whole = text.removesuffix(UNKNOWN)  # at the end it may be the beginning of a character
        begun = max((n for stop in self.stops for n in range(1, len(stop)) if whole.endswith(stop[:n])), default=0)
        new = self._up_to(whole, held=begun)  # or of a stop string
        self._shorten(text)
        return new

    def finish(self) -> str:
        """What was held back: a character that never became whole is the replacement character."""
        return "" if self.ended else self._up_to(self.decode(self.ids))

    def _up_to(self, text: str, held: int = 0) -> str:
        ends = [text.find(stop) for stop in self.stops if stop in text]
        if ends:
            text, self.ended, held = text[: min(ends)], True, 0
        new = text[self.told : len(text) - held]
        self.told += len(new)
        return new

    def _shorten(self, text: str) -> None:
        """Forget old tokens where the text of the later ones ends alike: in what is held, and a little before it, so
        that it is known whether a space belongs before the next word."""
        if len(self.ids) <= LOOK_BACK:
            return
        held, later = len(text) - self.told, self.ids[-LOOK_BACK // 2 :]
        shorter = self.decode(later)
        if len(shorter) >= held + 1 and shorter[-held - 1 :] == text[-held - 1 :]:
            self.ids, self.told = later, len(shorter) - held


def stream_text(
    model: HybridLM, ids: Tensor, max_new_tokens: int, decode: Callable[[list[int]], str], **options
) -> Iterator[str]:
    """Continue ids [1, T] as text: `for text in stream_text(...)` gets it in pieces, as soon as they are certain.

    decode   from a list of ids to text, as a tokenizer has it
    options  those of `generate`, temperature, seed, stop and draft among them, and stops: strings that end the text
             before them. Whoever leaves the loop ends the decoding.

    Raises ValueError that names the argument.
    """
    if not isinstance(ids, Tensor) or ids.dim() != 2 or len(ids) != 1 or options.get("n", 1) != 1:
        raise ValueError("ids: expected one text [1, T], and n = 1: a stream is of one text")
    stream = TextStream(decode, options.pop("stops", ()))
    with closing(decode_steps(model, ids, max_new_tokens, **options)) as steps:
        for tokens in steps:
            if new := stream.push(tokens[0]):
                yield new
            if stream.ended:
                return
    if new := stream.finish():
        yield new


class StopStrings:
    """`generate`'s until: a row has ended when the text of its new tokens holds one of the strings.

    decode   from a list of ids to text
    strings  none of them empty
    """

    def __init__(self, decode: Callable[[list[int]], str], strings: Sequence[str]):
        self.decode, self.strings = decode, _checked("strings", strings)
        self.longest = max((len(s.encode("utf-8", "surrogatepass")) for s in self.strings), default=0)

    def __call__(self, new: Tensor) -> Tensor:
        """new [B, T] -> bool [B]. Only the end is decoded: what ended earlier was said to have ended then."""
        tails = new[:, -(2 * self.longest + 16) :].tolist()
        found = [any(s in self.decode(tail) for s in self.strings) for tail in tails]
        return torch.tensor(found, device=new.device)


def _checked(name: str, strings: Sequence[str]) -> tuple[str, ...]:
    if isinstance(strings, str) or not all(isinstance(s, str) and s for s in strings):
        raise ValueError(f"{name}: expected a list of strings, none of them empty, got {cut_short(strings)}")
    return tuple(strings)
