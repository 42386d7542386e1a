"""The gate's summaries: Markdown and JUnit, sound whatever names and answers contain."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from gated import answers, exam_of, saved
from markdown_it import MarkdownIt

from caplab.cli.commands import main
from caplab.measuring.compare import compare
from caplab.measuring.policy import Policy
from caplab.questions.exam import Exam, Question
from caplab.watching import gate as gating
from caplab.watching.gate import Decision
from caplab.watching.gate_summaries import junit, markdown

EVIL = "\x00 \x1b[31m ]]> <b>&amp; \"'\U0001f984 \ud800 \x85 -- \ufffe"
MARKUP = "a|b `c` *d* _e_ [f](g) <img src=x> # h\n\n| i | ~j~ @maintainer $k$ \\ https://l.example"


def decided(exam, wrong=(), silent=(), **options):
    before, after = answers(exam), answers(exam, wrong, silent)
    return Decision(compare(before, after, **options), before, after, exam)


def cases(report):
    """Parse the XML; return the element of each test case by its name."""
    suites = ElementTree.fromstring(junit(report).encode())
    assert suites.tag == "testsuites"
    (suite,) = suites
    found = {case.get("name"): case for case in suite}
    for kind in ("failure", "skipped"):
        (attribute,) = {"failure": ["failures"], "skipped": ["skipped"]}[kind]
        assert suite.get(attribute) == str(sum(case.find(kind) is not None for case in suite))
    assert suite.get("tests") == str(len(suite))
    return found


def tables(text):
    """Parse Markdown with a parser of its own; return the cells of each table, as plain text."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    found = []
    for token, inside in pairwise(tokens):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open"):
            kinds = {child.type for child in inside.children}
            assert kinds <= {"text", "text_special"}, f"not plain text: {inside.content}"
            found[-1][-1].append("".join(child.content for child in inside.children))
    return found, {token.type for token in tokens}


# ---------------------------------------------------------------- JUnit


def test_each_row_is_a_test_case():
    sizes = {"capitals": 100, "sums": 1000, "sounds": 30, "rhymes": 20}
    rules = {"rhymes": {"tier": "advisory"}}
    lost = [*range(50), *range(1130, 1150)]
    found = cases(decided(exam_of(sizes), lost, policy=Policy(capability=rules)).report)
    assert [*found] == ["capitals", "sums", "sounds", "rhymes", "overall", "gate"]
    results = {name: [child.tag for child in case] for name, case in found.items()}
    assert results == {
        "capitals": ["failure"],
        "sums": [],
        "sounds": ["skipped"],
        "rhymes": ["skipped"],  # an advisory row does not decide
        "overall": ["skipped"],
        "gate": ["failure"],
    }
    assert "REGRESSED: -.50" in found["capitals"].find("failure").text
    assert "REGRESSED: -1.00" in found["rhymes"].find("skipped").get("message")


@pytest.mark.parametrize(("size", "failed"), [(100, False), (40, True)])
def test_the_whole_fails_unless_held(size, failed):
    """As the exit code does: what cannot be judged does not pass."""
    found = cases(decided(exam_of({"capitals": size})).report)
    assert (found["gate"].find("failure") is not None) == failed


@pytest.mark.parametrize("evil", [*EVIL.split(), EVIL, "\x00", "x" * 10**5, "\r\n\t"])
def test_any_name_gives_sound_xml(evil):
    report = decided(exam_of(), range(50)).report
    rows = tuple(replace(row, name=f"{evil} {row.name}", note=evil) for row in report.rows)
    found = cases(replace(report, rows=rows, exam=evil, before=evil, after=evil))
    assert len(found) == len(rows) + 1
    plain = "".join(letter for letter in evil if letter.isascii() and letter.isprintable())
    assert all(plain.strip()[:20] in name for name in [*found][:-1])


# ---------------------------------------------------------------- Markdown


def test_the_table_shows_what_was_agreed():
    rules = {"capitals": {"budget": 0.2, "tier": "must-keep"}, "sums": {"tier": "advisory"}}
    decision = decided(exam_of(), range(8), policy=Policy(capability=rules))
    (rows, lost), _ = tables(text := markdown(decision.report, decision.lost_answers))
    assert rows[0] == [
        *("capability", "groups", "before", "after", "change", "budget", "may be gone", "verdict"),
    ]
    assert rows[1] == [
        *("capitals (must-keep)", "100", "1.00", ".92", "-.080", ".20", "up to .15", "✅ HELD"),
    ]
    assert [row[0] for row in rows[2:]] == ["sums (advisory)", "overall"]
    assert lost[1:] == [
        [f"capitals, question {n}?", ANSWER[n % 4], ANSWER[n == 0]] for n in range(3)
    ]
    assert "**Lost answers** (the first 3 of 8)" in text
    assert text.startswith("### ✅ HELD: mine\n")


ANSWER = ("one", "two", "three", "four")


def test_nothing_lost_needs_no_second_table():
    decision = decided(exam_of())
    found, _ = tables(text := markdown(decision.report, decision.lost_answers))
    assert len(found) == 1
    assert "Lost" not in text


def test_unsaid_answers_are_counted_and_shown():
    decision = decided(exam_of(), silent=range(30))
    (rows, lost), _ = tables(markdown(decision.report, decision.lost_answers))
    assert rows[1][-2:] == ["up to .40, 30 of 100 no longer said", "❌ REGRESSED"]
    assert lost[1][1:] == ["one", "one (preferred, but said with .0001 where it was .82)"]


@pytest.mark.parametrize("evil", [MARKUP, EVIL.replace("\ud800", ""), "x" * 9000, "|||", "\\|"])
def test_foreign_text_stays_text(evil):
    """A name, a question or an answer makes no markup, no row of its own and no notification."""
    name = "".join(letter if letter.isprintable() else " " for letter in evil).strip()
    asked = [Question(name, f"{evil} {n}", (f"a {evil}", "b"), 0) for n in range(80)]
    exam = Exam(tuple(asked), (), "mine")
    before = replace(answers(exam_of({"a": 80})), capability=(name,) * 80, exam=evil, subject=evil)
    before = replace(
        before, fingerprint=exam.fingerprint, answer=(0,) * 80, group=(),
        loglikelihoods=((-0.1, -3.0),) * 80, characters=((1, 1),) * 80,
    )  # fmt: skip
    after = replace(before, loglikelihoods=((-3.0, -0.1),) * 80)
    decision = Decision(compare(before, after), before, after, exam)
    (rows, lost), kinds = tables(text := markdown(decision.report, decision.lost_answers))
    assert {len(row) for row in rows} == {8}
    assert {len(row) for row in lost} == {3}
    assert (len(rows), len(lost)) == (3, 4)
    assert not {"html_block", "fence", "code_block", "bullet_list_open"} & kinds
    assert "<img" not in text
    assert "@maintainer" not in text
    assert "https://" not in text
    assert "\x00" not in text
    assert "\x1b" not in text
    for whole, cell in ((name, rows[1][0]), (f"{evil} 0", lost[1][0]), (f"a {evil}", lost[1][1])):
        safe = re.sub("[\x00\x1b\x85\ufffe]", "\ufffd", whole[:300])
        assert cell.replace("\u200b", "").partition("…")[0] == " ".join(safe.split())


def test_many_capabilities_fit_a_comment():
    """GitHub takes 65,536 characters; what regressed is shown first, the overall row always."""
    sizes = {f"capability {n}": 12 for n in range(300)}
    decision = decided(exam_of(sizes), range(12 * 299, 12 * 300))
    (rows, _), _ = tables(text := markdown(decision.report, decision.lost_answers))
    assert len(text) < 65_536
    names = [row[0] for row in rows]
    assert {"capability 299", "overall"} <= {*names}
    assert len(names) <= 52


# ---------------------------------------------------------------- the job's summary


@pytest.fixture
def summary(tmp_path, monkeypatch):
    """The file to which all steps of a job append."""
    path = tmp_path / "summary.md"
    path.write_text("## Another step\n\nIts last line")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def test_the_summary_is_appended(summary, tmp_path):
    given = saved(tmp_path, exam_of(), range(50))
    assert main([*given, f"--markdown={tmp_path / 'gate.md'}"]) == 1
    assert main(given) == 1
    once = (tmp_path / "gate.md").read_text()
    assert once.startswith("### ❌ REGRESSED")
    assert summary.read_text() == f"## Another step\n\nIts last line\n{once}\n{once}"


def test_without_a_job_nothing_is_appended(summary, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "")
    before = summary.read_text()
    assert main(saved(tmp_path, exam_of())) == 0
    assert summary.read_text() == before


def read_only(path, monkeypatch):
    """Refuse to open one file for writing, also where the tests run as root."""
    opened = Path.open

    def refusing(self, mode="r", *rest, **named):
        if self == path and mode != "r":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(self, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", refusing)


@pytest.mark.parametrize("kind", ["read-only", "a folder", "no folder"])
def test_an_unwritable_summary_is_said_at_once(kind, summary, tmp_path, monkeypatch, capsys):
    given, out = saved(tmp_path, exam_of()), tmp_path / "gate.md"
    monkeypatch.setattr(gating, "scorecard_of", lambda *_: pytest.fail("it was scored"))
    if kind == "read-only":
        read_only(summary, monkeypatch)
    else:
        path = tmp_path if kind == "a folder" else tmp_path / "no" / "summary.md"
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    assert main([*given, f"--markdown={out}"]) == 2
    heard = capsys.readouterr().err
    assert "cannot be written" in heard
    assert "GITHUB_STEP_SUMMARY" in heard
    assert heard.count("\n") == 1
    assert not out.exists()
    assert summary.read_text() == "## Another step\n\nIts last line"


@pytest.mark.parametrize("form", ["markdown", "html", "json", "junit"])
def test_no_output_replaces_the_summary(form, summary, tmp_path, capsys):
    given = saved(tmp_path, exam_of())
    assert main([*given, f"--{form}={summary}"]) == 2
    assert "other steps" in capsys.readouterr().err
    assert summary.read_text() == "## Another step\n\nIts last line"


def test_no_summary_is_appended_to_an_input(summary, tmp_path, monkeypatch, capsys):
    given = saved(tmp_path, exam_of())
    exam = tmp_path / "exam.jsonl"
    before = exam.read_text()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(exam))
    assert main(given) == 2
    assert "exam.jsonl is an input" in capsys.readouterr().err
    assert exam.read_text() == before
