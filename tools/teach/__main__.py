"""Write the teacher's pack: `python -m tools.teach [--out DIR] [--pdf]`.

    plan.md         lessons of 60 and 90 minutes, a course of six weeks, misconceptions per exercise
    slides/         per chapter, Markdown; below html/ as pages where sphinx-revealjs is installed (space: next,
                    S: speaker's notes, Esc: overview, ?print-pdf behind the address: for printing)
    figures.zip     every figure with caption, text alternative and licence
    equations.tex   every numbered equation
    questions.md    with options and an explanation of each, or free; questions/ the same for text2qti, and as QTI
                    archives where it is installed
    cards.tsv       front, back and tag, for Anki (File, Import)
    student/        the chapters without solutions; solutions/ the chapters with them
    nbgrader/       the chapters as assignments of nbgrader, and its settings
    pdf/            with --pdf: book.pdf with an outline, and its parts, where Chromium or Chrome is installed

`pip install '.[teach]'` brings sphinx-revealjs, text2qti and pypdf.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from reference.book.manifest import ROOT, read_manifest
from reference.files import write_text
from tools.copies import check_ours
from tools.teach.extras import write_figures, write_pdf, write_texts
from tools.teach.grading import write_grading
from tools.teach.plan import plan
from tools.teach.questions import write_questions
from tools.teach.reading import read_lesson
from tools.teach.slides import write_slides

MARK = "teach.txt"  # says that this folder is ours to write again
EXTRA = "pip install '.[teach]' in the book's environment"


def write_pack(out: Path, *, pdf: bool = False) -> None:
    """Write everything below `out`, from scratch. ValueError where `out` holds something else."""
    check_ours(out, MARK)
    shutil.rmtree(out, ignore_errors=True)
    book = read_manifest()
    write_text(out / MARK, __doc__)
    lessons = [read_lesson(chapter) for chapter in tqdm(book.chapters, desc="chapters", file=sys.stdout)]
    write_text(out / "plan.md", plan(lessons, book))
    write_texts(lessons, out)
    count = write_figures(lessons, out, book.title)
    print(f"plan.md, equations.tex, cards.tsv, figures.zip ({count} figures)")
    qti = write_questions(lessons, out)
    print("questions.md, questions/" + ("" if qti else f" (QTI archives need text2qti: {EXTRA})"))
    page = write_slides(lessons, out, book.title)
    print(f"slides/{'html/index.html' if page else f' as Markdown (pages need sphinx-revealjs: {EXTRA})'}")
    subprocess.run([sys.executable, "-m", "tools.chapters", "student"], cwd=ROOT, check=True)
    shutil.copytree(ROOT / "build" / "student", out / "student")
    for chapter in book.chapters:
        (out / "solutions").mkdir(exist_ok=True)
        shutil.copy(chapter.notebook, out / "solutions" / chapter.notebook.name)
    print(f"nbgrader/ ({write_grading(book, out / 'nbgrader')} graded cells)")
    if pdf:
        from tools.build_site import build

        done = write_pdf(book, build(ROOT / "build").parent, out)
        whole = [path for path in done if path.name == "book.pdf"]
        joined = "pdf/book.pdf, and its parts beside it" if whole else f"pdf/, not joined (needs pypdf: {EXTRA})"
        print(joined if done else "no pdf/: it needs Chromium or Chrome on the PATH")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "teach", help="default: build/teach")
    parser.add_argument("--pdf", action="store_true", help="also print the site to pdf/ (minutes)")
    chosen = parser.parse_args()
    try:
        write_pack(chosen.out.resolve(), pdf=chosen.pdf)
    except ValueError as error:
        parser.error(str(error))
    print(f"The teacher's pack is in {chosen.out}")


if __name__ == "__main__":
    main()
