"""What is committed in notebooks/ and solutions/: from the lessons, and fit to be read."""

import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9]*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "solutions").glob("*.ipynb"))

BLEMISHES = {
    "a warning": re.compile(r"\w*Warning:|\bWARNING\b"),
    "a path of this machine": re.compile(
        r"(?<![\w.:/<-])/(home|Users|root|tmp|usr|opt|var|mnt|work|private|content)/"
        r"|\b[A-Z]:\\|site-packages"
    ),
    "progress-bar debris": re.compile(r"\d%\||\b(it/s|s/it)\b|[█▏▎▍▌▋▊▉]|\r(?!\n)"),
}


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


every_lesson = pytest.mark.parametrize("path", LESSONS, ids=name)
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
every_solution = pytest.mark.parametrize("path", SOLUTIONS, ids=name)
everything = pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS, ids=name)


def code_cells(path: Path) -> list[NotebookNode]:
    made = jupytext.read(path) if path.suffix == ".md" else nbformat.read(path, as_version=4)
    return [cell for cell in made.cells if cell.cell_type == "code"]


def texts(output: NotebookNode) -> Iterator[str]:
    """Yield every text of an output, pictures left out."""
    yield output.get("text", "")
    yield from output.get("traceback", [])
    kinds = output.get("data", {}).items()
    yield from (str(value) for kind, value in kinds if not kind.startswith("image/"))


def blemishes(output: NotebookNode) -> list[str]:
    """Name what a reader should not see in an output."""
    found = ["words on stderr"] if output.get("name") == "stderr" else []
    for text in texts(output):
        hits = {what: pattern.search(text) for what, pattern in BLEMISHES.items()}
        found += [f"{what}: {hit[0]!r}" for what, hit in hits.items() if hit]
    return found


def test_notebooks_and_solutions_are_what_the_lessons_make():
    tool = [sys.executable, "tools/build_notebooks.py", "--check"]
    done = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


# ---------------------------------------------------------------- sizes


@every_lesson
def test_cells_are_short(path):
    lines = sorted(len(cell.source.splitlines()) for cell in code_cells(path))
    assert statistics.median(lines) <= 5
    assert lines[int(0.9 * (len(lines) - 1))] <= 15
    assert lines[-1] <= 30


@every_lesson
def test_lines_fit_a_page(path):
    def unbreakable(line):
        return "](" in line or line.startswith("|")  # a link, or a table's row

    lines = path.read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 79 and not unbreakable(line)] == []


@every_lesson
def test_the_first_cell_on_the_course_names_the_subject(path):
    first = next(cell.source for cell in code_cells(path) if "import caplab as cl" in cell.source)
    assert re.search(r'^\w+ = cl\.load\("pocket2?"\)', first, re.MULTILINE)


@everything
def test_the_file_is_small_enough_for_github_to_render(path):
    assert path.stat().st_size < 3_000_000


# ---------------------------------------------------------------- contents


@everything
def test_the_notebook_is_valid(path):
    made = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(made)
    assert made.nbformat == 4
    widgets = made.metadata.get("widgets", {})
    assert all(widget["state"] for widget in widgets.values()), "GitHub shows none without state"


@everything
def test_a_notebook_opens_with_its_title_and_a_setup_cell_that_fits(path):
    title, setup = nbformat.read(path, as_version=4).cells[:2]
    time = r"\d+ minutes, and \d+ for the exercises"
    assert re.match(rf"# .+\n\n\*\*.+\*\* · {time} ·\n\[Open in Colab\]", title.source)
    assert setup.source.startswith("# On Colab this installs the course.")
    assert len(setup.source.splitlines()) <= 12
    assert max(map(len, setup.source.splitlines())) <= 79


@every_notebook
def test_a_learner_finds_no_outputs_and_no_answers(path):
    for cell in code_cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert "solution" not in cell.metadata.get("tags", [])


@every_solution
def test_every_cell_of_a_solution_ran_in_order_from_a_clean_kernel(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@every_solution
def test_outputs_are_fit_to_be_read(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            assert not blemishes(output), cell.source


@every_solution
def test_every_solution_passes_its_check(path):
    for cell in code_cells(path):
        if cell.source.startswith("cl.check("):
            said = [output.data["text/plain"] for output in cell.outputs]
            assert [text.partition(":")[0] for text in said] == ["Right"], cell.source


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x.py:3: FutureWarning: renamed", "a warning"),
        ("saved to /home/ada/model", "a path of this machine"),
        ("File C:\\Users\\ada\\lab", "a path of this machine"),
        ("50%|#####     | 5/10", "progress-bar debris"),
        ("step 1\rstep 2", "progress-bar debris"),
    ],
)
def test_the_test_above_sees(text, what):
    (found,) = blemishes(nbformat.v4.new_output("stream", text=text))
    assert found.startswith(what)


def test_the_test_above_accepts_what_is_fine():
    text = "see https://example.org/home/page, ../solutions/, 95 % of 272, and/or\r\n"
    assert blemishes(nbformat.v4.new_output("stream", text=text)) == []
