"""`python -m reference train`: train a hybrid model on text; killed at any moment, it goes on where it was.

OUT/checkpoints holds the last two checkpoints, OUT/metrics.jsonl one line per step, and at the end OUT has
model.safetensors, config.json and loss.svg. The same command started again continues from the newest whole checkpoint
and ends with bitwise the same weights as a run that was never disturbed (same machine, same threads).
"""

import argparse
import json
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from reference.checkpoint import load_newest, restore, save_checkpoint
from reference.config import PRESETS, HybridConfig, pattern, preset
from reference.data import BYTE_VOCAB, PackedText, read_documents
from reference.files import write_bytes, write_text
from reference.model import HybridLM

NO_DECAY = ("A_log", "dt_bias", "norm", "sinks", "bias")  # scales and time constants: shrinking them means something


class Diverged(RuntimeError):
    """The loss is no number; says where it went wrong."""


def build_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms and time constants don't."""
    groups: dict[bool, list] = {True: [], False: []}
    for name, p in model.named_parameters():
        groups[p.dim() >= 2 and not any(part in name for part in NO_DECAY)].append(p)
    options = [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]
    return torch.optim.AdamW(options, lr=lr, betas=(0.9, 0.95), eps=1e-8)


def learning_rate(step: int, *, peak: float, warm_up: int, steps: int, floor: float = 0.1) -> float:
    """Linear up over warm_up steps, then a cosine down to floor * peak at the last."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(steps - warm_up, 1)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def train_step(model, optimizer, data: PackedText, step: int, accumulate: int, clip: float) -> tuple[float, float, int]:
    """One update from `accumulate` batches: (loss, gradient norm before clipping, tokens)."""
    optimizer.zero_grad()
    total, tokens = 0.0, 0
    for part in range(accumulate):
        batch = data.batch(step * accumulate + part)
        try:
            logits = model(batch.ids, cu_seqlens=batch.cu_seqlens)
        except ValueError as error:  # the operators refuse NaN
            if "got NaN" not in str(error):
                raise
            raise Diverged(_diagnosis(model, step, math.nan, math.nan)) from error
        loss = F.cross_entropy(logits[0].float(), batch.targets[0])
        (loss / accumulate).backward()
        total, tokens = total + loss.item() / accumulate, tokens + batch.ids.numel()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip).item()
    if not math.isfinite(total) or not math.isfinite(norm):
        raise Diverged(_diagnosis(model, step, total, norm))
    optimizer.step()
    return total, norm, tokens


def _diagnosis(model: nn.Module, step: int, loss: float, norm: float) -> str:
    broken = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    if broken:
        where = f"the weights of {broken[0]} are no numbers any more"
    else:
        bad = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        where = f"the weights are finite, the gradient of {bad[-1] if bad else 'no parameter'} is the first that is not"
    return f"step {step}: loss {loss}, gradient norm {norm}; {where}. Try a lower --lr or a longer --warm-up."


def train_model(config: HybridConfig, data: PackedText, chosen: argparse.Namespace) -> None:
    """Train from the newest whole checkpoint in chosen.out, or from scratch."""
    torch.manual_seed(chosen.seed)
    model = HybridLM(config)
    optimizer = build_optimizer(model, chosen.lr, chosen.weight_decay)
    checkpoints, metrics, first = chosen.out / "checkpoints", chosen.out / "metrics.jsonl", 0
    about = {"config": config.to_dict(), "run": _run_of(chosen)}
    found = load_newest(checkpoints) if chosen.resume == "auto" else None
    if found is not None:
        path, state = found
        if state["config"] != about["config"] or state["run"] != about["run"]:
            changed = [key for key in about["run"] if state["run"].get(key) != about["run"][key]]
            raise ValueError(f"resume: {path} belongs to a run with other settings ({', '.join(changed) or 'config'})")
        restore(path, model, optimizer)
        first = state["step"]
        print(f"continuing from step {first}")
    rows = _rows_before(metrics, first)
    write_text(metrics, "".join(json.dumps(row) + "\n" for row in rows))
    model.train()
    with (
        _stop_after_the_step() as asked_to_stop,
        open(metrics, "a", encoding="utf-8") as log,
        tqdm(total=chosen.steps, initial=first, unit=" steps", ascii=True) as bar,
    ):
        for step in range(first, chosen.steps):
            began = time.perf_counter()
            rate = learning_rate(step, peak=chosen.lr, warm_up=chosen.warm_up, steps=chosen.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, norm, tokens = train_step(model, optimizer, data, step, chosen.accumulate, chosen.clip)
            speed = tokens / (time.perf_counter() - began)
            rows.append({"step": step, "loss": loss, "lr": rate, "grad_norm": norm, "tokens_per_second": round(speed)})
            log.write(json.dumps(rows[-1]) + "\n")
            log.flush()
            bar.set_postfix(loss=f"{loss:.3f}", tokens_s=f"{speed:.0f}")
            bar.update()
            last = step + 1 == chosen.steps
            if not last and ((step + 1) % chosen.save_every == 0 or asked_to_stop.is_set()):
                save_checkpoint(checkpoints, step + 1, model, optimizer, about)
            if not last and asked_to_stop.is_set():
                raise KeyboardInterrupt(f"stopped and saved after step {step}; the same command goes on from here")
    save_checkpoint(checkpoints, chosen.steps, model, optimizer, about)
    write_text(chosen.out / "config.json", json.dumps(config.to_dict(), indent=1) + "\n")
    write_bytes(chosen.out / "model.safetensors", save({name: p.detach() for name, p in model.named_parameters()}))
    from reference.plotting.training import save_loss  # only here: training itself needs no matplotlib

    save_loss(rows, chosen.out / "loss.svg")


@contextmanager
def _stop_after_the_step() -> Iterator[threading.Event]:
    """Ctrl-C sets the event and leaves the step that is under way alone; a second Ctrl-C stops at once."""
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


def _run_of(chosen: argparse.Namespace) -> dict:
    names = ("data", "steps", "batch_size", "length", "lr", "warm_up", "weight_decay", "clip", "accumulate", "seed")
    return {name: getattr(chosen, name) for name in names} | {"threads": torch.get_num_threads()}


def _rows_before(metrics: Path, step: int) -> list[dict]:
    """Lines of an earlier start up to the checkpoint; a torn last line is dropped."""
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


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--layers", help="pattern linear:full, such as 3:1 (the preset's), 1:0 (all linear) or 0:1")
    parser.add_argument("--data", default="manual", help="'manual', a .txt, .md or .jsonl file, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, metrics and the model")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=8, help="pieces per batch (default 8)")
    parser.add_argument("--length", type=int, default=256, help="tokens per piece (default 256)")
    parser.add_argument("--accumulate", type=int, default=1, help="batches per update (default 1)")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warm-up", type=int, default=50)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--clip", type=float, default=1.0, help="largest gradient norm (default 1)")
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="never: start over, delete OUT's run"
    )
    chosen = parser.parse_args(argv)
    for name in ("steps", "batch_size", "length", "accumulate", "warm_up", "save_every", "threads"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: expected a number >= 1, got {getattr(chosen, name)}")
    for name in ("lr", "clip"):
        if not 0 < getattr(chosen, name) < math.inf:
            parser.error(f"--{name}: expected a number > 0, got {getattr(chosen, name)}")
    if chosen.out.exists() and not chosen.out.is_dir():
        parser.error(f"--out: {chosen.out} is a file, expected a folder")
    torch.set_num_threads(chosen.threads)
    try:
        config = _config(chosen)
        data = PackedText(
            read_documents(chosen.data), length=chosen.length, batch_size=chosen.batch_size, seed=chosen.seed
        )
        if chosen.resume == "never":
            shutil.rmtree(chosen.out / "checkpoints", ignore_errors=True)
        train_model(config, data, chosen)
    except (ValueError, Diverged, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"train: {stopped}", file=sys.stderr)
        return 130
    return 0


def _config(chosen: argparse.Namespace) -> HybridConfig:
    values = preset(chosen.preset).to_dict() | {"vocab_size": BYTE_VOCAB}
    if chosen.layers is not None:
        try:
            linear, full = (int(n) for n in chosen.layers.split(":"))
        except ValueError:
            raise ValueError(f"layers: expected linear:full, such as 3:1, got {chosen.layers!r}") from None
        values["layer_types"] = pattern(linear, full, len(values["layer_types"]))
    return HybridConfig.from_dict(values)
