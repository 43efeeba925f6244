"""What a chapter consists of, as a teacher sees it: sections, equations, figures, predictions, exercises."""

import ast
import re
from collections.abc import Iterator
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
NO_PARAGRAPH = ("|", "-", "```", "$$", "![")
COMMENT = re.compile(r"<!--.*?-->|!\[[^\]]*\]\([^)\s]+\)", re.S)
LINK = re.compile(r"\[([^\]\[]+)\]\([^)\s]+\)")
CITED = re.compile(r"(?<=\w )\[([^\]\[]+ \d{4}\w?)\]\(#\w+\)(?=[,.;:])")  # after a word, before a stop
DISPLAY = re.compile(r"\$\$\s*(?P<body>.+?)\s*\$\$", re.S)
TAG = re.compile(r"\s*\\tag\{(?P<number>\d+\.\d+)\}")
ITEM = re.compile(r"^(?:- |\d+\. )", re.M)
PLACE = re.compile(r"\s*(?:The next (?:cell|paragraphs?)|The cell below|The figure shows|See the)\b[^.]*\.")
SENTENCE = re.compile(r"(?<=[.?!:])\s+(?=[A-Z(\"`*$])")
BACK_MATTER = ("Exercises", "Summary", "Symbols", "References")
MOST_LINES, MOST_COLUMNS = 19, 92  # of code and output on a slide
PROGRESS = re.compile(r"\d%\||\r")  # a bar, as it stood when the cell ended
FEW_WORDS = 23  # a question of so few leans on what stands before it
WORDS_A_MINUTE, MINUTES_A_CELL, MINUTES_A_PREDICTION = 150, 0.7, 2


@dataclass
class Figure:
    """A figure of the book: its file's name without ending, and its text alternative."""

    name: str
    alt: str


@dataclass
class Prediction:
    """What a reader is asked to predict, the answer that stands folded below it, and the words that lead to it."""

    text: str
    answer: str
    context: str = ""

    @property
    def away(self) -> str:
        """The answer without the sentences that point to another place of the page."""
        return PLACE.sub("", self.answer).strip() or self.answer


@dataclass
class Paragraph:
    """A paragraph in plain words; items: the points of the list below it."""

    text: str
    items: list[str] = field(default_factory=list)


@dataclass
class Equation:
    """A displayed equation; number: its tag, or "" without one."""

    number: str
    body: str


@dataclass
class Code:
    """A cell that is short enough for a slide, and what it printed."""

    name: str
    source: str
    output: str


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
    """A section: how many words and cells it has, and its parts in their order."""

    title: str
    words: int = 0
    cells: int = 0
    parts: list[Paragraph | Equation | Code | Figure | Prediction] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The title without its number."""
        return re.sub(r"^\d+\.\d+ ", "", self.title)

    @property
    def lead(self) -> str:
        """The first whole sentences; "" where none ends before an equation or a list, or where a cell or a prediction
        is first: what stands below those gives their answer away."""
        first = self.parts[0] if self.parts else None
        return first_sentences(whole_sentences(first.text)) if isinstance(first, Paragraph) else ""

    @property
    def equations(self) -> list[tuple[str, str]]:
        """(number, body) of the numbered ones."""
        return [(part.number, part.body) for part in self.parts if isinstance(part, Equation) and part.number]

    @property
    def figures(self) -> list[Figure]:
        return [part for part in self.parts if isinstance(part, Figure)]

    @property
    def predictions(self) -> list[Prediction]:
        return [part for part in self.parts if isinstance(part, Prediction)]

    @property
    def minutes(self) -> int:
        """A guess: reading aloud at 150 words a minute, running the cells, voting on predictions."""
        asked = MINUTES_A_PREDICTION * len(self.predictions)
        return max(2, round(self.words / WORDS_A_MINUTE + MINUTES_A_CELL * self.cells) + asked)


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
    return " ".join(LINK.sub(r"\1", CITED.sub(r"(\1)", COMMENT.sub("", text))).split())


def first_sentences(text: str, most: int = 45) -> str:
    """As many whole sentences as fit into `most` words; at least one."""
    taken: list[str] = []
    for sentence in SENTENCE.split(plain(text)):
        if taken and sum(len(s.split()) for s in [*taken, sentence]) > most:
            break
        taken.append(sentence)
    return " ".join(taken)


def whole_sentences(text: str) -> str:
    """The text without a last sentence that goes on elsewhere: in an equation, a list, a cell."""
    kept = SENTENCE.split(text)
    while kept and not kept[-1].rstrip('*_)"').endswith((".", "?", "!")):
        kept.pop()
    return " ".join(kept)


def last_sentences(text: str, most: int = 45) -> str:
    """As many whole sentences from the end as fit into `most` words; at least one."""
    taken: list[str] = []
    for sentence in reversed(SENTENCE.split(text)):
        if taken and sum(len(s.split()) for s in [*taken, sentence]) > most:
            break
        taken.insert(0, sentence)
    return " ".join(taken)


def _read_text(text: str, section: Section) -> None:
    predictions = iter(_predictions(text))
    body = FOLDED.sub("", text)
    section.words += len(EQUATION.sub("", body).split())
    pieces = DISPLAY.split(body)
    for n, piece in enumerate(pieces):
        if n % 2:
            tag = TAG.search(piece)
            section.parts.append(Equation(tag["number"] if tag else "", " ".join(TAG.sub("", piece).split())))
            continue
        for paragraph in re.split(r"\n\s*\n", piece):
            _read_paragraph(paragraph, section, predictions)


def _read_paragraph(text: str, section: Section, predictions: Iterator[Prediction]) -> None:
    before = next((part for part in reversed(section.parts) if isinstance(part, Paragraph)), None)
    if PREDICT.search(text):
        prediction, own = next(predictions), plain(text[: PREDICT.search(text).start()])
        leans = before is not None and len(prediction.text.split()) <= FEW_WORDS
        prediction.context = own or (_in_words(before) if leans else "")
        section.parts.append(prediction)
    elif ITEM.match(text.lstrip()):
        items = [plain(item) for item in ITEM.split(text.strip()) if item.strip()]
        if before is not None and before is section.parts[-1]:
            before.items += items
        else:
            section.parts.append(Paragraph("", items))
    elif plain(text) and not text.lstrip().startswith(NO_PARAGRAPH):
        section.parts.append(Paragraph(plain(text)))


def _in_words(paragraph: Paragraph) -> str:
    """What leads to a question: the last whole sentences of a paragraph, or all of a list."""
    if paragraph.items:
        numbered = [f"({n}) {item}" for n, item in enumerate(paragraph.items, 1)]
        return " ".join([paragraph.text, *numbered]).strip()
    return last_sentences(whole_sentences(paragraph.text))


def _predictions(text: str) -> list[Prediction]:
    found = []
    for match in PREDICT.finditer(text):
        folded = FOLDED.search(text, match.end())
        answer = plain(folded["body"]) if folded and folded["title"].startswith("Answer") else ""
        asked = plain(match["text"])
        found.append(Prediction(f"Predict {asked}" if asked[:1].islower() else asked, answer))
    return found


def _read_code(cell: nbformat.NotebookNode, lesson: Lesson, part: str) -> None:
    if "solution" in cell.metadata.get("tags", []):
        lesson.solutions.append(cell.source)
        return
    if not lesson.sections or part in BACK_MATTER:
        return
    section = lesson.sections[-1]
    section.cells += 1
    outputs = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    figures = [figure for output in outputs if (figure := FIGURE.match(output))]
    section.parts += [Figure(figure["name"], figure["alt"]) for figure in figures]
    printed = "".join(outputs).rstrip()
    lines = [*cell.source.splitlines(), *printed.splitlines()]
    fits = len(lines) <= MOST_LINES and max(map(len, lines), default=0) <= MOST_COLUMNS
    if (
        fits
        and printed
        and not figures
        and not PROGRESS.search(printed)
        and "answer-" not in cell.metadata.get("name", "")
    ):
        section.parts.append(Code(cell.metadata.get("name", ""), cell.source, printed))


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
