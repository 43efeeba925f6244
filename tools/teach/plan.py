"""The plan: per chapter what to do in 60 and in 90 minutes, at home, and which misconceptions to expect."""

from reference.book.manifest import Manifest
from tools.teach.reading import Exercise, Lesson, Section

QUESTIONS = 10  # minutes of a lesson
COURSE = """## A course of six weeks

Two lessons a week of 90 minutes. A week's exercises marked *core* are homework; *useful* and *extra* are for those who
want more.

| week | first lesson | second lesson |
|---|---|---|
| 1 | 00 The wall | 01 From perceptron to delta rule |
| 2 | 02 A matrix as memory | 03 Learning to forget |
| 3 | 04 Chunks | 05 Softmax attention, properly |
| 4 | 06 Attention sinks and massive activations | 07 The two blocks |
| 5 | 08 Choosing what to read | 09 The hybrid model |
| 6 | 10 Where efficiency falters | 11 The ledger |

Chapters after these stand by themselves. A seminar can give each to one group: {rest}.
"""


def in_class(sections: list[Section], minutes: int) -> tuple[list[Section], list[Section]]:
    """(the sections that fit into so many minutes, in order, the others)."""
    left, taken, others = minutes, [], []
    for section in sections:
        (taken if section.minutes <= left else others).append(section)
        left -= section.minutes if section.minutes <= left else 0
    return taken, others


def exercises_in_class(lesson: Lesson, minutes: int) -> list[Exercise]:
    """The exercises that fit into so many minutes: first those marked core, then useful ones."""
    taken = []
    for weight in ("core", "useful"):
        for exercise in of_weight(lesson, weight):
            if sum(e.minutes for e in taken) + exercise.minutes <= minutes:
                taken.append(exercise)
    return [exercise for exercise in lesson.exercises if exercise in taken]


def of_weight(lesson: Lesson, weight: str) -> list[Exercise]:
    """The chapter's exercises with that mark of importance."""
    return [e for e in lesson.exercises if e.weight == weight]


def plan_of(lesson: Lesson) -> str:
    """One chapter's part of the plan."""
    lines = [f"## {lesson.title}", "", f"**Question.** {lesson.question}", ""]
    needs, minutes = ", ".join(lesson.chapter.needs), lesson.chapter.minutes
    lines += [f"**They need** {needs}. **The notebook runs** in at most {minutes} minutes.", ""]
    lines += ["**After it they can**", "", *(f"- {goal}" for goal in lesson.goals), ""]
    for minutes in (60, 90):
        taken, others = in_class(lesson.sections, minutes - QUESTIONS)
        left = minutes - QUESTIONS - sum(section.minutes for section in taken)
        solved = exercises_in_class(lesson, left)
        lines += [f"**{minutes} minutes**, of them {QUESTIONS} for questions", ""]
        lines += ["- in class: " + "; ".join(f"{s.title} ({s.minutes})" for s in taken)]
        if solved:
            lines += [
                "- then, everyone in their own notebook: "
                + "; ".join(f"exercise {e.number} ({e.minutes})" for e in solved)
            ]
        homework = [e.number for e in of_weight(lesson, "core") if e not in solved]
        read = [f"to read {s.title}" for s in others]
        if homework:
            read.append(f"exercises {', '.join(homework)}" if len(homework) > 1 else f"exercise {homework[0]}")
        lines += [f"- at home: {'; '.join(read or ['the other exercises, for those who want more'])}", ""]
    lines += ["**Exercises**", "", "| | exercise | difficulty | importance | minutes |", "|---|---|---|---|---|"]
    lines += [f"| {e.number} | {e.title} | {e.stars} | {e.weight or '-'} | {e.minutes} |" for e in lesson.exercises]
    lines += ["", "**Misconceptions and slips** that the verdicts recognize", ""]
    for exercise in lesson.exercises:
        lines += [f"- {exercise.number}: {idea}" for idea in exercise.misconceptions]
    return "\n".join([*lines, ""])


def plan(lessons: list[Lesson], book: Manifest) -> str:
    """plan.md."""
    rest = "; ".join(lesson.title for lesson in lessons if lesson.chapter.number > 11)
    about = (
        "Minutes of sections are estimates: 150 words a minute, 0.7 minutes for each cell that is run, and 2 for each "
        "prediction that the class votes on and discusses. Minutes of exercises are the book's. "
        "Slides, figures and questions of this pack have the same numbers as the chapters."
    )
    parts = [
        f"# Teaching plan: {book.title}",
        about,
        COURSE.format(rest=rest),
        *(plan_of(lesson) for lesson in lessons),
    ]
    return "\n\n".join(parts)
