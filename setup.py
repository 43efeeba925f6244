"""Puts into a built package what its code reads from other folders of the book: book.yml and figures/data."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FILES = ("book.yml", "figures/data/*.json", "figures/data/*.safetensors")


class BuildWithBook(build_py):
    def run(self) -> None:
        if self.editable_mode:
            super().run()  # the code finds its files in the checkout: reference/files.py
            return
        shutil.rmtree(Path(self.build_lib) / "reference", ignore_errors=True)  # modules that an earlier build left
        super().run()
        for path in (path for pattern in FILES for path in sorted(ROOT.glob(pattern))):
            target = Path(self.build_lib) / "reference" / "_book" / path.relative_to(ROOT)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithBook}, options={"build": {"build_base": "build/wheel"}})
