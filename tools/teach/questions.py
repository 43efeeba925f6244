"""Questions with answers, from the chapters' predictions: Markdown, text2qti's format, and QTI archives."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from reference.files import write_text
from tools.teach.reading import Lesson


def questions_of(lesson: Lesson) -> list[tuple[str, str, str]]:
    """(title, question, answer) of every prediction with an answer on the page."""
    found = []
    for section in lesson.sections:
        for n, prediction in enumerate(p for p in section.predictions if p.answer):
            letter = f" ({chr(ord('a') + n)})" if n else ""
            found.append((f"{section.title.partition(' ')[0]}{letter}", prediction.text, prediction.answer))
    return found


def as_markdown(lessons: list[Lesson]) -> str:
    """All questions; the answers folded."""
    lines = ["# Questions", "", "Each stands in its chapter before the cell that answers it.", ""]
    for lesson in lessons:
        lines += [f"## {lesson.title}", ""]
        for title, question, answer in questions_of(lesson):
            lines += [
                f"**{title}** {question}",
                "",
                f"<details><summary>Answer</summary>\n\n{answer}\n\n</details>",
                "",
            ]
    return "\n".join(lines)


def as_text2qti(lesson: Lesson) -> str:
    """A quiz of free answers, with the book's answer as the feedback, in text2qti's format."""
    lines = [f"Quiz title: {lesson.title}", ""]
    for n, (title, question, answer) in enumerate(questions_of(lesson), 1):
        lines += [f"Title: {title}", f"{n}. {_one_line(question)}", f"... {_one_line(answer)}", "____", ""]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def write_questions(lessons: list[Lesson], out: Path) -> bool:
    """questions.md, questions/NN.txt, and questions/NN.zip if text2qti is there: whether it was."""
    write_text(out / "questions.md", as_markdown(lessons))
    there = importlib.util.find_spec("text2qti") is not None
    for lesson in lessons:
        if not questions_of(lesson):
            continue
        path = out / "questions" / f"{lesson.chapter.name}.txt"
        write_text(path, as_text2qti(lesson))
        if there:
            command = [sys.executable, "-c", "from text2qti.cmdline import main; main()", path.name]
            done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
            if done.returncode:
                raise OSError(f"text2qti can't read {path}: {(done.stdout + done.stderr)[-500:]}")
    return there
