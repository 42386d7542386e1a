"""How long a lesson takes: what it says, shows and runs, and apart from it the exercises.

The rates are for somebody whose first language may not be English and who looks at each result.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import jupytext
from nbformat import NotebookNode

WORDS_A_MINUTE = 150
LINES_A_MINUTE = 20  # of code, read and understood
SECONDS_A_CELL = 10  # to run it and look at what it shows
SECONDS_A_GUESS = 15
SECONDS_A_TRAINING = 10  # on two cores, one of the course's trainings with both its exams
SECONDS_A_PANEL = 150  # a few trainings of one's own
SECONDS_A_QUESTION = 40  # of the quiz
EXERCISE = re.compile(r"^\*(?:Easy|Medium|Hard), (\d+) minutes\.\*", re.MULTILINE)
DAY = ("00", "01", "02", "03", "04", "05", "06", "07")  # the lessons of the plan of a day
BREAKS = {"02": 10, "04": 60, "06": 10}  # minutes, before these lessons
QUIZZES = Path(__file__).resolve().parents[1] / "caplab/teaching/lessons"


def reading_minutes(name: str, cells: Sequence[NotebookNode]) -> int:
    """Estimate the minutes to read and run a lesson without its exercises, in steps of five."""
    prose = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    seconds = 60 * len(prose.split()) / WORDS_A_MINUTE
    seconds += sum(60 * len(source.splitlines()) / LINES_A_MINUTE for source in code)
    seconds += SECONDS_A_CELL * len(code)
    for call, each in (
        ("cl.predict(", SECONDS_A_GUESS),
        ("fine_tune(", SECONDS_A_TRAINING),
        (".train(", SECONDS_A_TRAINING),
        ("train_in_turn(", 3 * SECONDS_A_TRAINING),
        ("cl.explorer(", SECONDS_A_PANEL),
    ):
        seconds += each * sum(source.count(call) for source in code)
    seconds += SECONDS_A_QUESTION * quiz_questions(name[:2])
    return max(5, 5 * round(seconds / 60 / 5))


def quiz_questions(number: str) -> int:
    """Count the questions of a lesson's quiz; a lesson may have none."""
    path = QUIZZES / f"lesson_{number}.toml"
    return len(tomllib.loads(path.read_text("utf-8")).get("quiz", [])) if path.exists() else 0


def exercise_minutes(cells: Sequence[NotebookNode]) -> int:
    """Add up what the exercises say of themselves."""
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return sum(int(minutes) for text in prose for minutes in EXERCISE.findall(text))


def times(root: Path) -> dict[str, tuple[int, int]]:
    """Return the minutes of each lesson, by its number: reading and running, exercises."""
    found = {}
    for path in sorted(root.glob("lessons/[0-9]*.md")):
        text = path.read_text("utf-8")
        cells = jupytext.reads(text, {"extension": ".md", "split_at_heading": True}).cells[1:]
        found[path.stem[:2]] = reading_minutes(path.stem, cells), exercise_minutes(cells)
    return found


def day_plan(minutes: dict[str, tuple[int, int]], titles: dict[str, str]) -> list[str]:
    """Write the plan of a whole day as the rows of a table, breaks included."""
    rows = ["| from | lesson | to read and run | exercises |", "| --- | --- | --- | --- |"]
    now = 0
    for number in DAY:
        reading, exercises = minutes[number]
        if pause := BREAKS.get(number):
            rows.append(f"| {clock(now)} | {pause} minutes' break | | |")
            now += pause
        lesson = f"{number} {titles[number]}"
        rows.append(f"| {clock(now)} | {lesson} | {reading} | {exercises} |")
        now += 5 * -(-(reading + exercises) // 5)
    return [*rows, f"| {clock(now)} | the end | | |"]


def clock(minutes: int) -> str:
    """Write a time since the beginning: 1:05."""
    return f"{minutes // 60}:{minutes % 60:02}"
