"""Open the built site in headless Chromium and count what a reader can't see: cut code, outputs, equations, pages.

    python -m tools.measure_page [--site DIR] [--widths 390 1400 1920] [--pages NAME ...]

Needs `make book` first and Chromium or Chrome on the PATH; asks no other host for anything.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from reference.book.manifest import ROOT

WIDTHS = [390, 1400, 1920]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
    "--remote-allow-origins=*", "--hide-scrollbars",
]  # fmt: skip
# Folded cells are opened before they are measured; an element is cut where its contents are wider than itself.
COUNT = """(async () => {
  document.querySelectorAll("details").forEach((d) => (d.open = true));
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  const of = (query) => [...document.querySelectorAll(query)];
  await new Promise((done) => setTimeout(done, 50));
  const end = (e) => e.getBoundingClientRect().right;
  const ends = (e) => Math.max(0, ...[...e.querySelectorAll("mjx-math, mjx-math > *")].map(end));
  const cut = (found) => found.filter((e) => e.scrollWidth > e.clientWidth + 1 || ends(e) > end(e) + 2);
  const lines = of(".cell_input .line");
  const equations = of(".bd-article div.math");
  const result = {page: document.documentElement.scrollWidth > window.innerWidth ? ["wider than the window"] : []};
  for (const [name, found] of Object.entries({
    input: of(".cell_input pre"), output: of(".cell_output pre"), equation: equations, figure: of("figure > a"),
  })) result[name] = [found.length, cut(found).map((e) => e.textContent.trim().slice(0, 60))];
  const numbers = of(".equation-number").filter((e) => end(e) > window.innerWidth);
  result.wrapped = [lines.length, lines.filter((e) => e.getClientRects()[0]?.height > 30).length];
  const raw = equations.filter((e) => !e.querySelector("mjx-container") || e.querySelector("mjx-merror"));
  if (numbers.length) result.page.push("an equation's number outside the window");
  if (raw.length) result.page.push("an equation that MathJax did not set");
  result.small = equations.filter((e) => parseFloat(e.style.fontSize || 100) < 70).map((e) => e.parentElement.id);
  return result;
})()"""


def find_browser() -> str | None:
    """The path of Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Tab:
    """One page of a browser, driven over the DevTools protocol; errors of its console are kept."""

    def __init__(self, address: str):
        from websocket import create_connection  # comes with jupyter; only this tool needs it

        self.socket, self.sent, self.errors, self.loaded = create_connection(address, timeout=60), 0, [], False
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict:
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv())).get("id") != self.sent:
            self._note(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def _note(self, message: dict) -> None:
        content = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Runtime.exceptionThrown":
                self.errors.append(content["exceptionDetails"]["text"])
            case "Runtime.consoleAPICalled" if content["type"] == "error":
                self.errors.append(" ".join(str(a.get("value", "")) for a in content["args"]))
            case "Log.entryAdded" if content["entry"]["level"] == "error":
                self.errors.append(content["entry"]["text"])

    def open(self, address: str) -> None:
        self.loaded, self.errors = False, []
        self.call("Page.navigate", url=address)
        while not self.loaded:
            self._note(json.loads(self.socket.recv()))

    def close(self) -> None:
        self.socket.close()

    def width(self, pixels: int) -> None:
        size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def value(self, script: str) -> object:
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", "a script failed"))
        return answer["result"].get("value")


@contextlib.contextmanager
def browser(program: str) -> Iterator[Tab]:
    """A headless browser with a profile of its own, ended afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with contextlib.closing(Tab(_address(Path(profile) / "DevToolsActivePort", process))) as tab:
                yield tab
        finally:
            process.terminate()
            process.wait(timeout=20)


def _address(port_file: Path, process: subprocess.Popen, seconds: float = 30) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            port = int(port_file.read_text().splitlines()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                return next(t["webSocketDebuggerUrl"] for t in json.load(answer) if t["type"] == "page")
        time.sleep(0.1)
    raise RuntimeError("the browser did not start")


def measure(tab: Tab, page: Path, width: int) -> dict:
    """What is cut on one page at one width, and the console's errors."""
    tab.width(width)
    tab.open(page.as_uri())
    return tab.value(COUNT) | {"errors": list(tab.errors)}


def report(site: Path, pages: list[Path], widths: list[int], program: str) -> bool:
    """Print the counts of each width; True where nothing is cut."""
    fine = True
    with browser(program) as tab:
        for width in widths:
            total, wrong = {}, []
            for page in pages:
                found = measure(tab, page, width)
                for kind in ("input", "output", "equation", "figure"):
                    count, cut = found[kind]
                    have = total.get(kind, (0, 0))
                    total[kind] = (have[0] + count, have[1] + len(cut))
                    if kind != "figure":
                        wrong += [f"{kind} cut: {text!r}, {page.stem}" for text in cut]
                lines, wrapped = found["wrapped"]
                have = total.get("line of code wrapped", (0, 0))
                total["line of code wrapped"] = (have[0] + lines, have[1] + wrapped)
                wrong += [f"{error}, {page.stem}" for error in [*found["errors"], *found["page"]]]
                wrong += [f"equation set smaller than 70 %: {name}, {page.stem}" for name in found["small"]]
            print(f"{width} px: " + ", ".join(f"{kind} {cut} of {count}" for kind, (count, cut) in total.items()))
            print("".join(f"    {line}\n" for line in wrong), end="")
            fine = fine and not wrong
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--site", type=Path, default=ROOT / "build" / "html", help="the built site (default: build/html)"
    )
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="widths of the window in pixels")
    parser.add_argument("--pages", nargs="+", help="only these pages, by the name of their file without .html")
    args = parser.parse_args()
    site = args.site.resolve()
    pages = [
        p for p in sorted(site.rglob("*.html")) if "_static" not in p.parts and p.stem not in ("search", "genindex")
    ]
    if args.pages:
        pages = [p for p in pages if p.stem in args.pages]
    if not pages:
        sys.exit(f"--site, --pages: no such page below {site}; `make book` builds the site")
    if not (program := find_browser()):
        sys.exit("No Chromium or Chrome on the PATH: the pages can't be measured here.")
    sys.exit(not report(site, pages, args.widths, program))


if __name__ == "__main__":
    main()
