"""Start several processes on this machine, as torchrun would, and wait for them."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from reference.arguments import check_positive_int

POLL = 0.2  # seconds between two looks


def launch(processes: int, arguments: list[str], *, timeout: float = 300.0) -> str:
    """Run `torchrun --nproc-per-node processes arguments...` and return what the processes printed, rank by rank.

    arguments: a script's path, or -m and a module, then its own.

    Raises RuntimeError with the end of its error output if it fails or takes longer than timeout seconds.
    """
    check_positive_int("processes", processes)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with (
        tempfile.TemporaryDirectory() as place,  # a file for each process: in one, their lines get mixed
        tempfile.TemporaryFile("w+") as err,
        subprocess.Popen(
            [*command, "--redirects", "1", "--log-dir", place, *arguments], stdout=err, stderr=err, text=True
        ) as running,
        tqdm(total=timeout, desc=f"{processes} processes", bar_format="{desc}: {n:.0f} s", file=sys.stdout) as bar,
    ):
        while running.poll() is None and bar.n < timeout:
            try:
                running.wait(POLL)
            except subprocess.TimeoutExpired:
                bar.update(POLL)
        running.terminate()
        status = running.wait()
        err.seek(0)
        if status:
            raise RuntimeError(f"launch: ended with status {status}\n{err.read()[-2000:]}")
        printed = sorted(Path(place).rglob("stdout.log"), key=lambda path: int(path.parent.name))
        return "".join(path.read_text(encoding="utf-8") for path in printed)
