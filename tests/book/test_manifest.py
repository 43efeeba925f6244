"""book.yml and what lies in chapters/ are the same book."""

import pytest

from reference.book.manifest import ROOT, online_links, read_manifest
from tests.book.rules import BOOK


def test_every_chapter_in_the_manifest_exists_in_both_forms():
    for chapter in BOOK.chapters:
        for path in (chapter.notebook, chapter.text):
            assert path.exists(), f"book.yml names {chapter.name}, but {path.relative_to(ROOT)} is missing"


def test_every_notebook_is_in_the_manifest():
    names = {chapter.name for chapter in BOOK.chapters}
    for path in [*(ROOT / "chapters").glob("*.ipynb"), *(ROOT / "chapters" / "text").glob("*.md")]:
        assert path.stem in names, f"{path.relative_to(ROOT)} is not in book.yml: add it under chapters, in its place"


def test_chapters_are_in_order_and_none_is_both_written_and_planned():
    numbers = [chapter.number for chapter in BOOK.chapters]
    assert numbers == sorted(set(numbers)), f"chapters in book.yml are out of order or doubled: {numbers}"
    assert not set(numbers) & {p.number for p in BOOK.planned}, "a written chapter is still listed as planned"


def test_every_appendix_exists_and_is_listed():
    listed = {f"{name}.md" for name in BOOK.appendices}
    assert listed == {path.name for path in (ROOT / "appendix").glob("*.md")}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("    minutes: 3\n", "", 1), "the field 'minutes' is missing"),
        (("minutes: 3\n", "minutes: 3\n    colour: red\n", 1), "unknown field 'colour'"),
        (("appendices:", "apendices:", 1), "the field 'appendices' is missing"),
        (('repository: ""', "repository: owner/name", 1), "repository: expected an address .* got 'owner/name'"),
    ],
)
def test_a_mistake_in_the_manifest_is_named(tmp_path, change, sentence):
    path = tmp_path / "book.yml"
    path.write_text((ROOT / "book.yml").read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        read_manifest(path)


def test_the_readme_lists_the_chapters_of_the_manifest():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [f"| [{c.number:02d} {c.title}](chapters/{c.name}.ipynb) | {c.question} |" for c in BOOK.chapters]
    assert not [row for row in rows if row not in readme]
    assert readme.count("](chapters/0") + readme.count("](chapters/1") == len(rows)


def test_links_to_run_a_chapter_online_appear_with_a_public_address():
    book = read_manifest()
    chapter = book.chapters[2]
    assert book.run_online and online_links(book._replace(repository=""), chapter) == {}
    links = online_links(book._replace(repository="https://github.com/owner/name"), chapter)
    assert links["Colab"].endswith(f"owner/name/blob/main/chapters/{chapter.name}.ipynb") and "Binder" in links
    assert all(link.startswith("https://") and "{" not in link for link in links.values())
