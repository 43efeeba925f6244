"""Slides of a chapter in Markdown, and with sphinx-revealjs as pages that need no network."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from reference.book.manifest import ROOT
from reference.files import write_text
from tools.teach.reading import (
    SENTENCE,
    Code,
    Equation,
    Figure,
    Lesson,
    Paragraph,
    Prediction,
    Section,
    first_sentences,
    last_sentences,
)

NOTES = "```{revealjs-notes}\n{text}\n```"
CONF = """project, html_title = "{title}", "{title}"
extensions = ["myst_parser", "sphinx_revealjs", "sphinx-mathjax-offline"]
myst_enable_extensions = ["dollarmath", "amsmath"]
revealjs_static_path = ["slides.css", "slides.js"]
revealjs_css_files = ["slides.css"]
revealjs_js_files = ["slides.js"]
revealjs_style_theme = "white"
revealjs_script_plugins = [{{"name": "RevealNotes", "src": "revealjs/plugin/notes/notes.js"}}]
revealjs_script_conf = {{"hash": True, "slideNumber": True, "width": 1200, "height": 720, "transition": "none"}}
suppress_warnings = ["myst.header", "toc.not_included"]
"""
STYLE = """.reveal { font-size: 30px; }
.reveal section { text-align: left; }
.reveal :is(h1, h2, h3) { text-transform: none; }
.reveal h1 { font-size: 1.9em; } .reveal h2 { font-size: 1.4em; } .reveal h3 { font-size: 1.15em; }
.reveal img { width: 100%; height: 560px; object-fit: contain; background: #fff; display: block; margin: 0 auto; }
.reveal table { font-size: 0.7em; }
.reveal pre { width: 100%; font-size: 22px; line-height: 1.3; margin: 0.4em 0; box-shadow: none; }
.reveal pre code { max-height: none; padding: 0.5em 0.8em; background: #f5f5f5; overflow: hidden; }
.reveal code { white-space: pre-wrap; font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.reveal ul:has(> li:nth-child(12)) { display: block; columns: 2; column-gap: 2em; font-size: 0.8em; }
.reveal :is(p, li) { line-height: 1.35; }
"""
# What is still wider than the slide, or higher, is set smaller: an equation of many terms, a long list.
SCRIPT = """(() => {
  const fit = () => {
    const slide = Reveal.getCurrentSlide(), { width, height } = Reveal.getConfig();
    for (const box of slide.querySelectorAll("mjx-container[display]")) {
      box.style.fontSize = "";
      const row = box.querySelector("mjx-math"), room = box.parentElement.clientWidth;
      if (row.offsetWidth > room) box.style.fontSize = `${Math.floor((97 * room) / row.offsetWidth)}%`;
    }
    slide.style.fontSize = "";
    for (let size = 95; slide.scrollHeight > height && size >= 60; size -= 5) slide.style.fontSize = `${size}%`;
    Reveal.layout();
  };
  window.addEventListener("load", () => {
    Reveal.on("slidechanged", fit);
    Promise.resolve(window.MathJax?.startup?.promise).then(() => (Reveal.isReady() ? fit() : Reveal.on("ready", fit)));
  });
})();
"""
EQUATIONS_A_SLIDE = 2
WORDS_OF_A_POINT, POINTS_A_SLIDE = 30, 8
WIDE = 58  # signs of an equation that fit on a line, about
NAMES = re.compile(r"\\(?:text|mathrm|operatorname|mathbb|left|right|Bigg?|bigg?|[td]?frac|hat|tilde|bar)\b\*?")
STATEMENT = re.compile(r"\s*\\qquad\s*")


def notes(text: str) -> str:
    """Text for the speaker only."""
    return NOTES.replace("{text}", text.replace("```", "'''"))


def slides_of(lesson: Lesson) -> str:
    """The chapter's slides: its question, its goals, a slide per section with what the section shows below it in its
    order, the exercises without hints, the summary. Text alternatives of figures, and answers, are speaker's notes."""
    pages = [f"# {lesson.title}\n\n{lesson.question}"]
    pages.append("## After this lesson you can\n\n" + bullets(lesson.goals))
    for section in lesson.sections:
        pages += section_slides(section)
    rows = [f"| {e.number} | {e.title} | {e.stars} | {e.weight} | {e.minutes} min |" for e in lesson.exercises]
    pages.append("\n".join(["## Exercises", "", "| | | | | |", "|---|---|---|---|---|", *rows]))
    pages += [f"## Summary\n\n{bullets(points)}" for points in _halves(lesson.summary)]
    return "\n\n".join(pages) + "\n"


def bullets(points: list[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {point}" for point in points)


def _halves(points: list[str]) -> list[list[str]]:
    """The points on one slide, or on two where they are many words."""
    if sum(len(point.split()) for point in points) <= 90:
        return [points]
    middle = (len(points) + 1) // 2
    return [points[:middle], points[middle:]]


def section_slides(section: Section) -> list[str]:
    """A section's slides: its heading, and below it, in the section's order, the lists, the equations with the sentence
    before them, one short cell with its output, the figures, and the predictions."""
    minutes = notes(f"About {section.minutes} minutes in the notebook.")
    pages = ["\n\n".join(part for part in (f"## {section.title}", section.lead, minutes) if part)]
    head, waiting, shown = f"### {section.name}", [], False
    for n, part in enumerate(section.parts):
        before = section.parts[n - 1] if n else None
        if isinstance(part, Equation):
            lead = last_sentences(before.text, WORDS_OF_A_POINT) if isinstance(before, Paragraph) else ""
            waiting.append((" ".join(s for s in SENTENCE.split(lead) if s not in section.lead), part))
        if waiting and (len(waiting) == EQUATIONS_A_SLIDE or not isinstance(part, Equation | Paragraph)):
            pages.append(_equations(head, waiting))
            waiting = []
        match part:
            case Paragraph(text, items) if items:
                points = [first_sentences(item, WORDS_OF_A_POINT) for item in items[:POINTS_A_SLIDE]]
                pages.append("\n\n".join(filter(None, [head, last_sentences(text), bullets(points)])))
            case Code(name, source, output) if not shown:
                told = notes(f"The cell `{name}` of the notebook, and what it prints.")
                pages.append(f"{head}\n\n```python\n{source}\n```\n\n```text\n{output}\n```\n\n{told}")
                shown = True
            case Figure(name, alt):
                pages.append(f"{head}\n\n![](figures/{name}.svg)\n\n{notes(alt)}")
            case Prediction(text, answer, context):
                told = context if context not in section.lead else ""
                asked = "\n\n".join(filter(None, [told, f"**{text}**"]))
                pages.append(f"### Predict\n\n{asked}\n\n{notes(answer or 'Run the next cell.')}")
    if waiting:
        pages.append(_equations(head, waiting))
    if not section.lead and len(pages) > 1 and pages[1].startswith(head):
        return [f"## {section.title}" + pages[1].removeprefix(head), *pages[2:]]
    return pages


def _equations(head: str, group: list[tuple[str, Equation]]) -> str:
    lines = [head]
    for lead, equation in group:
        number = f" \\qquad ({equation.number})" if equation.number else ""
        lines += [*filter(None, [lead]), f"$$\n{in_lines(equation.body)}{number}\n$$"]
    return "\n\n".join(lines)


def in_lines(body: str) -> str:
    """An equation of several statements that is too long for a line: one statement below the other."""
    statements = STATEMENT.split(body)
    signs = len(re.findall(r"\\[a-zA-Z]+|[^\s{}^_&\\]", NAMES.sub("", body)))
    if len(statements) == 1 or signs <= WIDE or "\\begin" in body:
        return body
    return "\\begin{gathered}\n" + " \\\\\n".join(statements) + "\n\\end{gathered}"


def write_slides(lessons: list[Lesson], out: Path, title: str) -> Path | None:
    """slides/*.md, and below slides/html the pages if sphinx-revealjs is there. Returns the first page, or None."""
    source = out / "slides"
    for lesson in lessons:
        slides = slides_of(lesson)
        write_text(source / f"{lesson.chapter.name}.md", slides)
        for name in re.findall(r"figures/(\w+\.svg)", slides):
            (source / "figures").mkdir(exist_ok=True)
            shutil.copy(ROOT / "figures" / name, source / "figures" / name)
    if importlib.util.find_spec("sphinx_revealjs") is None:
        return None
    names = "\n".join(f"- [{lesson.title}]({lesson.chapter.name}.md)" for lesson in lessons)
    write_text(source / "index.md", f"# {title}\n\n{names}\n")
    write_text(source / "conf.py", CONF.format(title=title))
    write_text(source / "slides.css", STYLE)
    write_text(source / "slides.js", SCRIPT)
    command = [sys.executable, "-m", "sphinx", "-b", "revealjs", "-q", source, source / "html"]
    if subprocess.run([*map(str, command)], check=False).returncode:
        raise OSError(f"the slides were not built: Sphinx's messages above name the file below {source}")
    for name in ("index.md", "conf.py", "slides.css", "slides.js"):
        (source / name).unlink()
    return source / "html" / "index.html"
