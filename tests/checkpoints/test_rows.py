"""Every family's blocks read packed and padded texts as if each were alone."""

import pytest
import torch

import reference
from reference.model.generation import pad_left
from tests.checkpoints.tiny import PLAIN, build, difference, some_ids

LENGTHS = [23, 1, 14]


@pytest.fixture(scope="module", params=PLAIN)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    build(request.param).save_pretrained(folder)
    return reference.load_pretrained(folder)


@torch.no_grad()
def test_packed_texts(model):
    ids = some_ids(1, sum(LENGTHS))
    edges = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()])
    packed = model(ids, cu_seqlens=edges).split(LENGTHS, 1)
    for piece, got in zip(ids.split(LENGTHS, 1), packed, strict=True):
        assert difference(got, model(piece)) < 1e-4


@torch.no_grad()
def test_padded_prompts_and_a_second_turn(model):
    texts = list(some_ids(1, sum(LENGTHS), seed=1)[0].split(LENGTHS))
    ids, padding = pad_left(texts)
    cache, more = reference.new_cache(model, len(texts)), some_ids(len(texts), 6, seed=2)
    first = model(ids, cache=cache, left_padding=padding)
    second = torch.cat([model(piece, cache=cache) for piece in more.split([1, 4, 1], 1)], 1)
    for row, text in enumerate(texts):
        alone = model(torch.cat([text, more[row]])[None])
        assert difference(first[row, -len(text) :], alone[0, : len(text)]) < 1e-4
        assert difference(second[row], alone[0, len(text) :]) < 1e-4
