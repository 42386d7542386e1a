"""Make foreign text safe to show: in a terminal, a CI log, HTML, Markdown and XML.

Names, prompts and answers come from others and may hold anything: codes that clear a terminal,
lines that a CI server takes for its commands, letters that turn the order of a line around. This is
the one place that knows what is dangerous where. Whatever shows foreign text calls it.
"""

import re
from html import escape

__all__ = [
    "html_text",
    "line_text",
    "log_text",
    "markdown_text",
    "shorten",
    "xml_text",
]

# Controls of ASCII and Latin-1; what starts a line or turns its direction around; halves of
# characters and what is no character. Not these: a tab and a line feed.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff]"
)
# What a log's reader obeys. GitHub: `::error::` first in a line, and `##[group]` anywhere in it.
# Azure: `##vso[`. TeamCity: `##teamcity[`.
_COMMAND = re.compile(r"^[^\S\n]*:(?=:)|#(?=#(?:vso|teamcity)?\[)", re.IGNORECASE | re.MULTILINE)
_NO_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # 1.0 has no NUL
_MARKUP = re.compile(r"([\\`*_\[\]#|~$])")
_LINKS = re.compile(r"@|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
_REPLACED = "\ufffd"  # what pages show in place of a letter that is not safe


def shorten(text: str, most: int) -> str:
    """Cut a long text, and say how much is left out."""
    left = len(text) - most
    return text if left <= 0 else f"{text[:most].rstrip()}… ({left:,} more characters)"


def log_text(text: str) -> str:
    """Make lines of text safe for a terminal and the log of a CI job.

    What is not safe is written as Python writes it in a string: a reader sees what is there.
    """
    return _COMMAND.sub(_as_escape, _UNSAFE.sub(_as_escape, text))


def line_text(text: str, most: int | None = None) -> str:
    """Make a name or an answer safe inside a line of a terminal or a log."""
    text = text if most is None else shorten(text, most)
    return log_text(text.replace("\n", "\\n").replace("\t", "\\t"))


def _as_escape(found: re.Match[str]) -> str:
    """Write the last letter of a match as an escape."""
    letter = found[0][-1]
    code = f"x{ord(letter):02x}" if letter <= "\xff" else f"u{ord(letter):04x}"
    return f"{found[0][:-1]}\\{code}"


def html_text(text: str, most: int | None = None) -> str:
    """Make text safe between tags and inside a quoted attribute of HTML or SVG."""
    safe = escape(_sound(text if most is None else shorten(text, most)))
    return _COMMAND.sub(lambda found: f"{found[0][:-1]}&#{ord(found[0][-1])};", safe)


def markdown_text(text: str, most: int) -> str:
    """Write text as one line that Markdown, HTML and the log of a CI job take for text alone."""
    plain = " ".join(_sound(shorten(text, most)).split())
    # An invisible character: no name in an answer is notified, and no address becomes a link.
    quiet = _LINKS.sub("\\g<0>\u200b", escape(plain, quote=False))
    marked = _MARKUP.sub(r"\\\1", quiet)
    return f"\\{marked}" if marked.startswith("::") else marked


def xml_text(text: str, most: int | None = None) -> str:
    """Leave out of a text what XML cannot hold; a writer of XML escapes the rest itself."""
    safe = _sound(text if most is None else shorten(text, most))
    return _COMMAND.sub(_as_escape, safe)


def _sound(text: str) -> str:
    """Replace what no page can show safely; line breaks and tabs stay."""
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    return _NO_XML.sub(_REPLACED, _UNSAFE.sub(_REPLACED, unix))
