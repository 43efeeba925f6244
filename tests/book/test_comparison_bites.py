"""The comparison of outputs must fail where an output is false: shown on copies of real chapters."""

import os
import re
import subprocess
import sys

import nbformat
import pytest

from reference.book.manifest import ROOT
from tests.book.rules import BOOK, is_ignored


def compare(path) -> subprocess.CompletedProcess:
    plain = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", *plain]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    arguments = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "--confcutdir", str(ROOT), str(path)]
    return subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def first_printed_number(notebook) -> tuple[int, int]:
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and not is_ignored(cell):
            for j, output in enumerate(cell.outputs):
                if output.get("name") == "stdout" and re.search(r"\d", output.text):
                    return i, j
    raise AssertionError("the chapter prints no number that is compared")


@pytest.mark.parametrize("chapter", BOOK.chapters[1:2], ids=lambda c: c.name)
def test_a_falsified_digit_fails_and_the_true_output_passes(chapter, tmp_path):
    notebook = nbformat.read(chapter.notebook, as_version=4)
    i, j = first_printed_number(notebook)
    notebook.cells = notebook.cells[: i + 1]
    nbformat.write(notebook, tmp_path / "true.ipynb")
    text = notebook.cells[i].outputs[j].text
    digit = re.search(r"\d", text)
    notebook.cells[i].outputs[j].text = text[: digit.start()] + str((int(digit[0]) + 1) % 10) + text[digit.end() :]
    nbformat.write(notebook, tmp_path / "false.ipynb")
    true, false = compare(tmp_path / "true.ipynb"), compare(tmp_path / "false.ipynb")
    assert true.returncode == 0, true.stdout
    assert false.returncode == 1 and "1 failed" in false.stdout, false.stdout
