"""The slides as pages: nothing is cut at 1280 x 720, every figure has its words as a note, no other host is asked."""

import re

import pytest

from reference.book.manifest import read_manifest
from tools.measure_page import browser, find_browser
from tools.teach.reading import read_lesson
from tools.teach.slides import write_slides

CHAPTERS = (2, 4)  # code and figures; the longest equations
LOOK = """(async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  const found = [];
  for (let n = Reveal.getTotalSlides(); n > 0; n -= 1) {
    await new Promise((done) => setTimeout(done, 40));
    const slide = Reveal.getCurrentSlide();
    const parts = [...slide.querySelectorAll("*")].filter((e) => !e.closest("aside, mjx-assistive-mml"));
    const boxes = parts.map((e) => e.getBoundingClientRect()).filter((box) => box.width);
    found.push({
      title: slide.querySelector("h1, h2, h3").textContent,
      cut: boxes.some((box) => box.right > 1280 || box.bottom > 720 || box.left < 0 || box.top < 0),
      wrong: slide.querySelectorAll("mjx-merror").length,
      sizes: [...slide.querySelectorAll("pre code")].map((e) => parseFloat(getComputedStyle(e).fontSize)),
      figures: [...slide.querySelectorAll("img")].map((e) => e.naturalWidth > 0 && e.getBoundingClientRect().height),
      noted: slide.querySelector("aside.notes")?.textContent.trim() ?? "",
    });
    Reveal.next();
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    pytest.importorskip("sphinx_revealjs")
    if not (program := find_browser()):
        pytest.skip("no Chromium or Chrome is installed")
    lessons = [read_lesson(chapter) for chapter in read_manifest().chapters if chapter.number in CHAPTERS]
    page, found = write_slides(lessons, tmp_path_factory.mktemp("pack"), "The book"), {}
    with browser(program) as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=1280, height=720, deviceScaleFactor=1, mobile=False)
        for lesson in lessons:
            tab.open((page.parent / f"{lesson.chapter.name}.html").as_uri())
            found[lesson.chapter.name] = tab.value(LOOK)
            assert tab.value("Reveal.hasPlugin('notes')") and tab.errors == []
    return page.parent, lessons, found


def test_nothing_is_cut_and_code_is_large_enough(slides):
    for name, seen in slides[2].items():
        assert len(seen) > 25 and not [s["title"] for s in seen if s["cut"] or s["wrong"]], name
        sizes = [size for s in seen for size in s["sizes"]]
        assert len(sizes) > 3 and min(sizes) >= 20


def test_every_figure_is_shown_large_with_its_words_as_a_note(slides):
    _, lessons, found = slides
    for lesson in lessons:
        shown = [s for s in found[lesson.chapter.name] if s["figures"]]
        assert len(shown) == sum(len(section.figures) for section in lesson.sections)
        assert all(s["figures"][0] > 400 and s["noted"] for s in shown)


def test_no_other_host_is_asked(slides):
    for page in slides[0].glob("*.html"):
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+", page.read_text())
