"""Read book.yml, the one place that says which chapters the book has."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from reference.files import BOOK as ROOT


class Chapter(NamedTuple):
    """One chapter: needs, what a reader should know; minutes, how long it may run."""

    name: str
    title: str
    question: str
    needs: list[str]
    minutes: float

    @property
    def number(self) -> int:
        """The number in front of its name."""
        return int(self.name.split("_", 1)[0])

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return ROOT / "chapters" / f"{self.name}.ipynb"

    @property
    def text(self) -> Path:
        """The same as MyST Markdown, without outputs."""
        return ROOT / "chapters" / "text" / f"{self.name}.md"


class Planned(NamedTuple):
    """A chapter to come."""

    number: int
    title: str
    question: str


class Manifest(NamedTuple):
    """The fields of book.yml; its comments say what each is."""

    title: str
    subtitle: str
    description: str
    authors: list[str]
    repository: str
    run_online: dict[str, str]
    chapters: list[Chapter]
    planned: list[Planned]
    appendices: list[str]


def read_manifest(path: Path = ROOT / "book.yml") -> Manifest:
    """Return the manifest; a missing or unknown field is a ValueError that names it."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    fields = _checked(Manifest, data, "book.yml")
    fields["chapters"] = [Chapter(**_checked(Chapter, c, f"chapter {c.get('name')}")) for c in fields["chapters"]]
    fields["planned"] = [Planned(**_checked(Planned, p, f"planned {p.get('title')}")) for p in fields["planned"]]
    if fields["repository"] and not str(fields["repository"]).startswith("https://"):
        raise ValueError(
            f"book.yml: repository: expected an address that starts with https://, got {fields['repository']!r}"
        )
    for place, address in fields["run_online"].items():
        if not address.startswith("https://") or "{path}" not in address:
            expected = "expected an https:// address with {path}"
            raise ValueError(f"book.yml: run_online: {place}: {expected}, got {address!r}")
    return Manifest(**fields)


def online_links(book: Manifest, chapter: Chapter) -> dict[str, str]:
    """Where a browser runs the chapter: name -> address; none while the book has no public repository."""
    if not book.repository:
        return {}
    owner = book.repository.removeprefix("https://github.com/").rstrip("/")
    path = f"chapters/{chapter.notebook.name}"
    return {place: address.format(repository=owner, path=path) for place, address in book.run_online.items()}


def _checked(kind: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
    for field in kind._fields:
        if field not in data:
            raise ValueError(f"{where}: the field {field!r} is missing")
    for field in data:
        if field not in kind._fields:
            raise ValueError(f"{where}: unknown field {field!r}; known are {', '.join(kind._fields)}")
    return dict(data)
