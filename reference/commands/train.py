"""`python -m reference train`: train a hybrid model on text; a run that was stopped or killed resumes.

OUT/run.json says what was asked for, OUT/checkpoints holds the last two checkpoints, OUT/metrics.jsonl one line per
step, and at the end OUT has model.safetensors, config.json and loss.svg. The same command started again continues from
the newest whole checkpoint and ends with bitwise the same weights as a run that was never disturbed (same machine, same
threads).

Several processes: `torchrun --nproc-per-node 2 -m reference train ... --parallel ddp|fsdp`. They share every batch, so
that the losses are those of one process up to rounding. Any number of processes can resume from a checkpoint.
"""

import argparse
import importlib.util
import shlex
import sys
from contextlib import nullcontext
from dataclasses import asdict

import torch

from reference.distributed.world import STRATEGIES, World, join_world
from reference.model.config import PRESETS, HybridConfig, pattern, preset
from reference.options import add_device, add_threads, at_least, folder_path, positive, seed_below, token_count
from reference.training.data import PackedText, hold_out, read_documents, what_was_read
from reference.training.folder import check_is_ours, checkpoints_of, clear_leftovers, delete_run, mark, only_writer
from reference.training.plan import Habits, Plan
from reference.training.tokenizer import ByteTokenizer, load_tokenizer, train_bpe
from reference.training.trainer import Diverged, train_model


def parser_of_train() -> argparse.ArgumentParser:
    """All options of the command."""
    parser = argparse.ArgumentParser(prog="python -m reference train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    model = parser.add_argument_group("model")
    model.add_argument("--preset", choices=PRESETS, default="tiny")
    model.add_argument("--layers", help="pattern linear:full, such as 3:1 (the preset's), 1:0 (all linear) or 0:1")
    model.add_argument("--predict-ahead", action="store_true", help="add the head that predicts the token after next")
    text = parser.add_argument_group("text")
    text.add_argument(
        "--data", default="manual", help="'manual', a .txt, .md or .jsonl file, a folder of them, or hf:NAME[:CONFIG]"
    )
    text.add_argument("--tokenizer", choices=["bytes", "bpe"], default="bytes")
    text.add_argument(
        "--vocab-size", type=at_least(1), default=2048, help="of the BPE, trained on the data (default 2048)"
    )
    text.add_argument("--hold-out", action="store_true", help="keep every 20th document for evaluation (held_out_loss)")
    plan = parser.add_argument_group("training")
    plan.add_argument("--steps", type=at_least(1), default=1000)
    plan.add_argument("--batch-size", type=at_least(1), default=8, help="pieces per batch (default 8)")
    plan.add_argument("--length", type=at_least(1, token_count), default=256, help="tokens per piece (default 256)")
    plan.add_argument("--accumulate", type=at_least(1), default=1, help="batches per update (default 1)")
    plan.add_argument("--lr", type=positive, default=2e-3)
    plan.add_argument("--warm-up", type=at_least(1), default=50)
    plan.add_argument("--weight-decay", type=at_least(0, float), default=0.1)
    plan.add_argument("--clip", type=positive, default=1.0, help="largest gradient norm (default 1)")
    plan.add_argument("--seed", type=seed_below(31), default=0)  # it is multiplied before it seeds
    plan.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16: autocast")
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=folder_path, required=True, help="folder for checkpoints, metrics and the model")
    run.add_argument("--save-every", type=at_least(1), default=100)
    run.add_argument("--eval-every", type=at_least(0), default=0, help="steps between held-out losses (0: at the end)")
    run.add_argument("--resume", choices=["auto", "never"], default="auto", help="never: start over, delete OUT's run")
    add_threads(run, 2, ", of each process")
    add_device(run)
    run.add_argument("--parallel", choices=STRATEGIES, default="ddp", help="under torchrun")
    run.add_argument("--compile", action="store_true", help="torch.compile the MLPs (needs a C++ compiler on a CPU)")
    run.add_argument("--recompute", action="store_true", help="activation checkpointing: less memory, more time")
    run.add_argument("--tensorboard", action="store_true", help="also write OUT/tensorboard")
    return parser


def main(argv: list[str]) -> int:
    """Train; returns the exit status: 1 after an error, 130 after Ctrl-C."""
    parser = parser_of_train()
    chosen = parser.parse_args(argv)
    _check(parser, chosen)
    torch.set_num_threads(chosen.threads)
    with join_world(chosen.device) as world:
        try:
            _train(chosen, world)
        except (ValueError, Diverged, OSError) as error:
            print(f"train: {error}", file=sys.stderr)
            return 1
        except (MemoryError, OverflowError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise  # a mistake of ours
            print(f"train: these sizes need more memory than there is ({str(error)[:200]})", file=sys.stderr)
            return 1
        except KeyboardInterrupt as stopped:
            if world.is_main:
                print(f"train: {stopped or 'stopped outside the steps; the same command goes on'}", file=sys.stderr)
            return 130
    return 0


def _check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    try:
        _config(chosen, ByteTokenizer.vocab_size)
    except ValueError as error:
        parser.error(f"--{error}")
    if chosen.eval_every and not chosen.hold_out:
        parser.error("--eval-every: there is nothing to evaluate on without --hold-out")
    if chosen.tensorboard and importlib.util.find_spec("tensorboard") is None:
        parser.error("--tensorboard: needs the optional package tensorboard: pip install tensorboard")


def _train(chosen: argparse.Namespace, world: World) -> None:
    if chosen.batch_size % world.size:
        raise ValueError(f"batch_size: {world.size} processes can't share {chosen.batch_size} pieces evenly")
    documents, held_out = read_documents(chosen.data), None
    if world.is_main:
        print(what_was_read(chosen.data, documents), flush=True)
    if chosen.hold_out:
        documents, unseen = hold_out(documents)
    tokenizer = train_bpe(documents, chosen.vocab_size) if chosen.tokenizer == "bpe" else ByteTokenizer()
    config = _config(chosen, tokenizer.vocab_size)
    pieces = {"length": chosen.length, "batch_size": chosen.batch_size, "tokenizer": tokenizer}
    data = PackedText(documents, seed=chosen.seed, **pieces)
    if chosen.hold_out:
        held_out = PackedText(unseen, seed=0, **pieces)
    plan = _plan(chosen, data.digest() + (held_out.digest() if held_out is not None else ""))
    if world.is_main:
        check_is_ours(chosen.out)
        chosen.out.mkdir(parents=True, exist_ok=True)
    with only_writer(chosen.out) if world.is_main else nullcontext():
        if world.is_main:
            clear_leftovers(chosen.out)
            if chosen.resume == "never":
                delete_run(chosen.out)
            if not checkpoints_of(chosen.out / "checkpoints"):
                mark(chosen.out, {"config": config.to_dict(), "run": asdict(plan)})
                tokenizer.save(chosen.out)
        world.wait()
        if load_tokenizer(chosen.out).fingerprint() != tokenizer.fingerprint():
            problem = "holds another one than these settings make, or the text has changed; choose another --out"
            raise ValueError(f"tokenizer: {chosen.out} {problem}")
        train_model(config, data, held_out, plan, _habits(chosen), world)
    if world.is_main:
        out = shlex.quote(str(chosen.out))
        print(f'saved in {out}; try: python -m reference generate --model {out} --prompt "The "')


def _plan(chosen: argparse.Namespace, text: str) -> Plan:
    return Plan(
        text=text,
        data=chosen.data,
        hold_out=chosen.hold_out,
        tokenizer=f"bpe:{chosen.vocab_size}" if chosen.tokenizer == "bpe" else chosen.tokenizer,
        steps=chosen.steps,
        batch_size=chosen.batch_size,
        length=chosen.length,
        lr=chosen.lr,
        warm_up=chosen.warm_up,
        weight_decay=chosen.weight_decay,
        clip=chosen.clip,
        accumulate=chosen.accumulate,
        seed=chosen.seed,
        dtype=chosen.dtype,
    )


def _habits(chosen: argparse.Namespace) -> Habits:
    return Habits(
        out=chosen.out,
        save_every=chosen.save_every,
        eval_every=chosen.eval_every,
        resume=chosen.resume == "auto",
        parallel=chosen.parallel,
        compile=chosen.compile,
        recompute=chosen.recompute,
        tensorboard=chosen.tensorboard,
    )


def _config(chosen: argparse.Namespace, vocab_size: int) -> HybridConfig:
    values = preset(chosen.preset).to_dict() | {"vocab_size": vocab_size}
    if chosen.layers is not None:
        try:
            linear, full = (int(n) for n in chosen.layers.split(":"))
        except ValueError:
            raise ValueError(f"layers: expected linear:full, such as 3:1, got {chosen.layers!r}") from None
        values["layer_types"] = pattern(linear, full, len(values["layer_types"]))
    if chosen.predict_ahead:
        values["num_nextn_predict_layers"] = 1
    return HybridConfig.from_dict(values)
