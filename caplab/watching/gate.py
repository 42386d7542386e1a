"""The gate before shipping: compare two models, or what is known of them, and answer by a number.

0 says HELD, 1 REGRESSED, 3 UNDERPOWERED, and 2 that no comparison came about. A script has to
treat them apart: who lets everything pass that is not 1 ships what nobody could judge.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caplab.measuring.compare import check_options, compare
from caplab.measuring.lm_eval import exam_from_lm_eval, is_lm_eval, scorecard_from_lm_eval
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED, Report
from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question
from caplab.questions.exam import exam as load_exam
from caplab.support.errors import BadInput, require_type
from caplab.support.files import as_path, check_target, remove, write_atomically

__all__ = ["EXIT_CODES", "FAILED", "Decision", "clear_outputs", "gate", "scorecard_of"]

EXIT_CODES = {HELD: 0, REGRESSED: 1, UNDERPOWERED: 3}
FAILED = 2  # as argparse has it for a command that nobody understands
_FORMAT = "caplab gate 1"

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Decision:
    """What the gate found: the report, the answers behind it and, where known, the questions."""

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
        """Return each question that was answered right before, with the answer given now."""
        if self.exam is None or self.exam.fingerprint != self.before.fingerprint:
            return []
        answers = zip(self.exam.questions, self.before.correct, self.after.chosen, strict=True)
        return [(q, q.choices[now]) for q, right, now in answers if right and now != q.answer]

    def save_json(self, path: Source) -> None:
        """Write the decision for machines: verdict, exit code, sentence and every row."""
        said = {"verdict": self.report.verdict, "exit_code": self.exit_code}
        said["sentence"] = self.report.sentence
        content = {"format": _FORMAT, **said, "report": asdict(self.report)}
        write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def save_html(self, path: Source) -> None:
        """Write the decision for people: one file with its pictures inside."""
        from caplab.watching.gate_page import page

        code, fingerprint = self.exit_code, self.before.fingerprint
        told = page(self.report, self.lost, exit_code=code, fingerprint=fingerprint)
        write_atomically(path, told)

    def __repr__(self) -> str:
        return f"{self.report!r}\n\nGate: {self.report.verdict}, exit code {self.exit_code}."


def gate(
    before: Source, after: Source, *, exam: Source | Exam | None = None, budget: float = 0.02
) -> Decision:
    """Judge what became of `before` in `after`.

    Each is a model (a name, a folder, an adapter's folder), a scorecard that `save` wrote (.json),
    or what `lm_eval --log_samples` wrote (.jsonl, or the folder of such files). The kinds mix: a
    base that was scored once need not be scored again. Models answer `exam`; left out, that is the
    exam of the lm_eval file on the other side, else the classics.
    """
    check_options(budget, 0.95, "accuracy")
    sources = [_named(source) for source in (before, after)]
    asked = exam if isinstance(exam, Exam) else _exam(exam, [_kind(source) for source in sources])
    old, new = (scorecard_of(source, asked) for source in sources)
    for card in (old, new):
        if exam is not None and asked is not None and card.fingerprint != asked.fingerprint:
            raise BadInput(f"{card.subject} answered {card.exam!r}, and not {asked.name!r}.")
    return Decision(compare(old, new, budget=budget), old, new, asked)


def scorecard_of(source: Source, exam: Exam | None = None) -> Scorecard:
    """Read the answers that a source holds, or ask the model that it names."""
    kind, path = _kind(_named(source))
    if kind == "scorecard":
        return Scorecard.load(path)
    if kind == "samples":
        return scorecard_from_lm_eval(path)
    from caplab.models.load import load

    return score(load(source), exam or load_exam())


def clear_outputs(*outputs: Path | None, keep: Iterable[Source] = ()) -> None:
    """Remove old results, so that none outlives a failure; refuse a place that takes no new ones.

    Before anything is scored: a typing error is then told in the first second.
    """
    taken = {as_path(source).resolve(): "an input" for source in keep}
    places = [check_target(output) for output in outputs if output is not None]
    for place in places:
        if use := taken.get(place.resolve()):
            raise BadInput(f"{place} is {use}: it would be overwritten. Name another file.")
        taken[place.resolve()] = "a result, too"
    for place in places:
        remove(place)


def _named(source: Source) -> str:
    """Return the name of what is to be judged; what is at hand already, `compare` takes."""
    require_type(
        source,
        (str, os.PathLike),
        "The gate takes a name or a path (for two scorecards at hand: compare(before, after))",
    )
    return os.fspath(source)


def _kind(source: str) -> tuple[str, Path]:
    """Tell what a source is: "scorecard", "samples" or "model"."""
    path = as_path(source)
    if path.suffix == ".json":
        return "scorecard", path
    return ("samples" if source != "pocket" and is_lm_eval(path) else "model"), path


def _exam(given: Source | None, sources: list[tuple[str, Any]]) -> Exam | None:
    """Choose what models are asked; where there is none, the questions are for the page alone."""
    samples = [path for kind, path in sources if kind == "samples"]
    if given is not None or not samples:
        return load_exam("classics" if given is None else given)
    try:
        return exam_from_lm_eval(samples[0])
    except BadInput:
        if any(kind == "model" for kind, _ in sources):
            raise
        return None
