"""The gate's report as one self-contained HTML file: no scripts, no network, no fonts."""

from base64 import b64encode

from caplab.measuring.lost import Lost
from caplab.measuring.policy import ADVISORY, MUST_KEEP
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED, Report
from caplab.plots.picture import Picture
from caplab.plots.scorecards import before_after
from caplab.support import __version__
from caplab.support.colours import DARK_VERDICTS, VERDICTS
from caplab.support.safe_text import html_text
from caplab.support.text import format_number, join_words

__all__ = ["page"]

_MOST_LOST = 50  # questions in the table; the counts include all
_LONGEST = 2000  # characters of a question, an answer or a rule
_MEANINGS = {
    HELD: "A larger drop than the budget is excluded, overall and in every must-keep capability.",
    REGRESSED: "A drop is real and larger than its budget.",
    UNDERPOWERED: "These questions cannot tell. More of them would narrow the intervals.",
}
# The browser loads nothing, whatever names and questions in the report contain.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; }
img { max-width: 100%; min-width: 44em; height: auto; }
table { border-collapse: collapse; }
td, th { padding: .2em .6em; text-align: left; vertical-align: top; }
.wide { overflow-x: auto; }
.answer { white-space: pre-wrap; }
pre { margin: 0; white-space: pre-wrap; font-size: .9em; }
"""
# Older browsers know no `light-dark` and keep the colour before it.
_STYLE += "".join(
    f".{verdict} {{ color: {colour}; color: light-dark({colour}, {DARK_VERDICTS[verdict]}); }}\n"
    for verdict, colour in VERDICTS.items()
)


def page(report: Report, lost: list[Lost], *, exit_code: int, fingerprint: str) -> str:
    """Write the whole page."""
    verdict = f'<span class="{report.verdict}">{report.verdict}</span>'
    title = f"{report.verdict}: {report.before} -> {report.after}"
    picture = before_after(report)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            '<meta name="generator" content="caplab gate">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{html_text(title, 300)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{verdict} {html_text(report.exam, 300)}</h1>",
            f"<p>{_MEANINGS[report.verdict]} (exit code {exit_code})</p>",
            f"<p>{html_text(_rules(report), _LONGEST)}</p>",
            f'<div class="wide"><img alt="{html_text(picture.finding, 300)}" '
            f'src="{_data_uri(picture)}"></div>',
            f'<div class="wide">{report._repr_html_()}</div>',
            *_lost(lost),
            f"<p><small>exam {html_text(fingerprint, 100)}, "
            f"caplab {__version__}</small></p></body></html>\n",
        ]
    )


def _data_uri(picture: Picture) -> str:
    return f"data:image/png;base64,{b64encode(picture.png()).decode()}"


def _rules(report: Report) -> str:
    """Say what was agreed: the budget, the capabilities that have their own, and the tiers."""
    rows = report.capabilities
    own = [f"{format_number(row.budget)} in {row.name}" for row in rows]
    own = [said for said, row in zip(own, rows, strict=True) if row.budget != report.budget]
    said = f"Budget: {format_number(report.budget)}"
    said += f", but {join_words(own)}." if own else ", overall and in each capability."
    for tier, meaning in ((MUST_KEEP, "must be HELD itself"), (ADVISORY, "never decides")):
        if names := [row.name for row in rows if row.tier == tier]:
            said += f" {tier.capitalize()} ({meaning}): {join_words(names)}."
    return said


def _lost(lost: list[Lost]) -> list[str]:
    """List the questions that were lost, each with the answers then and now."""
    if not lost:
        return []
    shown = f", the first {_MOST_LOST}" if len(lost) > _MOST_LOST else ""
    return [
        f"<h2>Lost: {len(lost)} questions{shown}</h2>",
        '<div class="wide"><table><thead><tr><th>capability</th><th>question</th><th>was</th>'
        "<th>now</th></tr></thead><tbody>",
        *map(_lost_row, lost[:_MOST_LOST]),
        "</tbody></table></div>",
    ]


def _lost_row(lost: Lost) -> str:
    """Write the question and both answers; what was expected shows up under the mouse."""
    question = lost.question
    texts = (question.capability, question.asked, question.right, lost.was, lost.now or "(nothing)")
    name, asked, right, was, now = (html_text(text, _LONGEST) for text in texts)
    return (
        f'<tr title="{right}"><td>{name}</td><td><pre>{asked}</pre></td>'
        f'<td class="answer" dir="auto">{was}</td><td class="answer" dir="auto">{now}</td></tr>'
    )
