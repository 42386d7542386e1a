"""The gate before shipping: compare two models, or their saved answers, and return an exit code.

0 means HELD, 1 REGRESSED, 3 UNDERPOWERED, and 2 that no comparison was made. A script has to tell
them apart: one that stops only at 1 also ships every model that could not be judged.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from caplab.measuring.cache import Manner, answers_of
from caplab.measuring.compare import compare
from caplab.measuring.lm_eval import exam_from_lm_eval, is_lm_eval, scorecard_from_lm_eval
from caplab.measuring.lost import Lost, lost_answers
from caplab.measuring.policy import Policy
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED, Report
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question
from caplab.questions.exam import exam as load_exam
from caplab.support.errors import BadInput, require_type
from caplab.support.files import append, as_path, write_atomically
from caplab.watching.gate_summaries import junit, markdown

__all__ = [
    "EXIT_CODES",
    "FAILED",
    "Decision",
    "gate",
    "scorecard_of",
    "with_groups",
]

EXIT_CODES = {HELD: 0, REGRESSED: 1, UNDERPOWERED: 3}
FAILED = 2  # as argparse uses it for a command that it cannot parse
_FORMAT = "caplab gate 2"

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Decision:
    """What the gate found: the report, the answers behind it and, if known, the questions."""

    report: Report
    before: Scorecard
    after: Scorecard
    exam: Exam | None

    @property
    def exit_code(self) -> int:
        """Return the number that a script acts on."""
        return EXIT_CODES[self.report.verdict]

    @property
    def lost(self) -> list[tuple[Question, str]]:
        """Return each question that was lost, with the answer that it gets now.

        Spoken answers come first, then choices, then right ones that are no longer said.
        """
        return [(lost.question, lost.now) for lost in self.lost_answers]

    @property
    def lost_answers(self) -> list[Lost]:
        """Return the same with the answer that each question got before."""
        if self.exam is None or self.exam.fingerprint != self.before.fingerprint:
            return []
        return lost_answers(self.before, self.after, self.exam)

    def save_json(self, path: Source) -> None:
        """Write the decision as JSON: verdict, exit code, sentence and every row."""
        content = {
            "format": _FORMAT,
            "verdict": self.report.verdict,
            "exit_code": self.exit_code,
            "sentence": self.report.sentence,
            "warning": self.report.warning,
            "report": asdict(self.report),
        }
        write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def save_html(self, path: Source) -> None:
        """Write the decision as one HTML file, pictures included."""
        from caplab.watching.gate_page import page

        code, fingerprint = self.exit_code, self.before.fingerprint
        html = page(self.report, self.lost_answers, exit_code=code, fingerprint=fingerprint)
        write_atomically(path, html)

    def save_markdown(self, path: Source) -> None:
        """Write the decision as Markdown, for a pull request."""
        write_atomically(path, markdown(self.report, self.lost_answers))

    def append_markdown(self, path: Source) -> None:
        """Append the same to a file that others write, too, such as GitHub's job summary."""
        append(path, f"\n{markdown(self.report, self.lost_answers)}")

    def save_junit(self, path: Source) -> None:
        """Write the decision as JUnit XML, for a CI server."""
        write_atomically(path, junit(self.report))

    def __repr__(self) -> str:
        return f"{self.report!r}\n\nGate: {self.report.verdict}, exit code {self.exit_code}."


def gate(
    before: Source,
    after: Source,
    *,
    exam: Source | Exam | None = None,
    budget: float | None = None,
    policy: Policy | Source | None = None,
    strict: bool = False,
    manner: Manner | None = None,
    cache: bool = True,
) -> Decision:
    """Compare `after` with `before`, and decide whether it may ship.

    Each is a model (a name, a folder, an adapter's folder), a saved scorecard (.json), or what
    `lm_eval --log_samples` wrote (.jsonl, or a folder of such files). The kinds may be mixed: a
    base that was scored once need not be scored again. Models answer `exam`; without one, they
    answer the questions of the lm_eval file on the other side, or else the classics. `budget`,
    `policy` and `strict` are those of `compare`. `manner` says how models are loaded and asked;
    what they answer is kept on this disk, and used again unless `cache` is False.
    """
    agreed = Policy.taken(policy, budget, None)
    sources = [_named(source) for source in (before, after)]
    asked = exam if isinstance(exam, Exam) else _exam(exam, [_kind(source) for source in sources])
    if asked is not None:
        agreed.check_covers(asked.name, asked.capabilities)  # before hours of scoring
    cards = (scorecard_of(source, asked, manner, cache=cache) for source in sources)
    old, new = (with_groups(card, asked) for card in cards)
    for card in (old, new):
        if exam is not None and asked is not None and card.fingerprint != asked.fingerprint:
            raise BadInput(f"{card.subject} answered {card.exam!r}, not {asked.name!r}.")
    return Decision(compare(old, new, policy=agreed, strict=strict), old, new, asked)


def scorecard_of(
    source: Source, exam: Exam | None = None, manner: Manner | None = None, *, cache: bool = True
) -> Scorecard:
    """Read the saved answers in a source, or ask the model that it names."""
    kind, path = _kind(_named(source))
    if kind == "scorecard":
        return Scorecard.load(path)
    if kind == "samples":
        return scorecard_from_lm_eval(path)
    return answers_of(_named(source), exam or load_exam(), manner, keep=cache)


def with_groups(card: Scorecard, exam: Exam | None) -> Scorecard:
    """Return answers with their exam's groups: scorecards of caplab 0.1 were saved without any."""
    if exam is None or any(card.group) or card.fingerprint != exam.fingerprint:
        return card
    groups = tuple(question.group for question in exam.questions)
    return replace(card, group=groups) if any(groups) else card


def _named(source: Source) -> str:
    """Return the name or path of a source."""
    require_type(
        source,
        (str, os.PathLike),
        "The gate takes a name or a path (for two Scorecards use compare(before, after))",
    )
    return os.fspath(source)


def _kind(source: str) -> tuple[str, Path]:
    """Return the kind of a source ("scorecard", "samples" or "model") and its path."""
    path = as_path(source)
    if path.suffix == ".json":
        return "scorecard", path
    return ("samples" if source != "pocket" and is_lm_eval(path) else "model"), path


def _exam(given: Source | None, sources: list[tuple[str, Any]]) -> Exam | None:
    """Load the exam for models to answer, or the questions that the HTML page shows."""
    samples = [path for kind, path in sources if kind == "samples"]
    if given is not None or not samples:
        return load_exam("classics" if given is None else given)
    try:
        return exam_from_lm_eval(samples[0])
    except BadInput:
        if any(kind == "model" for kind, _ in sources):
            raise
        return None
