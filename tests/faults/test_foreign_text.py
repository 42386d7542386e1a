"""Names, questions and answers of others: no terminal, log or page obeys them, or grows by them."""

import ast
import json
import math
import os
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drill import fault
from gated import answers, exam_of

import caplab as cl
from caplab.cli import commands, doctor
from caplab.support.errors import BadInput
from caplab.watching.gate import Decision

HOSTILE = {
    "a command of GitHub's": "::error::pwned",
    "a command after a space": " \t::set-output name=a::b",
    "a command on a new line": "name\n::add-mask::x\r\n::error::y",
    "a command in older words": "name ##[group]x",
    "a command of Azure's": "name ##vso[task.complete result=Succeeded;]",
    "codes of a terminal": "\x1b[2J\x1b]0;title\x07\x9b31m",
    "codes that erase": "good\rbad\x08\x7f",
    "letters from right to left": "\u202egnp.exe\u2066\u200f",
    "line separators": "a\u2028::error::b\u2029c\x85d\x0be\x0cf",
    "zero bytes and half characters": "a\x00b\ud800\ufffe",
    "markup": "</td><script>alert(1)</script><!-- ]]> & \"'",
}
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def check_log(text):
    """Check that no line of a log is a command, and that no letter is one for a terminal."""
    assert not FORBIDDEN.search(text), ascii(FORBIDDEN.search(text)[0])
    for line in text.splitlines():
        assert not line.lstrip().startswith("::"), line
        assert not re.search(r"##(\[|vso\[|teamcity\[)", line, re.IGNORECASE), line


def decided(evil, n=80, said="", capabilities=1):
    """A decision in which everything that can be foreign is, and everything is lost."""
    name = evil.replace("\ud800", "")  # a capability is real text, or its scorecard is refused
    sizes = {f"{name}{number}": n for number in range(capabilities)}
    plain = answers(exam_of({f"c{number}": n for number in range(capabilities)}))
    names = tuple(name for name, count in sizes.items() for _ in range(count))
    nats = ((0.0, -math.inf),) if said else plain.loglikelihoods[:1]
    before = replace(
        plain, subject=f"{evil} before", exam=evil, capability=names, group=(),
        answer=(0,) * len(names), loglikelihoods=nats * len(names),
        characters=((1,) * len(nats[0]),) * len(names), said=(said,) * len(names) if said else (),
    )  # fmt: skip
    lost = (nats[0][::-1],)
    after = replace(before, subject=f"{evil} after", loglikelihoods=lost * len(names))
    return Decision(cl.compare(before, after), before, after, None)


@fault(
    "names, questions and answers that a terminal or a CI log obeys",
    "shown as text, nowhere obeyed",
)
@pytest.mark.parametrize("evil", HOSTILE.values(), ids=HOSTILE)
def test_no_command_comes_out_of_the_gate(evil, at, capsys, monkeypatch):
    found = decided(evil)
    found.before.save(at.folder / "before.json")
    found.after.save(at.folder / "after.json")
    monkeypatch.chdir(at.folder)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    forms = "--json=o.json --html=o.html --markdown=o.md --junit=o.xml"
    assert commands.main(["gate", "before.json", "after.json", *forms.split()]) == 1
    heard = capsys.readouterr()
    check_log(heard.out + heard.err)
    for name in ("o.md", "o.xml", "o.html", "summary.md"):
        check_log((at.folder / name).read_text())
    ElementTree.parse(at.folder / "o.xml")
    page = HTMLParser()
    tags = []
    page.handle_starttag = lambda tag, _: tags.append(tag)
    page.feed((at.folder / "o.html").read_text())
    assert "script" not in tags
    json.loads((at.folder / "o.json").read_text())


@fault("lost answers that a page or a log would obey", "text in every report")
@pytest.mark.parametrize("evil", HOSTILE.values(), ids=HOSTILE)
def test_no_command_comes_out_of_an_answer(evil, at):
    asked = evil.replace("\ud800", "") + " question"
    questions = [
        cl.Question("sums", f"{asked} {n}", expect={"contains": "Paris"}) for n in range(80)
    ]
    exam = cl.Exam(tuple(questions), (), evil)
    found = decided("sums", said="Paris")
    before = replace(found.before, capability=("sums",) * 80, fingerprint=exam.fingerprint)
    after = replace(before, loglikelihoods=((-math.inf, 0.0),) * 80, said=(evil,) * 80)
    decision = Decision(cl.compare(before, after), before, after, exam)
    assert len(decision.lost_answers) == 80
    for form in ("html", "markdown", "junit"):
        getattr(decision, f"save_{form}")(at.folder / form)
        check_log((at.folder / form).read_text())


@fault("what a library user prints has foreign names in it", "safe in a terminal and a log")
@pytest.mark.parametrize("evil", HOSTILE.values(), ids=HOSTILE)
def test_what_is_printed_is_safe(evil, at):
    found = decided(evil)
    subject = cl.Subject(at.subject.model, at.subject.tokenizer, evil)
    exam = replace(at.exam, name=evil)
    run = replace(at.run, base=evil, trouble=evil)
    for thing in (found, found.report, found.before, subject, exam, run):
        check_log(repr(thing))
        if hasattr(thing, "_repr_html_"):
            html = thing._repr_html_()
            check_log(html)
            assert "<script" not in html
    for text in (found.report.sentence, found.report.conditions):
        check_log(text)


@fault("an error quotes what others wrote", "its message is safe in a terminal and a log")
@pytest.mark.parametrize("evil", HOSTILE.values(), ids=HOSTILE)
def test_messages_are_safe(evil, at, capsys, monkeypatch):
    monkeypatch.chdir(at.folder)
    check_log(str(BadInput(f"There is no folder {evil}")))
    if "\x00" not in evil:
        for line in (["score", f"./{evil}"], ["gate", evil, evil], ["scor", evil], [evil]):
            with pytest.raises(SystemExit) if line[0] in ("scor", evil) else nothing():
                assert commands.main(line) == 2
            heard = capsys.readouterr()
            check_log(heard.out + heard.err)

    def crash(_):
        raise RuntimeError(evil)

    monkeypatch.setattr(commands, "_claims", crash)
    assert commands.main(["claims"]) == 2
    check_log(capsys.readouterr().err)
    check_log(str(doctor.Diagnosis("FAIL", f"folder {evil}", evil)))


class nothing:  # noqa: N801 - reads as a sentence where it stands
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


ROOT = Path(cl.__file__).parent
ALREADY_SAFE = {  # what these print is made safe where it is written
    "cli/doctor.py": 2,  # Diagnosis.__str__
    "measuring/report.py": 1,  # Report.__repr__
    "teaching/clinic.py": 1,  # "No error."
}


def calls(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_every_print_and_bar_is_safe():
    """Whatever is printed goes through safe_text, and a bar has no foreign name as it is."""
    found = Counter()
    for path in ROOT.rglob("*.py"):
        for call in calls(path):
            names = {
                "print": call.args,
                "tqdm": [k.value for k in call.keywords if k.arg == "desc"],
            }
            texts = names.get(ast.unparse(call.func), [])
            plain = (ast.Constant, ast.Name) if texts is names["tqdm"] else ()
            safe = ("line_text(", "log_text(")
            if any(not ast.unparse(t).startswith(safe) for t in texts if not isinstance(t, plain)):
                found[path.relative_to(ROOT).as_posix()] += 1
    assert dict(found) == ALREADY_SAFE


def test_only_one_place_escapes():
    others = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if re.search(r"from html import|html\.escape|saxutils", path.read_text(encoding="utf-8"))
    ]
    assert others == ["support/safe_text.py"]


@fault("a folder called like a command of a CI server", "its model is scored, and the log is safe")
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["::error::x", "a\n::error::b", "\x1b[31m", "a##[group]b"])
def test_a_folder_with_such_a_name(name, at, capsys, monkeypatch):
    at.folder_of_model().rename(at.folder / name)
    at.exam.save(at.folder / "exam.jsonl")
    monkeypatch.chdir(at.folder)
    assert commands.main(["score", f"./{name}", "--exam", "exam.jsonl"]) == 0
    heard = capsys.readouterr()
    check_log(heard.out)
    assert (
        commands.main(["score", f"./{name}", "--exam", "exam.jsonl", "--json", f"./{name}/a"]) == 2
    )
    check_log(capsys.readouterr().err)


LONG = "word " * 40_000


@fault("names, questions and answers of 200 kB each", "no page of more than 700 kB, and it says so")
def test_pages_are_bounded(at, capsys):
    questions = [
        cl.Question("sums", f"{LONG}{n}", expect={"contains": "Paris"}, group=str(n))
        for n in range(200)
    ]
    exam = cl.Exam(tuple(questions), (), LONG)
    found = decided("sums", n=200, said=f"Paris {LONG}")
    before = replace(
        found.before, capability=("sums",) * 200, fingerprint=exam.fingerprint, exam=LONG
    )
    after = replace(before, loglikelihoods=((-math.inf, 0.0),) * 200, said=(LONG,) * 200)
    decision = Decision(cl.compare(before, after), before, after, exam)
    sizes = {}
    for form in ("html", "markdown", "junit"):
        getattr(decision, f"save_{form}")(at.folder / form)
        text = (at.folder / form).read_text()
        sizes[form] = len(text)
        assert "more characters" in text
    assert sizes["html"] < 700_000, sizes
    assert sizes["markdown"] < 20_000, sizes
    assert sizes["junit"] < 20_000, sizes
    assert len(repr(decision)) < 20_000
    assert "the first 50" in (at.folder / "html").read_text()


@fault("a thousand capabilities with long names", "pages and logs of the worst, and how many more")
def test_many_capabilities_are_bounded(at):
    decision = decided("x" * 300, n=1, capabilities=1000)
    for form, most in (("html", 700_000), ("markdown", 60_000)):
        getattr(decision, f"save_{form}")(at.folder / form)
        assert len((at.folder / form).read_text()) < most
    assert len(repr(decision)) < 100_000
    assert "800 more capabilities" in repr(decision)
    assert len(repr(decision.before)) < 400_000
    decision.save_json(at.folder / "json")
    saved = json.loads((at.folder / "json").read_text())
    assert len(saved["report"]["rows"]) == 1001, "what programs read is complete"


@fault("a file of which four thousand lines are malformed", "the first twenty, and how many more")
@pytest.mark.parametrize("line", ["{", '{"capability": 3}', json.dumps({"a": LONG}), "[" + LONG])
def test_many_bad_lines_make_a_short_message(line, at):
    path = at.file("\n".join([line] * (4000 if len(line) < 99 else 40)))
    for read in (cl.exam, lambda file: cl.fine_tune(at.subject, cl.Recipe(steps=1), file)):
        with pytest.raises(BadInput) as refused:
            read(str(path))
        assert len(str(refused.value)) < 10_000
        assert re.search(r"3,?9[78]0 more|20 more|more characters", str(refused.value))


@fault("four thousand malformed rows of a task", "the first twenty, and how many more")
def test_many_bad_rows_make_a_short_message(at):
    rows = [{"prompt": "a", "completion": ""}] * 4000
    with pytest.raises(BadInput, match=r"has 4000 malformed rows") as refused:
        cl.fine_tune(at.subject, cl.Recipe(steps=1), rows, at.exam)
    assert len(str(refused.value)) < 3000
    assert "3,980 more" in str(refused.value)
