"""The package as `pip install .` puts it elsewhere: built, installed beside nothing of the checkout, and tried."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from reference.files import BOOK

PROJECT = tomllib.loads((BOOK / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGE_OF = {"yaml": "pyyaml", "IPython": "ipython"}  # where module and package have other names
EVERYWHERE = """
import reference
from reference.checks import verdict
from reference.book.corpus import manual_text, word_vectors
from reference.experiments.models.hybrid import load_hybrid
from reference.experiments.records import load_record
from reference.book.manifest import read_manifest
from reference.notebook import start
from reference.ops import chunk_gated_delta_rule
from reference.plotting import show_figure
rng = start(2)
assert len(word_vectors()[0]) == 200 and len(manual_text()) > 400_000
assert load_record("overwrite")["runs"] and len(read_manifest().chapters) >= 14
assert load_hybrid().config.num_hidden_layers == 4
print(reference.__file__)
"""


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", line)[0].lower() for line in requirements}


def imported() -> dict[bool, set[str]]:
    """Third-party packages that reference/ imports: True, at the top of a module; False, inside a function."""
    found = {True: set(), False: set()}
    for path in (BOOK / "reference").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module]
            else:
                continue
            for module in {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"reference"}:
                found[node in tree.body].add(PACKAGE_OF.get(module, module))
    return found


def test_what_the_code_imports_is_what_an_installation_brings():
    needed, optional = imported()[True], imported()[False]
    extras = {name for lines in PROJECT["optional-dependencies"].values() for name in names(lines)} - {PROJECT["name"]}
    assert needed == names(PROJECT["dependencies"])
    by_tools = (name for extra in ("teach", "lite") for name in names(PROJECT["optional-dependencies"][extra]))
    others = {"tensorboard", *by_tools}  # imported by torch, and by the commands of these names
    assert optional - needed <= extras <= (optional - needed) | others


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_the_ranges_hold_the_versions_that_the_book_is_made_with(line):
    from packaging.requirements import Requirement

    assert Requirement(line).specifier.contains(version(Requirement(line).name).split("+")[0]), line


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds the wheel's files alone, built from a copy: nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "LICENSE-text", "book.yml"):
        shutil.copy(BOOK / name, copy)
    for name in ("reference", "figures/data"):
        shutil.copytree(BOOK / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    stale = copy / "build" / "wheel" / "lib" / "reference" / "removed_since.py"  # as an earlier build leaves it
    stale.parent.mkdir(parents=True)
    stale.touch()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "--wheel-dir", str(folder), str(copy)], check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    subprocess.run(
        [*pip, "install", *offline, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True
    )
    shutil.rmtree(copy)
    return folder / "site"


def test_it_holds_the_modules_of_the_book_and_no_others(installed):
    ours, theirs = ({path.relative_to(folder) for path in folder.rglob("*.py")} for folder in (
        BOOK / "reference", installed / "reference",
    ))  # fmt: skip
    assert theirs == ours


def elsewhere(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Python in a folder of its own, with the installed package in front and the checkout out of sight."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_installed_package_finds_all_that_it_reads(installed, tmp_path):
    done = elsewhere(installed, tmp_path, "-c", EVERYWHERE)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed)
    assert (installed / "reference" / "manual" / "LICENSE.txt").exists()


def test_its_commands_run_anywhere(installed, tmp_path):
    def call(*arguments: str) -> str:
        done = elsewhere(installed, tmp_path, "-m", "reference", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "overwrite" in call("experiment", "list")
    assert "stored" in call("experiment", "overwrite")
    assert "qwen3_next" in call("families")
    call("vectors", "--out", "vectors")
    assert "reference generate" in call("train", "--preset", "tiny", "--steps", "2", "--out", "run", "--threads", "1")
    assert (tmp_path / "run").is_dir() and (tmp_path / "vectors").is_dir()


WRITERS = {
    "figure": "import matplotlib.pyplot as plt; from reference.plotting import show_figure; fig = plt.figure(); "
    "fig.gca().plot([1, 2]); show_figure(fig, '99_mine', alt='a line')",
    "counts": "from reference.book.corpus import store_counts; store_counts()",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_function_writes_into_it_either(installed, tmp_path, monkeypatch, writer):
    monkeypatch.setenv("BOOK_WRITE", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = contents(installed)
    done = elsewhere(installed, tmp_path, "-c", WRITERS[writer])
    assert "belongs to the installed package; name a file of your own" in done.stderr, done
    assert contents(installed) == before


def contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: path.read_bytes() for path in files}


def test_it_never_writes_into_itself(installed, tmp_path):
    before = contents(installed)
    done = elsewhere(installed, tmp_path, "-m", "reference", "experiment", "overwrite", "--seeds", "9")
    assert done.returncode == 2 and "belongs to the installed package; name a file of your own" in done.stderr
    assert contents(installed) == before
