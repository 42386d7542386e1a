"""Make notebooks/ and solutions/ from lessons/, the only source of all teaching.

    python tools/build_notebooks.py              build all, run the solutions whose code changed
    python tools/build_notebooks.py --execute    build all, run every solution
    python tools/build_notebooks.py 01 02        build the lessons whose names begin so
    python tools/build_notebooks.py --check      write nothing, fail on any drift
    python tools/build_notebooks.py --nbgrader OUT    make an nbgrader course in the folder OUT
    python tools/build_notebooks.py --set-repository owner/name    rewrite all links, after a fork

A lesson is jupytext Markdown whose front matter gives its title, level and minutes, and what it
needs. It knows two marks. A cell tagged `solution` is the whole answer to an exercise. In a longer
cell, the lines from `# >>> solution` to `# <<< solution` are the learner's part. Both are cut out
of notebooks/, where the output of the solved cell stands below the gap as the target; of a cell
tagged `target-shape` only the shape, because the output would be the answer.
"""

import argparse
import difflib
import hashlib
import json
import os
import re
import sys
import tomllib
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import getting_about
import jupytext
import nbformat
import nbgrader_assignments
import teachers_answers
import yaml
from getting_about import Neighbour, file_of
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from targets import SHAPE, VIEW, target_output

ROOT = Path(__file__).resolve().parent.parent
# A stub above a solution, `name = ...`, is the learner's alone.
LESSONS = "lessons/[0-9]*.md"
MARK = re.compile(r"^(?:(?:\w+ = \.\.\.\n)?# >>>|[ \t]*# (?:>>>|<<<)) solution\n?", re.M)
PART = re.compile(r"^([ \t]*)# >>> solution\n.*?^[ \t]*# <<< solution$", re.M | re.S)
# Tags that learners do not get: a gap prints other things than its solution.
NOT_FOR_LEARNERS = frozenset({"solution", "nbval-check-output", SHAPE})
LINKED = "pyproject.toml *.md docs/*.md *.cff *.py caplab/**/*.py lessons/*.md .github/**/*.yml"
ADVICE = """
Change the lesson, not the notebook: edit lessons/, then run python tools/build_notebooks.py.
If you only tried a notebook out, git restore notebooks solutions puts it back."""

# Colab's torch fits its GPU: named exactly, it stays, or pip says why it cannot.
SETUP = """# On Colab this installs the course. OTHERWISE
import sys
from importlib.metadata import version

if "google.colab" in sys.modules:
    course = "REPOSITORY"
    torch_stays = version("torch")
    %pip install -q torch=={torch_stays} git+https://github.com/{course}"""

# What learners see when they run it. A solution shows nothing.
AT_HOME = {"notebooks": "Then it shows how far you are.", "solutions": "Elsewhere it does nothing."}
STRIP = """

import caplab as cl

cl.progress("NUMBER")"""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
}


class LessonError(Exception):
    """Say what is wrong, and what to do now."""


@dataclass(frozen=True)
class Lesson:
    """Hold one lesson as its author wrote it."""

    name: str
    settings: dict[str, Any]
    cells: list[NotebookNode]
    around: tuple[Neighbour | None, Neighbour | None]


def read_lesson(path: Path) -> Lesson:
    """Read a lesson, and complain here where a learner would trip later."""
    source = jupytext.reads(path.read_text("utf-8"), {"extension": ".md", "split_at_heading": True})
    first, *cells = source.cells
    settings = yaml.safe_load(first.source.strip("-")) if first.cell_type == "raw" else {}
    if missing := {"title", "level", "minutes", "needs"} - settings.keys():
        raise LessonError(f"{path.name}: its front matter lacks {', '.join(sorted(missing))}.")
    for cell in code_cells(cells):
        complain_about(cell.source, blank(cell), path.name)
    prose = [cell for cell in cells if cell.cell_type == "markdown"]
    known = getting_about.terms(path.parent.parent / getting_about.GLOSSARY)
    texts = getting_about.with_glossary([cell.source for cell in prose], known)
    for cell, text in zip(prose, texts, strict=True):
        cell.source = text
    return Lesson(path.stem, settings, cells, getting_about.neighbours(path))


def complain_about(source: str, blanked: str, where: str) -> None:
    """Refuse a code cell that would not run once its solution is cut out."""
    if source.startswith("%%"):
        raise LessonError(f"{where}: this would run; fence text to read as ```console:\n{source}")
    if MARK.search(PART.sub("", source)):
        raise LessonError(f"{where}: '# >>> solution' and '# <<< solution' need pairs:\n{source}")
    try:
        compile(TransformerManager().transform_cell(blanked), where, "exec")
    except SyntaxError as error:
        raise LessonError(
            f"{where}: without its solution no Python ({error}):\n{blanked}"
        ) from None


def code_cells(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Keep the code cells."""
    return [cell for cell in cells if cell.cell_type == "code"]


def is_solution(cell: NotebookNode) -> bool:
    """Tell whether a whole cell is an answer."""
    return "solution" in cell.metadata.get("tags", [])


def blank(cell: NotebookNode) -> str:
    """Return a code cell's source with a comment in place of the answer."""
    if is_solution(cell):
        return "# your code here"
    # An indented gap needs a statement: a body of comments alone is not Python.
    return PART.sub(lambda gap: f"{gap[1]}{gap[1] and 'pass  '}# your code here", cell.source)


def variant(cell: NotebookNode, source: str, without: frozenset[str] = frozenset()) -> NotebookNode:
    """Copy a lesson's cell with another source, and without some tags."""
    copy = deepcopy(cell)
    copy.source = source
    if tags := [tag for tag in copy.metadata.pop("tags", []) if tag not in without]:
        copy.metadata.tags = tags
    return copy


def digest(*parts: object) -> str:
    """Return a short hash, the same on every machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def assemble(lesson: Lesson, folder: str, repository: str, cells: list[tuple]) -> NotebookNode:
    """Put title, links and setup cell around `cells`, given as pairs (key, cell).

    A cell's id comes from the lesson and the key, so that it survives rebuilds and moves.
    """
    way = getting_about.way(lesson.around, folder, repository)
    head = getting_about.head(lesson.settings, lesson.name, folder, repository, way)
    strip = STRIP.replace("NUMBER", lesson.name[:2]) if folder == "notebooks" else ""
    install = SETUP.replace("REPOSITORY", repository).replace("OTHERWISE", AT_HOME[folder])
    setup = new_code_cell(install + strip)
    made = new_notebook(metadata=deepcopy(METADATA))
    taken: set[str] = set()
    first = [("header", new_markdown_cell(head)), ("setup", setup)]
    for key, cell in [*first, *cells, ("footer", new_markdown_cell(way))]:
        ids = (digest(lesson.name, key, copy) for copy in count())
        cell.id = next(free for free in ids if free not in taken)
        taken.add(cell.id)
        made.cells.append(cell)
    return made


def solved_notebook(lesson: Lesson, repository: str) -> NotebookNode:
    """Return the notebook for solutions/, not yet executed."""
    cells = [(c.source, variant(c, MARK.sub("", c.source).rstrip("\n"))) for c in lesson.cells]
    made = assemble(lesson, "solutions", repository, cells)
    made.metadata.caplab = {"code": digest([cell.source for cell in code_cells(lesson.cells)])}
    return made


def learner_notebook(lesson: Lesson, solved: NotebookNode, repository: str) -> NotebookNode:
    """Return the notebook for notebooks/: answers cut out, target outputs below the gaps."""
    cells = []
    for cell, answer in zip(lesson.cells, solved.cells[2:-1], strict=True):
        if cell.cell_type == "code":
            cells.append((cell.source, variant(cell, blank(cell), NOT_FOR_LEARNERS)))
            if blank(cell) != cell.source and (target := target_output(answer)):
                cells.append((f"target of {cell.source}", new_markdown_cell(target)))
        elif not is_solution(cell):
            cells.append((cell.source, variant(cell, cell.source)))
    return assemble(lesson, "notebooks", repository, cells)


class Runner(NotebookClient):
    """Run a notebook, and forget widgets that closed themselves: a finished progress bar."""

    def handle_comm_msg(self, outs: list, msg: dict, cell_index: int) -> None:
        """Keep the books on widgets, closings included."""
        super().handle_comm_msg(outs, msg, cell_index)
        if msg["msg_type"] == "comm_close":
            self.widget_state.pop(msg["content"]["comm_id"], None)


def execute(solved: NotebookNode, folder: Path) -> None:
    """Run a solution in a clean kernel and keep its outputs and widget state, nothing else."""
    kept = deepcopy(solved.metadata)
    options = {"record_timing": False, "resources": {"metadata": {"path": str(folder)}}}
    runner = Runner(solved, timeout=600, coalesce_streams=True, **options)
    try:
        with TemporaryDirectory() as nobody:  # what a build solves, no learner has solved
            runner.execute(env={**os.environ, "CAPLAB_PROGRESS": f"{nobody}/progress.json"})
    except CellExecutionError as error:
        raise LessonError(f"A solution fails, so nothing was written.\n{error}") from None
    views = [drop_closed(cell, runner.widget_state) for cell in code_cells(solved.cells)]
    if any(views):
        kept.widgets = solved.metadata.widgets
    solved.metadata = kept
    solved.metadata.caplab.outputs = outputs_digest(solved)


def drop_closed(cell: NotebookNode, alive: dict[str, dict]) -> int:
    """Drop views of widgets that are gone, which show nothing; count the others."""
    models = [output.get("data", {}).get(VIEW, {}).get("model_id") for output in cell.outputs]
    pairs = zip(cell.outputs, models, strict=True)
    cell.outputs = [output for output, model in pairs if not model or model in alive]
    return sum(model in alive for model in models)


def outputs_digest(solved: NotebookNode) -> str:
    """Return the hash of all that execution wrote, so that a hand edit shows."""
    outputs = [(cell.execution_count, cell.outputs) for cell in code_cells(solved.cells)]
    return digest(outputs, solved.metadata.get("widgets"))


def recall(solved: NotebookNode, path: Path) -> str:
    """Give `solved` the outputs kept at `path`, or say why they are not its own."""
    if not path.exists():
        return "is missing"
    try:
        old = nbformat.read(path, as_version=4)
        if old.metadata.caplab.code != solved.metadata.caplab.code:
            return "ran other code than the lesson has now"
        if old.metadata.caplab.outputs != outputs_digest(old):
            return "has outputs that were edited by hand"
        pairs = list(zip(code_cells(solved.cells), code_cells(old.cells), strict=True))
    except (ValueError, AttributeError):
        return "is no longer a notebook that this tool built"
    for cell, run in pairs:
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    solved.metadata |= {k: v for k, v in old.metadata.items() if k in ("caplab", "widgets")}
    return ""


def pair(root: Path, lesson: Lesson, solved: NotebookNode, repository: str) -> dict[Path, str]:
    """Return the text of the two files that a lesson and its executed solution make."""
    made = {"solutions": solved, "notebooks": learner_notebook(lesson, solved, repository)}
    for notebook in made.values():
        nbformat.validate(notebook)
    return {
        root / folder / file_of(lesson.name, folder): nbformat.writes(notebook) + "\n"
        for folder, notebook in made.items()
    }


def repositories(root: Path) -> list[str]:
    """Return the names that links may carry: the environment's (a fork's CI), the setting."""
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    setting = settings["tool"]["caplab"]["repository"]
    return [os.environ.get("GITHUB_REPOSITORY") or setting, setting]


def build(root: Path, lesson: Lesson, run_again: bool) -> str:
    """Write both notebooks of a lesson where they changed, and say what was done."""
    repository = repositories(root)[0]
    solved = solved_notebook(lesson, repository)
    stale = recall(solved, root / "solutions" / file_of(lesson.name, "solutions"))
    if stale or run_again:
        execute(solved, root / "lessons")
    files = pair(root, lesson, solved, repository)
    changed = [path for path, text in files.items() if difference(path, text)]
    for path in changed:
        path.parent.mkdir(exist_ok=True)
        path.write_text(files[path], "utf-8", newline="\n")
    done = "executed" if stale or run_again else "outputs kept"
    return f"{lesson.name}: {done}, {len(changed)} files written"


def check(root: Path, lessons: list[Lesson]) -> list[str]:
    """List every difference between the lessons and the two folders made from them."""
    folders = ("notebooks", "solutions")
    names = {f"{where}/{file_of(each.name, where)}" for each in lessons for where in folders}
    found = {f"{where}/{path.name}" for where in folders for path in root.glob(f"{where}/*.ipynb")}
    orphans = sorted(found - names)
    problems = [f"{name} has no lesson: write the lesson, or delete it" for name in orphans]
    for path, text in answers(root, lessons):
        problems += [problem] if (problem := difference(path, text)) else []
    for lesson in lessons:
        # A fork's CI has another name than the links until somebody renames: both are right.
        problems += min((drift(root, lesson, name) for name in repositories(root)), key=len)
    return problems


def answers(root: Path, lessons: list[Lesson]) -> list[tuple[Path, str]]:
    """Return the teacher's page and its text; none where a course has no classroom."""
    told = [(each.name, each.settings["title"], each.cells) for each in lessons]
    there = (root / teachers_answers.NOTES).exists()
    return [(root / teachers_answers.PAGE, teachers_answers.page(root, told))] if there else []


def drift(root: Path, lesson: Lesson, repository: str) -> list[str]:
    """List how a lesson's two files differ from what the lesson makes."""
    solved = solved_notebook(lesson, repository)
    kept = root / "solutions" / file_of(lesson.name, "solutions")
    if stale := recall(solved, kept):
        return [f"solutions/{kept.name} {stale}"]
    files = pair(root, lesson, solved, repository).items()
    return [problem for path, text in files if (problem := difference(path, text))]


def difference(path: Path, text: str) -> str:
    """Summarise how a file differs from the text it should hold, in at most a dozen lines."""
    name = f"{path.parent.name}/{path.name}"
    if not path.exists():
        return f"{name} is missing"
    lines = difflib.unified_diff(text.splitlines(), path.read_text("utf-8").splitlines(), n=0)
    changes = [line[:90] for line in lines if line[:2] not in ("--", "++", "@@")]
    shown = "\n    ".join(changes[:12])
    return f"{name} differs (- from the lesson, + in the file):\n    {shown}" if changes else ""


def set_repository(root: Path, new: str) -> str:
    """Rewrite the setting and every link outside the notebooks, and say where."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        raise LessonError(f"'{new}' is not a repository. Write owner/name.")
    old = re.compile(rf"(?<![\w.-]){re.escape(repositories(root)[1])}(?![\w-])")
    texts = {p: p.read_text("utf-8") for pattern in LINKED.split() for p in root.glob(pattern)}
    linked = {path: text for path, text in texts.items() if old.search(text)}
    for path, text in linked.items():
        path.write_text(old.sub(new, text), "utf-8", newline="\n")
    return "\n".join(f"{path.relative_to(root).as_posix()} now names {new}" for path in linked)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Do what the command line asks, and return the exit code."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("names", nargs="*", help="the lessons to build; else all of them")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--execute", action="store_true")
    parser.add_argument("--nbgrader", metavar="OUT", type=Path)
    parser.add_argument("--set-repository", metavar="OWNER/NAME")
    options = parser.parse_args(arguments)
    try:
        return run(options, root)
    except LessonError as error:
        print(error, file=sys.stderr)
        return 1


def wanted(root: Path, options: argparse.Namespace) -> list[Path]:
    """List the lessons to build: those whose names begin as asked; a check looks at all."""
    paths = sorted(root.glob(LESSONS))
    names = [] if options.check else options.names
    if lost := [name for name in names if not any(path.stem.startswith(name) for path in paths)]:
        raise LessonError(f"No lesson begins with {', '.join(lost)}.")
    return [path for path in paths if path.stem.startswith(tuple(names or [""]))]


def run(options: argparse.Namespace, root: Path) -> int:
    """Carry out the options."""
    if options.set_repository:
        print(set_repository(root, options.set_repository))
    lessons = [read_lesson(path) for path in wanted(root, options)]
    if options.check:
        problems = check(root, lessons)
        print(
            *problems, ADVICE if problems else "Every notebook is what its lesson makes.", sep="\n"
        )
        return int(bool(problems))
    for lesson in lessons:
        if options.nbgrader:
            title = new_markdown_cell(f"# {lesson.settings['title']}")
            where = (options.nbgrader, lesson.name, [title, *lesson.cells])
            print(nbgrader_assignments.write(*where, repositories(root)[0]))
        else:
            print(build(root, lesson, options.execute), flush=True)
    if not options.nbgrader:
        for path, text in answers(root, [*map(read_lesson, sorted(root.glob(LESSONS)))]):
            path.write_text(text, "utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
