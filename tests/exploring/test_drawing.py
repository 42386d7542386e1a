"""The picture: safe, small, self-contained, and it hides what it should."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from panels import outcome, point, state, trained

from caplab.exploring.curves import NARROW_WIDTH, SMALL, WIDE_WIDTH
from caplab.exploring.drawing import as_saved, picture, render
from caplab.exploring.plane import PLANE_WIDTH, draw_plane
from caplab.exploring.state import Answer, Band, Mix, Pin
from caplab.exploring.theme import LIVE, PRINTED

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'


class Tags(HTMLParser):
    """Which tags and attributes a browser would find, and what it would show as text."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text += data


def test_a_veiled_picture_gives_nothing_away():
    band = Band((0, 60), ((0.28,) * 3, (0.911,) * 3), ((0.97,) * 3, (0.522,) * 3))
    veiled = render(state(band=band, seeds=5, predicting=True, guess=(0.5, 0.5)))
    open_ = render(state(band=band, seeds=5))
    traces = ("cl-band", "cl-cloud", ".52", ".91")
    assert all(trace in open_ for trace in traces)
    assert not any(trace in veiled for trace in traces)


def states():
    names = (EVIL, "arithmetic")
    points = (point(0, names=names), point(8, names=names))
    answers = (Answer(EVIL, EVIL, EVIL), Answer(EVIL, EVIL))
    mixes = {0.5: Mix(0.5, outcome(names=names), (EVIL, EVIL))}
    ended = {"points": points, "detailed": True, "answers": answers}
    return {
        "before": state(message=EVIL, answers=answers),
        "failed": state(phase="failed", message=EVIL),
        "trained": trained(**ended, outcome=outcome(names=names)),
        "pinned": trained(pins=(Pin(1, EVIL, (0.9, 0.5), points),), message=EVIL),
        "between": trained(**ended, mixes=mixes, alpha=0.5, outcome=outcome(names=names)),
    }


@pytest.mark.parametrize("name", states())
def test_what_models_say_is_shown_as_text(name):
    found = Tags(render(states()[name]))
    assert not {"script", "img"} & found.tags
    assert not any(attribute.startswith("on") for attribute in found.attributes)
    assert "onerror" in found.text, "it is shown, not dropped"


@pytest.mark.parametrize("name", states())
def test_the_saved_picture_is_self_contained(name):
    drawn = picture(states()[name])
    names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawn).iter()}
    assert not {"script", "img"} & names
    assert not any(word in drawn for word in ("var(", "--jp"))


def test_the_saved_picture_cuts_no_words():
    lengthy = " ".join(f"word{number}" for number in range(60))
    answers = (Answer("Why?", lengthy, lengthy), Answer("Who?", "I.", ""))
    drawn = ElementTree.fromstring(picture(trained(answers=answers, message=lengthy)))
    lines = [line.text or "" for line in drawn.findall("{*}text")]
    assert max(map(len, lines)) <= 114
    assert " ".join(line.strip() for line in lines).count(lengthy) == 3
    assert lines[-1] == "Who? → I. → (nothing)"
    _, _, _, height = map(float, drawn.attrib["viewBox"].split())
    assert height >= max(float(line.attrib["y"]) for line in drawn.findall("{*}text")) + 6


def test_the_markup_stays_small():
    points = tuple(point(step) for step in range(0, 61, 6))
    pins = tuple(Pin(n, f"full {n}e-3", (n / 10, 1 - n / 10), points) for n in range(1, 8))
    assert len(render(trained(points=points, pins=pins, detailed=True))) < 40_000


def test_a_saved_notebook_keeps_a_picture_with_its_words():
    kept = as_saved(trained())
    assert kept["text/plain"] == "full 2e-3: Task .93, classics .48"
    assert '<img alt="full 2e-3: Task .93, classics .48" src="data:image/svg' in kept["text/html"]
    assert kept["image/svg+xml"] == picture(trained())


def test_names_on_the_plane_lie_on_paper():
    drawn = draw_plane(trained(pins=(Pin(1, "full 1e-3", (0.9, 0.9), ()),)))
    assert drawn.count("cl-behind") == drawn.count("cl-name") == 3


def test_letters_stay_readable_where_there_is_room_for_them():
    """Each chart is shown at a width, or scrolls, at which its smallest letters have 11 pixels."""
    sizes = [int(size) for size in re.findall(r"font(?:-size)?: (\d+)px", PRINTED)]
    least = {
        kind: int(n) for kind, n in re.findall(r"\.cl-(\w+) \{[^}]*?flex: \d+ \d (\d+)px", LIVE)
    }
    widths = {"wide": WIDE_WIDTH, "narrow": NARROW_WIDTH, "plane": PLANE_WIDTH, "small": SMALL[0]}
    assert least.keys() == widths.keys()
    assert all(min(sizes) * least[kind] / widths[kind] >= 11 for kind in widths)
