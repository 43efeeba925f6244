"""`python -m tests.endurance --kills 100 --pairs 20 --damages 500 --seed 0`: training that is killed or damaged.

A run is killed at random, in its saves and at its end, by SIGKILL and SIGTERM, as one process and as two, and started
again until it ends. A finished run's checkpoints are damaged at random and the run is started again without its
result. Every time, weights, tokenizer and losses must be the undisturbed run's, bit by bit, and its folder must
hold what the undisturbed run's holds. After damage a refusal in one sentence is right, too.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from tqdm import tqdm

from reference.commands.train import main as train

SECONDS = 120
STEPS, SAVE_EVERY = 30, 3
SIZES = ["--preset", "tiny", "--batch-size", "2", "--length", "32", "--threads", "1", "--warm-up", "3"]


class Runs:
    """Training runs on one text, each in a process of its own (a fork: torch is imported once)."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.rng = folder, random.Random(seed)
        self.text = folder / "text.txt"
        self.text.write_text("The quick brown fox jumps over the lazy dog. " * 60)

    def start(self, out: Path, processes: int = 1) -> list[int]:
        """The process numbers of one run that writes to `out`."""
        saves = ["--steps", str(STEPS), "--save-every", str(SAVE_EVERY)]
        argv = ["--data", str(self.text), "--out", str(out), *saves, *SIZES]
        argv += ["--parallel", "fsdp"] if processes > 1 else []
        return [_fork(argv, rank, processes, port) for port in [_free_port()] for rank in range(processes)]

    def finish(self, out: Path, processes: int = 1) -> tuple[int, str]:
        """Run to the end: (exit status, what was said to stderr)."""
        status = [_wait(number) for number in self.start(out, processes)]
        return max(status, key=abs), (out.parent / f"{out.name}.err").read_text()

    def kill(self, out: Path, processes: int, how: str) -> bool:
        """Start and kill it once; False if it was done before."""
        numbers, begun = self.start(out, processes), time.monotonic()
        done = _moment(out, how, self.rng)
        while not done(time.monotonic() - begun) and _alive(numbers):
            time.sleep(0.001)
        which = self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        first = self.rng.sample(numbers, len(numbers))
        killed = [_send(number, which) for number in first[:1]]
        time.sleep(self.rng.choice([0, 0, 0.01, 0.1]))
        killed += [_send(number, signal.SIGKILL) for number in first[1:]]  # as torchrun does when one is gone
        for number in numbers:
            _wait(number)
        return any(killed)


def _fork(argv: list[str], rank: int, processes: int, port: int) -> int:
    number = os.fork()
    if number:
        return number
    status = 70
    try:
        out = Path(argv[argv.index("--out") + 1])
        log = os.open(out.parent / f"{out.name}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(log, 2)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        status = train(argv)
        sys.stderr.flush()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:
        print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _moment(out: Path, how: str, rng: random.Random):
    """When to kill: f(seconds since the start) -> bool."""
    checkpoints, later = out / "checkpoints", rng.choice([0.0, 0.0, 0.002, 0.01, 0.03])
    seen: list[float] = []

    def after(found: bool, seconds: float) -> bool:
        if found and not seen:
            seen.append(seconds)
        return bool(seen) and seconds - seen[0] >= later

    if how == "any time":
        until = rng.uniform(0, 2.5)
        return lambda seconds: seconds > until
    if how == "in a save":
        skip = rng.randrange(4)  # saves to let pass
        done: set[str] = set()

        def save(seconds: float) -> bool:
            done.update(path.name for path in checkpoints.glob("*.part"))
            return after(len(done) > skip, seconds)

        return save
    return lambda seconds: after(_last_step_is_saved(checkpoints) or any(out.glob("*.part")), seconds)


def _last_step_is_saved(checkpoints: Path) -> bool:
    return (checkpoints / f"step_{STEPS:08d}").exists()


def _alive(numbers: list[int]) -> bool:
    return all(os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None for number in numbers)


def _send(number: int, which: int) -> bool:
    alive = _alive([number])
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, which)
    return alive


def _wait(number: int) -> int:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return -signal.SIGALRM


def result(out: Path) -> dict[str, object]:
    """All that must be equal: the bytes of the model and its files, the losses, the names in the folder."""
    files = ("config.json", "model.safetensors", "tokenizer.json")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    held = {name: (out / name).read_bytes() for name in files if (out / name).exists()}
    return held | {"losses": [(row["step"], row["loss"]) for row in rows], "names": names}


def differences(found: dict, wanted: dict) -> list[str]:
    """Which parts of two results differ."""
    return [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]


def try_kills(runs: Runs, kills: int, processes: int) -> tuple[Counter, list[str]]:
    """`kills` kills, over as many runs as it takes: (what was done, faults)."""
    wanted, faults, counts = _undisturbed(runs, f"whole_{processes}", processes), [], Counter()
    bar = tqdm(total=kills, desc=f"kills, {processes} at once", file=sys.stdout)
    while counts["kills"] < kills:
        out = runs.folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(runs.rng.randrange(1, 6)):
            how = runs.rng.choice(["any time", "in a save", "in a save", "at the end"])
            if runs.kill(out, processes, how):
                counts["kills"] += 1
                counts[how] += 1
                bar.update()
        status, said = runs.finish(out, processes)
        counts["runs"] += 1
        wrong = differences(result(out), wanted) if status == 0 else [f"status {status}: {said[-300:]}"]
        if wrong:
            faults.append(f"after {counts['kills']} kills, {processes} processes: {wrong}")
    bar.close()
    return counts, faults


def try_damages(runs: Runs, damages: int) -> tuple[Counter, list[str]]:
    """`damages` damages of the checkpoints of a finished run whose result is gone: (outcomes, faults)."""
    wanted, faults, counts = _undisturbed(runs, "whole_1", 1), [], Counter()
    whole, out = runs.folder / "whole_1", runs.folder / "damaged"
    for n in tqdm(range(damages), desc="damages", file=sys.stdout):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole, out)
        for name in ("model.safetensors", "loss.svg"):
            (out / name).unlink()
        done = damage(out / "checkpoints", runs.rng)
        status, said = runs.finish(out)
        if status == 0:
            wrong = [name for name in differences(result(out), wanted) if name != "names"]  # what was damaged may stay
            outcome = "right" if not wrong else "wrong"
        else:
            wrong = [f"status {status}: {said[-300:]}"]
            outcome = "refused" if status == 1 and said.startswith("train: ") and said.count("\n") == 1 else "wrong"
        counts[outcome] += 1
        if outcome == "wrong":
            faults.append(f"damage {n}: {done}: {wrong}")
    return counts, faults


def damage(checkpoints: Path, rng: random.Random) -> list[str]:
    """Damage one to three files of the checkpoints: what was done."""
    done = []
    older, newest = sorted(path for path in checkpoints.iterdir() if path.is_dir())
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        place = rng.choice([newest, newest, newest, older])
        if not place.is_dir() or not any(place.iterdir()):
            continue
        path = rng.choice(sorted(place.iterdir()))
        if path.is_dir():
            continue
        how = rng.choice(sorted(DAMAGES))
        if path.name == "state.json" and rng.random() < 0.5:
            how = "digits"
        other = (older if place == newest else newest) / path.name
        DAMAGES[how](path, other, rng)
        done.append(f"{how} {place.name}/{path.name}")
    return done


def _flip(path: Path, other: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _digits(path: Path, other: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    places = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    if places:
        data[rng.choice(places)] = ord(rng.choice("0123456789"))
    path.write_bytes(data)


def _cut(path: Path, other: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) or 1)])


def _swap(path: Path, other: Path, rng: random.Random) -> None:
    if other.is_file():
        mine, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)


def _directory(path: Path, other: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "flip": _flip,
    "digits": _digits,
    "cut": _cut,
    "swap": _swap,
    "directory": _directory,
    "empty": lambda path, other, rng: path.write_bytes(b""),
    "gone": lambda path, other, rng: path.unlink(),
    "zeros": lambda path, other, rng: path.write_bytes(bytes(path.stat().st_size)),
    "the other's": lambda path, other, rng: other.is_file() and shutil.copy(other, path),
    "renamed": lambda path, other, rng: path.parent.rename(path.parent.with_suffix(f".old{rng.randrange(10**9)}")),
}


def _undisturbed(runs: Runs, name: str, processes: int) -> dict[str, object]:
    out = runs.folder / name
    if not out.exists():
        status, said = runs.finish(out, processes)
        if status:
            raise RuntimeError(f"the undisturbed run ended with {status}: {said}")
    return result(out)


def main() -> int:
    """Run what was asked for; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="of one process (default 100)")
    parser.add_argument("--pairs", type=int, default=20, help="kills of two processes (default 20)")
    parser.add_argument("--damages", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        runs = Runs(Path(place), chosen.seed)
        for what, tried in (
            ("one process", lambda: try_kills(runs, chosen.kills, 1)),
            ("two processes", lambda: try_kills(runs, chosen.pairs, 2)),
            ("damages", lambda: try_damages(runs, chosen.damages)),
        ):
            counts, found = tried()
            print(f"{what}: {dict(counts)}, {len(found)} faults")
            faults += found
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
