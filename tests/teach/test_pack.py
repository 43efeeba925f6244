"""The teacher's pack is complete, and no solution leaks into what students see."""

import csv
import io
import re
import zipfile
from xml.etree import ElementTree

import nbformat
import pytest

from reference.book.manifest import ROOT, read_manifest
from reference.checks import EXERCISES, Wrong
from tools.teach.__main__ import MARK, write_pack
from tools.teach.extras import TERM, as_html, cards_tsv, equations_tex, figure_rows, write_figures
from tools.teach.plan import exercises_in_class, in_class, of_weight, plan
from tools.teach.questions import as_markdown, as_text2qti, choices_of, questions_of, write_questions
from tools.teach.reading import EQUATION, Section, read_lesson
from tools.teach.slides import in_lines, section_slides, slides_of, write_slides

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
    assert all(section.parts and section.minutes >= 2 for section in lesson.sections)
    assert sum(len(e.misconceptions) for e in lesson.exercises) >= 5


@each_lesson
def test_slides_hold_everything_once_and_no_solution(lesson):
    slides = slides_of(lesson)
    for section in lesson.sections:
        assert slides.count(f"\n## {section.title}\n") == 1
        assert all(f"figures/{figure.name}.svg" in slides for figure in section.figures)
        assert all(f"\\qquad ({number})" in slides for number, _ in section.equations)
        assert all(f"**{prediction.text}**" in slides for prediction in section.predictions)
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
    quiz, asked = as_text2qti(LESSONS[2]), len(questions_of(LESSONS[2]))
    assert quiz.count("\n____\n") == asked
    assert re.findall(r"^(\d+)\. ", quiz, re.M) == [str(n + 1) for n in range(asked + len(choices_of(LESSONS[2])))]


def test_questions_stand_on_their_own():
    asked = [(question, answer) for lesson in LESSONS for _, question, answer in questions_of(lesson)]
    assert not [answer for _, answer in asked if re.search(r"[Nn]ext cell|cell below|curve below", answer)]
    marks = next(question for question, _ in asked if question.endswith("Mark each: holds, fails, or can't be told."))
    assert "(8) A state can't be cut" in marks
    assert all(question[0].isupper() or not question[0].isalpha() for question, _ in asked)


@each_lesson
def test_every_option_is_what_the_verdict_says_of_that_answer(lesson):
    choices = choices_of(lesson)
    assert {c.number for c in choices} <= {e.number for e in lesson.exercises}
    assert len({c.number for c in choices}) == len(choices) >= 1
    for choice in choices:
        assert sum(option.right for option in choice.options) == 1 and choice.text[-1] not in ":,;"
        assert len({o.text for o in choice.options}) == len({o.why for o in choice.options}) == len(choice.options)
        exercise = next(e for e in lesson.exercises if e.number == choice.number)
        letters = re.findall(r"(?:- |`\")([a-e])(?:: |\"`)", exercise.text)
        for option, letter in zip(choice.options, letters, strict=False):
            said = verdict_of(choice.number, letter)
            assert option.why in said and said.startswith("right.") == option.right
            assert len(option.text) > 1 and option.text in exercise.text


def verdict_of(number: str, answer: str) -> str:
    try:
        return f"right. {EXERCISES[number].check(answer)}"
    except Wrong as wrong:
        return str(wrong)


def test_a_text_becomes_what_anki_shows():
    assert as_html("A *sum* of `a<b`, $x < y_1$ & **more**") == (
        "A <i>sum</i> of <code>a&lt;b</code>, \\(x &lt; y_1\\) &amp; <b>more</b>"
    )
    assert as_html("2 * 3 * 4 and $a^*$") == "2 * 3 * 4 and \\(a^*\\)"


def test_a_slide_ends_its_sentences_and_shows_code_with_its_output():
    section = LESSONS[10].sections[1]
    assert section.title == "10.2 A fair fight" and section.lead.endswith("one seed.")
    slides = "\n\n".join(section_slides(section))
    assert "MLP of width 128" in slides and "```python\nfor name in" in slides and "- *every* mixer" in slides
    first = next(s for s in LESSONS[2].sections if s.title.startswith("02.2"))
    assert first.lead == ""  # a prediction is first: what stands below it is the answer


def test_an_equation_of_many_statements_gets_a_line_for_each():
    short, long = r"a = b, \qquad c = d", r"a + b + c + d + e + f + g + h = x, \qquad c = d" * 3
    assert in_lines(short) == short
    assert in_lines(long).count("\\\\\n") == 3 and in_lines(long).startswith("\\begin{gathered}")


def test_homework_is_what_was_not_done_in_class():
    for lesson in LESSONS:
        core = of_weight(lesson, "core")
        everything, nothing = exercises_in_class(lesson, 500), exercises_in_class(lesson, 0)
        assert nothing == [] and all(e in everything for e in core)
        few = exercises_in_class(lesson, core[0].minutes)
        assert few and sum(e.minutes for e in few) <= core[0].minutes


def test_qti_archives_hold_every_question_with_its_feedback(tmp_path):
    pytest.importorskip("text2qti")
    some = [LESSONS[0], LESSONS[7]]
    assert write_questions(some, tmp_path)
    for lesson in some:
        with zipfile.ZipFile(tmp_path / "questions" / f"{lesson.chapter.name}.zip") as packed:
            manifest = ElementTree.fromstring(packed.read("imsmanifest.xml"))
            named = [e.get("href") for e in manifest.iter() if e.tag.endswith("}file")]
            assert set(named) <= set(packed.namelist())
            quiz = next(n for n in named if n.endswith(".xml") and "assessment_meta" not in n)
            items = ElementTree.fromstring(packed.read(quiz)).findall(".//{*}item")
        lettered = [item for item in items if item.find(".//{*}response_lid") is not None]
        assert (len(lettered), len(items)) == (
            len(choices_of(lesson)),
            len(choices_of(lesson)) + len(questions_of(lesson)),
        )
        for item in lettered:
            scored = [c for c in item.findall(".//{*}respcondition") if c.find("{*}setvar") is not None]
            options = item.findall(".//{*}response_label")
            assert scored[0].find(".//{*}varequal").text in {option.get("ident") for option in options}
            assert len(scored) == 1 and len(item.findall("{*}itemfeedback")) == len(options)


def test_cards_and_equations_are_complete():
    glossary = (ROOT / "appendix" / "glossary.md").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in cards_tsv(LESSONS).splitlines()]
    head = [row for row in rows if row[0].startswith("#")]
    cards = rows[len(head) :]
    assert rows[: len(head)] == head and ["#html:true"] in head and ["#tags column:3"] in head
    assert all(len(row) == 3 and all(row) for row in cards) and not any(re.search(r"[$`]", row[1]) for row in cards)
    assert {row[2] for row in cards} == {"glossary", *(f"chapter-{lesson.chapter.number:02d}" for lesson in LESSONS)}
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
        assert all(row["caption"].startswith(f"Figure {row['number']}: {row['alt']}") for row in rows)
        assert all(row["caption"].endswith(f"From “{BOOK.title}”, CC BY 4.0.") for row in rows)
        assert len({row["number"] for row in rows}) == len(rows)
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
