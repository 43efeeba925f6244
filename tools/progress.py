"""`make progress`: which exercises are solved, chapter by chapter."""

import re

from reference.book.manifest import read_manifest
from reference.checks.progress import solved

EXERCISE = re.compile(r"^### Exercise (\d+\.\d+) · (.+)$", re.M)


def progress_table(done: list[str]) -> str:
    """A line per chapter: a mark per exercise, how many are solved, and the next one."""
    lines, count, total = [], 0, 0
    for chapter in read_manifest().chapters:
        exercises = EXERCISE.findall(chapter.text.read_text(encoding="utf-8"))
        left = [f"{number} {title}" for number, title in exercises if number not in done]
        marks = "".join("●" if number in done else "○" for number, _ in exercises)
        say = f"next: {left[0]}" if left else "all solved"
        here = len(exercises) - len(left)
        lines.append(f"{chapter.number:02d} {chapter.title:40s} {marks:8s} {here} of {len(exercises)}  {say}")
        count, total = count + here, total + len(exercises)
    return "\n".join([*lines, f"{count} of {total} exercises solved"])


def main() -> None:
    print(progress_table(solved()))


if __name__ == "__main__":
    main()
