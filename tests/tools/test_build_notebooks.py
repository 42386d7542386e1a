"""The lesson pipeline: what learners get, what is kept, and that no drift goes unseen."""

import json
import shutil
import sys
from pathlib import Path

import build_notebooks as tool
import nbformat
import pytest
import targets
from getting_about import file_of
from IPython.core.interactiveshell import InteractiveShell

LESSON = '''\
---
title: A toy
level: Beginner
minutes: 5
needs: lesson 00
---

Two questions.

## Doubling

```python tags=["nbval-check-output"]
print("ready")
```

```python tags=["solution"]
import matplotlib.pyplot as plt

print("the answer")
plt.plot([1, 2]);
```

```python
def double(number):
    """Return twice the number."""
    # >>> solution
    return 2 * number
    # <<< solution


double(21)
```

```python
from ipywidgets import HTML

HTML("a widget")
```

```python
bar = HTML("a progress bar")
display(bar)
bar.close()
```

<!-- #region tags=["solution"] -->
Because doubling is adding to itself.
<!-- #endregion -->
'''


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the toy once: executing it starts a kernel."""
    root = tmp_path_factory.mktemp("course")
    (root / "lessons").mkdir()
    (root / "lessons/01_toy.md").write_text(LESSON, "utf-8")
    (root / "pyproject.toml").write_text('[tool.caplab]\nrepository = "someone/lab"\n')
    assert tool.main([], root) == 0
    return root


@pytest.fixture
def course(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hand out a fresh copy of the built toy, where running code again is an error."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.setattr(tool, "execute", lambda *_: pytest.fail("ran a solution again"))
    return Path(shutil.copytree(built, tmp_path / "course"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.glob("notebooks/*")} | {
        f"solved {path.name}": path.read_bytes() for path in root.glob("solutions/*")
    }


def cells(root: Path, folder: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(root / folder / file_of("01_toy", folder), as_version=4).cells


# ---------------------------------------------------------------- what learners get


def test_a_notebook_opens_with_its_title_a_badge_line_and_the_setup(course):
    title, setup = cells(course, "notebooks")[:2]
    assert title.source.startswith("# A toy\n\n**Beginner** · 5 minutes")
    assert "/github/someone/lab/blob/main/notebooks/01_toy.ipynb" in title.source
    assert "(../solutions/01_toy_solved.ipynb)" in title.source
    assert setup.cell_type == "code"
    assert len(setup.source.splitlines()) <= 12


def test_a_solution_links_to_itself_on_colab_and_back_to_the_exercises(course):
    title = cells(course, "solutions")[0].source
    assert "/blob/main/solutions/01_toy_solved.ipynb" in title
    assert "(../notebooks/01_toy.ipynb)" in title


def test_answers_are_cut_out_of_notebooks(course):
    text = (course / "notebooks/01_toy.ipynb").read_text("utf-8")
    for answer in ("plt.plot", "return 2 * number", "adding to itself", ">>> solution"):
        assert answer not in text


def test_a_notebook_has_no_outputs_and_no_tags_of_ours(course):
    for cell in cells(course, "notebooks"):
        assert not cell.get("outputs")
        assert "tags" not in cell.metadata


def test_target_outputs_stand_below_the_gaps(course):
    sources = [cell.source for cell in cells(course, "notebooks")]
    whole = sources.index("# your code here")
    assert "the answer" in sources[whole + 1]
    assert 'src="data:image/png;base64,' in sources[whole + 1]
    assert "42" in sources[whole + 3]


def test_only_gaps_have_target_outputs(course):
    targets = [cell for cell in cells(course, "notebooks") if "Target output" in cell.source]
    assert len(targets) == 2


def test_an_unfilled_notebook_runs(course):
    learner = {"display": print}
    for cell in cells(course, "notebooks"):
        if cell.cell_type == "code" and "%pip" not in cell.source:
            exec(cell.source, learner)


def test_solutions_keep_the_answers_but_not_the_marks(course):
    text = (course / "solutions/01_toy_solved.ipynb").read_text("utf-8")
    assert "    return 2 * number" in text
    assert "adding to itself" in text
    assert "<<< solution" not in text


def test_a_stub_above_the_answer_is_the_learners_alone():
    cell = "planned = ...\n# >>> solution\nplanned = 3\n# <<< solution\nplanned"
    assert tool.MARK.sub("", cell) == "planned = 3\nplanned"
    assert tool.MARK.sub("", f"rest = 1\n{cell}") == "rest = 1\nplanned = 3\nplanned"


def test_solutions_keep_outputs_and_widget_state_but_no_clock(course):
    solved = nbformat.read(course / "solutions/01_toy_solved.ipynb", as_version=4)
    (state,) = solved.metadata.widgets.values()
    assert "a widget" in json.dumps(state.state)
    assert any(cell.get("outputs") for cell in solved.cells)
    assert all("execution" not in cell.metadata for cell in solved.cells)


def test_a_widget_that_closed_itself_leaves_no_trace(course):
    text = (course / "solutions/01_toy_solved.ipynb").read_text("utf-8")
    assert '"value": "a progress bar"' not in text
    assert "HTML(value='a progress bar')" not in text


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (
            {
                "data": {"text/plain": "<Figure>", "image/png": "AB\nC\n"},
                "metadata": {"image/png": {"width": 864, "height": 432}},
            },
            'width="864" src="data:image/png;base64,ABC">',
        ),
        (
            {"data": {"text/html": '<div><img class="cl-picture" alt="it" src="d:AB"></div>'}},
            '<img class="cl-picture" alt="it" src="d:AB">',
        ),
        ({"data": {"text/plain": "obj", "text/markdown": "**bold**"}}, "**bold**"),
        ({"data": {"text/plain": "a  b", "text/html": "<b>"}}, "````text\na  b\n````"),
        ({"text": "printed\n"}, "````text\nprinted\n````"),
        ({"data": {"text/plain": "W()", "application/vnd.jupyter.widget-view+json": {}}}, ""),
    ],
)
def test_an_output_becomes_markdown_that_renders_anywhere(output, shown):
    made = targets.as_markdown(nbformat.from_dict(output))
    assert made.endswith(shown)
    assert bool(made) == bool(shown)


# ---------------------------------------------------------------- the setup cell


def pip_lines(monkeypatch: pytest.MonkeyPatch, setup: str) -> list[str]:
    """Run a setup cell in IPython with a `%pip` that only listens."""
    shell, heard = InteractiveShell(), []
    shell.register_magic_function(heard.append, "line", "pip")
    shell.run_cell(setup).raise_error()
    return heard


def test_the_setup_cell_does_nothing_at_home(course, monkeypatch):
    assert pip_lines(monkeypatch, cells(course, "notebooks")[1].source) == []


def test_on_colab_the_setup_cell_installs_the_course_and_keeps_torch(course, monkeypatch):
    from importlib.metadata import version

    monkeypatch.setitem(sys.modules, "google.colab", sys)
    (line,) = pip_lines(monkeypatch, cells(course, "notebooks")[1].source)
    assert line.endswith(f"torch=={version('torch')} git+https://github.com/someone/lab")


# ---------------------------------------------------------------- rebuilding


def test_building_again_changes_no_byte_and_runs_nothing(course):
    before = contents(course)
    assert tool.main([], course) == 0
    assert contents(course) == before


def test_only_the_lessons_that_are_named_are_built(course, capsys):
    shutil.copy(course / "lessons/01_toy.md", course / "lessons/08_other.md")
    assert tool.main(["01"], course) == 0
    assert not (course / "notebooks/08_other.ipynb").exists()
    assert tool.main(["9"], course) == 1
    assert "No lesson begins with 9" in capsys.readouterr().err


def test_a_change_of_prose_reaches_both_notebooks_without_running_code(course):
    edit(course / "lessons/01_toy.md", "Two questions.", "Three questions.")
    assert tool.main([], course) == 0
    assert all(b"Three questions." in text for text in contents(course).values())
    assert tool.main(["--check"], course) == 0


def test_a_change_of_code_runs_the_solution_again(course, monkeypatch):
    ran = []
    monkeypatch.setattr(tool, "execute", lambda solved, _: ran.append(solved))
    edit(course / "lessons/01_toy.md", "double(21)", "double(22)")
    assert tool.main([], course) == 0
    assert len(ran) == 1


def test_cell_ids_outlive_a_new_cell_above_them(course):
    before = {cell.source: cell.id for cell in cells(course, "notebooks")}
    edit(course / "lessons/01_toy.md", "## Doubling", "```python\nnew = 1\n```\n\n## Doubling")
    lesson = tool.read_lesson(course / "lessons/01_toy.md")
    after = {cell.source: cell.id for cell in tool.solved_notebook(lesson, "someone/lab").cells}
    shared = before.keys() & after.keys()
    assert len(shared) >= 4
    assert all(before[source] == after[source] for source in shared)


def test_cells_with_the_same_source_have_different_ids(tmp_path):
    twice = LESSON + '\n```python\nprint("ready")\n```\n'
    (tmp_path / "01_toy.md").write_text(twice, "utf-8")
    made = tool.solved_notebook(tool.read_lesson(tmp_path / "01_toy.md"), "someone/lab")
    assert len({cell.id for cell in made.cells}) == len(made.cells)


# ---------------------------------------------------------------- drift


def test_check_passes_on_what_the_tool_built_and_writes_nothing(course):
    before = contents(course)
    assert tool.main(["--check"], course) == 0
    assert contents(course) == before


HAND_EDITS = {
    "a learner's notebook: prose": ("notebooks", "Two questions.", "Five questions."),
    "a learner's notebook: code": ("notebooks", 'print(\\"ready\\")', 'print(\\"set\\")'),
    "a learner's notebook: the target": ("notebooks", '"> 42\\n"', '"> 43\\n"'),
    "a learner's notebook: a saved run": (
        "notebooks",
        '"execution_count": null',
        '"execution_count": 1',
    ),
    "a learner's notebook: a cell id": ("notebooks", '"id": "', '"id": "x'),
    "a learner's notebook: the kernel": ("notebooks", '"Python 3"', '"My kernel"'),
    "a solution: prose": ("solutions", "Two questions.", "Five questions."),
    "a solution: code": ("solutions", "return 2 * number", "return number * 2"),
    "a solution: an output": ("solutions", '"42"', '"43"'),
    "a solution: a printed line": ("solutions", '"ready\\n"', '"steady\\n"'),
    "a solution: the widget state": ("solutions", '"value": "a widget"', '"value": "b"'),
    "a solution: the seal itself": ("solutions", '"outputs": "', '"outputs": "0'),
    "a solution: the Colab link": ("solutions", "someone/lab", "somebody/lab"),
    "a solution: broken JSON": ("solutions", '"nbformat": 4,', '"nbformat": 4'),
    "a lesson: prose": ("lessons", "Two questions.", "Five questions."),
    "a lesson: code": ("lessons", "double(21)", "double(22)"),
}


@pytest.mark.parametrize(("folder", "old", "new"), HAND_EDITS.values(), ids=HAND_EDITS)
def test_check_fails_after_a_hand_edit_of(folder, old, new, course, capsys):
    (path,) = (course / folder).glob("01_toy*")
    edit(path, old, new)
    assert tool.main(["--check"], course) == 1
    said = capsys.readouterr().out
    assert "01_toy" in said
    assert "Change the lesson, not the notebook" in said


@pytest.mark.parametrize("folder", ["notebooks", "solutions"])
def test_check_fails_when_a_notebook_is_missing(folder, course, capsys):
    name = file_of("01_toy", folder)
    (course / folder / name).unlink()
    assert tool.main(["--check"], course) == 1
    assert f"{folder}/{name} is missing" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["notebooks", "solutions"])
def test_check_fails_on_a_notebook_without_a_lesson(folder, course, capsys):
    shutil.copy(course / "notebooks/01_toy.ipynb", course / folder / "02_orphan.ipynb")
    assert tool.main(["--check"], course) == 1
    assert f"{folder}/02_orphan.ipynb has no lesson" in capsys.readouterr().out


def test_check_shows_both_sides_of_a_drift(course, capsys):
    edit(course / "notebooks/01_toy.ipynb", "Two questions.", "Five questions.")
    tool.main(["--check"], course)
    said = capsys.readouterr().out
    assert '-    "Two questions."' in said
    assert '+    "Five questions."' in said


# ---------------------------------------------------------------- forks


def test_check_passes_in_a_forks_ci_before_anything_was_renamed(course, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "newcomer/fork")
    assert tool.main(["--check"], course) == 0


def test_in_ci_links_name_the_repository_that_runs_it(course, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "newcomer/fork")
    assert tool.main([], course) == 0
    assert all(b"someone/lab" not in text for text in contents(course).values())
    assert tool.main(["--check"], course) == 0


def test_one_command_renames_every_link_of_a_fork(course, capsys):
    readme = course / "README.md"
    readme.write_text("[Colab](https://x/github/someone/lab/blob) someone/labyrinth", "utf-8")
    edit(course / "lessons/01_toy.md", "Two questions.", "See github.com/someone/lab.")
    tool.main([], course)
    assert tool.main(["--set-repository", "newcomer/fork"], course) == 0
    assert all(b"someone/lab" not in text for text in contents(course).values())
    assert readme.read_text("utf-8").endswith("github/newcomer/fork/blob) someone/labyrinth")
    assert "README.md now names newcomer/fork" in capsys.readouterr().out
    assert tool.main(["--check"], course) == 0


def test_a_name_that_is_no_repository_is_refused(course, capsys):
    assert tool.main(["--set-repository", "https://example.org/a/b"], course) == 1
    assert "owner/name" in capsys.readouterr().err


# ---------------------------------------------------------------- mistakes of authors

MISTAKES = {
    "no minutes": ("minutes: 5\n", "", "front matter lacks minutes"),
    "no front matter": (
        LESSON.partition("\n\n")[0],
        "Hello.",
        "lacks level, minutes, needs, title",
    ),
    "a shell block that would run": ("```python\nfrom", "```bash\nfrom", "```console"),
    "a mark without its end": ("    # <<< solution\n", "", "need pairs"),
    "an end without its mark": ("    # >>> solution\n", "", "need pairs"),
    "a gap that leaves half a statement": ("double(21)", "double(", "no Python"),
}


@pytest.mark.parametrize(("old", "new", "advice"), MISTAKES.values(), ids=MISTAKES)
def test_an_authors_mistake_is_explained(old, new, advice, course, capsys):
    edit(course / "lessons/01_toy.md", old, new)
    before = contents(course)
    assert tool.main([], course) == 1
    said = capsys.readouterr().err
    assert said.startswith("01_toy.md: ")
    assert advice in said
    assert contents(course) == before


def test_a_solution_that_fails_writes_nothing(built, tmp_path, capsys):
    course = Path(shutil.copytree(built, tmp_path / "course"))
    edit(course / "lessons/01_toy.md", "double(21)", "double(undefined)")
    before = contents(course)
    assert tool.main([], course) == 1
    assert "NameError" in capsys.readouterr().err
    assert contents(course) == before
