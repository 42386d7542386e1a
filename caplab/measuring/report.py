"""Two scorecards compared: rows for capabilities, overall rows, and the verdict on the whole.

The rules by which rows are judged stand at the head of `compare`; how the whole follows from the
rows stands here, in `Report.verdict`.
"""

import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from caplab.measuring.policy import ADVISORY, MUST_KEEP, TIERS
from caplab.questions.exam import OVERALL
from caplab.support.colours import VERDICTS, WHITE
from caplab.support.errors import BadInput, did_you_mean, explaining_failure, short_repr
from caplab.support.files import read_sealed, write_sealed
from caplab.support.safe_text import html_text, line_text
from caplab.support.tables import text_table
from caplab.support.text import format_number, format_signed, join_words
from caplab.support.typed import from_fields

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HELD", "REGRESSED", "UNDERPOWERED", "Report", "Row"]

REGRESSED, HELD, UNDERPOWERED = "REGRESSED", "HELD", "UNDERPOWERED"
KINDS = ("chosen", "said")
_FORMAT = "caplab report 2"
_OLD_FORMAT = "caplab report 1"
_MOST_ROWS = 200  # in a table that people read; what is saved has all of them
_LONGEST = 2000  # characters of a sentence


@dataclass(frozen=True)
class Row:
    """What became of one capability, or of all: the change, its intervals, the verdict.

    Levels and changes are means over groups, each of which counts the same.
    """

    name: str
    capability: str
    kind: str  # "chosen" among choices, or "said" in the model's own words
    n: int  # questions
    groups: int  # facts behind them: the independent pieces of evidence
    before: float
    after: float
    change: float
    low: float  # the row's own interval: its low end decides about HELD
    high: float
    joint_low: float  # corrected for all rows: its high end decides about REGRESSED
    joint_high: float
    p_value: float  # of no change; corrected as well
    verdict: str
    note: str
    budget: float
    tier: str
    lost: int  # questions answered right before and wrong after
    gained: int
    collapsed: int  # questions whose right answer is still preferred, but no longer said
    said_low: float  # as low, where an answer that is no longer said counts as lost
    seen_loss: float  # of these groups; what is no longer said counts, too
    kept: float  # what is left of the right answer's probability, typically (geometric mean)
    more_groups: int | None  # that would decide, if they came out like those seen

    @property
    def possible_loss(self) -> float:
        """Return how large a loss is not excluded: `up to .06 may be gone`."""
        return max(0.0, -min(self.low, self.said_low))

    @property
    def within_budget(self) -> bool:
        """Tell whether no larger loss than the budget was seen; a mean of shares is not exact."""
        return self.seen_loss <= self.budget + 1e-9

    @property
    def by_collapse(self) -> bool:
        """Tell a row that regressed for what is no longer said, and not by counting."""
        return self.verdict == REGRESSED and not self.joint_high < -self.budget

    @property
    def is_overall(self) -> bool:
        """Tell the rows over all capabilities from those of one."""
        return self.capability == OVERALL


@dataclass(frozen=True, repr=False)
class Report:
    """Two scorecards compared: rows for the capabilities, then the overall rows."""

    rows: tuple[Row, ...]
    budget: float
    confidence: float
    metric: str
    before: str
    after: str
    exam: str
    strict: bool = False  # every capability is treated as must-keep
    family: int = 1  # rows that are read together: REGRESSED is corrected for them
    identical: bool = False  # both answered bit for bit alike, which no training leaves

    @property
    def overall(self) -> Row:
        """Return the row over all questions: where there are two kinds, of what is said."""
        return next(row for row in self.rows if row.is_overall)

    @property
    def capabilities(self) -> tuple[Row, ...]:
        """Return the rows of the single capabilities."""
        return tuple(row for row in self.rows if not row.is_overall)

    @property
    def deciding(self) -> tuple[Row, ...]:
        """Return the rows that decide about the whole: all but the advisory ones."""
        return tuple(row for row in self.rows if row.tier != ADVISORY)

    @property
    def regressed(self) -> list[str]:
        """Name the deciding rows that regressed: empty unless the verdict is REGRESSED."""
        return [row.name for row in self.deciding if row.verdict == REGRESSED]

    @property
    def verdict(self) -> str:
        """Judge the whole.

        REGRESSED if any deciding row is. HELD only if nothing stands in the way: every overall row
        and every must-keep row is HELD itself, and no deciding row was seen to lose more than its
        budget. Else UNDERPOWERED.
        """
        if self.regressed:
            return REGRESSED
        return UNDERPOWERED if self.obstacles else HELD

    @property
    def obstacles(self) -> list[str]:
        """Say of each row that stands between the whole and HELD what is missing."""
        return [said for row in self.deciding if (said := self._obstacle(row))]

    def _obstacle(self, row: Row) -> str:
        seen, budget = format_number(row.seen_loss), format_number(row.budget)
        if row.verdict == REGRESSED:
            return f"{row.name} regressed"
        if not row.within_budget:
            return f"{row.name} was seen to lose {seen} (budget {budget}){_more(row)}"
        if row.verdict == HELD or not (row.is_overall or self.strict or row.tier == MUST_KEEP):
            return ""
        possible = format_number(row.possible_loss)
        return f"{row.name}: up to {possible} may be gone (budget {budget}){_more(row)}"

    @property
    def not_excluded(self) -> str:
        """Say how much may be gone of the capabilities that are not HELD themselves."""
        open_rows = [row for row in self.capabilities if row.verdict == UNDERPOWERED]
        losses = [f"{format_number(row.possible_loss)} of {row.name}" for row in open_rows]
        return f"not excluded: up to {join_words(losses)}" if losses else ""

    @property
    def sentence(self) -> str:
        """Say the finding in one line, with the reason where it is not in the numbers."""
        parts = [f"{self.levels}: {self.verdict} ({self.words(self.overall)})"]
        if self.verdict == REGRESSED:
            parts += self._by_verdict()
            parts += self._silenced()
        elif self.verdict == UNDERPOWERED:
            parts += [f"in the way: {', '.join(self.obstacles)}"]
        elif self.not_excluded:
            parts += [self.not_excluded]
        return line_text("; ".join(parts), _LONGEST)

    @property
    def warning(self) -> str:
        """Say what makes the comparison doubtful, whatever the verdict is; "" if nothing does."""
        if not self.identical:
            return ""
        return line_text(
            f"WARNING: {self.after} answered bit for bit like {self.before}, as a model does that "
            "was not trained, or whose adapter was not applied. Is it the one you meant to judge?",
            _LONGEST,
        )

    def _silenced(self) -> list[str]:
        """Say where it was not counting that convicted, but answers that are no longer said."""
        rows = [row for row in self.deciding if row.by_collapse]
        rows = [row for row in rows if not row.is_overall] or rows
        counts = [f"{row.collapsed} of {row.n} in {row.name}" for row in rows]
        return [f"preferred, but no longer said: {join_words(counts)}"] if counts else []

    def _by_verdict(self) -> list[str]:
        """Name the capabilities by verdict, worst first, where there is more than one verdict."""
        found = []
        for verdict in (REGRESSED, UNDERPOWERED, HELD):
            if names := [row.name for row in self.capabilities if row.verdict == verdict]:
                found.append(f"{verdict} in {join_words(names)}")
        if len(found) > 1:
            found[-1] = f"{found[-1].split()[0]} elsewhere"
        return found if len(found) > 1 else []

    @property
    def levels(self) -> str:
        """Say where the whole is and was: `classics .48, was .97`."""
        what = self.exam if self.metric == "accuracy" else f"{self.metric} on {self.exam}"
        after, before = map(format_number, (self.overall.after, self.overall.before))
        return f"{what} {after}, was {before}"

    @property
    def conditions(self) -> str:
        """Say what was compared with what, and by which rules."""
        budgets = {row.budget for row in self.rows}
        own = "" if len(budgets) == 1 else ", some capabilities their own"
        several = f"; REGRESSED corrected for {self.family} rows" * (self.family > 1)
        return line_text(
            f"{self.before} -> {self.after}; {self.metric}; budget {format_number(self.budget)}"
            f"{own}; {100 * self.confidence:.4g} % intervals{several}",
            _LONGEST,
        )

    def words(self, row: Row) -> str:
        """Say how a row changed: `-.49, 95 % from -.55 to -.42`."""
        change, low, high = map(self.format_change, (row.change, row.low, row.high))
        return f"{change}, {100 * self.confidence:.4g} % from {low} to {high}"

    def format_change(self, value: float) -> str:
        """Write a change as this metric is read: `-.49`, or `-99 %` of where it started."""
        if self.metric != "probability":
            return format_signed(value)
        return f"{100 * value:+.{1 if -1 < value < -0.99 else 0}f} %"

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        names = [row.name for row in self.rows]
        hint = did_you_mean(name, names) or f" It has {join_words(names)}."
        raise BadInput(f"This report has no row {short_repr(name)}.{hint}")

    def show(self) -> None:
        """Display the table in a notebook; print it elsewhere."""
        ipython = sys.modules.get("IPython")
        if ipython and ipython.get_ipython():
            from IPython.display import display

            display(self)  # type: ignore[no-untyped-call]
        else:
            print(self)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one line per row."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON, all of it or nothing."""
        write_sealed(path, {"format": _FORMAT, **asdict(self)}, allow_nan=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Report":
        """Read a report that `save` wrote."""
        data = read_sealed(path, "report")
        with explaining_failure(f"{os.fspath(path)} is not a report"):
            found = data.pop("format", None)
            if found == _OLD_FORMAT:
                raise BadInput(
                    f"{os.fspath(path)} was judged by the rules of caplab 0.1, which called losses "
                    "HELD. Judge the scorecards again: compare(before, after).save(path), or "
                    "caplab gate before.json after.json --json OUT."
                )
            if found != _FORMAT:
                raise BadInput(f"{os.fspath(path)} is not a report of this version of caplab.")
            report = from_fields(cls, data)
            report._check()
            return report

    def _check(self) -> None:
        """Refuse rows from which no verdict could follow."""
        if not any(row.is_overall for row in self.rows):
            raise BadInput("it has no row over all questions")
        for name, share in (("budget", self.budget), ("confidence", self.confidence)):
            if not 0 <= share <= 1:
                raise BadInput(f"its {name} is {short_repr(share)}, not a share of 1")
        for row in self.rows:
            for value, known in ((row.verdict, VERDICTS), (row.tier, TIERS), (row.kind, KINDS)):
                if value not in known:
                    raise BadInput(f"its row {row.name!r} is {value!r}, not {' or '.join(known)}")
            shares = (row.before, row.after, row.budget, row.p_value)
            if any(number != number for number in asdict(row).values()) or min(shares) < 0:
                raise BadInput(f"its row {short_repr(row.name)} has numbers that cannot be")

    def __repr__(self) -> str:
        table = text_table([_COLUMNS, *map(self._cells, self.worst(_MOST_ROWS))], _WORDS)
        table += [self._left_out] if self._left_out else []
        warning = [self.warning] if self.identical else []
        return "\n".join([*table, "", self.sentence, *warning, *self._notes(), self.conditions])

    def _repr_html_(self) -> str:
        """Write the table for a notebook; colours are inherited, so that dark themes work."""
        sides = ["left" if n in _WORDS else "right" for n in range(len(_COLUMNS))]
        head = "".join(
            f'<th style="text-align:{side};padding:.2em .6em">{column}</th>'
            for side, column in zip(sides, _COLUMNS, strict=True)
        )
        rows = "".join(map(self._html_row, self.worst(_MOST_ROWS)))
        notes = [self._left_out, *self._notes(), self.conditions]
        warning = f"<div><b>{html_text(self.warning)}</b></div>" if self.identical else ""
        shown = "".join(f"<div>{html_text(note)}</div>" for note in notes if note)
        return (
            f"<div><b>{html_text(self.sentence)}</b>{warning}"
            '<table style="margin:.5em 0;color:inherit;font:inherit">'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f'<div style="opacity:.75">{shown}</div></div>'
        )

    def _html_row(self, row: Row) -> str:
        name, *numbers, verdict = (html_text(cell, 200) for cell in self._cells(row))
        badge = (
            f"background:{VERDICTS[row.verdict]};color:{WHITE};padding:.1em .5em;border-radius:.6em"
        )
        right = '<td style="text-align:right;padding:.2em .6em">'
        cells = "".join(f"{right}{number}</td>" for number in numbers)
        note = html_text(row.note, _LONGEST)
        return (
            f'<tr title="{note}"><th style="text-align:left">{name}</th>{cells}'
            f'<td style="text-align:left"><span style="{badge}">{verdict}</span></td></tr>'
        )

    def _cells(self, row: Row) -> list[str]:
        p = "<.001" if row.p_value < 0.001 else f"{row.p_value:.3f}".removeprefix("0")
        change, low, high = map(self.format_change, (row.change, row.low, row.high))
        marks = {MUST_KEEP: " (must-keep)", ADVISORY: " (advisory)"}
        name = row.name + marks.get(row.tier, "")
        levels = [format_number(row.before), format_number(row.after), change, f"{low} to {high}"]
        counts = [str(row.lost), str(row.gained), format_number(row.kept), p]
        verdict = row.verdict + "*" * row.by_collapse
        return [name, str(row.n), str(row.groups), *levels, *counts, verdict]

    def _notes(self) -> list[str]:
        """Say each note once, behind the names of all rows that it is about."""
        notes = dict.fromkeys(row.note for row in self.rows if row.note)
        names = {note: [row.name for row in self.rows if row.note == note] for note in notes}
        said = [line_text(f"{join_words(names[note])}: {note}", _LONGEST) for note in notes]
        starred = any(row.by_collapse for row in self.rows)
        why = ["* not by counting: too many right answers are no longer said"] * starred
        return [*why, *said[:_MOST_ROWS]]

    def worst(self, most: int) -> list[Row]:
        """Choose the rows that lost most where there are too many, the overall rows always."""
        ranked = sorted(self.capabilities, key=lambda r: (r.verdict != REGRESSED, -r.seen_loss))
        kept = {row.name for row in ranked[:most]}
        return [row for row in self.rows if row.is_overall or row.name in kept]

    @property
    def _left_out(self) -> str:
        """Say how many rows a table leaves out."""
        more = len(self.rows) - len(self.worst(_MOST_ROWS))
        return f"... and {more:,} more capabilities, which lost less" if more else ""


_COLUMNS = ["capability", "n", "groups", "before", "after", "change", "interval"]
_COLUMNS += ["lost", "gained", "kept", "p", "verdict"]
_WORDS = (0, len(_COLUMNS) - 1)


def _more(row: Row) -> str:
    """Say how many more groups would decide, where that is known."""
    if row.more_groups is None:
        return ""
    groups = "1 more group" if row.more_groups == 1 else f"{row.more_groups} more groups"
    return f", {groups} would decide"
