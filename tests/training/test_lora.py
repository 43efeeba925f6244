"""LoRA on hybrids: nothing changes before the first step, every kind of layer learns, and merging changes nothing."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import reference
from reference.bench.mixers import ALL_NAMES, mixer_config
from reference.layers.mixers import MIXERS
from reference.model.config import preset
from reference.training.lora import LowRank, add_adapters, merge_adapters

IDS = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(0))
SOFTMAX = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"]


def test_the_example():
    """20 lines that train one: adapters on every mixer of a hybrid, merged and saved at the end."""
    torch.manual_seed(0)
    model = reference.HybridLM(preset("tiny"))
    names = add_adapters(model, SOFTMAX + LINEAR, rank=4)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-2)
    text = torch.tensor(list(b"the cat sat on the mat, and the dog on the cat. " * 3))[None]
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(model(text[:, :-1])[0], text[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        before = model(IDS)
        merge_adapters(model)
        torch.testing.assert_close(model(IDS), before, rtol=1e-4, atol=1e-4)
    assert losses[-1] < losses[0] - 1 and len(names) == 3 * 5 + 4
    assert sum(p.numel() for p in learned) < 0.1 * sum(p.numel() for p in model.parameters())
    assert not any(isinstance(module, LowRank) for module in model.modules())


@pytest.mark.parametrize("kind", MIXERS)
def test_every_projection_of_every_kind_of_layer_can_learn(kind):
    torch.manual_seed(0)
    config = mixer_config(next(name for name, word in ALL_NAMES.items() if word == kind), width=64)
    model = reference.HybridLM(replace(config, index_topk=16)).eval()
    inside = model.layers[0].mixer.named_modules()
    targets = sorted({n.rpartition(".")[2] for n, module in inside if isinstance(module, torch.nn.Linear)})
    with torch.no_grad():
        before = model(IDS)
        names = add_adapters(model, targets, rank=2)
        torch.testing.assert_close(model(IDS), before, rtol=1e-5, atol=1e-5)
    model(IDS).square().sum().backward()
    silent = [name for name in names if model.get_submodule(name).B.grad is None and "indexer" not in name]
    assert names and not silent


def test_a_list_for_softmax_attention_is_refused_on_a_hybrid():
    model = reference.HybridLM(preset("tiny"))
    message = "targets: layer 0, linear_attention, would learn nothing; its projections are in_proj_a, in_proj_b, in_pr"
    with pytest.raises(ValueError, match=message):
        add_adapters(model, SOFTMAX)
    assert all(p.requires_grad for p in model.parameters())
    assert len(add_adapters(model, SOFTMAX, partial=True)) == 4
    with pytest.raises(ValueError, match=r"targets: no linear module is called 'qkv'; there are .*in_proj_qkv"):
        add_adapters(reference.HybridLM(preset("tiny")), ["qkv"])
