"""`python -m reference doctor`: is this machine ready for the book? Answered in words.

Uses the standard library only and imports everything else inside a check, so that it still explains
when a package is missing or broken. Every check returns findings; a finding is a level
(ok, note, problem), what was found, and what to do about it.
"""

import argparse
import importlib
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Where outputs were compared (python -m tools.pythons): all chapters on 3.11; 01, 02, 09 and more on 3.12 to 3.14.
COMPARED_PYTHONS, COMPARED_MACHINE = ((3, 11), (3, 14)), ("CPython", "Linux", "x86_64")
ENOUGH_GIB, LITTLE_GIB = 4.0, 2.0  # memory in all; memory free now
CLEARLY_FASTER = 1.2  # a rate that is worth another setting
FEW_MISSING = 3  # more missing packages than this are one finding
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)\s*==\s*([^\s;#]+)")


class Finding(NamedTuple):
    """What was found, and what to do about it."""

    level: str  # ok, note or problem
    what: str
    todo: str = ""

    def sentence(self) -> str:
        """One line, and a second one with what to do."""
        return f"{self.level:7s}  {self.what}" + (f"\n         -> {self.todo}" if self.todo else "")


def check_python(version: tuple = tuple(sys.version_info[:3]), machine: tuple | None = None) -> list[Finding]:
    """Which Python this is, and whether the book's outputs were compared on such a one."""
    kind, system, processor = machine or (platform.python_implementation(), platform.system(), platform.machine())
    here = f"{'Python' if kind == 'CPython' else kind} {'.'.join(map(str, version))} ({system}, {processor})"
    oldest, newest = COMPARED_PYTHONS
    processor = {"amd64": "x86_64"}.get(processor.lower(), processor)
    if oldest <= tuple(version[:2]) <= newest and (kind, system, processor) == COMPARED_MACHINE:
        return [Finding("ok", f"{here}: outputs of chapters were compared on this kind.")]
    span = " to ".join(".".join(map(str, python)) for python in COMPARED_PYTHONS)
    what = f"{here}. Outputs were compared on Python {span}, Linux, x86-64 only; here they should be the same."
    return [Finding("note", what, f"to compare them here: {_make('test')}. Please report an output that differs")]


def check_environment(prefix: str = sys.prefix, base: str = sys.base_prefix, root: Path = ROOT) -> list[Finding]:
    """Is this the book's own .venv?"""
    own = root / ".venv"
    if Path(prefix).resolve() == own.resolve():
        return [Finding("ok", "This is the book's own environment, .venv.")]
    what = f"You are in another environment ({prefix})" if prefix != base else f"This is the system's Python ({prefix})"
    if not (root / "make.py").exists():
        use = "run this in a complete copy of the book (git clone)"
    else:
        use = use_environment("doctor", own)
    return [Finding("note", f"{what}, not the book's .venv.", use)]


def use_environment(command: str, own: Path) -> str:
    """How to run a command in the book's environment, which need not exist yet."""
    python, activate = ("Scripts\\python", "Scripts\\activate") if os.name == "nt" else ("bin/python", "bin/activate")
    use = f"{'' if os.name == 'nt' else 'source '}{own / activate}, or {own / python} -m reference {command}"
    if not any((own / python).with_suffix(suffix).exists() for suffix in ("", ".exe")):
        use = f"{_make('book')}, then {use}"
    return use


def own_python(command: str, prefix: str = sys.prefix, root: Path = ROOT) -> str:
    """A sentence: which Python has what a command needs."""
    if not (root / "make.py").exists():
        return "Install it with pip; `pip install 'delta-rule-to-hybrid-llm[all]'` brings all that any command needs."
    if Path(prefix).resolve() == (root / ".venv").resolve():
        return f"{_make('setup')} installs what the book needs; the README names what only some commands need."
    return f"The book's own Python has it: {use_environment(command, root / '.venv')}"


def read_pins(path: Path = ROOT / "requirements.txt") -> dict[str, str]:
    """Package -> version for every `name==version` line; comments and options are skipped."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(match.groups() for line in lines if (match := PIN.match(line.strip())))


def installed_version(name: str) -> str | None:
    """The version of an installed package; None if it isn't installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_packages(pins: dict[str, str], installed: Callable[[str], str | None] = installed_version) -> list[Finding]:
    """Compare pinned with installed versions. A local label does not count: 2.13.0+cpu is 2.13.0."""
    have = {name: installed(name) for name in pins}
    missing = [name for name, version in have.items() if version is None]
    other = [name for name, version in have.items() if version and version.split("+")[0] != pins[name]]
    findings = [Finding("problem", f"{name} is not installed.", _install(name, pins)) for name in missing]
    if len(missing) > FEW_MISSING:
        findings = [
            Finding("problem", f"{len(missing)} packages are not installed: {', '.join(missing)}.", _make("setup"))
        ]
    for name in other:
        what = f"{name} is {have[name]}; the book's outputs were made with {pins[name]}. Small digits may differ."
        findings.append(Finding("note", what, _install(name, pins)))
    right = len(pins) - len(missing) - len(other)
    if right:
        findings.insert(0, Finding("ok", f"{right} of {len(pins)} packages have exactly the pinned version."))
    return findings


def check_requirements(path: Path = ROOT / "requirements.txt") -> list[Finding]:
    """Are the installed packages those of requirements.txt?"""
    todo = "run this in a complete copy of the book (git clone)"
    if not (path.parent / "make.py").exists():
        return [Finding("note", "This is the installed package, without the book: versions aren't compared.", todo)]
    if not path.exists():
        return [Finding("problem", f"{path.name} is missing, so versions can't be compared.", todo)]
    return check_packages(read_pins(path))


def check_cores(cores: int | None = None, load: float | None = None) -> list[Finding]:
    """Are there two cores, and is one free? load: how many programs want to run, on average."""
    cores = cores or usable_cores()
    load = wanted_cores() if load is None else load
    if cores < 2:
        return [Finding("note", "1 core: everything works, but `make test` takes about twice as long.")]
    if load > cores - 1:
        what = f"{cores} cores, and programs enough to keep {load:.0f} busy. Threads that share a core wait for each "
        what += "other: two can take thirty times as long as one. The book's commands see that when they start, and "
        what += "let threads that wait sleep. Notebooks and programs of your own don't."
        todo = "there, torch.set_num_threads(1), or set OMP_WAIT_POLICY=passive before Python starts"
        return [Finding("note", what, todo)]
    return [Finding("ok", f"{cores} cores. A chapter computes with one thread, so that its outputs are the same.")]


def check_products(load: Callable = importlib.import_module) -> list[Finding]:
    """Which library multiplies matrices, and does the other do it faster here? A measurement of some milliseconds."""
    try:
        projection = load("reference.layers.projection")
        chosen, rates = projection.product_library(), projection.library_rates()
    except ValueError as error:
        return [Finding("problem", f"{error}.", "take the variable out of the environment")]
    except Exception:  # PyTorch doesn't load: check_gpu says so
        return []
    words = {"onednn": "oneDNN", "torch": "PyTorch's own"}
    what = f"Matrix products are {words[chosen]}: {rates[chosen]:.0f} GFLOP/s"
    others = [name for name in rates if name != chosen]
    if not others:
        return [Finding("ok", f"{what}.")]
    (other,) = others
    what += f", {words[other]} {rates[other]:.0f}."
    if rates[other] < CLEARLY_FASTER * rates[chosen]:
        return [Finding("ok", what)]
    return [
        Finding("note", what, f"set {projection.LIBRARY_SWITCH}={other} in the environment; last digits may differ")
    ]


def usable_cores() -> int:
    """Cores this process may use: fewer than the machine has, in a container or on a cluster."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wanted_cores() -> float:
    """How many programs want to run, on average over a minute; 0 on Windows, which doesn't tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def check_memory(sizes: tuple[float, float] | None = None) -> list[Finding]:
    """Is there enough memory, and enough of it free? sizes: (total, free) in GiB."""
    sizes = sizes or memory_gib()
    if sizes is None:
        return [Finding("note", f"The size of the memory is unknown here; {ENOUGH_GIB:.0f} GiB are enough.")]
    total, free = sizes
    words = f"{total:.1f} GiB of memory, {free:.1f} GiB of it free"
    if total < ENOUGH_GIB:
        todo = "run one chapter at a time, and halve the largest T where a cell is killed"
        return [Finding("note", f"{words}: less than the {ENOUGH_GIB:.0f} GiB that the book was made for.", todo)]
    if free < LITTLE_GIB:
        return [Finding("note", f"{words}.", "close other programs or kernels before you run a chapter")]
    return [Finding("ok", f"{words}.")]


def memory_gib() -> tuple[float, float] | None:
    """Total and free memory, or None where the system does not tell."""
    try:
        memory = importlib.import_module("psutil").virtual_memory()
        return memory.total / 2**30, memory.available / 2**30
    except ImportError:
        pass
    try:
        page = os.sysconf("SC_PAGE_SIZE") / 2**30
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):
        return None


def check_gpu(load: Callable = importlib.import_module) -> list[Finding]:
    """PyTorch must load; a GPU is a bonus that no chapter needs."""
    try:
        torch = load("torch")
    except ModuleNotFoundError as error:
        if error.name == "torch":
            return [Finding("note", "Whether there is a GPU can't be asked without torch. No chapter needs one.")]
        return [_broken_torch(error)]
    except Exception as error:  # a broken library raises anything, often OSError
        return [_broken_torch(error)]
    if torch.cuda.is_available():
        return [Finding("ok", f"A GPU: {torch.cuda.get_device_name(0)}. No chapter needs it."), *check_path(load)]
    return [Finding("ok", "No GPU that torch can use; no chapter needs one.")]


def check_path(load: Callable = importlib.import_module) -> list[Finding]:
    """On a GPU: do the operators run as Triton kernels, or in the slower PyTorch form, and why?"""
    why = load("reference.kernels.choice").machine_lacks()
    if not why:
        return [Finding("ok", "The gated delta rule and KDA run as Triton kernels (REFERENCE_KERNELS=off: PyTorch).")]
    todo = f"{sys.executable} -m pip install '.[kernels]'" if "imported" in why else ""
    return [Finding("note", f"The operators run in their slower PyTorch form on it: {why}.", todo)]


def check_kernel(load: Callable = importlib.import_module) -> list[Finding]:
    """Would Jupyter start chapters with this Python? A kernel of the same name elsewhere may win."""
    todo = f"{sys.executable} -m pip install jupyter"
    try:
        specs = load("jupyter_client.kernelspec")
        program = specs.KernelSpecManager().get_kernel_spec("python3").argv[0]
    except ImportError:
        return [Finding("problem", "Jupyter is not installed, so chapters can't be run.", todo)]
    except Exception:  # NoSuchKernel, or a kernel file that can't be read
        todo = f"{sys.executable} -m ipykernel install --sys-prefix"
        return [Finding("problem", "Jupyter has no kernel named python3, which the chapters ask for.", todo)]
    elsewhere = os.path.isabs(program) and Path(program).parent != Path(sys.executable).parent
    if elsewhere:
        todo = f"{sys.executable} -m ipykernel install --sys-prefix"
        return [Finding("problem", f"Jupyter's kernel python3 starts another Python: {program}", todo)]
    return [Finding("ok", "Jupyter's kernel python3 starts this Python.")]


def examine() -> list[Finding]:
    """All findings, in the order in which to act on them. An environment that is neither the book's own nor has its
    pinned packages gets one remedy, .venv: packages aren't installed one by one into another environment."""
    environment, packages = check_environment()[0], check_requirements()
    if environment.level != "ok" and any(finding.level != "ok" for finding in packages):
        missing = any(finding.level == "problem" for finding in packages)
        return [*check_python(), environment._replace(level="problem" if missing else "note")]
    others = (check_kernel, check_cores, check_memory, check_gpu, check_products)
    return [*check_python(), environment, *packages, *(finding for check in others for finding in check())]


def verdict_line(findings: list[Finding]) -> str:
    """Ready or not, in one sentence."""
    problems, notes = (sum(f.level == level for f in findings) for level in ("problem", "note"))
    if problems:
        many = "s" * (problems > 1)
        return f"Not ready: {problems} problem{many}. Do what the arrow{many} say{'' if many else 's'}, then ask again."
    if notes:
        return f"Ready, with {notes} note{'s' * (notes > 1)} that you may ignore."
    return "Ready: everything is as the book expects it."


def main(argv: list[str] | None = None) -> int:
    """Print all findings; returns 0 if none of them is a problem, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m reference doctor",
        description="Say in words whether this machine is ready for the book, and what to do where it is not.",
        epilog="Exit status: 0 if there is no problem (notes are fine), 1 otherwise.",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON instead")
    args = parser.parse_args(argv)
    findings = examine()
    ready = all(finding.level != "problem" for finding in findings)
    if args.json:
        print(json.dumps({"ready": ready, "findings": [finding._asdict() for finding in findings]}, indent=1))
    else:
        print("\n".join([*(finding.sentence() for finding in findings), "", verdict_line(findings)]))
    return 0 if ready else 1


def _broken_torch(error: Exception) -> Finding:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    todo = f"{sys.executable} -m pip install --force-reinstall torch=={read_pins().get('torch', '')}".rstrip("=")
    return Finding("problem", f"torch is installed but does not load: {first}", todo)


def _install(name: str, pins: dict[str, str]) -> str:
    return f"{sys.executable} -m pip install {name}=={pins[name]}"


def _make(command: str) -> str:
    return f"{'py' if os.name == 'nt' else 'python3'} make.py {command}"
