"""What the comparison of notebooks must know about figures."""


def pytest_collectstart(collector):
    # An SVG's bytes differ between machines. Its data are compared: the figure's text form says
    # whether they are the book's (reference/plotting/_figures.py), and that text is compared.
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("image/svg+xml",)
