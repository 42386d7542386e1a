"""Write the output of a solved cell as what stands below the gap: the target."""

import re

from nbformat import NotebookNode

SHAPE = "target-shape"  # the tag of a cell whose output would be the answer
VIEW = "application/vnd.jupyter.widget-view+json"


def target_output(cell: NotebookNode) -> str:
    """Return a solved cell's outputs as a quotation, which looks the same wherever it is shown."""
    parts = [part for output in cell.outputs if (part := as_markdown(output))]
    title = "**Target output**"
    if SHAPE in cell.metadata.get("tags", []):
        parts, title = [shape(part) for part in parts], "**Target output**, each digit as a `#`"
    quoted = "\n\n".join([title, *parts]).replace("\n", "\n> ")
    return f"> {quoted}" if parts else ""


def shape(text: str) -> str:
    """Show what an output looks like, and not what it says."""
    hidden = re.sub(r"([\"'])[^\n]*?\1", r"\1...\1", text)
    return re.sub(r"\d", "#", hidden)


def as_markdown(output: NotebookNode) -> str:
    """Return one output as Markdown: a picture, or text. A widget has none."""
    data = output.get("data", {})
    if VIEW in data:
        return ""
    if drawn := re.search(r'<img class="cl-picture"[^>]*>', data.get("text/html", "")):
        return drawn[0]  # a picture of caplab, with its alternative text
    if picture := data.get("image/png", "").replace("\n", ""):
        width = output.metadata.get("image/png", {}).get("width", "")
        # A data URI, because Colab shows no attachments.
        return f'<img alt="Target output" width="{width}" src="data:image/png;base64,{picture}">'
    if markdown := data.get("text/markdown"):
        return markdown
    text = output.get("text", data.get("text/plain", "")).rstrip()
    return f"````text\n{text}\n````" if text else ""
