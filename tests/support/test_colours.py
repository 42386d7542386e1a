"""Words can be read on what is behind them, and every colour of the package has one home."""

import re

import pytest

from caplab import plots
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED
from caplab.support import colours

NAMES = ("INK", "PALE", "OLD", "NEW_WORDS", "BUDGET", "GUARD")
WORDS = {name: getattr(colours, name) for name in NAMES} | colours.VERDICTS
DARK = {name: colour for name, colour in colours.DARK.items() if name not in ("PAPER", "GRID")}
DARK_WORDS = DARK | colours.DARK_VERDICTS
DARK_PAGES = (colours.DARK["PAPER"], "#121212", "#383838")  # JupyterLab, a browser, Colab


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2: from 1 for the same colour to 21 for black on white."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    red, green, blue = (linear(int(colour[n : n + 2], 16) / 255) for n in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def linear(share: float) -> float:
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def test_contrast_is_known_at_its_ends():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", WORDS)
def test_words_are_readable_on_paper(name):
    assert all(contrast(WORDS[name], page) >= 4.5 for page in (colours.PAPER, colours.WHITE))


@pytest.mark.parametrize("name", DARK_WORDS)
def test_words_are_readable_on_dark_pages(name):
    assert all(contrast(DARK_WORDS[name], page) >= 4.5 for page in DARK_PAGES)


@pytest.mark.parametrize("verdict", colours.VERDICTS)
def test_words_are_readable_on_badges(verdict):
    assert contrast(colours.WHITE, colours.VERDICTS[verdict]) >= 4.5


def test_lines_stand_out_from_paper():
    assert all(contrast(colour, colours.PAPER) >= 3 for colour in (colours.OLD, colours.NEW))


def test_every_verdict_has_its_colours():
    verdicts = {HELD, REGRESSED, UNDERPOWERED}
    assert colours.VERDICTS.keys() == colours.DARK_VERDICTS.keys() == verdicts


def test_plots_offer_the_colours():
    names = ("BUDGET", "GUARD", "INK", "NEW", "OLD", "PAPER")
    assert [getattr(plots, name) for name in names] == [getattr(colours, name) for name in names]


def test_no_colour_lives_elsewhere(root):
    written = re.compile(r"#[0-9a-fA-F]{3}(?:[0-9a-fA-F]{3})?\b")
    files = [file for folder in ("caplab", "tools") for file in (root / folder).rglob("*.py")]
    strays = {file.name: written.findall(file.read_text(encoding="utf-8")) for file in files}
    assert {name for name, found in strays.items() if found} == {"colours.py"}
