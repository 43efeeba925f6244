"""Slides of a chapter in Markdown, and with sphinx-revealjs as pages that need no network."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from reference.book.manifest import ROOT
from reference.files import write_text
from tools.teach.reading import Lesson, Section

NOTES = "```{revealjs-notes}\n{text}\n```"
CONF = """project, html_title = "{title}", "{title}"
extensions = ["myst_parser", "sphinx_revealjs", "sphinx-mathjax-offline"]
myst_enable_extensions = ["dollarmath", "amsmath"]
revealjs_static_path = ["slides.css"]
revealjs_css_files = ["slides.css"]
revealjs_style_theme = "white"
revealjs_script_plugins = [{{"name": "RevealNotes", "src": "revealjs/plugin/notes/notes.js"}}]
revealjs_script_conf = {{"hash": True, "slideNumber": True, "width": 1280, "height": 760, "transition": "none"}}
suppress_warnings = ["myst.header", "toc.not_included"]
"""
STYLE = """.reveal { font-size: 30px; }
.reveal section { text-align: left; }
.reveal :is(h1, h2, h3) { text-transform: none; }
.reveal h1 { font-size: 1.9em; } .reveal h2 { font-size: 1.4em; } .reveal h3 { font-size: 1.15em; }
.reveal img { max-height: 560px; max-width: 100%; background: #fff; display: block; margin: 0 auto; }
.reveal table { font-size: 0.7em; }
"""
EQUATIONS_A_SLIDE = 2


def notes(text: str) -> str:
    """Text for the speaker only."""
    return NOTES.replace("{text}", text.replace("```", "'''"))


def slides_of(lesson: Lesson) -> str:
    """The chapter's slides: its question, its goals, a slide per section with equations, figures and predictions below
    it, the exercises without hints, the summary. Text alternatives of figures and answers are the speaker's notes."""
    pages = [f"# {lesson.title}\n\n{lesson.question}"]
    pages.append("## After this lesson you can\n\n" + "\n".join(f"- {goal}" for goal in lesson.goals))
    for section in lesson.sections:
        pages += section_slides(section)
    rows = [f"| {e.number} | {e.title} | {e.stars} | {e.weight} | {e.minutes} min |" for e in lesson.exercises]
    pages.append("\n".join(["## Exercises", "", "| | | | | |", "|---|---|---|---|---|", *rows]))
    pages.append("## Summary\n\n" + "\n".join(f"- {point}" for point in lesson.summary))
    return "\n\n".join(pages) + "\n"


def section_slides(section: Section) -> list[str]:
    """A section's slides: a heading, and what hangs below it."""
    said = f"About {section.minutes} minutes in the notebook."
    pages = [f"## {section.title}\n\n{section.lead}\n\n{notes(said)}"]
    for prediction in section.predictions:
        answer = prediction.answer or "Run the next cell."
        pages.append(f"### Predict\n\n{prediction.text}\n\n{notes(answer)}")
    groups = [section.equations[i : i + EQUATIONS_A_SLIDE] for i in range(0, len(section.equations), EQUATIONS_A_SLIDE)]
    for group in groups:
        lines = [f"$$\n{equation} \\qquad ({number})\n$$" for number, equation in group]
        pages.append("### " + ", ".join(f"({number})" for number, _ in group) + "\n\n" + "\n\n".join(lines))
    for figure in section.figures:
        title = section.title.partition(" ")[2]
        pages.append(f"### {title}\n\n![](figures/{figure.name}.svg)\n\n{notes(figure.alt)}")
    return pages


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
    command = [sys.executable, "-m", "sphinx", "-b", "revealjs", "-q", source, source / "html"]
    if subprocess.run([*map(str, command)], check=False).returncode:
        raise OSError(f"the slides were not built: Sphinx's messages above name the file below {source}")
    for name in ("index.md", "conf.py", "slides.css"):
        (source / name).unlink()
    return source / "html" / "index.html"
