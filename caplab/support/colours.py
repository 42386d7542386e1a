"""The colours of every figure, page and panel, on paper and on dark pages.

OLD is what the base could already do, NEW is what is being learned: they differ for colour-blind
readers, on a projector and in grey print. Words have a contrast of at least 4.5 to 1, as
accessibility rules ask; tests/support/test_colours.py computes it.
"""

__all__ = [
    "BUDGET",
    "DARK",
    "DARK_PAGES",
    "DARK_VERDICTS",
    "GRID",
    "GUARD",
    "INK",
    "NEW",
    "NEW_WORDS",
    "OLD",
    "PALE",
    "PAPER",
    "VERDICTS",
    "WHITE",
]

# On paper: the background of every picture, so that it looks the same on light and dark pages.
PAPER = "#fbfaf7"
INK = "#1f1f1f"
PALE = "#666666"  # words of less weight: notes, numbers of an axis
GRID = "#dddddd"  # lines of a table
OLD = "#0072b2"  # blue: the classics
NEW = "#d55e00"  # vermilion: the new task
NEW_WORDS = "#ad4c00"  # NEW, dark enough for words
BUDGET = "#4d4d4d"  # the line that a drop must not cross
GUARD = "#aa3377"  # purple: where the guard acted
VERDICTS = {"REGRESSED": "#b3261e", "HELD": "#0b6e4f", "UNDERPOWERED": PALE}
WHITE = "#ffffff"  # a light page, and the words on a badge in the colour of its verdict

# The same on the dark pages of notebooks and browsers, where lines and words share a colour.
DARK = {
    "PAPER": "#222222",
    "INK": "#f0f0f0",
    "PALE": "#b4b4b4",
    "GRID": "#3c3c3c",
    "OLD": "#6cb8ea",
    "NEW": "#ff9b57",
    "BUDGET": "#c8c8c8",
    "GUARD": "#e58ab8",
}
# How pages say that they are dark: JupyterLab, Notebook and Voilà, Colab, VS Code.
DARK_PAGES = ('body[data-jp-theme-light="false"]', "html[theme=dark]", "body.vscode-dark")
DARK_VERDICTS = {"REGRESSED": "#ff8a80", "HELD": "#6fd1a8", "UNDERPOWERED": DARK["PALE"]}
