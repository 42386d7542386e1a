"""Sphinx's settings for the web edition; tools/build_web.py stages the pages and runs it."""

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils.math.latex2mathml import tex2mathml

project = "Capability Regression Lab"
author = "The Capability Regression Lab authors"
copyright = author  # Sphinx's name for what stands at the foot of a page
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["data"]

nb_execution_mode = "off"  # the outputs are those of solutions/
nb_render_markdown_format = "myst"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "misc.highlighting_failure"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "code"
python_maximum_signature_line_length = 80
add_module_names = False
toc_object_entries = False

html_theme = "furo"
html_title = "Capability Regression Lab"
html_css_files = ["colours.css", "web.css"]
html_js_files = [("explorables.js", {"defer": "defer"})]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}

HERE = "data"


class Explorable(Directive):
    """Put an explorable into a page, with its data: `{explorable} lookup`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the place that the script brings to life."""
        environment = self.state.document.settings.env
        name = self.arguments[0]
        data = Path(environment.srcdir, HERE, f"{name}.json")
        environment.note_dependency(str(data))
        text = (
            f'<section class="explorable" data-name="{name}" aria-label="{TITLES[name]}">'
            f'<script type="application/json">{data.read_text("utf-8")}</script>'
            "<noscript><p>This explorable needs JavaScript. All of its numbers also stand in the "
            "lessons.</p></noscript></section>"
        )
        return [nodes.raw("", text, format="html")]


TITLES = {
    "hear": "Hear it forget",
    "league": "The league of remedies",
    "lookup": "The look-up",
    "sure": "How sure can I be?",
}


def inline_math(self, node: nodes.math) -> None:
    """Write a formula of a line as MathML, which browsers draw without a script."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block_math(self, node: nodes.math_block) -> None:
    """Write a formula that stands alone as MathML."""
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app) -> None:
    """Add the directive and the formulas."""
    app.add_directive("explorable", Explorable)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
