"""Every link to a file of the course leads to a file, and to a heading that is there."""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from getting_about import slug

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("solutions/*.ipynb")])
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("classroom/*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")
ON_COLAB = re.compile(r"https://(?:colab\.research\.google\.com/github|github\.com)/[^/]+/[^/]+/")


def shown(path: Path) -> str:
    """Return a file's prose, without blocks of code."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text("utf-8")
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


@cache
def headings(path: Path) -> set[str]:
    return {slug(found) for found in re.findall(r"^#+ (.+)$", shown(path), re.MULTILINE)}


def lost(link: str, page: Path) -> bool:
    """Tell whether a link leads to no file of this project, or to no heading of a page."""
    path, _, anchor = link.partition("#")
    if within := ON_COLAB.match(path):
        target = ROOT / path[within.end() :].removeprefix("blob/main/").rstrip("/")
    elif re.match(r"[a-z]+:", path):
        return False
    else:
        target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return "/blob/" in path or not within
    return bool(anchor) and target.suffix == ".md" and anchor not in headings(target)


@pytest.mark.parametrize(
    "path", NOTEBOOKS + PAGES, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_every_link_leads_somewhere(path):
    assert [link for link in LINK.findall(shown(path)) if lost(link, path)] == []


def test_the_test_above_sees(tmp_path):
    page = ROOT / "docs/glossary.md"
    for link in ("none.md", "#no-such-word", "glossary.md#none", "../../outside.md"):
        assert lost(link, page), link
    assert lost("https://colab.research.google.com/github/me/lab/blob/main/notebooks/x.ipynb", page)
    for link in ("#budget", "summary.md#three-verdicts", "https://example.org/x"):
        assert not lost(link, page), link


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_links_words_to_the_glossary_and_its_sources(path):
    text = shown(path)
    assert len(re.findall(r"\]\(\.\./docs/glossary\.md#", text)) >= 5
    assert not re.search(r"(?<!\[)arXiv \d", text)
