"""How a panel looks: one style sheet, with the colours of the page or of the saved picture."""

from caplab.measuring.report import HELD, REGRESSED
from caplab.support import colours
from caplab.support.colours import DARK, DARK_PAGES, DARK_VERDICTS

__all__ = ["LIVE", "PRINTED"]

_SVG = """
text { font: 14px %(font)s; fill: %(ink)s; }
.cl-tick { font-size: 13px; fill: %(pale)s; }
.cl-axis { font-size: 14px; fill: %(pale)s; }
.cl-big { font-size: 22px; font-weight: 600; }
.cl-pale { fill: %(pale)s; }
.cl-name { font-size: 13px; }
.cl-rim { paint-order: stroke; stroke: %(paper)s; stroke-width: 4px; stroke-linejoin: round; }
.cl-behind { fill: %(paper)s; fill-opacity: .85; }
.cl-end { font-size: 15px; font-weight: 600; }
.cl-veil { font-size: 64px; fill: %(pale)s; opacity: .5; }
.cl-grid { stroke: %(ink)s; stroke-opacity: .12; }
polyline, polygon, line { fill: none; }
.cl-curve { stroke-width: 3.5; stroke-linejoin: round; stroke-linecap: round; }
.cl-curve.cl-old, .cl-mean.cl-old { stroke: %(old)s; }
.cl-curve.cl-new, .cl-mean.cl-new { stroke: %(new)s; }
.cl-mean { stroke-width: 1.5; stroke-opacity: .9; }
.cl-dot.cl-old, .cl-band.cl-old, text.cl-old { fill: %(old)s; }
.cl-dot.cl-new, .cl-band.cl-new, text.cl-new { fill: %(new)s; }
.cl-last { stroke: %(paper)s; stroke-width: 2; }
.cl-last.cl-old { fill: %(old)s; }
.cl-last.cl-new { fill: %(new)s; }
.cl-band { fill-opacity: .18; stroke-width: 1; stroke-opacity: .85; }
.cl-band.cl-old { stroke: %(old)s; }
.cl-band.cl-new { stroke: %(new)s; }
.cl-budget { stroke: %(line)s; stroke-width: 2; stroke-dasharray: 7 5; }
text.cl-line { fill: %(line)s; font-weight: 500; }
.cl-beyond { fill: %(bad)s; fill-opacity: .06; }
.cl-guard { stroke: %(guard)s; stroke-width: 2.5; }
.cl-guarded { fill: %(guard)s; font-weight: 600; }
.cl-cloud { fill: %(ink)s; fill-opacity: .1; stroke: %(ink)s; stroke-opacity: .6; }
.cl-path { stroke: %(ink)s; stroke-opacity: .6; stroke-width: 2; }
.cl-miss { stroke: %(guess)s; stroke-width: 2; stroke-dasharray: 3 4; }
.cl-spot-base { fill: %(paper)s; stroke: %(ink)s; stroke-width: 2; }
.cl-spot-now { fill: %(ink)s; stroke: %(paper)s; stroke-width: 2; }
.cl-spot-pin { fill: %(pale)s; stroke: %(paper)s; stroke-width: 1.5; }
.cl-spot-guess { fill: none; stroke: %(guess)s; stroke-width: 3; }
.cl-number { font-size: 13px; font-weight: 700; fill: %(paper)s; }
.cl-bad { fill: %(bad)s; font-weight: 600; }
.cl-paper { fill: %(paper)s; }
"""

_PANEL = """
.caplab-explorer { max-width: 1080px; padding: 2px 8px 8px; font-family: %(font)s; color: %(ink)s; }
.caplab-explorer > * { margin-left: 0; margin-right: 0; max-width: 100%%; }
.caplab-explorer .cl-title { font-size: 21px; font-weight: 600; line-height: 1.3; }
.caplab-explorer .cl-advice { font-size: 15px; line-height: 1.4; color: %(pale)s; }
.caplab-explorer .widget-label { text-align: left; }
.caplab-explorer .widget-toggle-buttons { flex-flow: row nowrap; align-items: center; }
.caplab-explorer .widget-toggle-buttons > :last-child { flex-wrap: nowrap; display: flex; }
.caplab-explorer .cl-said { font-size: 21px; line-height: 1.4; min-height: 72px; }
.caplab-explorer .cl-said b { font-weight: 600; font-variant-numeric: tabular-nums; }
.caplab-explorer .cl-detail { font-size: 14px; color: %(pale)s; }
.caplab-explorer .cl-verdict { margin-left: 12px; padding: 1px 12px 2px; border-radius: 14px;
  color: %(badge)s; font-size: 17px; font-weight: 600; max-width: 100%%; display: inline-block; }
.caplab-explorer .cl-verdict i { font-style: normal; font-weight: 400; }
.caplab-explorer .cl-screen { container-type: inline-size; }
.caplab-explorer .cl-row { display: flex; flex-wrap: wrap; overflow-x: auto; }
.caplab-explorer .cl-charts { display: block; height: auto; min-width: 0; }
.caplab-explorer .cl-wide { flex: 560 1 490px; max-width: 700px; }
.caplab-explorer .cl-narrow { display: none; flex: 1 0 280px; max-width: 480px; }
.caplab-explorer .cl-plane { flex: 300 1 262px; max-width: 375px; }
.caplab-explorer .cl-small { flex: 1 0 130px; max-width: 200px; }
@container (max-width: 489px) {
  .caplab-explorer .cl-wide { display: none; }
  .caplab-explorer .cl-narrow { display: block; }
}
.caplab-explorer .widget-button.mod-warning { background: %(bad)s; color: %(paper)s; }
.caplab-explorer .cl-idle { font-size: 14px; color: %(pale)s; }
.caplab-explorer .cl-failed b { color: %(bad)s; }
.caplab-explorer table.cl-answers { border-collapse: collapse; width: 100%%; font-size: 15px;
  line-height: 1.35; margin: 4px 0 0; table-layout: fixed; }
.caplab-explorer .cl-answers th, .caplab-explorer .cl-answers td { text-align: left;
  padding: 3px 12px 3px 0; border: 0; border-top: 1px solid %(grid)s; vertical-align: top;
  overflow-wrap: anywhere; white-space: normal; background: none; }
.caplab-explorer .cl-answers th { font-weight: 400; font-size: 13px; color: %(pale)s; border: 0; }
.caplab-explorer .cl-lost { color: %(bad)s; font-weight: 600; }
.caplab-explorer .cl-changed { font-weight: 600; }
.caplab-explorer .cl-kept { color: %(good)s; }
"""

_VERDICTS = "".join(
    f".caplab-explorer .cl-{verdict.lower()} {{ background: {colour}; }}\n"
    for verdict, colour in colours.VERDICTS.items()
)

_PAPER = {
    "ink": colours.INK,
    "pale": colours.PALE,
    "paper": colours.PAPER,
    "grid": colours.GRID,
    "old": colours.OLD,
    "new": colours.NEW_WORDS,
    "line": colours.BUDGET,
    "guard": colours.GUARD,
    "guess": colours.GUARD,
    "bad": colours.VERDICTS[REGRESSED],
    "good": colours.VERDICTS[HELD],
    "badge": colours.WHITE,
    "font": "system-ui, sans-serif",
}
_DARK = {
    "ink": DARK["INK"],
    "pale": DARK["PALE"],
    "paper": f"var(--jp-layout-color0, {DARK['PAPER']})",
    "grid": DARK["GRID"],
    "old": DARK["OLD"],
    "new": DARK["NEW"],
    "line": DARK["BUDGET"],
    "guard": DARK["GUARD"],
    "guess": DARK["GUARD"],
    "bad": DARK_VERDICTS[REGRESSED],
    "good": DARK_VERDICTS[HELD],
}
_PAGE = {
    "paper": f"var(--jp-layout-color0, {colours.WHITE})",
    "font": "var(--jp-content-font-family, system-ui, sans-serif)",
}


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--cl-{name}: {colour};" for name, colour in colours.items())


def _live() -> str:
    """Write the rules with variables, which follow the theme of the page."""
    names = {name: f"var(--cl-{name})" for name in _PAPER}
    rules = "\n".join(map(_scoped, (_SVG % names).strip().splitlines()))
    dark = ", ".join(f"{page} .caplab-explorer" for page in DARK_PAGES)
    themes = f".caplab-explorer {{ {_variables(_PAPER | _PAGE)} }}\n"
    themes += f"{dark} {{ {_variables(_DARK)} }}\n"
    return f"<style>{themes}{rules}{_PANEL % names}{_VERDICTS}</style>"


def _scoped(rule: str) -> str:
    """Limit a rule to panels."""
    selectors, brace, rest = rule.partition("{")
    return (
        ", ".join(f".caplab-explorer {one.strip()}" for one in selectors.split(",")) + brace + rest
    )


LIVE = _live()
PRINTED = _SVG % _PAPER
