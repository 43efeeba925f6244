"""Reference code of the book: what its chapters derive, in tested form.

The chapters import from here; nothing here imports a chapter. Start with
`reference.equations` (NumPy, one token at a time, chapters 01 to 03).
"""

__version__ = "0.1.0"
