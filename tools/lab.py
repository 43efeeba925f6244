"""JupyterLab on the working copy of a chapter.

    python -m tools.lab [NN] [options of jupyter lab]      --no-browser, --port 8899, --ip 0.0.0.0, ...

The server's root is the book's folder, so that links to ../appendix/, build/student and the site's
"Open in Jupyter" (port 8888) lead somewhere. What is opened is a copy in work/: see tools/work.py.
"""

import argparse
import os
import socket
import sys

from reference.book.manifest import ROOT, Chapter, read_manifest
from tools.commands import call
from tools.work import choose, copy_path, refresh, say_behind

PORT = 8888  # the site's links "Open in Jupyter" expect it


def parse(arguments: list[str], chapters: list[Chapter]) -> tuple[Chapter, int | None, list[str]]:
    """The chapter to open, the port asked for (None: any from 8888 on), and what is handed on to jupyter lab."""
    first = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    names, options = arguments[:first], arguments[first:]
    if len(names) > 1:
        sys.exit(f"lab: expected at most one chapter number, got {' '.join(names)}")
    chapter = choose(names, chapters)[0] if names else chapters[0]
    parser = argparse.ArgumentParser(prog="make.py lab", add_help=False, allow_abbrev=False)
    parser.add_argument("--port", type=int)
    known, rest = parser.parse_known_args(options)
    return chapter, known.port, rest


def is_free(port: int) -> bool:
    """Whether a server may listen there. On Linux and macOS a port that was just left may be taken again."""
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def choose_port(wanted: int | None) -> int:
    """The port asked for, which must be free, or the first free one from 8888 on."""
    if wanted is not None:
        if not is_free(wanted):
            sys.exit(f"lab: --port: expected a free port, got {wanted}, which can't be used here")
        return wanted
    port = next((port for port in range(PORT, PORT + 50) if is_free(port)), None)
    if port is None:
        sys.exit(f"lab: no port from {PORT} to {PORT + 49} is free; name one: make lab ARGS='--port N'")
    if port != PORT:
        print(f"Port {PORT} is taken, perhaps by another JupyterLab: this one gets {port}.")
    return port


def command(chapter: Chapter, port: int, options: list[str], is_root: bool) -> list[str]:
    """The command line that starts the server."""
    page = f"/lab/tree/{copy_path(chapter).relative_to(ROOT).as_posix()}"
    words = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url={page}"]
    words += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if is_root and "--allow-root" not in options:
        words.append("--allow-root")
    return words + options


def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    chapters = read_manifest().chapters
    chapter, wanted, options = parse(sys.argv[1:], chapters)
    try:
        say_behind(refresh(chapters))
    except OSError as error:
        sys.exit(f"work/: {error}")
    port = choose_port(wanted)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root:
        print(
            "You are root, so JupyterLab starts with --allow-root: fine in a container, elsewhere use another account."
        )
    if port != PORT:
        print(f'The site\'s links "Open in Jupyter" lead to port {PORT}, not to this server.')
    where = copy_path(chapter).relative_to(ROOT)
    print(
        f"Your working copy is {where}; its address, on port {port}, is what Jupyter prints with a token.", flush=True
    )
    sys.exit(call(*command(chapter, port, options, is_root)))


if __name__ == "__main__":
    main()
