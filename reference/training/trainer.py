"""The training loop: one step, a diagnosis if its loss is NaN or infinite, and the run around it, which can resume."""

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from reference.arguments import NotANumber
from reference.distributed.world import World, logits_of, share_model, whole
from reference.files import write_bytes, write_text
from reference.layers.mlp import collect_routing, load_balancing_loss
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM
from reference.training.data import IGNORE, Batch, PackedText
from reference.training.plan import Habits, Plan, read_plan
from reference.training.resume import load_newest, restore, save_checkpoint

NO_DECAY = ("A_log", "dt_bias", "norm", "sinks", "bias")  # scales, time constants: shrinking changes what they say
AHEAD_WEIGHT = 0.3  # of the multi-token-prediction loss. Source: DeepSeek-V3 section 4.2, most of its training
HELD_OUT_BATCHES = 4


class Diverged(RuntimeError):
    """The loss or the gradient is NaN or infinite; the message says where it went wrong."""


def build_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms and time constants don't."""
    groups: dict[bool, list] = {True: [], False: []}
    for name, p in model.named_parameters():
        groups[p.dim() >= 2 and not any(part in name for part in NO_DECAY)].append(p)
    options = [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]
    return torch.optim.AdamW(options, lr=lr, betas=(0.9, 0.95), eps=1e-8)


def learning_rate(step: int, *, peak: float, warm_up: int, steps: int, floor: float = 0.1) -> float:
    """Linear up over warm_up steps, then a cosine down to floor * peak at `steps`, the last."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(steps - warm_up, 1)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def batch_loss(
    call: nn.Module, batch: Batch, config: HybridConfig, world: World, accumulate: int = 1
) -> tuple[Tensor, Tensor]:
    """(what to differentiate, nats per target): of this part of an update, so that both add up to the update's means.

    Nats are divided by the targets of the whole update, batch.n_targets and batch.n_ahead: a part with few targets
    counts for few. Gradients are averaged over processes, so the first is multiplied by world.size. Each process
    balances its experts on its own share, in each of `accumulate` batches.
    """
    with collect_routing() as routed:
        logits, further = logits_of(call, config, batch.ids, batch.cu_seqlens)
    loss = nats(logits, batch.targets) / max(batch.n_targets, 1)
    objective = loss * world.size
    if further is not None:
        objective = objective + AHEAD_WEIGHT * world.size * nats(further, batch.after_next()) / max(batch.n_ahead, 1)
    if config.num_experts:
        balance = sum(load_balancing_loss(r) for r in routed) / accumulate
        objective = objective + config.router_aux_loss_coef * balance
    return objective, loss.detach()


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy summed over the targets [1, T] that there are; logits [1, T, vocab_size]."""
    return F.cross_entropy(logits[0].float(), targets[0], ignore_index=IGNORE, reduction="sum")


def train_step(
    call: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: PackedText,
    step: int,
    accumulate: int = 1,
    clip: float = 1.0,
    *,
    config: HybridConfig | None = None,
    world: World | None = None,
    dtype: str = "float32",
) -> tuple[float, float, int]:
    """One update from `accumulate` batches: (loss, gradient norm before clipping, tokens)."""
    world, config = World() if world is None else world, call.config if config is None else config
    optimizer.zero_grad()
    total, tokens = torch.zeros(()), 0
    batches = [data.batch(step * accumulate + part, world.rank, world.size) for part in range(accumulate)]
    counts = {name: sum(getattr(batch, name) for batch in batches) for name in ("n_targets", "n_ahead")}
    for batch in batches:
        batch = batch._replace(**counts)
        batch = Batch(*(x.to(world.device) if isinstance(x, Tensor) else x for x in batch))
        try:
            with torch.autocast(world.device.partition(":")[0], torch.bfloat16, enabled=dtype == "bfloat16"):
                objective, loss = batch_loss(call, batch, config, world, accumulate)
        except NotANumber as error:  # the operators refuse it before the loss is reached
            raise Diverged(_diagnosis(call, step, math.nan, math.nan)) from error
        objective.backward()
        total, tokens = total + loss.cpu(), tokens + batch.ids.numel() * world.size
    loss = world.total(total.to(world.device)).item()
    norm = whole(nn.utils.clip_grad_norm_(call.parameters(), clip)).item()
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise Diverged(_diagnosis(call, step, loss, norm))
    optimizer.step()
    return loss, norm, tokens


def _diagnosis(model: nn.Module, step: int, loss: float, norm: float) -> str:
    broken = [name for name, p in model.named_parameters() if not _finite(p)]
    if broken:
        where = f"the weights of {broken[0]} are no numbers any more"
    else:
        bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
        where = f"the weights are finite, the gradient of {bad[-1] if bad else 'no parameter'} is the first that is not"
    return f"step {step}: loss {loss}, gradient norm {norm}; {where}. Try a lower --lr or a longer --warm-up."


def _finite(x: Tensor) -> bool:
    x = x.detach()
    return bool((x.to_local() if hasattr(x, "to_local") else x).isfinite().all())


@torch.no_grad()
def held_out_loss(call: nn.Module, data: PackedText, config: HybridConfig, world: World) -> float:
    """Evaluate: nats per target on the first batches of the held-out text."""
    call.eval()
    batches = [data.batch(n, world.rank, world.size) for n in range(HELD_OUT_BATCHES)]
    total = torch.zeros((), device=world.device)
    for batch in batches:
        batch = Batch(*(x.to(world.device) if isinstance(x, Tensor) else x for x in batch))
        logits, _ = logits_of(call, config, batch.ids, batch.cu_seqlens)
        total += nats(logits, batch.targets)
    call.train()
    return world.total(total).item() / max(sum(batch.n_targets for batch in batches), 1)


def train_model(
    config: HybridConfig, data: PackedText, held_out: PackedText | None, plan: Plan, habits: Habits, world: World
) -> None:
    """Train: resume from the newest whole checkpoint in habits.out, or start from scratch."""
    torch.manual_seed(plan.seed)
    model = HybridLM(config).to(world.device)
    model.recompute = habits.recompute
    if habits.compile:
        for block in model.layers:  # what is the same for every batch; the mixers' packing isn't
            block.mlp.compile()
    call = share_model(model, world, habits.parallel)
    optimizer = build_optimizer(model, plan.lr, plan.weight_decay)
    checkpoints, first = habits.out / "checkpoints", 0
    about = {"config": config.to_dict(), "run": asdict(plan)}
    found = load_newest(checkpoints, print if world.is_main else lambda said: None) if habits.resume else None
    if found is not None:
        path, state = found[0], found[1] | {"run": {"text": plan.text} | read_plan(found[1]["run"])}
        if state["config"] != about["config"] or state["run"] != about["run"]:
            raise ValueError(_other_settings(path, state, about))
        restore(path, model, optimizer)
        first = state["step"]
        if world.is_main:
            others = "" if state["processes"] == world.size else f" (saved by {state['processes']} process(es))"
            print(f"continuing from step {first}{others}")
    world.wait()
    model.train()
    with _Log(habits, plan.steps, first, world) as log, _stop_after_the_step() as asked_to_stop:
        for step in range(first, plan.steps):
            began = time.perf_counter()
            rate = learning_rate(step, peak=plan.lr, warm_up=plan.warm_up, steps=plan.steps - 1)
            for group in optimizer.param_groups:
                group["lr"] = rate
            options = {"config": config, "world": world, "dtype": plan.dtype}
            loss, norm, tokens = train_step(call, optimizer, data, step, plan.accumulate, plan.clip, **options)
            speed = tokens / (time.perf_counter() - began)
            bits = loss / math.log(2) / data.bytes_per_token
            row = {"step": step, "loss": loss, "bits_per_byte": bits, "lr": rate, "grad_norm": norm}
            last = step + 1 == plan.steps
            if held_out is not None and (last or (habits.eval_every and (step + 1) % habits.eval_every == 0)):
                row["held_out_loss"] = held_out_loss(call, held_out, config, world)
            log.write(row | {"tokens_per_second": round(speed)})
            stop = not last and bool(world.total(torch.tensor(float(asked_to_stop.is_set()), device=world.device)))
            if not last and ((step + 1) % habits.save_every == 0 or stop):
                save_checkpoint(checkpoints, step + 1, model, optimizer, about, world)
            if stop:
                raise KeyboardInterrupt(f"stopped and saved after step {step}; the same command resumes here")
    save_checkpoint(checkpoints, plan.steps, model, optimizer, about, world)
    weights = {name: whole(p.detach()).cpu() for name, p in model.named_parameters()}
    if world.is_main:
        write_text(habits.out / "config.json", json.dumps(config.to_dict(), indent=1) + "\n")
        write_bytes(habits.out / "model.safetensors", save(weights))
        from reference.plotting.training import save_loss  # only here: training itself needs no matplotlib

        save_loss(log.rows, habits.out / "loss.svg")


def _other_settings(path: Path, kept: dict, asked: dict) -> str:
    both = [(key, kept[part].get(key), x) for part in ("run", "config") for key, x in asked[part].items()]
    changed = [f"{key} {old}, now {new}" for key, old, new in both if old != new and key != "text"]
    if not changed and kept["run"]["text"] != asked["run"]["text"]:
        changed.append("the text of --data, or its tokenizer, has changed since")
    ways = "--resume never starts over and deletes that run, another --out leaves it"
    more = " (the rate falls with the number of steps: a longer run is another run)" if "steps " in str(changed) else ""
    return f"resume: {path} belongs to a run with other settings: {'; '.join(changed)}{more}. {ways}."


class _Log:
    """One line of metrics.jsonl per step, a progress bar, and TensorBoard if asked for; by the first process only."""

    def __init__(self, habits: Habits, steps: int, first: int, world: World):
        self.path, self.is_main, self.rows, self.board = habits.out / "metrics.jsonl", world.is_main, [], None
        self.range, self.habits = (first, steps), habits

    def __enter__(self) -> "_Log":
        if self.is_main:
            self.rows = _rows_before(self.path, self.range[0])
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))
            self.file = open(self.path, "a", encoding="utf-8")
            self.bar = tqdm(total=self.range[1], initial=self.range[0], unit=" steps", ascii=True)
            if self.habits.tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(self.habits.out / "tensorboard"), purge_step=self.range[0])
        return self

    def write(self, row: dict) -> None:
        if not self.is_main:
            return
        self.rows.append(row)
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        self.bar.set_postfix(loss=f"{row['loss']:.3f}", tokens_s=row["tokens_per_second"])
        self.bar.update()
        for key, value in row.items() if self.board is not None else ():
            self.board.add_scalar(key, value, row["step"])

    def __exit__(self, *error) -> None:
        if self.is_main:
            self.file.close()
            self.bar.close()
            if self.board is not None:
                self.board.close()


def _rows_before(metrics: Path, step: int) -> list[dict]:
    """Metrics of an earlier start, up to the checkpoint's step; an incomplete last line is dropped."""
    if step == 0 or not metrics.exists():
        return []
    rows = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] < step:
            rows.append(row)
    return rows


@contextmanager
def _stop_after_the_step() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event and lets the running step end; a second one stops at once."""
    event, in_main = threading.Event(), threading.current_thread() is threading.main_thread()

    def ask(signum, frame) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, ask) if in_main else None
    try:
        yield event
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)
