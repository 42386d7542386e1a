"""Make the web edition: static pages in build/web/ that need no server and no network.

    python tools/build_web.py              all pages; about half a minute
    python tools/build_web.py --out DIR    somewhere else
    python tools/build_web.py --pdf        the summary sheet as PDF, too; needs Chromium

Lessons come from their executed solutions, the handbook from docs/, the reference from docstrings,
and every number of the explorables from the shipped data (web_data.py). A link that leads nowhere
ends the build.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from build_notebooks import LessonError, read_lesson
from getting_about import GITHUB
from sphinx.application import Sphinx
from web_data import EXPLORABLES
from web_pages import lesson_page, repository, sources_page, with_links

from caplab.support import __version__, colours

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
OUT = ROOT / "build/web"
MODULES = ("shared", "hear", "league", "lookup", "sure", "main")  # what imports comes later
SCRIPT_WORDS = re.compile(r"^import [^;]*;\n|^export (?=\w)", re.MULTILINE)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHEET = "handbook/summary"
PDF = """

```{raw} html
<p class="buttons"><a class="button" href="summary.pdf">As PDF, two pages</a></p>
```
"""


def pages() -> dict[str, str]:
    """Map the files of the repository to the pages of the site that are made from them."""
    found = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
    for path in sorted((ROOT / "docs").glob("*.md")):
        found[f"docs/{path.name}"] = f"handbook/{path.name}"
    found["caplab/assets/pocket/README.md"] = "handbook/pocket.md"
    for path in sorted((ROOT / "lessons").glob("[0-9]*.md")):
        page = f"lessons/{path.stem}.ipynb"
        found[f"lessons/{path.name}"] = page
        found[f"notebooks/{path.stem}.ipynb"] = page
        found[f"solutions/{path.stem}_solved.ipynb"] = page
    return found


# ---------------------------------------------------------------- what Sphinx reads


def stage(source: Path, pdf: bool) -> None:
    """Write all pages, data and styles into the folder that Sphinx reads."""
    shutil.copytree(WEB, source, ignore=shutil.ignore_patterns("answers.json", "explorables"))
    known = pages()
    for name, page in known.items():
        target = source / page
        target.parent.mkdir(exist_ok=True)
        if name.startswith("lessons/"):
            made = lesson_page(ROOT / name, read_lesson(ROOT / name), known, page)
            nbformat.write(made, target)
        elif name.endswith(".md") and name != "README.md":
            text = with_links((ROOT / name).read_text("utf-8"), ROOT / name, known, page)
            text = text.replace("\n", PDF, 1) if pdf and page == f"{SHEET}.md" else text
            target.write_text(without_front_matter(text), "utf-8")
    (source / "sources.md").write_text(sources_page(known), "utf-8")
    data = source / "data"
    data.mkdir()
    for name, values in EXPLORABLES.items():
        (data / f"{name}.json").write_text(as_json(values()), "utf-8")
    static = source / "_static"
    (static / "explorables.js").write_text(script(), "utf-8")
    (static / "colours.css").write_text(colour_sheet(), "utf-8")
    for picture in ("drift.png", "forgetting.png", "explorer.svg"):
        shutil.copy(ROOT / "docs" / picture, static)


def without_front_matter(text: str) -> str:
    """Cut off the lines that a model's hub reads."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def as_json(values: object) -> str:
    """Write JSON that may stand inside a page: no number that is none, no end of a script."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("</", "<\\/")


def script() -> str:
    """Join the modules of the explorables: a page on a disk may not import a second file."""
    modules = [(WEB / f"explorables/{name}.js").read_text("utf-8") for name in MODULES]
    joined = "\n".join(SCRIPT_WORDS.sub("", text) for text in modules)
    return f'(() => {{\n"use strict";\n{joined}}})();\n'


def colour_sheet() -> str:
    """Write the project's colours as CSS, for light and for dark pages."""
    names = ("PAPER", "INK", "PALE", "GRID", "OLD", "NEW", "BUDGET", "GUARD")
    light = {name: getattr(colours, name) for name in names}
    light |= {"PAPER": colours.WHITE, "NEW_WORDS": colours.NEW_WORDS, **colours.VERDICTS}
    dark = colours.DARK | {"NEW_WORDS": colours.DARK["NEW"]} | colours.DARK_VERDICTS
    rules = {"body": light, 'body[data-theme="dark"]': dark}
    text = "".join(css(selector, values) for selector, values in rules.items())
    auto = css('body:not([data-theme="light"])', dark)
    return f"{text}@media (prefers-color-scheme: dark) {{\n{auto}}}\n"


def css(selector: str, values: dict[str, str]) -> str:
    """Write one rule of custom properties."""
    lines = [
        f"  --cl-{name.lower().replace('_', '-')}: {value};\n" for name, value in values.items()
    ]
    return f"{selector} {{\n{''.join(lines)}}}\n"


# ---------------------------------------------------------------- building


def build(out: Path, pdf: bool = False) -> None:
    """Build the site into a folder, which is replaced when all went well."""
    with tempfile.TemporaryDirectory() as scratch:
        source, made = Path(scratch) / "source", Path(scratch) / "html"
        stage(source, pdf)
        settings = {
            "release": __version__,
            "html_static_path": [str(source / "_static")],  # else looked for beside conf.py
            "html_theme_options.source_repository": f"{GITHUB}/{repository()}",
        }
        app = Sphinx(
            source, WEB, made, Path(scratch) / "doctrees", "html",
            confoverrides=settings, status=None, warningiserror=True,
        )  # fmt: skip
        app.build()
        if app.statuscode:
            sys.exit("The web edition was not built: see the warnings above.")
        for folder in ("notebooks", "solutions"):
            shutil.copytree(ROOT / folder, made / folder, ignore=shutil.ignore_patterns(".*"))
        (made / ".nojekyll").touch()  # Pages would leave out folders that begin with _
        for leftover in (".buildinfo", "objects.inv"):
            (made / leftover).unlink(missing_ok=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)


def print_sheet(program: str, out: Path) -> None:
    """Print the summary sheet as PDF, as a reader's browser would."""
    page, sheet = out / f"{SHEET}.html", out / f"{SHEET}.pdf"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command = [program, *flags, f"--print-to-pdf={sheet}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def main(arguments: list[str] | None = None) -> int:
    """Build, and say how long it took."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--pdf", action="store_true")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    program = next(filter(None, map(shutil.which, CHROMIUM)), None) if given.pdf else None
    if given.pdf and program is None:
        print("The summary sheet will not be printed: there is no Chromium here.")
    try:
        build(given.out, pdf=program is not None)
    except LessonError as error:
        sys.exit(str(error))
    if program:
        print_sheet(program, given.out)
    count = len(list(given.out.rglob("*.html")))
    print(f"{count} pages in {time.perf_counter() - start:.0f} seconds: {given.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
