"""What a chapter consists of, as a teacher sees it: sections, equations, figures, predictions, exercises."""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from reference.book.manifest import ROOT, Chapter
from tools.site_cells import FIGURE
from tools.symbols import EQUATION

FOLDED = re.compile(r"<details>\s*<summary>(?P<title>.*?)</summary>(?P<body>.*?)</details>", re.S)
PREDICT = re.compile(r"\*\*Predict\.?\*\*:?\.?\s*(?P<text>.+?)(?=\n\n|\Z)", re.S)
MARKS = re.compile(
    r"(?P<stars>[●○]{3})(?: · (?P<weight>core|useful|extra))?(?: · |, )(?P<minutes>\d+) minutes?\.\s*(?P<text>.*)", re.S
)
NO_PARAGRAPH = ("|", "-", "```", "$$")
COMMENT = re.compile(r"<!--.*?-->", re.S)
LINK = re.compile(r"\[([^\]\[]+)\]\([^)\s]+\)")
SENTENCE = re.compile(r"(?<=[.?!:])\s+(?=[A-Z(\"`*$])")
BACK_MATTER = ("Exercises", "Summary", "Symbols", "References")
WORDS_A_MINUTE, MINUTES_A_CELL = 150, 0.7


@dataclass
class Figure:
    """A figure of the book: its file's name without ending, and its text alternative."""

    name: str
    alt: str


@dataclass
class Prediction:
    """What a reader is asked to predict, and the answer that stands folded below it."""

    text: str
    answer: str


@dataclass
class Exercise:
    """An exercise without its solution. misconceptions: wrong ideas that its verdict recognizes, as it words them."""

    number: str
    title: str
    stars: str
    weight: str
    minutes: int
    text: str
    hints: list[str]
    misconceptions: list[str] = field(default_factory=list)


@dataclass
class Section:
    """A section: the words of its text, the equations with their numbers, its figures and predictions."""

    title: str
    lead: str = ""
    words: int = 0
    cells: int = 0
    equations: list[tuple[str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)

    @property
    def minutes(self) -> int:
        """A guess: reading aloud at 150 words a minute, and running the cells."""
        return max(2, round(self.words / WORDS_A_MINUTE + MINUTES_A_CELL * self.cells))


@dataclass
class Lesson:
    """A chapter."""

    chapter: Chapter
    title: str
    question: str
    goals: list[str]
    sections: list[Section]
    exercises: list[Exercise]
    summary: list[str]
    solutions: list[str]  # the code of its solutions, which must be in no copy for students


def read_lesson(chapter: Chapter) -> Lesson:
    """The parts of a chapter. ValueError that names the cell where one can't be told."""
    notebook = nbformat.read(chapter.notebook, as_version=4)
    head = notebook.cells[0].source
    lesson = Lesson(
        chapter,
        title=head.partition("\n")[0].lstrip("# "),
        question=plain(re.search(r"\*\*Question\.\*\*\s*(.+)", head)[1]),
        goals=[plain(line[2:].rstrip(",.")) for line in head.splitlines() if line.startswith("- ")],
        sections=[],
        exercises=[],
        summary=[],
        solutions=[],
    )
    part = ""
    for cell in notebook.cells[1:]:
        if cell.cell_type == "code":
            _read_code(cell, lesson, part)
            continue
        for title, text in split_at_headings(cell.source):
            part = title if title and title in BACK_MATTER else part
            if title and title.startswith("Exercise "):
                lesson.exercises.append(_exercise(title, text))
            elif title and title not in BACK_MATTER:
                part = title
                lesson.sections.append(Section(title))
            if part == "Summary":
                lesson.summary += [plain(line[2:]) for line in text.splitlines() if line.startswith("- ")]
            elif part and part not in BACK_MATTER:
                _read_text(text, lesson.sections[-1])
    found = misconceptions(ROOT / "reference" / "checks" / f"ch{chapter.number:02d}.py")
    for exercise in lesson.exercises:
        exercise.misconceptions = found.get(exercise.number, [])
    return lesson


def split_at_headings(source: str) -> list[tuple[str | None, str]]:
    """(title or None, text below it) for every heading of level two or three."""
    parts = re.split(r"^#{2,3} (.+)$", source, flags=re.M)
    return [(None, parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]


def plain(text: str) -> str:
    """Markdown with links as their words, without comments, on one line."""
    return " ".join(LINK.sub(r"\1", COMMENT.sub("", text)).split())


def first_sentences(text: str, most: int = 45) -> str:
    """As many whole sentences as fit into `most` words; at least one."""
    taken: list[str] = []
    for sentence in SENTENCE.split(plain(text)):
        if taken and sum(len(s.split()) for s in [*taken, sentence]) > most:
            break
        taken.append(sentence)
    return " ".join(taken)


def _read_text(text: str, section: Section) -> None:
    for match in PREDICT.finditer(text):
        folded = FOLDED.search(text, match.end())
        answer = plain(folded["body"]) if folded and folded["title"].startswith("Answer") else ""
        section.predictions.append(Prediction(plain(match["text"]), answer))
    body = FOLDED.sub("", text)
    section.equations += [(number, " ".join(equation.split())) for equation, number in EQUATION.findall(body)]
    words = EQUATION.sub("", body)
    section.words += len(words.split())
    if not section.lead:
        parts = re.split(r"\n\s*\n", words)
        paragraphs = [p for p in parts if plain(p) and not p.lstrip().startswith(NO_PARAGRAPH)]
        section.lead = first_sentences(paragraphs[0]) if paragraphs else ""


def _read_code(cell: nbformat.NotebookNode, lesson: Lesson, part: str) -> None:
    if "solution" in cell.metadata.get("tags", []):
        lesson.solutions.append(cell.source)
        return
    if not lesson.sections or part in BACK_MATTER:
        return
    lesson.sections[-1].cells += 1
    for output in cell.get("outputs", []):
        if figure := FIGURE.match(output.get("data", {}).get("text/plain", "")):
            lesson.sections[-1].figures.append(Figure(figure["name"], figure["alt"]))


def _exercise(title: str, text: str) -> Exercise:
    number, _, name = title.removeprefix("Exercise ").partition(" · ")
    marks = MARKS.search(FOLDED.sub("", text).strip())
    if not marks:
        raise ValueError(f"{title}: expected ●○○ · core · 5 minutes. and the task")
    hints = [plain(fold["body"]) for fold in FOLDED.finditer(text) if fold["title"].startswith("Hint")]
    task = plain(marks["text"])
    return Exercise(number, name, marks["stars"], marks["weight"] or "", int(marks["minutes"]), task, hints)


def misconceptions(path: Path) -> dict[str, list[str]]:
    """Exercise number -> what its check says of wrong answers: the keys of `mistakes`, and the texts of `Wrong`."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        numbers = [
            d.args[0].value for d in getattr(node, "decorator_list", []) if getattr(d.func, "id", "") == "exercise"
        ]
        for number in numbers:
            found[number] = list(dict.fromkeys(_wrong_ideas(node)))
    return found


def _wrong_ideas(function: ast.FunctionDef) -> list[str]:
    ideas = []
    for node in ast.walk(function):
        keys = node.value.keys if isinstance(node, ast.keyword) and isinstance(node.value, ast.Dict) else []
        ideas += [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
        said = node.args[:1] if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Wrong" else []
        ideas += [text.value for text in said if isinstance(text, ast.Constant)]
    return [idea for idea in ideas if len(idea.split()) > 3]
