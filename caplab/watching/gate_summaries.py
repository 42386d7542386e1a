"""The gate's result where reviewers look: Markdown for pull requests, JUnit XML for CI servers."""

from xml.etree import ElementTree

from caplab.measuring.lost import Lost
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED, Report, Row
from caplab.support.safe_text import markdown_text, xml_text
from caplab.support.text import format_number

__all__ = ["junit", "markdown"]

_SHOWN = 3  # lost answers in the Markdown summary; the HTML page has more
_MOST_ROWS = 50  # of the table: a comment on a pull request has its limits
_LONGEST = 300  # characters of a question or an answer
_LONGEST_CASE = 1000  # of a name or a reason in JUnit XML
_MARKS = {HELD: "✅", REGRESSED: "❌", UNDERPOWERED: "❓"}


def markdown(report: Report, lost: list[Lost]) -> str:
    """Write a table of the rows, and three of the lost answers beside what they were."""
    lines = [
        f"### {_MARKS[report.verdict]} {report.verdict}: {_text(report.exam)}",
        "",
        _text(report.sentence),
        "",
        *([f"⚠️ **{_text(report.warning)}**", ""] if report.identical else []),
        "| capability | groups | before | after | change | budget | may be gone | verdict |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *(_row(report, row) for row in report.worst(_MOST_ROWS)),
        "",
    ]
    if lost:
        few = f"the first {_SHOWN} of {len(lost)}" if len(lost) > _SHOWN else f"{len(lost)}"
        lines += [
            f"**Lost answers** ({few})",
            "",
            "| question | was | now |",
            "| --- | --- | --- |",
        ]
        lines += map(_lost, lost[:_SHOWN])
        lines.append("")
    return "\n".join([*lines, f"<sub>{_text(report.conditions)}</sub>", ""])


def _row(report: Report, row: Row) -> str:
    tier = "" if row.tier == "watched" else f" ({row.tier})"
    gone = f"up to {format_number(row.possible_loss)}" if row.possible_loss else "nothing"
    gone += f", {row.collapsed} of {row.n} no longer said" if row.collapsed else ""
    levels = [format_number(row.before), format_number(row.after), report.format_change(row.change)]
    verdict = f"{_MARKS[row.verdict]} {row.verdict}"
    budget = format_number(row.budget)
    cells = [_text(row.name) + tier, str(row.groups), *levels, budget, gone, verdict]
    return f"| {' | '.join(cells)} |"


def _lost(lost: Lost) -> str:
    cells = (lost.question.asked, lost.was, lost.now or "(nothing)")
    return f"| {' | '.join(_text(cell) for cell in cells)} |"


def _text(text: str) -> str:
    """Write foreign text as text alone, and not too much of it."""
    return markdown_text(text, _LONGEST)


def junit(report: Report) -> str:
    """Write a test case for each row, and one for the whole.

    A row that regressed fails; one that cannot be judged is skipped, with the reason. The whole
    fails unless it is HELD, as the exit code does.
    """
    cases = [_case(report, row) for row in report.rows]
    whole = ElementTree.Element("testcase", classname=_xml(report.exam), name="gate")
    if report.verdict != HELD:
        _add(whole, "failure", report.verdict, report.sentence)
    if report.identical:
        ElementTree.SubElement(whole, "system-err").text = _xml(report.warning)
    cases.append(whole)
    suite = ElementTree.Element("testsuite", name=_xml(f"caplab gate: {report.exam}"))
    suite.extend(cases)
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in _KINDS}
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(counts["failure"]))
    suite.set("skipped", str(counts["skipped"]))
    suite.set("errors", "0")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


_KINDS = ("failure", "skipped")


def _case(report: Report, row: Row) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=_xml(report.exam), name=_xml(row.name))
    said = f"{row.verdict}: {report.words(row)}. {row.note}".strip()
    if row.verdict == REGRESSED and row in report.deciding:
        _add(case, "failure", REGRESSED, said)
    elif row.verdict != HELD:
        _add(case, "skipped", row.verdict, said)
    return case


def _add(case: ElementTree.Element, kind: str, verdict: str, said: str) -> None:
    found = ElementTree.SubElement(case, kind, message=_xml(said))
    if kind == "failure":
        found.set("type", verdict)
        found.text = _xml(said)


def _xml(text: str) -> str:
    return xml_text(text, _LONGEST_CASE)
