"""Turn lessons, handbook and docstrings into the pages that Sphinx reads.

A lesson's page is its executed solution: an exercise stands there as learners get it, and its
solution, the result of a guess and what a check says come behind a click.
"""

import os
import re
from html import escape
from pathlib import Path

import nbformat
from build_notebooks import MARK, Lesson, LessonError, blank, is_solution, repositories
from getting_about import COLAB, GITHUB, file_of
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from targets import SHAPE, VIEW

from caplab.study import claims
from caplab.teaching.lessons import QuizQuestion, lesson, lessons

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
ARXIV = re.compile(r"(?<![\w/\[])arXiv[: ](\d{4}\.\d{4,5})\b")
NO_GUESS = " You made no guess this time."
BEHIND_A_CLICK = {  # what a cell begins with, and the words to click on
    "cl.reveal(": "Guess first, then look at the result",
    "cl.check(": "What the check says about the solution",
    "cl.hint(": "Show the hint",
}
PANEL = """*In the lab this panel trains while you look. Here you can move the
[look-up](../explorables.md), which shows what earlier runs did.*"""
GUESS = re.compile(r"Your guess: (.*) \(([^()]*)\)\s*", re.DOTALL)


def repository() -> str:
    """Return the repository that links point at."""
    return repositories(ROOT)[0]


# ---------------------------------------------------------------- links


def with_links(text: str, source: Path, pages: dict[str, str], page: str) -> str:
    """Point a file's relative links at pages of the site, or at the repository; link preprints."""

    def moved(found: re.Match[str]) -> str:
        target = os.path.normpath(source.parent / found[1])
        name, anchor = os.path.relpath(target, ROOT), found[2] or ""
        if name in pages:
            return os.path.relpath(pages[name], os.path.dirname(page)) + anchor
        kind = "tree" if Path(target).is_dir() else "blob"
        return f"{GITHUB}/{repository()}/{kind}/main/{name}{anchor}"

    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", LINK.sub(moved, text))


# ---------------------------------------------------------------- lessons


def lesson_page(source: Path, made: Lesson, pages: dict[str, str], page: str) -> NotebookNode:
    """Return a lesson as a notebook for MyST-NB."""
    run = nbformat.read(ROOT / "solutions" / file_of(made.name, "solutions"), as_version=4)
    executed = [cell for cell in run.cells if cell.cell_type == "code"]
    cells = [new_markdown_cell(head(made))]
    for cell in made.cells:
        if cell.cell_type == "code":
            cells += code(cell, next_run(cell, executed, made.name))
        else:
            cells.append(prose(cell, source, pages, page))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "language_info": PYTHON})


def next_run(cell: NotebookNode, executed: list[NotebookNode], name: str) -> NotebookNode:
    """Take the executed cell that a lesson's cell became; the set-up before it is for notebooks."""
    wanted = MARK.sub("", cell.source).rstrip("\n")
    while executed:
        run = executed.pop(0)
        if run.source == wanted:
            return run
    build = f"python tools/build_notebooks.py {name[:2]}"
    raise LessonError(f"The solution of {name} ran other code than the lesson has now: {build}")


KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
PYTHON = {"name": "python", "pygments_lexer": "ipython3"}


def head(made: Lesson) -> str:
    """Return the title of a lesson, and where it can be worked on."""
    name = made.name
    colab = f"{COLAB}/{repository()}/blob/main/notebooks/{name}.ipynb"
    solved = file_of(name, "solutions")
    exercises = made.settings.get("exercises")
    more = f", and {exercises} for the exercises" if exercises else ""
    return f"""# {name[:2]} {made.settings["title"]}

**{made.settings["level"]}** · {made.settings["minutes"]} minutes{more} · needs
{made.settings["needs"]}

```{{raw}} html
<p class="buttons"><a class="button" href="{colab}">Work on it in Colab</a>
<a class="button" href="../notebooks/{name}.ipynb" download>Download the notebook</a>
<a class="button" href="../solutions/{solved}" download>Download it solved</a></p>
```
"""


def prose(cell: NotebookNode, source: Path, pages: dict[str, str], page: str) -> NotebookNode:
    """Return text with its links; an answer in words comes behind a click."""
    text = with_links(cell.source, source, pages, page)
    if is_solution(cell):
        text = f"::::{{admonition}} Show the answer\n:collapsible: closed\n\n{text}\n::::"
    return new_markdown_cell(text)


def code(cell: NotebookNode, run: NotebookNode) -> list[NotebookNode]:
    """Return a cell with its outputs, as a reader needs them who cannot run it."""
    source, outputs = run.source, [shown(output) for output in run.outputs]
    if source.startswith("cl.explorer("):
        return [new_code_cell(source, outputs=[o for o in outputs if o]), new_markdown_cell(PANEL)]
    if source.startswith("cl.quiz("):
        return [new_markdown_cell(quiz(source))]
    made = new_code_cell(source, outputs=[output for output in outputs if output])
    for start, words in BEHIND_A_CLICK.items():
        if source.startswith(start):
            return [hidden(made, "hide-output", words)]
    if blank(cell) == cell.source:
        return [made]
    whole = SHAPE in cell.metadata.get("tags", [])
    kind = "hide-cell" if whole else "hide-input"
    return [new_code_cell(blank(cell)), hidden(made, kind, "Show a solution")]


def hidden(cell: NotebookNode, kind: str, words: str) -> NotebookNode:
    """Put part of a cell behind a click."""
    cell.metadata.tags = [kind]
    cell.metadata.mystnb = {"code_prompt_show": words, "code_prompt_hide": words}
    return cell


def shown(output: NotebookNode) -> NotebookNode | None:
    """Return an output that needs no kernel: the words of a widget, a result without a guess."""
    data = output.get("data", {})
    plain = data.get("text/plain", "")
    if guess := GUESS.fullmatch(plain):
        words, options = map(escape, guess.groups())
        return html(f'<p class="guess"><b>Your guess.</b> {words} <i>{options}</i></p>')
    if VIEW in data:
        rest = {kind: value for kind, value in data.items() if kind != VIEW}
        return new_output("display_data", data=rest) if rest else None
    for kind in ("text/html", "text/plain"):
        if kind in data:
            data[kind] = data[kind].replace(NO_GUESS, "")
    return output


def html(text: str) -> NotebookNode:
    """Return HTML as an output."""
    return new_output("display_data", data={"text/html": text})


# ---------------------------------------------------------------- quizzes


def quiz(source: str) -> str:
    """Return the questions that a quiz cell asks; each answer says what it is worth on a click."""
    number, *one = re.findall(r"\d+", source)
    if number not in lessons():
        return ""
    asked = lesson(number).quiz
    chosen = [int(one[0]) - 1] if one else range(len(asked))
    return "\n\n".join(question(asked[at]) for at in chosen)


def question(asked: QuizQuestion) -> str:
    """Write one question of a quiz with its choices."""
    parts = [asked.question.strip()]
    for letter, choice in zip("ABCDEFGH", asked.choices, strict=False):
        kind = "right" if choice.right else "wrong"
        head = f":::{{admonition}} {letter}. {' '.join(choice.text.split())}"
        options = f":class: choice {kind}\n:collapsible: closed"
        parts.append(f"{head}\n{options}\n\n{choice.feedback}\n:::")
    return "\n\n".join(parts)


# ---------------------------------------------------------------- sources

PAPER = re.compile(r"arXiv (\d{4}\.\d{4,5})")
WHO = r"((?:\*[^*]+\*|[A-Z][\w-]+)(?: and (?:others|[A-Z][\w-]+))?),? \(?(\d{4}),? \[?arXiv "


def sources_page(pages: dict[str, str]) -> str:
    """Write what was found about each piece of advice, and where it and other claims come from."""
    parts = ["# What was found, and the sources", FOUND]
    for found in claims.measure_all():
        sources = ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", "; ".join(found.sources))
        rows = [f"*{found.verdict}.* {found.statement}", f"{found.measured}", f"Sources: {sources}"]
        parts.append("\n\n".join([f"### {found.advice}", *rows]))
    parts += ["## Papers", *(f"- {line}" for line in papers(pages))]
    return "\n\n".join(parts) + "\n"


FOUND = """## What became of the advice

The course tests advice instead of repeating it. Each result is a mean over several seeds with its
95 % interval, measured on the small model of the course.
"""


def papers(pages: dict[str, str]) -> list[str]:
    """List each preprint that lessons and handbook cite, by whom it is, and where it is cited."""
    cited: dict[str, list[str]] = {}
    named: dict[str, str] = {}
    for name, page in pages.items():
        if not name.startswith(("lessons/", "docs/")):
            continue
        text = " ".join((ROOT / name).read_text("utf-8").split())
        for number in dict.fromkeys(PAPER.findall(text)):
            cited.setdefault(number, []).append(page)
        for who, year, number in re.findall(rf"{WHO}(\d{{4}}\.\d{{4,5}})", text):
            named.setdefault(number, f"{who}, {year}")
    lines = []
    for number, places in sorted(cited.items()):
        where = ", ".join(f"[{Path(page).stem}]({page})" for page in places)
        who = f"{named[number]}: " if number in named else ""
        lines.append(f"{who}[arXiv {number}](https://arxiv.org/abs/{number}), cited in {where}")
    return sorted(lines)
