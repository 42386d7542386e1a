"""The pages of the web edition, read as files."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

import caplab as cl

FRONT_PAGE = 300_000  # bytes, with all that it loads


class Reader(HTMLParser):
    """Collect the links, the loaded files and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.loaded.append(given["href"])
        elif tag in ("script", "img") and given.get("src"):
            self.loaded.append(given["src"])


@pytest.fixture(scope="module")
def pages(site) -> dict:
    return {path: Reader(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_source_has_its_page(root, site):
    expected = [f"lessons/{path.stem}.html" for path in (root / "lessons").glob("[0-9]*.md")]
    expected += [f"handbook/{path.stem}.html" for path in (root / "docs").glob("*.md")]
    expected += [f"reference/{path.stem}.html" for path in (root / "web/reference").glob("*.md")]
    expected += ["index.html", "explorables.html", "sources.html", "search.html"]
    assert [name for name in expected if not (site / name).is_file()] == []


def test_every_link_within_leads_somewhere(site, pages):
    dead = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.is_file() or (known and unquote(parts.fragment) not in known.anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_no_page_loads_from_the_network(site, pages):
    loaded = {url for page in pages.values() for url in page.loaded}
    assert {url for url in loaded if "//" in url and not url.startswith("data:")} == set()
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert [url for text in styles for url in re.findall(r"url\((\w+:)?//", text)] == []


def test_the_front_page_is_light(site, pages):
    index = site / "index.html"
    loaded = {(site / urlsplit(url).path).resolve() for url in pages[index].loaded}
    assert index.stat().st_size + sum(path.stat().st_size for path in loaded) < FRONT_PAGE


def shown(site, page, name) -> dict:
    text = (site / page).read_text("utf-8")
    (data,) = re.findall(rf'data-name="{name}"[^>]*><script[^>]*>(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


def test_the_look_up_shows_the_atlas(site):
    atlas = cl.atlas()
    (lab, *_) = shown(site, "explorables.html", "lookup")["laboratories"]
    assert lab["base"][1] == pytest.approx(atlas.about["base"]["classics_accuracy"], abs=1e-4)
    recipe = cl.Recipe(learning_rate=1e-3, steps=lab["steps"][-1], schedule="constant")
    curve = atlas.curve(recipe)
    here = lab["settings"]["full 1e-3"]
    assert here["classics"][-1][0] == pytest.approx(curve["classics_accuracy"].iloc[-1], abs=1e-4)
    assert len(here["task"]) == len(lab["steps"]) == len(curve)


def test_the_league_is_the_package_s(site):
    league = cl.league(cl.atlas())
    data = shown(site, "explorables.html", "league")
    assert data["sentence"] == league.sentence
    assert [row["remedy"] for row in data["rows"]] == list(league.table["remedy"])


def test_exercises_come_before_their_solutions(site):
    text = (site / "lessons/03_learning_rate.html").read_text("utf-8")
    gap = text.index("# your code here")
    assert text.index("<summary", gap) < text.index("Show a solution", gap)
    assert "You made no guess" not in text


def test_no_widget_is_left_for_a_kernel(site):
    assert [p for p in site.glob("lessons/*.html") if "widget-view" in p.read_text("utf-8")] == []


def test_every_public_name_has_its_reference(site):
    text = "".join(path.read_text("utf-8") for path in site.glob("reference/*.html"))
    assert [
        name for name in cl.__all__ if f'id="{name.lower().replace("_", "-")}"' not in text
    ] == []
