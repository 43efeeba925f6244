"""The references at the end of a chapter, generated from appendix/references.bib.

A chapter cites with an ordinary link, [Hebb 1949](#hebb1949); its last cell lists what it cites.
"""

import re
from pathlib import Path

from pybtex.backends.markdown import Backend
from pybtex.database import BibliographyData, parse_file
from pybtex.style.formatting.unsrt import Style

from reference.manifest import ROOT

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
    wanted = BibliographyData(entries={key: entries[key] for key in keys})
    backend = Backend()
    lines = []
    for entry in Style().format_bibliography(wanted):
        words = " ".join(re.sub(r"\\([^\w\s*])", r"\1", entry.text.render(backend)).split())
        lines.append(f'- <a id="{entry.key}"></a>{words}')
    return "\n".join([HEADING, "", *lines])
