"""`python -m reference experiment hybrid_conv`: the three stacks with equal pieces, and three learning rates.

In `hybrid` the linear layers have a short convolution and the softmax layers have none, and all stacks have one
learning rate. Here softmax layers have the same convolution of four tokens and as many heads of keys and values, MLPs
make the numbers of parameters equal to within one percent, and each stack runs at three rates with seed 0; the best
rate gets the other seeds. A fourth stack, `normed`, is the softmax one with a norm on what each head has read, as
linear layers have one. The models are smaller than `hybrid`'s: 64 channels, 4 heads of 16.
Two lots of documents are held out, none of which is repeated elsewhere in the manual: one chooses the rate of a stack,
the other gives the reported loss.
Of each run the record (reference/experiments/records.py) has
  stack, lr, seed, seconds
  validation  nats per byte of the documents that choose the rate, at the end
  held_out    nats per byte of the other unseen documents, every 50 steps and at the end
  by_position of those at the end, by the byte's position in its piece of 128 (8 bins of 16)
Pieces are rows of a batch: a document that begins within a piece is marked by its first token, and nothing is reset.
"""

import time
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from reference.experiments.command_line import (
    check_places,
    experiment_parser,
    print_results,
    read_options,
    say_stored,
    where_kept,
)
from reference.experiments.models.hybrid import STACKS
from reference.experiments.records import Runs, mean_and_deviation
from reference.files import STORED
from reference.layers.attention import Attention, Heads
from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.norm import RMSNorm
from reference.model.config import HybridConfig, preset
from reference.model.hybrid import HybridLM
from reference.ops.conv import causal_conv
from reference.options import at_least
from reference.training.data import IGNORE, Batch, PackedText, read_documents
from reference.training.tokenizer import ByteTokenizer
from reference.training.trainer import build_optimizer, learning_rate

CONV_STACKS = STACKS | {"normed": STACKS["softmax"]}
CONV_RATES = (1e-3, 3e-3, 1e-2)
CONV_STEPS, CONV_WARM_UP, CONV_LOOK_EVERY = 200, 20, 50
QUICK_STEPS = 20
ROW_LENGTH, ROWS_PER_STEP, EXAM_ROWS = 128, 4, 32
SHARED = 64


class Rows(NamedTuple):
    """Pieces of text."""

    ids: Tensor  # [rows, ROW_LENGTH]
    targets: Tensor  # [rows, ROW_LENGTH]: the next byte, or IGNORE


class ConvolvedAttention(Attention):
    """Softmax attention whose queries, keys and values pass the short convolution of Gated DeltaNet first.

    normed: an RMSNorm of what each head has read, before the gate.
    forward(x [B, T, d_model], state=None, layout=PLAIN) as Attention, for whole texts: the convolution's last tokens
    aren't kept, so that a state is refused. Raises ValueError that names the argument.
    """

    def __init__(
        self, d_model: int, n_heads: int, n_kv_heads: int, head_dim: int, *, normed: bool = False, **options: object
    ):
        super().__init__(d_model, n_heads, n_kv_heads, head_dim, **options)
        self.o_norm = RMSNorm(head_dim) if normed else None
        self.channels = [n_heads * head_dim, n_kv_heads * head_dim, n_kv_heads * head_dim]  # q, k, v
        self.conv1d = nn.Conv1d(sum(self.channels), sum(self.channels), 4, groups=sum(self.channels), bias=False)

    def forward(self, x: Tensor, state: object = None, layout: BatchLayout = PLAIN) -> tuple[Tensor, object]:
        """As the class says."""
        if state is not None:
            raise ValueError("state: expected None, for the convolution's last tokens are not kept")
        return super().forward(x, None, layout)

    def heads(self, x: Tensor) -> Heads:
        """The heads of x [B, T, d_model], convolved, queries and keys normed and not turned."""
        q, gate = self.q_proj(x).unflatten(-1, (self.n_heads, -1)).split([self.head_dim, self.gate_dim], -1)
        qkv = torch.cat([q.flatten(2), self.k_proj(x), self.v_proj(x)], -1)
        qkv, _ = causal_conv(qkv, self.conv1d.weight[:, 0], activation="silu")
        q, k, v = (y.unflatten(-1, (-1, self.head_dim)) for y in qkv.split(self.channels, -1))
        return Heads(self.q_norm(q), self.k_norm(k), v, gate if self.gate_dim else None)

    def output(self, o: Tensor, gate: Tensor | None) -> Tensor:
        """As Attention.output, o [B, T, H, D] normed first if the layer has the norm."""
        return super().output(o if self.o_norm is None else self.o_norm(o), gate)


def convolved_config(stack: str, width: int) -> HybridConfig:
    """The configuration of a stack, which has no word for the convolution; width: of the MLPs. ValueError as below."""
    if stack not in CONV_STACKS:
        raise ValueError(f"stack: expected one of {list(CONV_STACKS)}, got {stack!r}")
    softmax_heads = dict.fromkeys(("num_attention_heads", "num_key_value_heads"), 4)
    heads = softmax_heads | dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4)
    sizes = dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "head_dim"), 16)
    small = {"vocab_size": ByteTokenizer.vocab_size, "hidden_size": 64, "intermediate_size": width, **heads, **sizes}
    return replace(preset("tiny"), **small).with_layers(CONV_STACKS[stack])


def build_convolved(stack: str, width: int | None = None) -> HybridLM:
    """A stack with the convolution in every mixer; width: of the MLPs, None: for equal parameters.

    ValueError if the stack is unknown.
    """
    config = convolved_config(stack, equal_width(stack) if width is None else width)
    model = HybridLM(config)
    for block in model.layers:
        if isinstance(block.mixer, Attention):
            block.mixer = convolved(block.mixer, config.hidden_size, normed=stack == "normed")
    return model


def convolved(plain: Attention, d_model: int, *, normed: bool) -> ConvolvedAttention:
    """The layer with a convolution, and with the norm if `normed`; its other weights are those of `plain`."""
    layer = ConvolvedAttention(
        d_model,
        plain.n_heads,
        plain.n_kv_heads,
        plain.head_dim,
        rope_dim=plain.rope.dim,
        qk_norm="head",
        gate="elementwise",
        zero_centered_norm=True,
        normed=normed,
    )
    layer.load_state_dict(plain.state_dict(), strict=False)
    return layer


@cache
def equal_width(stack: str) -> int:
    """The MLPs' width, in steps of 2, that brings the stack nearest to the all-linear stack with MLPs of 118."""
    wanted, sizes = size_of("linear", 118), {n: size_of(stack, n) for n in range(96, 192, 2)}
    return min(sizes, key=lambda n: abs(sizes[n] - wanted))


def size_of(stack: str, width: int) -> int:
    """Parameters of the stack with MLPs of this width."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_convolved(stack, width).parameters())


@cache
def split_manual() -> tuple[list[str], list[str], list[str]]:
    """The manual's documents: (to train on, to choose the rate, for the result).

    The manual repeats itself: some documents stand inside others. Held out are only those of which no SHARED characters
    in a row stand in another document.
    """
    documents = list(dict.fromkeys(read_documents("manual")))
    first, repeated = {}, set()
    for n, document in enumerate(documents):
        for at in range(len(document) - SHARED + 1):
            other = first.setdefault(document[at : at + SHARED], n)
            if other != n:
                repeated |= {n, other}
    own = [n for n, document in enumerate(documents) if n not in repeated and len(document) >= SHARED]
    choosing, exam = own[1::4], own[3::4]
    train = [n for n in range(len(documents)) if n not in {*choosing, *exam}]
    train, choosing, exam = ([documents[n] for n in part] for part in (train, choosing, exam))
    return train, choosing, exam


def rows_of_manual(seed: int) -> tuple[PackedText, Rows, Rows]:
    """split_manual() as (text to train on, rows that choose the rate, rows for the result)."""
    train, *held_out = split_manual()
    data = PackedText(train, length=ROW_LENGTH, batch_size=ROWS_PER_STEP, seed=seed)
    choosing, exam = (as_rows(PackedText(part, length=ROW_LENGTH, batch_size=EXAM_ROWS).batch(0)) for part in held_out)
    return data, choosing, exam


def as_rows(batch: Batch) -> Rows:
    """The batch's pieces as rows."""
    return Rows(batch.ids.view(-1, ROW_LENGTH), batch.targets.view(-1, ROW_LENGTH))


@torch.no_grad()
def nats_by_position(model: HybridLM, rows: Rows, bins: int = 8) -> tuple[float, list[float]]:
    """Nats per byte: over all, and by the position of the byte in its row, in `bins` equal parts."""
    nats = F.cross_entropy(model(rows.ids).mT, rows.targets, reduction="none").unflatten(1, (bins, -1)).sum((0, 2))
    known = (rows.targets != IGNORE).unflatten(1, (bins, -1)).sum((0, 2))
    return round((nats.sum() / known.sum()).item(), 4), [round(x, 4) for x in (nats / known).tolist()]


def train_convolved(stack: str, lr: float, seed: int, steps: int, bar: tqdm | None = None) -> dict:
    """One run of the record (see the module's docstring)."""
    began = time.perf_counter()
    torch.manual_seed(seed)
    model = build_convolved(stack)
    data, choosing, exam = rows_of_manual(seed)
    optimizer = build_optimizer(model, lr, 0.1)
    held_out = []
    for step in range(steps + 1):
        if step % CONV_LOOK_EVERY == 0 or step == steps:
            loss, by_position = nats_by_position(model, exam)
            held_out.append((step, loss))
        if step < steps:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, peak=lr, warm_up=CONV_WARM_UP, steps=steps)
            rows = as_rows(data.batch(step))
            F.cross_entropy(model(rows.ids).mT, rows.targets, ignore_index=IGNORE).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if bar is not None:
                bar.update()
    run = {"stack": stack, "lr": lr, "seed": seed, "validation": nats_by_position(model, choosing)[0]}
    run |= {"held_out": held_out, "by_position": by_position}
    return run | {"seconds": round(time.perf_counter() - began, 1)}


def rate_summary(runs: list[dict]) -> dict:
    """By stack: the rate of the lowest validation loss with seed 0, and its final held-out losses, one per seed."""
    found = {}
    for stack in dict.fromkeys(run["stack"] for run in runs):
        of_stack = [run for run in runs if run["stack"] == stack]
        validation = {run["lr"]: run["validation"] for run in of_stack if run["seed"] == 0}
        best = min(validation, key=validation.get)
        losses = [run["held_out"][-1][1] for run in of_stack if run["lr"] == best]
        found[stack] = {"lr": best, "validation": {str(lr): x for lr, x in validation.items()}, "held_out": losses}
    return found


def runs_to_do(runs: Runs, seeds: int) -> list[tuple[str, float, int]]:
    """(stack, lr, seed) still to run: seed 0 at all rates; once these are there, the other seeds at the best rate."""
    first = runs.missing([(stack, lr, 0) for stack in CONV_STACKS for lr in CONV_RATES])
    best = {stack: found["lr"] for stack, found in rate_summary(runs.runs).items()}
    return first or runs.missing([(stack, best[stack], seed) for seed in range(seeds) for stack in CONV_STACKS])


def table_of_rates(record: dict) -> str:
    """The chosen rate and the final held-out nats per byte, mean and sample deviation over seeds, as Markdown."""
    lines = ["| stack | parameters | rate | held-out nats per byte |", "|---|---|---|---|"]
    for stack, found in record["summary"].items():
        size, losses = record["config"]["parameters"][stack], mean_and_deviation(found["held_out"], ".3f")
        lines.append(f"| {stack} | {size:,} | {found['lr']:g} | {losses} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`python -m reference experiment hybrid_conv`."""
    parser = experiment_parser("hybrid_conv", __doc__)
    help_text = f"training steps (default {CONV_STEPS}, with --quick {QUICK_STEPS})"
    parser.add_argument("--steps", type=at_least(1), metavar="N", help=help_text)
    chosen = read_options(parser, "hybrid_conv", argv)
    file = where_kept(chosen, "hybrid_conv", None if chosen.quick else STORED / "hybrid_conv.json")
    steps = chosen.steps or (QUICK_STEPS if chosen.quick else CONV_STEPS)
    torch.set_num_threads(chosen.threads)
    sizes = {name: size_of(name, equal_width(name)) for name in CONV_STACKS}
    config = {"steps": steps, "batch": ROWS_PER_STEP, "length": ROW_LENGTH, "parameters": sizes}
    try:
        order = {"stack": list(CONV_STACKS)}
        key = ("stack", "lr", "seed")
        runs = Runs("hybrid_conv", config, key, rate_summary, file, again=chosen.again, order=order)
    except ValueError as error:
        parser.error(str(error))
    stored = not runs_to_do(runs, chosen.seeds)
    if stored:
        say_stored(len(CONV_STACKS) * (len(CONV_RATES) + chosen.seeds - 1), "hybrid_conv", file)
    else:
        check_places(parser, file)
    while todo := runs_to_do(runs, chosen.seeds):
        with tqdm(total=len(todo) * steps, desc="hybrid_conv", ascii=True, mininterval=1, delay=5) as bar:
            for stack, lr, seed in todo:
                runs.add([train_convolved(stack, lr, seed, steps, bar)])
    record = runs.record(chosen.seeds)
    metrics = {stack: {"held_out": found["held_out"]} for stack, found in record["summary"].items()}
    line = {"experiment": "hybrid_conv", "seeds": chosen.seeds, "metrics": metrics}
    print_results(chosen, "hybrid_conv", table_of_rates(record), line, stored=stored)
    return 0
