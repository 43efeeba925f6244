"""The longer runs behind the figures of the book. `python -m reference experiment list` names them."""
