"""Two scorecards compared: one row per capability, and the overall row."""

import html
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from caplab.support.errors import BadInput, did_you_mean, explaining_failure, short_repr
from caplab.support.files import read_sealed, write_sealed
from caplab.support.text import format_number, format_signed, join_words

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report", "Row"]
REGRESSED, HELD, UNDERPOWERED = "REGRESSED", "HELD", "UNDERPOWERED"
_FORMAT = "caplab report 1"


@dataclass(frozen=True)
class Row:
    """One capability, or all of them: before, after, the change with its interval, the verdict."""

    name: str
    n: int
    before: float
    after: float
    change: float
    low: float
    high: float
    p_value: float
    verdict: str
    note: str
    lost: int  # questions answered right before and wrong after
    gained: int
    kept: float  # what is left of the right answer's probability, typically (geometric mean)
    bootstrap_low: float  # the plain paired bootstrap, beside the interval that decides
    bootstrap_high: float


@dataclass(frozen=True, repr=False)
class Report:
    """Two scorecards compared: one row per capability, and the overall row last."""

    rows: tuple[Row, ...]
    budget: float
    confidence: float
    metric: str
    before: str
    after: str
    exam: str

    @property
    def overall(self) -> Row:
        """Return the row over all questions."""
        return self.rows[-1]

    @property
    def capabilities(self) -> tuple[Row, ...]:
        """Return the rows of the single capabilities."""
        return self.rows[:-1]

    @property
    def regressed(self) -> list[str]:
        """Name the rows that regressed: empty unless the verdict is REGRESSED."""
        return [row.name for row in self.rows if row.verdict == REGRESSED]

    @property
    def verdict(self) -> str:
        """Judge the whole: REGRESSED if any row is, else what the overall row says."""
        return REGRESSED if self.regressed else self.overall.verdict

    @property
    def sentence(self) -> str:
        """Say the finding in one line."""
        found = [
            f"{verdict} in {join_words(names)}" for verdict, names in self._by_verdict() if names
        ]
        if len(found) > 1:
            found[-1] = found[-1].split()[0] + " elsewhere"
        details = found if len(found) > 1 else []
        return "; ".join([f"{self.levels}: {self.verdict} ({self.words(self.overall)})", *details])

    @property
    def levels(self) -> str:
        """Say where the whole is and was: `classics .48, was .97`."""
        what = self.exam if self.metric == "accuracy" else f"{self.metric} on {self.exam}"
        return (
            f"{what} {format_number(self.overall.after)}, was {format_number(self.overall.before)}"
        )

    @property
    def conditions(self) -> str:
        """Say what was compared with what, and by which rules."""
        joint = f", joint over {len(self.capabilities)} capabilities" * (len(self.capabilities) > 1)
        return (
            f"{self.before} -> {self.after}; {self.metric}; budget {format_number(self.budget)}; "
            f"{100 * self.confidence:.4g} % intervals{joint}"
        )

    def words(self, row: Row) -> str:
        """Say how a row changed: `-.49, 95 % from -.55 to -.42`."""
        change, level = self.written(row.change), f"{100 * self.confidence:.4g} %"
        return f"{change}, {level} from {self.written(row.low)} to {self.written(row.high)}"

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
            if data.pop("format", None) != _FORMAT:
                raise BadInput(f"{os.fspath(path)} is not a report of this version of caplab.")
            return cls(**{**data, "rows": tuple(Row(**row) for row in data["rows"])})

    def written(self, value: float) -> str:
        """Write a change as this metric is read: `-.49`, or `-99 %` of where it started."""
        if self.metric != "probability":
            return format_signed(value)
        return f"{100 * value:+.{1 if -1 < value < -0.99 else 0}f} %"

    def _by_verdict(self) -> list[tuple[str, list[str]]]:
        return [
            (verdict, [row.name for row in self.capabilities if row.verdict == verdict])
            for verdict in (REGRESSED, UNDERPOWERED, HELD)
        ]

    def __repr__(self) -> str:
        return "\n".join([*_text_table(self), "", self.sentence, *_notes(self), self.conditions])

    def _repr_html_(self) -> str:
        return _html_table(self)


_COLUMNS = ["capability", "n", "before", "after", "change", "interval"]
_COLUMNS += ["lost", "gained", "kept", "p", "verdict"]


def _cells(report: Report, row: Row) -> list[str]:
    p = "<.001" if row.p_value < 0.001 else f"{row.p_value:.3f}".removeprefix("0")
    change, low, high = (report.written(value) for value in (row.change, row.low, row.high))
    levels, interval = (
        [format_number(row.before), format_number(row.after), change],
        f"{low} to {high}",
    )
    counts = [str(row.lost), str(row.gained), format_number(row.kept), p, row.verdict]
    return [row.name, str(row.n), *levels, interval, *counts]


def _text_table(report: Report) -> list[str]:
    """Align the cells: words to the left, numbers to the right."""
    lines = [_COLUMNS, *(_cells(report, row) for row in report.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words = (0, len(_COLUMNS) - 1)
    return [
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _notes(report: Report) -> list[str]:
    """Say each note once, behind the names of all rows that it is about."""
    notes = dict.fromkeys(row.note for row in report.rows if row.note)
    return [
        f"{join_words([r.name for r in report.rows if r.note == note])}: {note}" for note in notes
    ]


_BADGES = {REGRESSED: "#b3261e", HELD: "#1b7a56", UNDERPOWERED: "#666"}  # white text reads on each


def _html_table(report: Report) -> str:
    """Write the table for a notebook; colours are inherited, so that dark themes work."""
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    rows = "".join(_html_row(report, row) for row in report.rows)
    notes = "".join(f"<div>{html.escape(note)}</div>" for note in _notes(report))
    return (
        f"<div><b>{html.escape(report.sentence)}</b>"
        '<table style="margin:.5em 0;color:inherit;font:inherit">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f'<div style="opacity:.75">{notes}{html.escape(report.conditions)}</div></div>'
    )


def _html_row(report: Report, row: Row) -> str:
    name, *numbers, verdict = map(html.escape, _cells(report, row))
    badge = f"background:{_BADGES[row.verdict]};color:#fff;padding:.1em .5em;border-radius:.6em"
    right = '<td style="text-align:right;padding:.2em .6em">'
    cells = "".join(f"{right}{number}</td>" for number in numbers)
    return (
        f'<tr title="{html.escape(row.note)}"><th style="text-align:left">{name}</th>{cells}'
        f'<td style="text-align:left"><span style="{badge}">{verdict}</span></td></tr>'
    )
