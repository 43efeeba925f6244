"""The book's references, generated from appendix/references.bib.

A chapter cites with an ordinary link, [Hebb 1949](#hebb1949); its last cell lists what it cites.
The site's bibliography lists everything, under the labels that the chapters use, with links back.
"""

import re
from pathlib import Path

from pybtex.backends.markdown import Backend
from pybtex.database import BibliographyData, Entry, parse_file
from pybtex.style.formatting.unsrt import Style

from reference.book.manifest import ROOT

BIB = ROOT / "appendix" / "references.bib"
CITED = re.compile(r"\]\(#([a-z][\w-]*)\)")
HEADING = "## References"


def cited_keys(text: str) -> list[str]:
    return sorted(set(CITED.findall(text)))


def reference_list(text: str, bib: Path = BIB) -> str:
    """The Markdown of the references cell for everything that text cites; unknown keys are a KeyError."""
    entries = parse_file(str(bib), bib_format="bibtex").entries
    keys = cited_keys(text)
    unknown = [key for key in keys if key not in entries]
    if unknown:
        raise KeyError(f"appendix/references.bib has no {', '.join(unknown)}")
    words = _formatted({key: entries[key] for key in keys})
    return "\n".join([HEADING, "", *(f'- <a id="{key}"></a>{entry}' for key, entry in words.items())])


def bibliography(pages: dict[str, tuple[str, str]], bib: Path = BIB) -> str:
    """The Markdown of the whole bibliography, sorted by label.

    pages  what a page is called ("02", "timeline") -> its address as seen from the bibliography, where KEY stands
           for the key of an entry, and its text
    """
    entries = parse_file(str(bib), bib_format="bibtex").entries
    cited = {name: cited_keys(text) for name, (_, text) in pages.items()}
    lines = []
    for key, words in _formatted(dict(entries)).items():
        back = [
            f'<a href="{address.replace("KEY", key)}">{name}</a>'
            for name, (address, _) in pages.items()
            if key in cited[name]
        ]
        where = f' <span class="cited">Cited in {", ".join(back)}.</span>' if back else ""
        lines.append((label(entries[key]).lower(), f'- <a id="{key}"></a>**{label(entries[key])}.** {words}{where}'))
    return "\n".join(line for _, line in sorted(lines))


def label(entry: Entry) -> str:
    """Hebb 1949, Widrow and Hoff 1960, Schlag et al. 2021."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [" ".join([*person.prelast_names, *person.last_names]).strip("{}") for person in people]
    year = entry.fields.get("year", "")
    if len(names) > 2 or (names and names[-1] == "others"):
        return f"{names[0]} et al. {year}"
    return f"{' and '.join(names)} {year}".strip()


def _formatted(entries: dict[str, Entry]) -> dict[str, str]:
    backend = Backend()
    style = Style().format_bibliography(BibliographyData(entries=entries))
    return {e.key: " ".join(re.sub(r"\\([^\w\s*])", r"\1", e.text.render(backend)).split()) for e in style}
