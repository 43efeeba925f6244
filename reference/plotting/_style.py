"""Colours and line styles: one meaning per colour through the whole book."""

import matplotlib as mpl

# Okabe and Ito's palette: distinct for the common forms of colour blindness.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F", "#1A1A1A"

# Vary marker or line style too: nobody should need the colour to read a figure.
COLORS = {
    "hebbian": ORANGE,
    "perceptron": PURPLE,
    "delta": BLUE,
    "decay": SKY,
    "gated_delta": GREEN,
    "kda": VERMILION,
    "softmax": BLACK,
    "best": GREY,
    "highlight": VERMILION,
}


def use_style() -> None:
    """Set the book's matplotlib defaults (white ground: readable on dark pages as well)."""
    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.4),
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY]),
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "image.cmap": "cividis",
            "svg.hashsalt": "book",  # the same picture gives the same file
        }
    )
