"""Everything one does with this book, the same on Linux, macOS and Windows; needs only Python.

    python make.py book       build the site (creates .venv and installs the requirements first)
    python make.py lab 02     open JupyterLab on your working copy of chapter 02
    python make.py test       run every test and compare every output of every chapter
    python make.py            list all commands

Where `make` is at hand, `make book`, `make lab CHAPTERS=02` and so on are the same commands.
The commands themselves are in tools/commands.py: an old Python can't read that file, but it can read this one.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Python 3.11 or newer is needed; this is %s (%s). With another one: make book PYTHON=python3.12, "
        "or python3.12 make.py book (on Windows: py -3.12 make.py book)." % (sys.version.split()[0], sys.executable)
    )

from tools.commands import main

if __name__ == "__main__":
    main(__doc__)
