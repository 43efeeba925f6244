"""Every term of the loss is divided by all of its targets, over the batches of an update and over processes."""

import pytest
import torch
from torch.nn import functional as F

import reference
from reference.distributed.world import World
from reference.model.config import HybridConfig, preset
from reference.training.data import IGNORE, PackedText
from reference.training.trainer import AHEAD_WEIGHT, batch_loss, held_out_loss, train_step

TEXTS = ["a", "bc", "d " * 30, "e", "f", "g", "hi", "j " * 9] * 4  # many beginnings: parts with few targets


def build(**more):
    torch.manual_seed(0)
    values = preset("tiny").to_dict() | {"vocab_size": 257, "initializer_range": 0.05} | more
    return reference.HybridLM(HybridConfig.from_dict(values)).train()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def whole_loss(model, batches):
    """Nats over targets of all batches at once, written out."""
    nats, ahead, targets, targets_ahead = 0.0, 0.0, 0, 0
    for batch in batches:
        both = model.config.num_nextn_predict_layers > 0
        options = {"cu_seqlens": batch.cu_seqlens}
        logits, further = model.predict_ahead(batch.ids, **options) if both else (model(batch.ids, **options), None)
        nats = nats + F.cross_entropy(logits[0], batch.targets[0], ignore_index=IGNORE, reduction="sum")
        targets += int((batch.targets != IGNORE).sum())
        if both:
            later = batch.after_next()[0]
            ahead = ahead + F.cross_entropy(further[0], later, ignore_index=IGNORE, reduction="sum")
            targets_ahead += int((later != IGNORE).sum())
    return nats / targets + (AHEAD_WEIGHT * ahead / targets_ahead if targets_ahead else 0.0), nats / targets


@pytest.mark.parametrize("more", [{}, {"num_nextn_predict_layers": 1}], ids=["next", "and the one after"])
def test_batches_of_an_update_count_by_their_targets(more):
    data = PackedText(TEXTS, length=12, batch_size=1, seed=2)
    batches = [data.batch(n) for n in range(4)]
    assert len({batch.n_targets for batch in batches}) > 1, "the case is trivial"
    model = build(**more)
    objective, nats = whole_loss(model, batches)
    objective.backward()
    wanted = gradients(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss, _, _ = train_step(model, optimizer, data, 0, accumulate=4, clip=1e9)
    assert abs(loss - nats.item()) < 1e-5
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("more", [{}, {"num_nextn_predict_layers": 1}], ids=["next", "and the one after"])
def test_shares_of_processes_count_by_their_targets(more):
    data, model = PackedText(TEXTS, length=12, batch_size=4, seed=3), build(**more)
    objective, _ = whole_loss(model, [data.batch(0)])
    objective.backward()
    wanted = gradients(model)
    model.zero_grad()
    shares = [data.batch(0, rank, 2) for rank in range(2)]
    assert len({int((share.targets != IGNORE).sum()) for share in shares}) > 1, "the case is trivial"
    for rank, share in enumerate(shares):
        loss, _ = batch_loss(model, share, model.config, World(rank, 2))
        (loss / 2).backward()  # as DistributedDataParallel averages
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], atol=2e-6, rtol=1e-4)


def test_parts_without_a_target_add_nothing():
    data, model = PackedText(["", "", ""] * 20, length=8, batch_size=1), build(num_nextn_predict_layers=1)
    batch = data.batch(0)
    assert batch.n_targets == batch.n_ahead == 0
    loss, said = batch_loss(model, batch, model.config, World())
    loss.backward()
    assert loss.item() == said.item() == 0.0 and all(x.isfinite().all() for x in gradients(model).values())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    assert train_step(model, optimizer, data, 0, accumulate=2)[0] == 0.0


def test_evaluation_counts_targets_too():
    data, model = PackedText(TEXTS, length=12, batch_size=1, seed=5), build()
    with torch.no_grad():
        _, wanted = whole_loss(model.eval(), [data.batch(n) for n in range(4)])
    assert abs(held_out_loss(model, data, model.config, World()) - wanted.item()) < 1e-5
