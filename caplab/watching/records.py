"""A look as two tables, for dashboards: the numbers of each row, and each lost question."""

from typing import Any, NamedTuple

from caplab.measuring.lost import Lost
from caplab.measuring.report import Report
from caplab.support.safe_text import line_text, markdown_text

__all__ = ["Table", "tables"]

_MOST = 100  # rows of a table
_LONGEST = 500  # characters of a question or an answer


class Table(NamedTuple):
    """Columns with names, as W&B and Trackio take them."""

    columns: list[str]
    data: list[list[Any]]

    @property
    def markdown(self) -> str:
        """Write the table as Markdown, for TensorBoard."""
        lines = [self.columns, ["---"] * len(self.columns), *self.data]
        return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "---" if value == "---" else markdown_text(str(value), _LONGEST)


def tables(report: Report, lost: list[Lost]) -> dict[str, Table]:
    """Return the tables by their names; that of lost questions only where there are any."""
    columns = ["capability", "groups", "before", "after", "change", "low", "high", "budget"]
    numbers = [
        [line_text(row.name, _LONGEST), *(getattr(row, name) for name in columns[1:]), row.verdict]
        for row in report.worst(_MOST)
    ]
    found = {"guard/rows": Table([*columns, "verdict"], numbers)}
    if lost:
        told = [
            (each.question.capability, each.question.asked, each.was, each.now or "(nothing)")
            for each in lost[:_MOST]
        ]
        data = [[line_text(text, _LONGEST) for text in row] for row in told]
        found["guard/lost"] = Table(["capability", "question", "was", "now"], data)
    return found
