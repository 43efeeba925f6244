"""One table: every way to run the hybrid gives the logits of the uncached text, at lengths around a chunk.

Two popular codes written from scratch restart the state on a second turn; their tests read one prompt.
"""

import pytest
import torch

import reference
from reference.model.config import pattern, preset

LENGTHS = [63, 64, 65, 129]
MORE = 21  # tokens of the second turn


def hybrid():
    torch.manual_seed(0)
    values = preset("tiny").to_dict() | {"hidden_size": 64, "layer_types": pattern(3, 1, 4)}
    return reference.HybridLM(reference.HybridConfig.from_dict(values)).eval()


def texts():
    rng = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (1, T + MORE), generator=rng) for T in LENGTHS]


def in_pieces(sizes):
    def run(model, texts):
        found = []
        for ids in texts:
            cache, parts, start = reference.new_cache(model), [], 0
            while start < ids.shape[1]:
                n = sizes[len(parts) % len(sizes)]
                parts.append(model(ids[:, start : start + n], cache=cache))
                start += n
            found.append(torch.cat(parts, 1))
        return found

    return run


def second_turn(model, texts):
    found = []
    for ids in texts:
        cache = reference.new_cache(model)
        first = model(ids[:, :-MORE], cache=cache)
        found.append(torch.cat([first, model(ids[:, -MORE:], cache=cache)], 1))
    return found


def second_turn_from_a_snapshot(model, texts):
    found = []
    for ids in texts:
        cache = reference.new_cache(model)
        first = model(ids[:, :-MORE], cache=cache)
        prefix = cache.snapshot()
        model(ids[:, :MORE], cache=cache)  # another turn, thrown away
        cache.restore(prefix)
        found.append(torch.cat([first, model(ids[:, -MORE:], cache=cache)], 1))
    return found


def packed(model, texts):
    lengths = [ids.shape[1] for ids in texts]
    logits = model(torch.cat(texts, 1), cu_seqlens=torch.tensor([0, *lengths]).cumsum(0))
    return list(logits.split(lengths, 1))


def left_padded(model, texts):
    ids, left_padding = reference.pad_left([x[0] for x in texts])
    logits = model(ids, left_padding=left_padding)
    return [row[None, skip:] for row, skip in zip(logits, left_padding.tolist(), strict=True)]


def ragged_second_turn(model, texts):
    ids, left_padding = reference.pad_left([x[0, :-MORE] for x in texts])
    cache = reference.new_cache(model, len(texts))
    first = model(ids, cache=cache, left_padding=left_padding)
    second = model(torch.cat([x[:, -MORE:] for x in texts]), cache=cache)
    rows = zip(first, second, left_padding.tolist(), strict=True)
    return [torch.cat([a[skip:], b])[None] for a, b, skip in rows]


WAYS = {
    "prefill at once": in_pieces([1000]),
    "prefill in pieces": in_pieces([40, 1, 23]),
    "token by token": in_pieces([1]),
    "second turn": second_turn,
    "second turn from a snapshot": second_turn_from_a_snapshot,
    "packed": packed,
    "left-padded batch": left_padded,
    "second turn of a ragged batch": ragged_second_turn,
}


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_every_way_gives_the_logits_of_the_uncached_text(way):
    model = hybrid()
    for ids, logits in zip(texts(), WAYS[way](model, texts()), strict=True):
        alone = model(ids)
        assert logits.shape == alone.shape
        assert ((logits - alone).abs().max() / alone.abs().max()).item() < 1e-5
