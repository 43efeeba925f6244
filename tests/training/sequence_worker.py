"""Run by torchrun: a text read in stretches against the whole text, logits and gradients. Prints the largest errors."""

import sys
from dataclasses import replace

import torch

import reference
from reference.distributed.sequence import read_in_stretches, stretch_of
from reference.distributed.world import join_world
from reference.model.config import preset

STACKS = {
    "linear": ("linear_attention",) * 2,
    "hybrid": ("linear_attention", "full_attention", "linear_attention"),
    "others": ("kda", "lightning_attention", "full_attention"),
}


def main(T: int) -> None:
    torch.set_num_threads(1)
    with join_world() as world:
        for name, layers in STACKS.items():
            torch.manual_seed(0)
            model = reference.HybridLM(replace(preset("tiny"), layer_types=layers, hidden_size=64)).double()
            ids = torch.randint(0, 256, (2, T), generator=torch.Generator().manual_seed(1))
            weights = list(model.parameters())
            logits = model(ids)
            dy = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=logits.dtype)
            wanted = torch.autograd.grad(logits, weights, dy)
            ours = read_in_stretches(model, stretch_of(ids, world), world)
            mine = [y.tensor_split(world.size, 1)[world.rank] for y in (logits, dy)]
            found = torch.autograd.grad(ours, weights, mine[1])
            found = [world.total(x.contiguous()) for x in found]
            errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, wanted, strict=True)]
            forward = ((ours - mine[0]).abs().max() / logits.abs().max()).item()
            if world.is_main:
                print(name, forward, max(errors), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
