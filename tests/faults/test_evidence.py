"""Nothing counts twice: what stands twice in an exam is refused by name, or is one group."""

import json
import unicodedata

import answers_made
import numpy as np
import pytest
import tiny
from drill import fault

import caplab as cl
from caplab.measuring.lm_eval import exam_from_lm_eval, scorecard_from_lm_eval, write_samples
from caplab.questions.exam import _FILES, BUILT_IN, Exam, Question
from caplab.questions.wording import plain
from caplab.support.errors import BadInput

SUM = {"capability": "sums", "prompt": "1+1=", "choices": ["2", "3"], "answer": 0}
SAID = {"capability": "sums", "prompt": "1+1=", "expect": {"contains": ["2"]}}
CHAT = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "1+1="}
E_ACUTE = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
COMBINED = unicodedata.normalize("NFD", E_ACUTE)


def chat(*turns, **changes):
    """A question as a conversation."""
    return (
        {key: value for key, value in SUM.items() if key != "prompt"}
        | {"messages": list(turns)}
        | changes
    )


REFUSED = {
    "the same question 40 times": ([SUM] * 40, ("'1+1='", "40 times", "questions 1, 2, 3, 4, 5,")),
    "twice among others": (
        [SUM | {"prompt": f"{n}+1="} for n in range(9)] + [SUM],
        ("'1+1='", "2 times", "questions 2, 10"),
    ),
    "with its choices in another order": (
        [SUM, SUM | {"choices": ["3", "2"], "answer": 1}],
        ("2 times", "questions 1, 2"),
    ),
    "with spaces at the end": ([SUM, SUM | {"prompt": " 1+1= "}], ("2 times",)),
    "in a group": ([SUM | {"group": "g"}] * 3, ("3 times",)),
    "in two groups": ([SUM | {"group": "g"}, SUM | {"group": "h"}], ("2 times",)),
    "in two capabilities": ([SUM, SUM | {"capability": "maths"}], ("2 times",)),
    "spoken twice": ([SAID, SAID], ("2 times",)),
    "a conversation twice": ([chat(*CHAT), chat(*CHAT)], ("2 times",)),
    "two kinds of repetition": (
        [SUM, SUM, SAID, SAID],
        ("questions 1, 2", "questions 3, 4"),
    ),
    "two answers to one prompt": (
        [SUM, SUM | {"answer": 1}],
        ("'1+1='", "two answers", "'2' and '3'", "questions 1, 2"),
    ),
    "two answers among other choices": (
        [SUM, SUM | {"choices": ["4", "2"]}],
        ("two answers", "'2' and '4'"),
    ),
    "two answers, the third of three": (
        [SUM, SUM | {"choices": ["2", "7"]}, SUM | {"choices": ["7", "9"]}],
        ("two answers", "'7'", "questions 2, 3"),
    ),
    "two answers, in other characters": (
        [SUM | {"choices": [E_ACUTE, "x"]}, SUM | {"choices": ["x", COMBINED]}],
        ("two answers",),
    ),
    "two spoken answers": (
        [SAID, SAID | {"expect": {"equals": "5"}}],
        ("two answers", "questions 1, 2"),
    ),
    "a space at the end of a choice": (
        [SUM | {"choices": ["2", "2 "]}],
        ("line 1", "'2' and '2 '", "differ only"),
    ),
    "two spaces in a choice": ([SUM | {"choices": ["a  b", "a b"]}], ("differ only",)),
    "a space that does not break": ([SUM | {"choices": ["a\xa0b", "a b"]}], ("differ only",)),
    "a joined choice with a space": (
        [SUM | {"choices": [" 2", "2"], "joined": True}],
        ("differ only",),
    ),
    "another Unicode form": ([SUM | {"choices": [E_ACUTE, COMBINED]}], ("differ only", "\\xe9")),
    "full width": ([SUM | {"choices": ["2", "\N{FULLWIDTH DIGIT TWO}"]}], ("differ only",)),
    "a ligature": (
        [SUM | {"choices": ["fire", "\N{LATIN SMALL LIGATURE FI}re"]}],
        ("differ only",),
    ),
    "a character that nobody sees": (
        [SUM | {"choices": ["2", "2\N{ZERO WIDTH SPACE}"]}],
        ("differ only",),
    ),
    "a capability with a space": (
        [SUM, SUM | {"prompt": "2+1=", "capability": "sums "}],
        ("capability 'sums'", "'sums '"),
    ),
    "a capability with a capital": (
        [SUM, SUM | {"prompt": "2+1=", "capability": "Sums"}],
        ("'sums'", "'Sums'"),
    ),
    "a capability in another form": (
        [SUM | {"capability": E_ACUTE}, SUM | {"prompt": "2+1=", "capability": COMBINED}],
        ("They would count as two".lower(),),
    ),
    "a group with a space": (
        [SUM | {"group": "one"}, SUM | {"prompt": "2+1=", "group": "one "}],
        ("group 'one'", "'one '"),
    ),
}


@fault("an exam in which something stands twice", "refused, and each of them is named")
@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused(kind, at):
    lines, words = REFUSED[kind]
    with pytest.raises(BadInput) as refused:
        cl.exam(at.lines(*lines))
    said = str(refused.value)
    assert [word for word in words if word not in said] == [], said
    assert len(said) < 1200


ALLOWED = {
    "other wrong choices": [SUM, SUM | {"choices": ["2", "7"]}],
    "chosen and spoken": [SUM, SAID],
    "under another system turn": [
        chat(*CHAT),
        chat({"role": "system", "content": "Be brief."}, CHAT[1]),
        SUM,
    ],
    "a choice in capitals": [SUM | {"choices": ["us", "US"]}],
    "a superscript": [SUM | {"choices": ["x2", "x\N{SUPERSCRIPT TWO}"]}],
    "a comma with and without a space": [SUM | {"choices": ["a,b", "a, b"]}],
    "two right answers that do not exclude each other": [
        SUM,
        SUM | {"choices": ["two", "three"]},
        SUM | {"choices": ["II", "III"]},
    ],
    "groups in capitals": [SUM | {"group": "a"}, SUM | {"prompt": "2+1=", "group": "A"}],
    "two expectations that one answer meets": [
        SAID,
        SAID | {"expect": {"contains": ["2"], "max_words": 3}},
    ],
}


@fault("an exam that only looks repetitive", "it is read")
@pytest.mark.parametrize("kind", ALLOWED)
def test_it_is_read(kind, at):
    assert len(cl.exam(at.lines(*ALLOWED[kind]))) == len(ALLOWED[kind])


@fault("several questions about one fact, without a group", "they are one group")
def test_one_fact_is_one_group(at):
    prompts = ["1+1=", " 1+1=", "2+1="]
    lines = [SUM | {"prompt": p, "choices": ["2", str(n)]} for n, p in enumerate(prompts, 4)]
    exam = cl.exam(at.lines(*lines))
    groups = [question.group for question in exam.questions]
    assert groups == ["asked: 1+1=", "asked: 1+1=", None]
    joined = cl.exam(at.lines(lines[0] | {"group": "own"}, lines[1]))
    assert [question.group for question in joined.questions] == ["own", "own"]
    apart = cl.exam(at.lines(lines[0] | {"group": "a"}, lines[1] | {"group": "b"}))
    assert [question.group for question in apart.questions] == ["a", "b"], "as its author says"


@fault("40 copies of one lost fact", "they are no more evidence than one")
def test_copies_are_no_evidence():
    copies = tuple(Question("x", "1+1=", ("2", str(n)), 0) for n in range(40, 80))
    card = answers_made.card(np.full(40, 3.0), np.full(40, -0.2), {"x": 40}, "m")
    as_copies = Exam(copies)
    grouped = cl.score(tiny.subject(), as_copies, progress=False)
    assert cl.compare(grouped, grouped).overall.groups == 1
    assert cl.compare(card, card).overall.groups == 40


@fault("rows of a benchmark stand twice", "its samples are still read, as one group")
def test_samples_may_repeat(tmp_path):
    questions = tuple(Question("x", f"{n % 3}+1=", ("2", "3"), n % 3 % 2) for n in range(9))
    exam = Exam(questions, name="x", repeats=True)
    card = cl.score(tiny.subject(), exam, progress=False)
    write_samples(tmp_path, exam, card)
    read, found = exam_from_lm_eval(tmp_path), scorecard_from_lm_eval(tmp_path)
    assert found.groups == cl.score(tiny.subject(), read, progress=False).groups
    assert len(set(found.groups)) == 3


@fault("an exam is cut into parts", "what it holds is not questioned again")
def test_parts_of_an_exam():
    exam = Exam(tuple(Question("x", "1+1=", ("2", "3"), 0) for _ in range(9)), repeats=True)
    assert len(exam.sample(4)) == 4
    assert len(exam.subset("x")) == 9


@pytest.mark.parametrize("name", BUILT_IN)
def test_shipped_exams_stay_as_they_are(name, root):
    paths = [root / "caplab" / "assets" / f"{file}.jsonl" for file in _FILES[name]]
    lines = [line for path in paths for line in path.read_text().splitlines()]
    written = [row.get("group") for row in map(json.loads, lines) if "text" not in row]
    assert [question.group for question in cl.exam(name).questions] == written


def test_plain_is_what_readers_see():
    assert plain("  a \t b\n") == "a b"
    assert plain(COMBINED) == plain(E_ACUTE) == E_ACUTE
    assert plain("x\N{SUPERSCRIPT TWO} \N{VULGAR FRACTION ONE HALF}") == "x² ½"
