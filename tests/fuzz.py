"""`python -m tests.fuzz --minutes 10 --seed 0`: damaged files and odd arguments, as many as there is time for.

Every case must end right, or in a sentence: a ValueError (TypeError, NotImplementedError for arguments) that names the
file or the argument. Anything else is a fault: another exception, a minute without an end, a wrong result. A case is
a function of its number and the seed; `--only AREA:N` repeats one.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm

import reference
from reference.__main__ import main as command_line
from reference.checkpoints.chat import HubTokenizer
from reference.ops import OPERATORS
from reference.training.data import read_documents
from reference.training.resume import load_newest
from reference.training.tokenizer import ByteTokenizer
from tests.checkpoints.tiny import PLAIN, build, some_ids

SECONDS = 60
ODD = [None, True, False, 0, -1, 1, 2, 3, 0.5, -0.5, 1e-320, 1e308, 10**30, 2**31, "", "x", "ü\u2028", "9" * 5000]
ODD += [[], {}, [1], [None], {"a": 1}, [[1]], float("nan"), float("inf"), "default", "yarn", "full_attention"]
BYTES_OF_HEADER = 8


class TooLong(BaseException):
    """A case that doesn't end."""


class Fuzz:
    """A folder with one small checkpoint of each kind, and the cases that damage copies of them."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        self.models: dict[str, Path] = {}
        self.logits: dict[str, torch.Tensor] = {}
        self.areas = {
            name.removeprefix("try_"): getattr(self, name) for name in sorted(dir(self)) if name.startswith("try_")
        }

    def case(self, area: str, n: int) -> tuple[str, str]:
        """("right" | "refused" | "fault", what was said)."""
        rng = random.Random(f"{self.seed} {area} {n}")
        before, threads = signal.signal(signal.SIGALRM, _stop), torch.get_num_threads()
        signal.alarm(SECONDS)
        try:
            return self.areas[area](rng)
        except TooLong:
            return "fault", f"no end within {SECONDS} s"
        except Exception:
            return "fault", traceback.format_exc(limit=-3)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            torch.set_num_threads(threads)  # a command line sets it for the whole process

    def model(self, rng: random.Random) -> tuple[str, Path]:
        """(family, a fresh copy of its checkpoint)."""
        family = rng.choice(PLAIN)
        if family not in self.models:
            self.models[family] = self.folder / family
            build(family).save_pretrained(self.models[family])
            with torch.no_grad():
                self.logits[family] = reference.load_pretrained(self.models[family])(some_ids())
        return family, self.copy(self.models[family])

    def copy(self, source: Path) -> Path:
        """A copy to damage; the one before is gone."""
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        return Path(shutil.copytree(source, self.folder / "copy"))

    def try_config(self, rng: random.Random) -> tuple[str, str]:
        """A field of config.json gets another value, goes, or moves inside; or the text itself is damaged."""
        family, folder = self.model(rng)
        path = folder / "config.json"
        fields = json.loads(path.read_text())
        name = rng.choice([*fields, "new_field", "rope_scaling", "text_config", "quantization_config"])
        how = rng.choice(["value", "value", "gone", "inside", "bytes", "deep"])
        if how == "value":
            fields[name] = rng.choice(ODD)
        elif how == "gone":
            fields.pop(name, None)
        elif how == "inside":
            fields = {"model_type": family, "text_config": fields}
        text = json.dumps(fields)
        if how == "bytes":
            text = damaged(text.encode(), rng).decode("utf-8", "surrogateescape")
        if how == "deep":
            text = "[" * 100_000 + text
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        return self.load(family, folder, weights_are_whole=True)

    def try_weights(self, rng: random.Random) -> tuple[str, str]:
        """The header of the safetensors file is damaged, or the file is cut."""
        family, folder = self.model(rng)
        path = folder / "model.safetensors"
        data = path.read_bytes()
        length = int.from_bytes(data[:BYTES_OF_HEADER], "little")
        if rng.random() < 0.3:
            path.write_bytes(data[: rng.randrange(len(data))])
        else:
            head = damaged(data[: BYTES_OF_HEADER + length], rng)
            path.write_bytes(head + data[BYTES_OF_HEADER + length :])
        return self.load(family, folder, weights_are_whole=False)

    def load(self, family: str, folder: Path, *, weights_are_whole: bool) -> tuple[str, str]:
        """Load it; where it loads it runs, and where config and weights say the same it computes the same."""
        try:
            model = reference.load_pretrained(folder)
        except ValueError as error:
            return sentence(error, str(folder))
        with torch.no_grad():
            out = model(some_ids()[:, :9] % model.config.vocab_size)
        return ("right", "") if out.shape[:2] == (2, 9) or not weights_are_whole else ("fault", "another shape")

    def try_tokenizer(self, rng: random.Random) -> tuple[str, str]:
        """A tokenizer's files, its chat template among them."""
        if "tokenizer" not in self.models:
            self.models["tokenizer"] = make_tokenizer(self.folder / "tokenizer")
        folder = self.copy(self.models["tokenizer"])
        path = folder / rng.choice(["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
        if rng.random() < 0.5 and path.name != "tokenizer.json":
            fields = json.loads(path.read_text())
            fields[rng.choice([*fields, "eos_token_id", "chat_template", "eos_token"])] = rng.choice(ODD)
            path.write_text(json.dumps(fields))
        else:
            path.write_bytes(damaged(path.read_bytes(), rng))
        try:
            tokenizer = HubTokenizer(folder)
            ids = tokenizer.encode("some text") + tokenizer.encode_chat([{"role": "user", "content": "x"}])
        except ValueError as error:
            return sentence(error, str(folder))
        return ("right", "") if all(isinstance(i, int) for i in ids) else ("fault", "no ids")

    def try_operator(self, rng: random.Random) -> tuple[str, str]:
        """An operator with one odd argument: both forms agree, or both refuse it."""
        name = rng.choice(sorted(OPERATORS))
        operator, made = OPERATORS[name], torch.Generator().manual_seed(rng.randrange(2**31))
        B, T, H, group, Dk, Dv = (rng.choice(x) for x in ((1, 2), (1, 2, 9, 70), (1, 2), (1, 2), (1, 4), (1, 3)))
        x = {key: torch.randn(B, T, H, Dk, generator=made, dtype=torch.float64) for key in "qk"}
        x["k"] = x["k"] / x["k"].norm(dim=-1, keepdim=True)
        x["v"] = torch.randn(B, T, H * group, Dv, generator=made, dtype=torch.float64)
        if "g" in operator.extras:
            axes = (B, T, H * group, Dk) if operator.channel_decay else (B, T, H * group)
            x["g"] = -torch.rand(axes, generator=made, dtype=torch.float64) * rng.choice([0.1, 10, 1000])
        if "beta" in operator.extras:
            x["beta"] = torch.rand(B, T, H * group, generator=made, dtype=torch.float64)
        if "p" in operator.extras:
            x["p"] = 0.9 * x["k"]
        for key, axis in (("b", Dk), ("w", Dv)):
            if key in operator.extras:
                x[key] = torch.rand(B, T, H * group, axis, generator=made, dtype=torch.float64)
        x = {key: x[key] for key in ("q", "k", "v", *operator.extras)}
        keywords: dict[str, object] = {"output_final_state": True}
        odd = rng.choice([*x, *x, "scale", "initial_state", "cu_seqlens", "chunk_size", *["nothing"] * 5])
        values = [None, 3, "x", [1.0], torch.zeros(3), torch.zeros(0), torch.tensor([0, T]), torch.tensor([0, 0, T])]
        values += [float("nan"), 10**400, -1, x["v"].to("meta"), x["v"].half(), x["v"].int(), x["v"].to_sparse()]
        value = rng.choice([*values, *(change(y) for y in x.values() for change in CHANGES)])
        if odd in x:
            x[odd] = value
        elif odd != "nothing":
            keywords[odd] = value
        found = []
        for form in (operator.chunk, operator.recurrent):
            own = {key: y for key, y in keywords.items() if key != "chunk_size" or form is operator.chunk}
            try:
                found.append(form(**x, **own))
            except (TypeError, ValueError, NotImplementedError) as error:
                found.append(sentence(error, *x, *keywords))
        if any(isinstance(result[0], str) for result in found):
            one_sided = not all(isinstance(result[0], str) for result in found) and odd != "chunk_size"
            return (
                ("fault", f"one form refuses: {found}")
                if one_sided
                else next(r for r in found if isinstance(r[0], str))
            )
        (o, S), (o2, S2) = found
        near = all(torch.allclose(a.double(), b.double(), rtol=1e-6, atol=1e-9) for a, b in ((o, o2), (S, S2)))
        return ("right", "") if near else ("fault", f"{name}: the forms differ, {odd}")

    def try_checkpoint(self, rng: random.Random) -> tuple[str, str]:
        """A training checkpoint, damaged anywhere: the one before it is used, or it is whole all the same."""
        if "run" not in self.models:
            self.models["run"] = train_small(self.folder / "run")
        folder = self.copy(self.models["run"] / "checkpoints")
        newest = sorted(folder.iterdir())[-1]
        path = rng.choice(sorted(newest.iterdir()))
        before, how = path.read_bytes(), rng.choice(["flip", "cut", "gone", "zeros", "other"])
        if how == "gone":
            path.unlink()
        elif how == "other":
            shutil.copy(sorted(folder.iterdir())[0] / path.name, path)
        else:
            path.write_bytes(damaged(before, rng) if how == "flip" else before[: rng.randrange(len(before))])
        found = load_newest(folder, lambda said: None)
        same = path.exists() and path.read_bytes() == before
        if found is None:
            return "fault", "no checkpoint is left"
        wanted = newest if same else sorted(folder.iterdir())[0]
        return (
            ("right", "") if found[0] == wanted or same else ("fault", f"{how} {path.name}: {found[0].name} was used")
        )

    def try_index(self, rng: random.Random) -> tuple[str, str]:
        """A checkpoint in several files: its index is damaged, or a file is gone, empty or another's."""
        if "shards" not in self.models:
            self.models["shards"] = self.folder / "shards"
            reference.save_pretrained(build_ours(self.folder), self.models["shards"], max_shard_bytes=40_000)
            with torch.no_grad():
                self.logits["shards"] = reference.load_pretrained(self.models["shards"])(some_ids())
        folder = self.copy(self.models["shards"])
        path, files = folder / "model.safetensors.index.json", sorted(folder.glob("model-*.safetensors"))
        how = rng.choice(["bytes", "bytes", "elsewhere", "gone", "cut", "swap", "value"])
        if how in ("elsewhere", "value"):
            fields = json.loads(path.read_text())
            names = ["../../x.safetensors", "/etc/passwd", files[0].name, "", "model.safetensors", *ODD]
            place = fields["weight_map"] if how == "elsewhere" else fields
            place[rng.choice([*place, "lm_head.weight", "weight_map"])] = rng.choice(names)
            path.write_text(json.dumps(fields))
        elif how == "bytes":
            path.write_bytes(damaged(path.read_bytes(), rng))
        else:
            file, other = rng.sample(files, 2)
            data = file.read_bytes()
            file.unlink()
            if how != "gone":
                file.write_bytes(data[: rng.randrange(len(data))] if how == "cut" else other.read_bytes())
        try:
            model = reference.load_pretrained(folder)
        except ValueError as error:
            return sentence(error, str(folder))
        with torch.no_grad():
            same = torch.equal(model(some_ids()), self.logits["shards"])
        return ("right", "") if same else ("fault", f"{how}: other logits")

    def try_data(self, rng: random.Random) -> tuple[str, str]:
        """A text or .jsonl file with odd characters and damaged bytes: read exactly, or refused with file and line."""
        odd = [
            "a word ",
            "\u2028",
            "\x85",
            "\0",
            "\ufeff",
            "ü",
            "\U0001f600",
            "\x0b",
            "\t",
            "\r",
            "<|endoftext|>",
            "  ",
        ]
        documents = ["x" + "".join(rng.choices(odd, k=rng.randrange(1, 12))) for _ in range(rng.randrange(1, 5))]
        jsonl, end = rng.random() < 0.6, rng.choice(["\n", "\r\n"])
        path = self.folder / ("odd.jsonl" if jsonl else "odd_text.txt")
        lines = [json.dumps({"text": text}, ensure_ascii=rng.random() < 0.5) for text in documents]
        text = end.join(lines) + rng.choice(["", end, end * 2]) if jsonl else "".join(documents)
        data = rng.choice([b"", b"\xef\xbb\xbf"]) + text.encode()
        whole = rng.random() < 0.5
        path.write_bytes(data if whole else damaged(data, rng))
        try:
            found = read_documents(str(path))
        except ValueError as error:
            return sentence(error, str(path)) if not whole else ("fault", f"refused: {error}")
        wanted = documents if jsonl else [text.replace("\r\n", "\n")]
        if whole and found != wanted:
            return "fault", f"{found!r} for {wanted!r}"
        tokenizer = ByteTokenizer()
        same = all(tokenizer.decode(tokenizer.encode(text)) == text for text in found)
        return ("right", "") if same else ("fault", f"{found!r} doesn't come back from its ids")

    def try_command(self, rng: random.Random) -> tuple[str, str]:
        """A command line with odd values, on real and on odd files."""
        if "run" not in self.models:
            self.models["run"] = train_small(self.folder / "run")
        fifo, text = self.folder / "fifo", self.folder / "run.txt"
        if not fifo.exists():
            os.mkfifo(fifo)
        (self.folder / "odd.txt").write_text("a file, where a folder is wanted")
        model = str(self.models["run"])
        word = rng.choice(["train", "train", "generate", "generate", *WORDS])
        argv = [word]
        if word == "train":
            argv += ["--data", str(text), "--out", str(self.folder / "odd.txt"), "--steps", "1"]
            argv += ["--batch-size", "1", "--length", "16", "--preset", "tiny"]
        elif word == "generate":
            argv += ["--model", model, "--prompt", "a", "--tokens", "2", "--seed", "0"]
        for _ in range(rng.randrange(4)):
            option = rng.choice((OPTIONS.get(word, ANY) if rng.random() < 0.8 else ANY).split())
            argv += [option, rng.choice([*VALUES, str(fifo), model, str(text), str(self.folder / "a\0b")])]
        if word == "vectors":
            argv += ["--out", rng.choice([str(self.folder / "odd.txt"), "/dev/null/x"])]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(self.folder):
            try:
                status = command_line(argv)
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
                err.write("" if isinstance(ended.code, int | None) else str(ended.code))
        if status in (0, None):
            return "right", ""
        said = err.getvalue().strip()
        good = said and "Traceback" not in said and len(said) < 20_000
        return ("refused", said) if good else ("fault", f"{argv}: status {status}: {said[-300:]}")


WORDS = ["cost", "families", "vectors", "bench", "experiment", "doctor", "nothing", ""]
OPTIONS = {
    "train": "--data --steps --lr --layers --batch-size --length --accumulate --warm-up --clip --vocab-size "
    "--tokenizer --seed --save-every --weight-decay --preset --dtype",
    "generate": "--model --prompt --tokens --temperature --top-k --top-p --seed --threads",
    "cost": "--context --batch --model",
}
ANY = " ".join(OPTIONS.values()) + " --json --help --x --quick"
VALUES = ["", "x", "-1", "0", "1", "2.5", "nan", "inf", "1e308", "1e-320", "9" * 40, "a" * 300, "a" * 5000, "ü"]
VALUES += ["/dev/null/x", "/dev/full", "~nouser/x", "\udcff", "3:1", "1000000000:1", "--", "4096", "2147483648"]

CHANGES = (
    lambda x: x[:, :1],
    lambda x: x[..., :0],
    lambda x: x.float(),
    lambda x: x.transpose(0, 1),
    lambda x: x.fill_(torch.nan) if x.numel() < 9 else x.clone().fill_(torch.inf),
    lambda x: x.expand(2, *x.shape),
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few changed, cut out or doubled."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(data))
        how = rng.choice(["flip", "flip", "byte", "cut", "double"])
        if how == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif how == "byte":
            data[at] = rng.choice(b'{}[]",:0-9\x00\xff ')
        elif how == "cut":
            del data[at : at + rng.randrange(1, 9)]
        else:
            data[at:at] = data[at : at + rng.randrange(1, 9)]
        if not data:
            break
    return bytes(data)


def sentence(error: Exception, *names: str) -> tuple[str, str]:
    """("refused", ...) for a short sentence that names one of `names`, else a fault."""
    said = str(error)
    good = len(said) < 2000 and any(name in said for name in names)
    return ("refused", said) if good else ("fault", f"{type(error).__name__} names nothing: {said[:500]}")


def make_tokenizer(folder: Path) -> Path:
    """A small byte-level tokenizer with a chat template."""
    folder.mkdir()
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    inner.train_from_iterator(["a"], trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], **options))
    inner.save(str(folder / "tokenizer.json"))
    about = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1]}))
    return folder


def build_ours(folder: Path) -> torch.nn.Module:
    """A small published model, loaded."""
    build("qwen3").save_pretrained(folder / "before_shards")
    return reference.load_pretrained(folder / "before_shards")


def train_small(folder: Path) -> Path:
    """A run with two checkpoints."""
    text = folder.with_suffix(".txt")
    text.write_text("some words of a text " * 40)
    sizes = ["--steps", "2", "--batch-size", "1", "--length", "16", "--threads", "1", "--warm-up", "1"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert command_line(["train", "--data", str(text), "--out", str(folder), "--save-every", "1", *sizes]) == 0
    return folder


def _stop(signum, frame) -> None:
    raise TooLong


def run(
    folder: Path, seed: int, *, cases: int | None = None, minutes: float | None = None
) -> tuple[Counter, list[str]]:
    """Cases area by area, until there are `cases` of each or the time is over: (outcomes, faults)."""
    fuzz, outcomes, faults, n = Fuzz(folder, seed), Counter(), [], 0
    until = time.monotonic() + 60 * (minutes or 1e9)
    while (cases is None or n < cases) and time.monotonic() < until:
        for area in fuzz.areas:
            outcome, said = fuzz.case(area, n)
            outcomes[area, outcome] += 1
            if outcome == "fault":
                faults.append(f"{area}:{n}: {said}")
        n += 1
    return outcomes, faults


def run_apart(
    folder: Path, seed: int, *, cases: int, minutes: float, each: Callable[[], object] = lambda: None
) -> tuple[Counter, list[str]]:
    """As run, `cases` in all, in a process apart: a case that ends the process is a fault, and the next ones follow in
    another. each() is called after every case."""
    areas, outcomes, faults, n = list(Fuzz(folder, seed).areas), Counter(), [], 0
    until = time.monotonic() + 60 * minutes
    while n < cases and time.monotonic() < until:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            _work(writer, Fuzz(Path(tempfile.mkdtemp(dir=folder)), seed), areas, n, cases, until)
        os.close(writer)
        with open(reader) as lines:
            for line in lines:
                area, of, outcome, said = json.loads(line)
                outcomes[area, outcome] += 1
                faults += [f"{area}:{of}: {said}"] * (outcome == "fault")
                n += 1
                each()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            area, of = areas[n % len(areas)], n // len(areas)
            outcomes[area, "fault"] += 1
            faults.append(f"{area}:{of}: the process ended with {status}")
            n += 1
    return outcomes, faults


def _work(writer: int, fuzz: Fuzz, areas: list[str], first: int, cases: int, until: float) -> None:
    """In the process apart: the cases from the first one on, each written as a line; never returns."""
    status = 70
    try:
        with open(writer, "w", buffering=1) as results:
            for n in range(first, cases):
                if time.monotonic() > until:
                    break
                area, of = areas[n % len(areas)], n // len(areas)
                results.write(json.dumps([area, of, *fuzz.case(area, of)]) + "\n")
        status = 0
    finally:
        os._exit(status)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cases", type=int, default=10**9, help="at most so many, over all areas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="AREA:N", help="one case, and what it says")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        if chosen.only:
            area, _, n = chosen.only.partition(":")
            print(*Fuzz(Path(place), chosen.seed).case(area, int(n)), sep="\n")
            return 0
        wanted = {"cases": chosen.cases, "minutes": chosen.minutes}
        with tqdm(desc="cases", unit="case", mininterval=1) as bar:
            outcomes, faults = run_apart(Path(place), chosen.seed, **wanted, each=bar.update)
    for (area, outcome), count in sorted(outcomes.items()):
        print(f"{area:12s} {outcome:8s} {count}")
    print(f"{sum(outcomes.values())} cases, {len(faults)} faults", *faults, sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
