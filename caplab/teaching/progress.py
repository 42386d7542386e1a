"""`progress`: what a learner has solved, kept in one private file of the learner's own.

The file holds names of exercises and numbers of quiz questions with the day on which each was
right: no answers, no wrong tries, no name. Nothing is sent. Deleting it is all it takes to begin
anew. A lesson goes on where the file cannot be read or written, and the strip says why.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from caplab.support.errors import BadInput, require_type
from caplab.support.files import (
    as_path,
    draft_for,
    from_json,
    make_folder,
    read_text,
    remove,
    write_atomically,
)
from caplab.support.safe_text import html_text
from caplab.support.tables import text_table
from caplab.teaching.certificate import LessonDone, certificate_page
from caplab.teaching.lessons import lesson as read_lesson
from caplab.teaching.lessons import lessons
from caplab.teaching.notes import Note

__all__ = ["Progress", "exercise_solved", "progress", "progress_file", "question_answered"]

_FORMAT = "caplab progress 1"
_KINDS = ("exercises", "questions")
_PATIENCE = 5.0  # seconds for another kernel to finish its writing, which takes milliseconds
_trouble = ""  # what the learner has to know about the file, until the next strip says it


def progress_file() -> Path:
    """Return the file of this learner, whether it is there or not.

    The environment variable `CAPLAB_PROGRESS` names another.
    """
    if given := os.environ.get("CAPLAB_PROGRESS"):
        return as_path(given).absolute()
    variable, usual = {
        "darwin": ("", "~/Library/Application Support"),
        "win32": ("LOCALAPPDATA", "~/AppData/Local"),
    }.get(sys.platform, ("XDG_DATA_HOME", "~/.local/share"))
    return as_path(os.environ.get(variable) or usual).absolute() / "caplab" / "progress.json"


# ---------------------------------------------------------------- what is kept


def exercise_solved(name: str) -> None:
    """Keep that an exercise is solved."""
    _keep("exercises", name)


def question_answered(lesson: str, number: int) -> None:
    """Keep that a question of a quiz is answered right."""
    _keep("questions", f"{lesson}_{number}")


def _keep(kind: str, name: str) -> None:
    """Add a name and today's date, unless the name is there; a lesson goes on where that fails."""
    global _trouble
    try:
        path = progress_file()
        with _turn(path):
            kept = _read(path)
            if name not in kept[kind]:
                kept[kind][name] = date.today().isoformat()
                _write(path, kept)
    except (BadInput, OSError) as error:
        _trouble = f"What you solved last was not kept: {error}"


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Let one kernel at a time read and write the file."""
    if not path.parent.is_dir():
        make_folder(path.parent)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE, mode=0o600):
            yield
    except Timeout as error:
        advice = "If no other notebook runs, delete this file"
        raise BadInput(f"another kernel is writing. {advice}: {error.lock_file}") from error


def _write(path: Path, kept: dict[str, dict[str, str]]) -> None:
    """Write the file whole or not at all, for its owner alone."""
    text = json.dumps({"format": _FORMAT, **kept}, indent=1, sort_keys=True) + "\n"
    with draft_for(path) as draft:
        # Made so, and not changed afterwards: at no moment can another user read it.
        made = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(made, text.encode())
        os.close(made)


def _read(path: Path) -> dict[str, dict[str, str]]:
    """Read what is kept; put a file aside that holds something else."""
    global _trouble
    if not path.exists():
        return {kind: {} for kind in _KINDS}
    try:
        return _understood(from_json(read_text(path, "progress file")))
    except BadInput as error:
        if isinstance(error.__cause__, OSError):
            raise
        aside = path.with_name(f"{path.name}.broken")
        os.replace(path, aside)
        _trouble = f"{path} could not be understood, so it was put aside as {aside.name}."
        return {kind: {} for kind in _KINDS}


def _understood(found: Any) -> dict[str, dict[str, str]]:
    """Return the content of a file, or refuse it."""
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise BadInput("another format")
    kept = {kind: found.get(kind) for kind in _KINDS}
    for names in kept.values():
        if not isinstance(names, dict) or not all(isinstance(day, str) for day in names.values()):
            raise BadInput("no names with their days")
    return kept  # type: ignore[return-value]


# ---------------------------------------------------------------- what is shown


@dataclass(frozen=True)
class Progress:
    """What is solved of one lesson and of all, to be shown at the head of a lesson."""

    lesson: str | None
    done: tuple[LessonDone, ...]
    file: Path
    trouble: str = ""

    def certificate(
        self, name: str = "", path: str | os.PathLike[str] = "certificate.html"
    ) -> Note:
        """Write a page that says what was solved and when; it is made here and sent nowhere."""
        require_type(name, str, "A name is a string")
        if not any(each.days for each in self.done):
            raise BadInput("Nothing is solved yet, so there is nothing to certify.")
        write_atomically(path, certificate_page(name, self.done))
        return Note("Written", f"`{path}`. Open it in a browser; print it from there.")

    def forget(self) -> Note:
        """Delete the file, and begin anew."""
        remove(self.file)
        return Note("Forgotten", "Nothing is kept of what you solved. Run the first cell again.")

    def _shown(self) -> tuple[LessonDone, ...]:
        """Return the lesson asked for, or all."""
        return tuple(each for each in self.done if self.lesson in (None, each.number))

    def __repr__(self) -> str:
        rows = [
            (each.words, f"{each.exercises} exercises", f"{each.questions} quiz questions")
            for each in self._shown()
        ]
        return "\n".join(filter(None, [*text_table(rows), self._course(), self.trouble]))

    def _course(self) -> str:
        """Count the whole course in one sentence."""
        exercises = [each.exercises for each in self.done]
        questions = [each.questions for each in self.done]
        solved, right = (sum(one.done for one in each) for each in (exercises, questions))
        of, asked = (sum(one.of for one in each) for each in (exercises, questions))
        counted = f"{solved} of {of} exercises solved, {right} of {asked} quiz questions answered"
        return f"The course so far: {counted}."

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<div><b>{html_text(each.words)}</b>&emsp;{each.exercises._repr_html_()}"
            f"&emsp;{each.questions._repr_html_()}</div>"
            for each in self._shown()
        )
        last = " ".join(filter(None, [self._course(), self.trouble]))
        style = "max-width: 46em; line-height: 1.6"
        return f'<div style="{style}">{rows}<small>{html_text(last)}</small></div>'


def progress(lesson: str | None = None) -> Progress:
    """Show what you have solved: of the whole course, or of one lesson such as "01"."""
    global _trouble
    if lesson is not None:
        read_lesson(lesson)  # says which there are
    kept: dict[str, dict[str, str]] = {kind: {} for kind in _KINDS}
    file = progress_file()
    try:
        if file.exists():
            with _turn(file):
                kept = _read(file)
    except (BadInput, OSError) as error:
        _trouble = f"What you solved cannot be read: {error}"
    said, _trouble = _trouble, ""
    return Progress(lesson, tuple(_done(number, kept) for number in lessons()), file, said)


def _done(number: str, kept: dict[str, dict[str, str]]) -> LessonDone:
    """Compare what is kept with what a lesson asks; what it no longer asks is left out."""
    found = read_lesson(number)
    asked = [f"{number}_{place + 1}" for place in range(len(found.quiz))]
    exercises, questions = (
        {name: kept[kind].get(name) for name in names}
        for kind, names in zip(_KINDS, (found.hints, asked), strict=True)
    )
    return LessonDone(number, found.title, exercises, questions)
