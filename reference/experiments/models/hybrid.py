"""`python -m reference experiment hybrid`: all linear, 3:1 and all softmax at equal parameters, on real text.

Three stacks of four layers learn bytes of the Python manual. The MLPs' width makes up for the mixers' sizes, so that
all three have the same number of parameters to within one percent. Per stack, one entry per seed:
  train       nats per byte, means of 20 steps
  held_out    nats per byte of unseen documents, every 100 steps and at the end
  by_position held-out nats at the end, by the byte's position in its piece of 256 (8 bins of 32)
  half_life   tokens until half of a memory is gone: the median over the bytes of held-out text, for each head of
              each linear layer, every 100 steps
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch.nn import functional as F
from tqdm import tqdm

from reference.distributed.world import World
from reference.experiments.command_line import (
    check_places,
    experiment_parser,
    print_results,
    read_options,
    say_stored,
    wants_stored,
    where_kept,
)
from reference.experiments.records import load_record, mean_and_deviation, write_record
from reference.files import STORED, write_bytes
from reference.layers.gated_deltanet import GatedDeltaNet
from reference.model.config import HybridConfig, pattern, preset
from reference.model.costs import count_parameters
from reference.model.hybrid import HybridLM
from reference.options import at_least
from reference.training.data import Batch, PackedText, hold_out, read_documents
from reference.training.tokenizer import ByteTokenizer
from reference.training.trainer import build_optimizer, learning_rate, train_step

STACKS = {"linear": pattern(1, 0, 4), "hybrid": pattern(3, 1, 4), "softmax": pattern(0, 1, 4)}
LENGTH, BATCH, PEAK, HYBRID_WARM_UP = 256, 4, 3e-3, 50
EXAM_BATCHES, LOOK_EVERY, BIN = 8, 100, 20


def stack_config(stack: str) -> HybridConfig:
    """The tiny preset with this stack; the MLP's width makes up for the mixers' sizes. ValueError if it is unknown."""
    if stack not in STACKS:
        raise ValueError(f"stack: expected one of {list(STACKS)}, got {stack!r}")
    base = replace(preset("tiny"), vocab_size=ByteTokenizer.vocab_size)
    wanted = count_parameters(base).total
    config = base.with_layers(STACKS[stack])
    sizes = {n: count_parameters(replace(config, intermediate_size=n)).total for n in range(64, 512, 8)}
    return replace(config, intermediate_size=min(sizes, key=lambda n: abs(sizes[n] - wanted)))


def manual_data(seed: int) -> tuple[PackedText, list[Batch]]:
    """(text to train on, batches of documents that training doesn't see: the same for every seed)."""
    documents, unseen = hold_out(read_documents("manual"))
    exam = PackedText(unseen, length=LENGTH, batch_size=4)
    data = PackedText(documents, length=LENGTH, batch_size=BATCH, seed=seed)
    return data, [exam.batch(n) for n in range(EXAM_BATCHES)]


@torch.no_grad()
def exam_by_position(model: HybridLM, exam: list[Batch], bins: int = 8) -> tuple[float, list[float]]:
    """Nats per byte of unseen text: over all, and by the position of the byte in its piece, in `bins` equal parts."""
    nats, known = [], []
    for batch in exam:
        logits = model(batch.ids, cu_seqlens=batch.cu_seqlens)[0]
        nats.append(F.cross_entropy(logits, batch.targets[0], reduction="none").view(-1, bins, LENGTH // bins))
        known.append((batch.targets[0] != -100).view(-1, bins, LENGTH // bins))
    nats, known = torch.cat(nats), torch.cat(known)
    by_bin = nats.sum((0, 2)) / known.sum((0, 2))
    return (nats.sum() / known.sum()).item(), by_bin.tolist()


@torch.no_grad()
def half_lives(model: HybridLM, exam: list[Batch]) -> list[list[float]]:
    """Median over tokens of ln(1/2) / g for each head of each linear layer, first layer first."""
    found, hooks = [], []

    def look(mixer: GatedDeltaNet, inputs: tuple, output: object) -> None:
        g = mixer.project(inputs[0]).g
        found.append((math.log(0.5) / g[0]).median(0).values.tolist())

    for block in model.layers:
        if isinstance(block.mixer, GatedDeltaNet):
            hooks.append(block.mixer.register_forward_hook(look))
    try:
        model(exam[0].ids, cu_seqlens=exam[0].cu_seqlens)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def train_stack(stack: str, seed: int, steps: int, bar: tqdm | None = None) -> tuple[HybridLM, dict]:
    """One model and the record of its training (see the module's docstring)."""
    torch.manual_seed(seed)
    model = HybridLM(stack_config(stack))
    data, exam = manual_data(seed)
    optimizer = build_optimizer(model, PEAK, 0.1)
    losses, held_out, lives = [], [], []
    for step in range(steps + 1):
        if step % LOOK_EVERY == 0 or step == steps:
            loss, by_position = exam_by_position(model, exam)
            held_out.append((step, round(loss, 4)))
            lives.append((step, [[round(x, 3) for x in layer] for layer in half_lives(model, exam)]))
        if step == steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=PEAK, warm_up=HYBRID_WARM_UP, steps=steps)
        losses.append(train_step(model, optimizer, data, step, world=World())[0])
        if bar is not None:
            bar.update()
    train = [sum(losses[n : n + BIN]) / len(losses[n : n + BIN]) for n in range(0, steps, BIN)]
    record = {"train": [round(x, 4) for x in train], "held_out": held_out}
    return model, record | {"by_position": [round(x, 4) for x in by_position], "half_life": lives}


def load_hybrid(folder: Path = STORED) -> HybridLM:
    """The 3:1 model of seed 0 as `--weights` stored it (float16 on disk, float32 in use)."""
    model = HybridLM(stack_config("hybrid"))
    weights = load_file(folder / "hybrid_3_1.safetensors")
    model.load_state_dict({name: x.float() for name, x in weights.items()}, strict=False)  # tied weights once
    return model.requires_grad_(False).eval()


def final_losses(record: dict, stack: str) -> list[float]:
    """Held-out nats per byte at the end, one per seed."""
    return [run["held_out"][-1][1] for run in record["runs"][stack]]


def table_of_losses(record: dict) -> str:
    """Final held-out nats per byte, mean and sample standard deviation over seeds, as Markdown."""
    lines = ["| stack | parameters | held-out nats per byte |", "|---|---|---|"]
    for stack in record["runs"]:
        losses = mean_and_deviation(final_losses(record, stack), ".3f")
        lines.append(f"| {stack} | {record['parameters'][stack]:,} | {losses} |")
    return "\n".join(lines)


def stored_losses(chosen: argparse.Namespace) -> dict | None:
    """The stored record, cut to the seeds asked for; None if it doesn't hold them, or new runs were asked for."""
    record = load_record("hybrid") if wants_stored(chosen) else None
    if record is None or chosen.steps != record["steps"] or chosen.seeds > record["seeds"]:
        return None
    runs = {stack: found[: chosen.seeds] for stack, found in record["runs"].items()}
    return record | {"seeds": chosen.seeds, "runs": runs}


def run_stacks(seeds: int, steps: int, weights: Path | None = None) -> dict:
    """Train everything; the record. weights: the folder for the 3:1 model of seed 0."""
    runs: dict[str, list[dict]] = {stack: [] for stack in STACKS}
    with tqdm(total=len(STACKS) * seeds * steps, desc="hybrid", unit=" steps", ascii=True, mininterval=1) as bar:
        for seed in range(seeds):
            for stack in STACKS:
                model, found = train_stack(stack, seed, steps, bar)
                runs[stack].append(found)
                if weights is not None and (stack, seed) == ("hybrid", 0):
                    half = {name: p.detach().half() for name, p in model.named_parameters()}
                    write_bytes(weights / "hybrid_3_1.safetensors", save(half))
    sizes = {stack: count_parameters(stack_config(stack)).total for stack in STACKS}
    return {"steps": steps, "seeds": seeds, "lr": PEAK, "parameters": sizes, "runs": runs}


def main(argv: list[str]) -> int:
    """`python -m reference experiment hybrid`."""
    parser = experiment_parser("hybrid", __doc__, weights="the 3:1 model of seed 0")
    parser.add_argument("--steps", type=at_least(1), default=1000, metavar="N", help="training steps (default 1000)")
    chosen = read_options(parser, "hybrid", argv)
    record = stored_losses(chosen)
    stored = record is not None
    file = where_kept(chosen, "hybrid", None)
    check_places(parser, file, chosen.weights)
    if stored:
        say_stored(len(STACKS) * chosen.seeds, "hybrid", STORED / "hybrid.json")
    else:
        torch.set_num_threads(chosen.threads)
        record = run_stacks(chosen.seeds, chosen.steps, chosen.weights)
        if file is not None:
            write_record(file, record)
    metrics = {stack: {"held_out": final_losses(record, stack)} for stack in STACKS}
    line = {"experiment": "hybrid", "seeds": chosen.seeds, "metrics": metrics}
    print_results(chosen, "hybrid", table_of_losses(record), line, stored=stored)
    return 0
