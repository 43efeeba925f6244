"""The teacher's pack is complete, and no solution leaks into what students see."""

import csv
import io
import re
import zipfile

import nbformat
import pytest

from reference.book.manifest import ROOT, read_manifest
from tools.teach.__main__ import MARK, write_pack
from tools.teach.extras import TERM, cards_tsv, equations_tex, figure_rows, write_figures
from tools.teach.plan import in_class, plan
from tools.teach.questions import as_markdown, as_text2qti, questions_of, write_questions
from tools.teach.reading import EQUATION, Section, read_lesson
from tools.teach.slides import slides_of, write_slides

BOOK = read_manifest()
LESSONS = [read_lesson(chapter) for chapter in BOOK.chapters]
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.chapter.name)
SHORTEST_LINE = 12  # characters of a line of code that can't be there by chance


def lines_of(solutions: list[str]) -> set[str]:
    """Lines that only solutions have."""
    lines = {line.strip() for solution in solutions for line in solution.splitlines()}
    given = re.compile(r"###|def |verdict\(|import |from |return$|#")
    return {line for line in lines if len(line) >= SHORTEST_LINE and not given.match(line)}


@each_lesson
def test_a_lesson_has_all_parts_of_its_chapter(lesson):
    text = lesson.chapter.text.read_text(encoding="utf-8")
    assert len(lesson.exercises) == len(re.findall(r"^### Exercise ", text, re.M)) >= 4
    assert [e.number for e in lesson.exercises] == sorted({e.number for e in lesson.exercises})
    equations = [number for section in lesson.sections for number, _ in section.equations]
    assert sorted(equations) == sorted(number for _, number in EQUATION.findall(text))
    figures = {figure.name for section in lesson.sections for figure in section.figures}
    drawn = {p.stem for p in (ROOT / "figures").glob(f"{lesson.chapter.number:02d}_*.svg")}
    assert figures == drawn
    assert lesson.question and lesson.goals and lesson.summary and lesson.solutions
    assert all(section.lead and section.minutes >= 2 for section in lesson.sections)
    assert sum(len(e.misconceptions) for e in lesson.exercises) >= 5


@each_lesson
def test_slides_hold_everything_once_and_no_solution(lesson):
    slides = slides_of(lesson)
    for section in lesson.sections:
        assert slides.count(f"## {section.title}\n") == 1
        assert all(f"figures/{figure.name}.svg" in slides for figure in section.figures)
        assert all(f"\\qquad ({number})" in slides for number, _ in section.equations)
    assert all(f"| {e.number} |" in slides for e in lesson.exercises)
    assert not [hint for e in lesson.exercises for hint in e.hints if hint in slides]
    assert not [line for line in lines_of(lesson.solutions) if line in slides]


def test_no_solution_is_in_questions_cards_or_plan():
    texts = [as_markdown(LESSONS), cards_tsv(LESSONS), plan(LESSONS, BOOK), *(as_text2qti(x) for x in LESSONS)]
    for lesson in LESSONS:
        for line in lines_of(lesson.solutions):
            assert not any(line in text for text in texts), line


def test_the_plan_names_every_chapter_exercise_and_misconception():
    text = plan(LESSONS, BOOK)
    course = text[: text.index("## 00")]
    for lesson in LESSONS:
        assert course.count(lesson.chapter.title) == 1, lesson.title
        for exercise in lesson.exercises:
            assert text.count(f"| {exercise.number} | {exercise.title} |") == 1
            assert all(idea in text for idea in exercise.misconceptions)


def test_sections_fill_a_lesson_in_order():
    sections = [Section(str(n), words=150 * n) for n in (10, 30, 20, 5)]
    taken, others = in_class(sections, 40)
    assert [s.title for s in taken] == ["10", "30"] and [s.title for s in others] == ["20", "5"]


def test_questions_are_the_answered_predictions():
    count = sum(bool(p.answer) for lesson in LESSONS for s in lesson.sections for p in s.predictions)
    questions = [q for lesson in LESSONS for q in questions_of(lesson)]
    assert len(questions) == count >= 15
    text = as_markdown(LESSONS)
    assert all(question in text and answer in text for _, question, answer in questions)
    quiz = as_text2qti(LESSONS[2])
    assert len(re.findall(r"^\d+\. ", quiz, re.M)) == quiz.count("\n____\n") == len(questions_of(LESSONS[2]))


def test_cards_and_equations_are_complete():
    glossary = (ROOT / "appendix" / "glossary.md").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in cards_tsv(LESSONS).splitlines()]
    assert all(len(row) == 2 and all(row) for row in rows)
    assert len(TERM.findall(glossary)) == glossary.count("\n### ")
    tex = equations_tex(LESSONS)
    numbers = re.findall(r"\\tag\{([\d.]+)\}", tex)
    assert len(numbers) == len(set(numbers)) > 60 and tex.count("\\begin{equation*}") == len(numbers)


def test_figures_come_with_caption_and_licence(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.teach.extras.find_browser", lambda: None)
    assert write_figures(LESSONS, tmp_path, BOOK.title) == len(figure_rows(LESSONS))
    with zipfile.ZipFile(tmp_path / "figures.zip") as packed:
        rows = list(csv.DictReader(io.StringIO(packed.read("captions.csv").decode())))
        assert {f"svg/{row['file']}" for row in rows} == {n for n in packed.namelist() if n.startswith("svg/")}
        assert all(row["alt"] and row["section"] for row in rows) and b"CC BY 4.0" in packed.read("LICENCE.txt")
    first = (tmp_path / "figures.zip").read_bytes()
    write_figures(LESSONS, tmp_path, BOOK.title)
    assert (tmp_path / "figures.zip").read_bytes() == first


def test_without_the_extra_packages_the_texts_are_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert write_questions(LESSONS[:2], tmp_path) is False and (tmp_path / "questions.md").exists()
    assert write_slides(LESSONS[:2], tmp_path, BOOK.title) is None
    assert (tmp_path / "slides" / f"{LESSONS[0].chapter.name}.md").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        write_pack(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"] and MARK != "thesis.txt"


def test_student_copies_hold_no_solution():
    from tools.copies import for_students

    for lesson in LESSONS:
        copy = for_students(nbformat.read(lesson.chapter.notebook, as_version=4))
        text = "\n".join(cell.source for cell in copy.cells if cell.cell_type == "code")
        assert "SOLUTION" not in text and "def solution_" not in text


def test_without_a_browser_there_is_no_pdf(tmp_path, monkeypatch):
    from tools.teach import extras

    monkeypatch.setattr(extras, "find_browser", lambda: None)
    assert extras.write_pdf(BOOK, tmp_path, tmp_path / "out") == [] and not (tmp_path / "out").exists()


def test_a_browser_that_prints_nothing_is_named_after_a_second_try(tmp_path, monkeypatch):
    from tools.teach import extras

    tries = []
    monkeypatch.setattr(extras, "find_browser", lambda: "no-browser")
    monkeypatch.setattr(extras.subprocess, "run", lambda command, **_: tries.append(command))
    with pytest.raises(ValueError, match=r"no-browser couldn't print .*index\.html"):
        extras.write_pdf(BOOK, tmp_path, tmp_path / "out")
    assert len(tries) == 2
