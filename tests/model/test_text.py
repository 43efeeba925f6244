"""Text while it comes: whatever the tokens are, the pieces end to end are the text of all of them."""

import random

import pytest
import torch

import reference
from reference.model.drafts import DecodingStats
from reference.model.text import LOOK_BACK, TextStream, stream_text
from reference.training.tokenizer import ByteTokenizer
from tests.model.test_model import build, some_ids


class Words:
    """A tokenizer whose words begin with the space before them, and which takes the first space of a text away."""

    pieces = ("_a", "_b", "c", "\ufffd")

    def decode(self, ids):
        return "".join(self.pieces[i] for i in ids).replace("_", " ").removeprefix(" ")


BYTES = ByteTokenizer()
RANDOM = random.Random(0)
LEADS = [0x61, 0x80, 0xBF, 0xC3, 0xE6, 0xED, 0xF0, 0x9F, 0xFF, 256]
BROKEN = {
    "several bytes": (BYTES, [*"aé湖".encode(), 256, 0xC3, 0x28]),
    "broken, then text": (BYTES, [0xC3, 0xC3, 0x28, *b"abc" * 40, *"é湖".encode()]),
    "broken at the end": (BYTES, [*b"ab", 0xE6, 0xB9]),
    "a character behind broken ones": (BYTES, [0xC3, 0xC3, 0xC3, *"湖".encode(), 0xF0, 0x9F, *"😀a".encode()]),
    "a long text": (BYTES, list("Grüße, 湖 😀! ".encode() * 20)),
    "nothing but halves": (BYTES, [0xC3] * 200),
    "a token of no text": (BYTES, [256, 97, 256, 98]),
    "no text for long": (BYTES, [256] * 200 + [97]),
    "random bytes": (BYTES, [RANDOM.randrange(257) for _ in range(1500)]),
    "random beginnings": (BYTES, [RANDOM.choice(LEADS) for _ in range(1500)]),
    "spaces before words": (Words(), [0, 1, 2, 1, 3, 0, 0, 2, 3] * 20),
    "nothing": (BYTES, []),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_streamed_is_the_text_of_all_tokens(name):
    tokenizer, ids = BROKEN[name]
    stream, said = TextStream(tokenizer.decode), ""
    for n, i in enumerate(ids):
        said += stream.push(torch.tensor(i) if n % 2 else i)
        assert len(tokenizer.decode(ids[: n + 1])) - len(said) <= 1, "falls behind"
        assert len(stream.ids) <= LOOK_BACK + 1 or not said, "reads everything again with each token"
    assert said + stream.finish() == tokenizer.decode(ids)


@pytest.mark.parametrize("before", ["", "x" * 200], ids=["at once", "late"])
@pytest.mark.parametrize("text, shown", [("xaab!", "xa"), ("xa", "xa"), ("aba", ""), ("é, a", "é, a"), ("xcdc", "x")])
def test_nothing_of_a_stop_string_is_given(text, shown, before):
    stream = TextStream(BYTES.decode, ["ab", "cdc"])
    said = [stream.push(byte) for byte in (before + text).encode()]
    assert "".join(said) + stream.finish() == before + shown
    assert stream.ended == (shown != text) and (not stream.ended or stream.push(97) == stream.finish() == "")


@pytest.mark.parametrize("draft", [None, "ngrams"])
def test_a_model_writes_in_pieces_what_it_writes_in_one(draft):
    model, ids, stats = build("hybrid", vocab_size=257), some_ids(9, B=1), DecodingStats()
    options = {"temperature": 0.9, "seed": 3, "draft": draft}
    whole = BYTES.decode(reference.generate(model, ids, 60, **options)[0, 9:])
    pieces = list(stream_text(model, ids, 60, BYTES.decode, **options))
    assert "".join(pieces) == whole and all(pieces) and len(pieces) > 20
    stop = whole[15:18]
    assert (
        "".join(stream_text(model, ids, 60, BYTES.decode, **options, stops=[stop], stats=stats))
        == (whole[: whole.index(stop)])
    )
    assert stats.tokens < 60


def test_whoever_leaves_the_loop_ends_the_decoding_and_the_cache_can_go_on():
    model, ids = build("hybrid", vocab_size=257).train(), some_ids(9, B=1)
    cache, told = reference.new_cache(model), []
    for text in stream_text(model, ids, 60, BYTES.decode, cache=cache):
        told.append(text)
        assert not model.training
        if len(told) == 3:
            break
    del text
    assert cache.seen < 40 and cache.unread.shape == (1, 1)
    model.eval()
    seen = cache.seen
    turn = some_ids(3, B=1)
    begun = reference.generate(model, ids, seen - 9 + 1)
    assert torch.equal(
        reference.generate(model, turn, 5, cache=cache)[:, 3:],
        reference.generate(model, torch.cat([begun, turn], 1), 5)[:, -5:],
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ids": some_ids(9)}, r"ids: expected one text \[1, T\]"),
        ({"n": 2}, r"ids: expected one text \[1, T\], and n = 1"),
        ({"stops": "ab"}, "stops: expected a list of strings, none of them empty, got 'ab'"),
        ({"stops": [""]}, "stops: expected a list of strings, none of them empty"),
        ({"temperature": -1.0}, "temperature: expected a number >= 0"),
    ],
)
def test_what_is_no_stream_is_named(change, message):
    arguments = {"ids": some_ids(9, B=1), "max_new_tokens": 4, "decode": BYTES.decode} | change
    with pytest.raises(ValueError, match=message):
        list(stream_text(build("hybrid"), **arguments))
