"""Foreign text is shown, and neither a terminal, a CI log nor a page obeys it."""

import time
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from caplab.support.safe_text import (
    html_text,
    line_text,
    log_text,
    markdown_text,
    shorten,
    xml_text,
)

CONTROLS = [chr(n) for n in range(0x20) if chr(n) not in "\t\n"] + [chr(n) for n in range(127, 160)]
TURNING = [chr(n) for n in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
BREAKS = ["\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\r"]
BROKEN = ["\ud800", "\udfff", "\ufffe", "\uffff", "\ufdd0"]
COMMANDS = [
    "::error::gone",
    "::set-output name=a::b",
    "  ::add-mask::a",
    "\u3000\xa0::stop-commands::x",
    "##[group]name",
    "text ##[error]name",
    "a ##vso[task.setvariable]b",
    "##TeamCity[message]",
]
UNSAFE = [*CONTROLS, *TURNING, *BREAKS, *BROKEN]


def obeyed(log):
    """Tell whether the runner of GitHub, Azure or TeamCity would take a line for a command."""
    marks = ("##[", "##vso[", "##teamcity[")
    return any(
        line.lstrip().startswith("::") or any(mark in line.lower() for mark in marks)
        for line in log.splitlines()
    )


def test_the_tests_would_notice():
    assert all(map(obeyed, COMMANDS))
    assert not obeyed("a::b #[x] ##a")


@pytest.mark.parametrize("show", [log_text, line_text, html_text, xml_text])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("before", ["", "name\n", "name\r", "name\r\n\t"])
def test_no_log_obeys_a_name(show, command, before):
    assert not obeyed(show(f"{before}{command}"))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_log_obeys_markdown(command):
    assert not obeyed(markdown_text(command, 100))


@pytest.mark.parametrize("letter", UNSAFE, ids=ascii)
def test_what_is_unsafe_is_seen_and_not_written(letter):
    for show in (log_text, line_text, html_text, xml_text, lambda text: markdown_text(text, 99)):
        shown = show(f"a{letter}b")
        assert letter not in shown
        assert shown != "ab", "it was dropped without a trace"


def test_a_terminal_shows_escapes():
    assert line_text("a\x1b[2Jb\n\u202ec\t") == "a\\x1b[2Jb\\n\\u202ec\\t"
    assert log_text("a\x1b\n\tb") == "a\\x1b\n\tb"


@pytest.mark.parametrize(
    "text", ["Zoë", "日本", "שלום", "🦄👩‍👩‍👧", "می‌خواهم", "a::b", "C# #1", "½ <b> & 'x'"]
)
def test_ordinary_text_stays_as_it_is(text):
    assert log_text(text) == line_text(text) == xml_text(text) == text
    assert unescape(html_text(text)) == text


def test_safe_text_is_safe_twice():
    for command in COMMANDS:
        assert log_text(log_text(command)) == log_text(command)


EVIL = "</td><script>x</script>\"'>&amp;<!-- ]]> " + "".join(UNSAFE)


def test_no_text_becomes_a_tag():
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, len(attributes)))
    parser.feed(f'<p title="{html_text(EVIL)}">{html_text(EVIL)}</p>')
    assert tags == [("p", 1)]


def test_any_text_is_sound_xml():
    element = ElementTree.Element("a", name=xml_text(EVIL))
    element.text = xml_text(EVIL)
    assert ElementTree.fromstring(ElementTree.tostring(element)).text == xml_text(EVIL)


@pytest.mark.parametrize(
    "text", ["@someone www.a.example http://b.example", "[a](b) | `c` # d <e>"]
)
def test_markdown_is_text_alone(text):
    (token,) = [t for t in MarkdownIt().parse(markdown_text(text, 99)) if t.type == "inline"]
    assert {child.type for child in token.children} <= {"text", "text_special"}
    assert "".join(c.content for c in token.children).replace("\u200b", "") == text


@pytest.mark.parametrize("show", [line_text, html_text, xml_text, markdown_text])
def test_long_text_is_cut_with_a_word(show):
    shown = show("x" * 100_000, 50)
    assert shown.startswith("x" * 50 + "…")
    assert "99,950 more characters" in shown
    assert len(shown) < 100
    assert shorten("x" * 50, 50) == "x" * 50


@pytest.mark.parametrize("piece", ["\n", " ", "\n ", ":", "#", "\x1b", "<"])
def test_a_megabyte_takes_no_time(piece):
    start = time.perf_counter()
    for show in (log_text, html_text, xml_text):
        show(piece * 300_000)
    assert time.perf_counter() - start < 5
