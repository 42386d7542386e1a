"""What is solved of a lesson, and the certificate: one page without scripts, made locally."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from caplab.support import __version__
from caplab.support.safe_text import html_text

__all__ = ["Count", "LessonDone", "certificate_page"]

_LONGEST = 200  # characters of a name
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 17px/1.55 Georgia, serif; max-width: 46em; margin: 3em auto; padding: 2em; }
main { border: 3px double currentColor; padding: 2em 3em; }
h1 { font-weight: normal; margin-top: 0; }
table { border-collapse: collapse; width: 100%; }
td, th { padding: .25em .5em; text-align: left; }
td.n, th.n { text-align: right; white-space: nowrap; }
small { display: block; margin-top: 2em; }
@page { margin: 15mm; }
@media print { body { margin: 0; padding: 0; } }
"""
_MEANING = """It was made on the learner's own computer, from what the checks of the course found
right there. Nobody watched, and the worked solutions are open to all."""


@dataclass(frozen=True)
class Count:
    """How many of how many are done."""

    done: int
    of: int
    what: str

    def __str__(self) -> str:
        return f"{self.done} of {self.of}"

    def _repr_html_(self) -> str:
        dots = "●" * self.done + "○" * (self.of - self.done)
        said = html_text(f"{self.what}: {self}")
        return f'<span role="img" aria-label="{said}" title="{said}">{self.what} {dots}</span>'


@dataclass(frozen=True)
class LessonDone:
    """What is solved of one lesson: each exercise and question with its day, or None."""

    number: str
    title: str
    exercise_days: Mapping[str, str | None]
    question_days: Mapping[str, str | None]

    @property
    def words(self) -> str:
        """Return the number and the title."""
        return f"{self.number} {self.title}"

    @property
    def exercises(self) -> Count:
        """Count the exercises."""
        return _count(self.exercise_days, "exercises")

    @property
    def questions(self) -> Count:
        """Count the questions of the quiz."""
        return _count(self.question_days, "quiz")

    @property
    def days(self) -> list[str]:
        """List the days on which something was solved, in order."""
        found = [*self.exercise_days.values(), *self.question_days.values()]
        return sorted({day for day in found if day})


def _count(days: Mapping[str, str | None], what: str) -> Count:
    return Count(sum(day is not None for day in days.values()), len(days), what)


def certificate_page(name: str, done: Sequence[LessonDone]) -> str:
    """Write the whole page."""
    days = sorted({day for each in done for day in each.days})
    whole = all(
        count.done == count.of for each in done for count in (each.exercises, each.questions)
    )
    of = "the whole course" if whole else "a part of the course"
    who = html_text(" ".join(name.split()), _LONGEST) or "A learner"
    rows = "".join(
        f'<tr><td>{html_text(each.words)}</td><td class="n">{each.exercises}</td>'
        f'<td class="n">{each.questions}</td><td class="n">{_last(each)}</td></tr>'
        for each in done
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>Capability Regression Lab: {who}</title><style>{_STYLE}</style></head>",
            f"<body><main><h1>Capability Regression Lab</h1><p><b>{who}</b> solved {of}, ",
            f"from {html_text(days[0])} to {html_text(days[-1])}.</p>",
            '<table><thead><tr><th>lesson</th><th class="n">exercises</th>',
            '<th class="n">quiz</th><th class="n">last on</th></tr></thead>',
            f"<tbody>{rows}</tbody></table>",
            f"<small>{_MEANING} Written on {date.today().isoformat()} by caplab {__version__}.",
            "</small></main></body></html>\n",
        ]
    )


def _last(each: LessonDone) -> str:
    return html_text(each.days[-1]) if each.days else "-"
