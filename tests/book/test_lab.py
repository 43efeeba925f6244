"""`make lab`: what it opens, on which port, and that a real server finds what the book links to."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from reference.book.manifest import ROOT
from tests.book.rules import BOOK
from tools import lab, work

TOKEN = "test"


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_the_chapter_comes_first_and_other_options_are_handed_on():
    chapter, port, rest = lab.parse(["2", "--no-browser", "--port", "8899", "--ip", "0.0.0.0"], BOOK.chapters)
    assert (chapter.number, port, rest) == (2, 8899, ["--no-browser", "--ip", "0.0.0.0"])
    assert lab.parse([], BOOK.chapters) == (BOOK.chapters[0], None, [])
    assert lab.parse(["--port=1"], BOOK.chapters)[1] == 1


@pytest.mark.parametrize(
    ("words", "sentence"), [(["99"], "no chapter 99; it has 00 to 16"), (["01", "02"], "at most one"), (["two"], "two")]
)
def test_a_wrong_chapter_gets_a_sentence(words, sentence):
    with pytest.raises(SystemExit, match=sentence):
        lab.parse(words, BOOK.chapters)


def test_a_taken_port_gives_the_next_one_unless_it_was_named(taken, monkeypatch, capsys):
    monkeypatch.setattr(lab, "PORT", taken)
    got = lab.choose_port(None)
    assert taken < got < taken + 50
    assert f"Port {taken} is taken, perhaps by another JupyterLab: this one gets {got}." in capsys.readouterr().out
    for wrong in (taken, 70000):
        with pytest.raises(SystemExit, match=f"--port: expected a free port, got {wrong}"):
            lab.choose_port(wrong)


def test_root_is_let_in_and_nobody_else_needs_to_be():
    plain, root = (lab.command(BOOK.chapters[0], 1, [], is_root=is_root) for is_root in (False, True))
    assert "--allow-root" not in plain and root == [*plain, "--allow-root"]
    assert lab.command(BOOK.chapters[0], 1, ["--allow-root"], is_root=True).count("--allow-root") == 1


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A running server on a folder that looks like the book's: (address, folder)."""
    folder = tmp_path_factory.mktemp("book")
    chapter = BOOK.chapters[2]
    work.refresh([chapter], folder / "work")
    for path in ("chapters", "appendix", "build/student"):
        (folder / path).mkdir(parents=True)
    (folder / "appendix" / "glossary.md").write_text("# Glossary\n")
    (folder / "build" / "student" / chapter.notebook.name).write_bytes(chapter.notebook.read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "ROOT", folder)
        patch.setattr(work, "WORK", folder / "work")
        words = lab.command(
            chapter, port, ["--no-browser", f"--IdentityProvider.token={TOKEN}", "--log-level=ERROR"], True
        )
    home = folder / "home"
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home)}
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                fetch(f"{address}/api/status")
                break
            except urllib.error.URLError:
                assert process.poll() is None, f"jupyter lab ended with {process.returncode}"
                time.sleep(0.2)
        yield address, folder
    finally:
        process.terminate()
        process.wait()


def fetch(url: str, method: str = "GET", body: object = None) -> tuple[str, bytes]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"token {TOKEN}"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
        return answer.url, answer.read()


def test_the_first_page_is_the_working_copy(server):
    address, _ = server
    assert fetch(address)[0] == f"{address}/lab/tree/work/{BOOK.chapters[2].notebook.name}"


def test_what_the_book_links_to_is_found(server):
    """The site's links, ../appendix/ from a copy, and the students' notebooks: all below the server's root."""
    address, _ = server
    name = BOOK.chapters[2].notebook.name
    for path in (f"work/{name}", "work/../appendix/glossary.md", f"build/student/{name}"):
        assert json.loads(fetch(f"{address}/api/contents/{os.path.normpath(path)}")[1])["type"] in ("file", "notebook")


def test_an_autosave_changes_the_working_copy_and_nothing_else(server):
    address, folder = server
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "home" not in path.parts}
    url = f"{address}/api/contents/work/{BOOK.chapters[2].notebook.name}"
    model = json.loads(fetch(url)[1])
    model["content"]["cells"][0]["source"] += "\n\nmy note"
    fetch(url, "PUT", {key: model[key] for key in ("type", "format", "content")})
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "home" not in path.parts}
    changed = {path for path in after if before.get(path) != after[path] and ".ipynb_checkpoints" not in path.parts}
    assert changed == {folder / "work" / BOOK.chapters[2].notebook.name}


def test_help_says_what_it_takes():
    said = subprocess.run([sys.executable, "-m", "tools.lab", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0 and "--no-browser" in said.stdout
