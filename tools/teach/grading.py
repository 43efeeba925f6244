"""The chapters as assignments of nbgrader: solutions in the cells where students write, and a graded cell for each."""

import re
from pathlib import Path

import nbformat

from reference.book.manifest import Manifest
from reference.files import write_text
from tools.chapters import read_notebook
from tools.copies import SOLUTION, hold_images, working

ASKED = re.compile(r'^verdict\("(?P<number>\d+\.\d+)", (?P<answer>my_\w+)\)\s*$', re.M)
SCHEMA = 3  # of nbgrader's metadata
CONFIG = '''"""nbgrader's settings: run its commands in this folder, in an environment that has the book's packages too.

    nbgrader generate_assignment 01_from_perceptron_to_delta_rule --create      # into release/: without solutions
    nbgrader autograde 01_from_perceptron_to_delta_rule --create                # what lies in submitted/STUDENT/

A graded cell gives one point if the book's own check finds the answer right. A whole chapter runs for each student:
the time that its table of contents names.
"""

c = get_config()
c.CourseDirectory.course_id = "hybrids"
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE"}
c.ExecutePreprocessor.timeout = 600
'''


def write_grading(book: Manifest, out: Path) -> int:
    """Write out/source/NAME/NAME.ipynb for every chapter, and nbgrader_config.py; the number of graded cells."""
    count = 0
    for chapter in book.chapters:
        notebook, graded = for_grading(read_notebook(chapter))
        write_text(out / "source" / chapter.name / chapter.notebook.name, nbformat.writes(notebook))
        count += graded
    write_text(out / "nbgrader_config.py", CONFIG)
    return count


def for_grading(notebook: nbformat.NotebookNode) -> tuple[nbformat.NotebookNode, int]:
    """(the assignment, how many cells it grades). ValueError if an exercise lacks its cell, verdict or solution."""
    own, graded, kept = working(notebook), 0, []
    hold_images(own)
    cells = iter(own.cells)
    for cell in cells:
        asked = ASKED.search(cell.source) if cell.cell_type == "code" else None
        if asked is None:
            kept.append(cell)
            continue
        number, answer = asked["number"], asked["answer"]
        solution = next(cells, None)
        solved = SOLUTION.search(solution.source) if solution is not None else None
        if solved is None or not kept[-1].metadata.get("name", "").startswith("exercise"):
            raise ValueError(f"exercise {number}: expected the student's cell, the verdict and the solution in a row")
        name = "solution_" + number.replace(".", "_")
        body = f"{solved['body'].rstrip()}\n{answer} = {name}"
        kept[-1].source += f"\n\n### BEGIN SOLUTION\n{body}\n### END SOLUTION"
        kept[-1].metadata["nbgrader"] = _about(f"exercise-{number}", solution=True)
        cell.source = f'from reference.checks import grade\n\ngrade("{number}", {answer})'
        cell.metadata["nbgrader"] = _about(f"grade-{number}", grade=True) | {"points": 1}
        kept.append(cell)
        graded += 1
    own.cells = kept
    return own, graded


def _about(name: str, *, grade: bool = False, solution: bool = False) -> dict:
    flags = {"grade": grade, "solution": solution, "locked": grade, "task": False}
    return flags | {"grade_id": name.replace(".", "-"), "schema_version": SCHEMA}
