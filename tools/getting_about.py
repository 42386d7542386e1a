"""Put around a lesson what gets a reader about: its head, its neighbours, links to the glossary."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COLAB = "https://colab.research.google.com/github"
GITHUB = "https://github.com"
CONTENTS = "README.md#the-lessons"
GLOSSARY = "docs/glossary.md"
SHEET = "docs/summary.md"

HEADER = """# {title}

**{level}** · {minutes} minutes{exercises} ·
[Open in Colab]({colab}/{repository}/blob/main/{folder}/{file}) ·
[{link}](../{other}/{counterpart})

*Before this lesson:* {needs}.

{way}"""

COUNTERPART = {
    "notebooks": {"other": "solutions", "link": "Worked solutions"},
    "solutions": {"other": "notebooks", "link": "Blank exercises"},
}

# Words of the glossary that a reader knows anyhow, or that mean other things too.
PLAIN_WORDS = {"anchor", "base", "claim", "control", "explorer", "group", "leak", "loss"}
PLAIN_WORDS |= {"report", "run", "step", "task"}
OTHER_FORMS = {
    "HELD": "verdict",
    "REGRESSED": "verdict",
    "UNDERPOWERED": "verdict",
    "fine-tune": "fine-tuning",
    "held-out": "held out",
    "parameters": "weight",
}
# What stays as it is: code, links, formulas, tags, addresses, and lines of headings and tables.
NO_PROSE = (
    r"```.*?```|`[^`]*`|!?\[[^\]]*\]\([^)]*\)|\$\$.*?\$\$|\$[^$\n]+\$|<[^>\n]+>|https?://\S+"
    r"|^#.*?$|^\|.*?$"
)


@dataclass(frozen=True)
class Neighbour:
    """Name a lesson beside another one."""

    name: str
    title: str

    @property
    def words(self) -> str:
        """Return the number and the title."""
        return f"{self.name[:2]} {self.title}"


def file_of(name: str, folder: str) -> str:
    """Return the file of a lesson; a solution's tab must not be taken for the lesson's."""
    return f"{name}{'_solved' if folder == 'solutions' else ''}.ipynb"


def neighbours(path: Path) -> tuple[Neighbour | None, Neighbour | None]:
    """Return the lessons before and after one."""
    paths = sorted(path.parent.glob("[0-9]*.md"))
    at = paths.index(path)
    around = (paths[at - 1] if at else None), (paths[at + 1] if at + 1 < len(paths) else None)
    before, after = (other and Neighbour(other.stem, _title(other)) for other in around)
    return before, after


def _title(path: Path) -> str:
    found = re.search(r"^title: *(.+)$", path.read_text("utf-8"), re.MULTILINE)
    return found[1].strip("'\" ") if found else path.stem


def head(settings: dict[str, object], name: str, folder: str, repository: str, way: str) -> str:
    """Return the first cell of a notebook."""
    other = COUNTERPART[folder]["other"]
    words = {"folder": folder, "file": file_of(name, folder), "colab": COLAB, "way": way}
    words |= {"repository": repository, "counterpart": file_of(name, other)}
    apart = settings.get("exercises")
    words["exercises"] = f", and {apart} for the exercises" if apart else ""
    needs = re.sub(r"\b(\d\d)\b", r"**\1**", str(settings["needs"]))
    return HEADER.format(**{**settings, "needs": needs, **words}, **COUNTERPART[folder])


def way(around: tuple[Neighbour | None, Neighbour | None], folder: str, repository: str) -> str:
    """Return the line that leads on: for this folder, and for Colab, which knows no folders."""
    before, after = around
    here = f"{COLAB}/{repository}/blob/main/{folder}"
    there = f"{GITHUB}/{repository}/blob/main"
    return (
        f"{_links(before, after, '', '..', folder)}\n\n"
        f"*On Colab:* {_links(before, after, f'{here}/', there, folder)}"
    )


def _links(
    before: Neighbour | None, after: Neighbour | None, lessons: str, root: str, folder: str
) -> str:
    """Return the links as one line: lessons begin with `lessons`, pages with `root`."""
    parts = [
        before and f"[← {before.words}]({lessons}{file_of(before.name, folder)})",
        f"[Contents]({root}/{CONTENTS})",
        f"[Glossary]({root}/{GLOSSARY})",
        f"[Summary sheet]({root}/{SHEET})",
        after and f"[{after.words} →]({lessons}{file_of(after.name, folder)})",
    ]
    return " · ".join(part for part in parts if part)


# ---------------------------------------------------------------- the glossary


def slug(heading: str) -> str:
    """Return the anchor that Markdown pages give a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def terms(page: Path) -> dict[str, str]:
    """Map each form of the glossary's words to the anchor of its entry."""
    if not page.exists():
        return {}
    headings = re.findall(r"^## (.+)$", page.read_text("utf-8"), re.MULTILINE)
    known = {term: slug(term) for term in headings if term not in PLAIN_WORDS}
    plurals = {form: anchor for term, anchor in known.items() for form in _plurals(term)}
    others = {form: slug(term) for form, term in OTHER_FORMS.items() if term in known}
    return known | plurals | others


def _plurals(term: str) -> Iterator[str]:
    yield f"{term}s"
    if term.endswith("y"):
        yield f"{term[:-1]}ies"


def with_glossary(texts: list[str], known: dict[str, str]) -> list[str]:
    """Link each word of the glossary where a lesson's prose says it first."""
    if not known:
        return texts
    forms = sorted(known, key=len, reverse=True)
    words = "|".join(re.escape(form).replace(r"\ ", r"\s+") for form in forms)
    flags = re.MULTILINE | re.DOTALL | re.IGNORECASE
    pattern = re.compile(rf"({NO_PROSE})|(?<![\w-])({words})(?![\w-])", flags)
    linked: set[str] = set()

    def link(found: re.Match[str]) -> str:
        word = found[2]
        anchor = _anchor(" ".join(word.split()), known) if word else ""
        if not anchor or anchor in linked:
            return found[0]
        linked.add(anchor)
        return f"[{word}](../{GLOSSARY}#{anchor})"

    return [pattern.sub(link, text) for text in texts]


def _anchor(word: str, known: dict[str, str]) -> str:
    """Look a word up as it is, or without the capital that begins a sentence; "held" is no HELD."""
    return known.get(word) or known.get(word[0].lower() + word[1:], "")
