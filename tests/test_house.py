"""The house rules that a reader relies on: which way imports go, how long a file is, one home per name."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from reference.book.manifest import ROOT, read_manifest

REFERENCE = ROOT / "reference"
FILES = sorted(REFERENCE.rglob("*.py"))
TAG = re.compile(r"\((\d+\.\d+)\)")
# A room of the house, a folder or a loose module of reference/, may import only from rooms on lower floors.
FLOORS = (
    ("arguments", "derivatives", "dtypes", "equations", "files", "options"),
    ("kernels",),
    ("book", "ops", "tasks"),
    ("layers", "plotting"),
    ("model", "notebook", "integrations"),
    ("checkpoints", "distributed"),
    ("training", "bench", "checks", "conformance"),
    ("experiments",),
    ("commands",),
    ("__main__", "__init__"),
)
DOCUMENTED = ("experiments", "tasks", "training", "checkpoints")  # rooms in which methods have docstrings, too
RANKS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def home(path: Path) -> str:
    parts = path.relative_to(REFERENCE).with_suffix("").parts
    return parts[0]


def imported_modules(path: Path) -> set[str]:
    """`reference.x.y` for `import reference.x.y` and for `from reference.x import y`, whatever y is."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports from the top (reference....), not relative ones"
            modules |= {f"{node.module}.{a.name}" for a in node.names}
    return {module for module in modules if module.startswith("reference.")}


def imported_homes(path: Path) -> set[str]:
    return {module.split(".")[1] for module in imported_modules(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    own = home(path)
    assert own in RANKS, f"{path.name}: give reference/{own} a rank in tests/test_house.py"
    for other in imported_homes(path) & RANKS.keys() - {own}:
        assert RANKS[other] < RANKS[own], f"reference/{own} ({RANKS[own]}) must not import {other} ({RANKS[other]})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_sitting(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{path.relative_to(ROOT)} has {lines} lines: it is two files"


def public_names(path: Path) -> list[str]:
    """What a module defines for others: functions, classes, constants, aliases of types; twice if bound twice."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            names += [part.id for part in parts if isinstance(part, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def test_one_definition_per_public_name():
    where: dict[str, list[str]] = {}
    for path in FILES:
        if home(path) == "checks" and path.stem.startswith("ch"):
            continue  # checks are registered by number, their function names are private to a module
        for name in public_names(path):
            where.setdefault(name, []).append(str(path.relative_to(ROOT)))
    twice = {name: places for name, places in where.items() if len(places) > 1 and name != "main"}
    assert not twice, f"one name, one meaning; defined more than once: {twice}"


def test_what_is_private_is_imported_by_nobody_else():
    """A module _name belongs to its package, a function or constant _name to its module."""
    for path in FILES:
        package = ".".join(path.relative_to(ROOT).parent.parts)
        for name in imported_modules(path):
            private = re.search(r"\._(?!_)\w+", name)
            if private is None:
                continue
            owner, module = name[: private.start()], name[: private.end()]
            is_module = ROOT.joinpath(*module.split(".")).with_suffix(".py").exists()
            allowed = is_module and owner == package and "._" not in name[private.end() :]
            assert allowed, f"{path.relative_to(ROOT)} imports {name}, which is private to {owner}"


def undocumented(body: list[ast.stmt], owner: str = "", *, with_methods: bool) -> list[str]:
    """Public functions, classes and, if asked for, methods without a docstring."""
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                found.append(owner + node.name)
            if isinstance(node, ast.ClassDef) and with_methods:
                found += undocumented(node.body, f"{owner}{node.name}.", with_methods=True)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_public_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) is not None
    if home(path) == "checks" and path.stem.startswith("ch"):
        return  # an exercise's check is described by its exercise
    assert undocumented(tree.body, with_methods=home(path) in DOCUMENTED) == []


@pytest.mark.parametrize("chapter", read_manifest().chapters, ids=lambda c: c.name)
def test_a_chapter_defines_nothing_that_reference_defines(chapter):
    ours = {name for path in FILES for name in public_names(path)}
    for cell in nbformat.read(chapter.notebook, as_version=4).cells:
        if cell.cell_type == "code":
            defined = set(re.findall(r"^\s*(?:def|class) (\w+)", cell.source, re.M))
            assert not defined & ours, f"{chapter.name} redefines {defined & ours}; import it from reference"


def chapter_tags() -> dict[int, list[str]]:
    tags: dict[int, list[str]] = {}
    for chapter in read_manifest().chapters:
        cells = nbformat.read(chapter.notebook, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        tags[chapter.number] = re.findall(r"\\tag\{(\d+\.\d+)\}", text)
    return tags


def test_every_equation_number_in_the_code_is_an_equation_of_a_chapter():
    known = {tag for tags in chapter_tags().values() for tag in tags}
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            comment = line.partition("#")[2]
            for tag in TAG.findall(comment):
                assert tag in known, f"{path.relative_to(ROOT)}: no chapter has \\tag{{{tag}}}: {line.strip()}"


def test_equation_numbers_are_unique_and_belong_to_their_chapter():
    for number, tags in chapter_tags().items():
        assert len(tags) == len(set(tags)), f"chapter {number:02d} uses an equation number twice: {tags}"
        assert all(tag.startswith(f"{number}.") for tag in tags), f"chapter {number:02d} has a foreign tag in {tags}"


def test_every_step_in_equations_names_its_equation():
    source = (REFERENCE / "equations.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_step"):
            lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
            assert TAG.search("\n".join(lines)), f"{node.name} names no equation"
