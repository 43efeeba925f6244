"""One style for all figures, and the check that a figure still shows the book's data.

`show_figure(fig, "02_interference", alt="...")` displays a figure. Pictures can't be
compared byte by byte across machines, so the *data drawn* is: the figure's text form says whether
it equals figures/data/02_interference.json, and that sentence is an output that the tests compare.
`make run` (BOOK_WRITE=1) writes the SVG and its data; a reader's own run writes nothing.
"""

from reference.plotting._figures import show_figure
from reference.plotting._style import COLORS, use_style

__all__ = ["COLORS", "show_figure", "use_style"]
