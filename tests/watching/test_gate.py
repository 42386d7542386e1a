"""The gate: planted cases for every kind of input, its exit codes and its reports."""

import json
import math
import re
import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product

import pytest
import tiny
import torch
from harness import graded, samples, write

from caplab.cli.commands import main
from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.models.load import load
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput
from caplab.watching import gate as gating
from caplab.watching.gate import gate

THINGS = ["pot", "dog", "cat", "cup", "box", "car", "sun", "sea", "hat"]
THINGS += ["pen", "bed", "bus", "egg", "fish", "tree", "door", "road", "shoe"]
KINDS = ("model", "adapter", "scorecard", "samples")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base, a copy of it, one that is worn a little and one that is destroyed, in every kind.

    A random model knows nothing; so the exams ask what this one prefers, and call that right. The
    small exam has nine questions that the worn one still answers so, and one that it does not.
    """
    folder = tmp_path_factory.mktemp("gate")
    base = tiny.subject()
    pool = _prefer(base, _questions())
    _save_models(folder, base)
    _save_adapters(folder)
    pool.save(folder / "exam.jsonl")
    for kind in ("model", "adapter"):
        _small(folder, kind, pool).save(folder / f"ten-{kind}.jsonl")
    for case, name in product(("exam", "ten-model"), ("base", "copy", "worn", "broken")):
        exam = _read(folder / f"{case}.jsonl")
        card = score(load(folder / "model" / name), exam)
        card.save(folder / f"{case}-{name}.json")
        write(folder / f"{case}-{name}.jsonl", samples(exam, card))
    return folder


def _questions():
    asked = [(one, other) for one, other in product(THINGS, THINGS) if one < other]
    return [
        Question("things", f"The {one} and the {other}", tuple(THINGS[n : n + 4]), 0)
        for n, (one, other) in enumerate(asked[:80], start=-80)
        for n in [n % 14]
    ]


def _prefer(who, questions):
    """Call right what a model prefers."""
    chosen = score(who, Exam(tuple(questions))).chosen
    asked = zip(questions, chosen, strict=True)
    return Exam(tuple(Question(q.capability, q.prompt, q.choices, n) for q, n in asked), (), "exam")


def _read(path):
    from caplab.questions.exam import exam

    return exam(path)


def _save_models(folder, base):
    for name, noise in (("base", 0), ("copy", 0), ("worn", 0.01), ("broken", 1.0)):
        who = tiny.subject()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in who.model.parameters():
                weight += noise * torch.randn(weight.shape, generator=generator)
        who.model.save_pretrained(folder / "model" / name)
        base.tokenizer.save_pretrained(folder / "model" / name)


def _save_adapters(folder):
    from peft import LoraConfig, get_peft_model

    settings = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": False}
    for name, noise in (("copy", 1e-9), ("worn", 0.05), ("broken", 100)):
        torch.manual_seed(3)
        tuned = get_peft_model(load(folder / "model" / "base").model, LoraConfig(r=2, **settings))
        for key, weight in tuned.named_parameters():
            if "lora_B" in key:
                weight.data *= noise
        tuned.save_pretrained(folder / "adapter" / name)
    (folder / "adapter" / "base").symlink_to(folder / "model" / "base")


def _small(folder, kind, pool):
    """Take nine questions that the worn one answers as before, and one that it does not."""
    right = score(load(folder / kind / "worn"), pool).correct
    assert not all(right), "the worn model must lose something"
    asked = sorted(zip(right, range(len(pool)), strict=True))
    kept = [n for _, n in [asked[0], *asked[-9:]]]
    return Exam(tuple(pool.questions[n] for n in kept), (), "ten")


@pytest.fixture
def arguments(folder):
    """Put together what one would type for a kind of input, a case and an exam."""

    def put(kind, name, exam="exam"):
        if kind in ("model", "adapter"):
            asked = exam if exam == "exam" else f"ten-{kind}"
            models = [str(folder / kind / who) for who in ("base", name)]
            return [*models, f"--exam={folder / asked}.jsonl"]
        case, end = exam.replace("ten", "ten-model"), "json" + "l" * (kind == "samples")
        return [str(folder / f"{case}-{who}.{end}") for who in ("base", name)]

    return put


# ---------------------------------------------------------------- planted cases


@pytest.mark.parametrize("kind", KINDS)
def test_an_untouched_copy_may_ship(kind, arguments, capsys):
    assert main(["gate", *arguments(kind, "copy")]) == 0
    assert capsys.readouterr().out.endswith("Gate: HELD, exit code 0.\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_destroyed_model_is_stopped(kind, arguments, capsys):
    assert main(["gate", *arguments(kind, "broken")]) == 1
    assert capsys.readouterr().out.endswith("Gate: REGRESSED, exit code 1.\n")


@pytest.mark.parametrize("kind", KINDS)
def test_ten_questions_cannot_tell(kind, arguments, capsys):
    assert main(["gate", *arguments(kind, "worn", "ten")]) == 3
    said = capsys.readouterr().out
    assert re.search(r"overall +10 +10 +1\.00 +\.90 +-\.10", said)
    assert said.endswith("Gate: UNDERPOWERED, exit code 3.\n")


@pytest.mark.parametrize(
    ("kind", "nonsense", "message"),
    [
        ("model", "nowhere/at/all", "There is no folder"),
        ("model", "exam.jsonl/..", "There is no folder"),
        ("adapter", "adapter/torn", "damaged"),
        ("scorecard", "nowhere.json", "There is no scorecard"),
        ("scorecard", "nonsense.json", "is not a scorecard"),
        ("scorecard", "ten-model-base.json", "answer different exams"),
        ("samples", "nowhere.jsonl", "There is no samples file"),
        ("samples", "exam.jsonl", "is not what lm_eval --log_samples writes"),
        ("samples", "ten-model-base.jsonl", "answer different exams"),
    ],
)
def test_nonsense_is_no_verdict(kind, nonsense, message, arguments, folder, capsys):
    (folder / "nonsense.json").write_text("{ this is not JSON")
    torn = folder / "adapter" / "torn"
    torn.mkdir(exist_ok=True)
    for file in (folder / "adapter" / "copy").iterdir():
        length = 900 if file.suffix == ".safetensors" else None
        (torn / file.name).write_bytes(file.read_bytes()[:length])
    before, _, *rest = arguments(kind, "copy")
    assert main(["gate", before, str(folder / nonsense), *rest]) == 2
    heard = capsys.readouterr()
    assert message in heard.err
    assert heard.out == ""


def test_an_unforeseen_failure_is_no_verdict(monkeypatch, arguments, capsys):
    def broken(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(gating, "compare", broken)
    assert main(["gate", *arguments("scorecard", "copy")]) == 2
    assert "out of luck" in capsys.readouterr().err


@pytest.mark.parametrize("budget", ["a little", "-0.1", "2", "nan"])
def test_a_bad_budget_is_refused_at_once(budget, monkeypatch, arguments):
    monkeypatch.setattr(gating, "scorecard_of", lambda *_: pytest.fail("it was scored"))
    try:
        code = main(["gate", *arguments("model", "copy"), f"--budget={budget}"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2


@pytest.mark.parametrize(("budget", "code"), [(0.02, 1), (0.2, 3), (0.5, 0)])
def test_the_budget_decides(budget, code, tmp_path):
    exam = Exam(tuple(Question("things", f"{n}", ("a", "b"), 0) for n in range(100)))
    before, after = _card(exam, (-0.5, -2.0), "before"), _card(exam, (-0.5, -2.0), "after")
    lost = ((-1.5, -1.0),) * 25
    before.save(tmp_path / "a.json")
    replace(after, loglikelihoods=lost + after.loglikelihoods[25:]).save(tmp_path / "b.json")
    given = ["gate", str(tmp_path / "a.json"), str(tmp_path / "b.json"), f"--budget={budget}"]
    assert main(given) == code


@pytest.mark.slow
def test_the_shell_sees_the_exit_code(arguments):
    for name, code in (("copy", 0), ("broken", 1)):
        command = [sys.executable, "-m", "caplab", "gate", *arguments("scorecard", name)]
        assert subprocess.run(command, capture_output=True).returncode == code


# ---------------------------------------------------------------- mixed kinds


def test_a_saved_base_is_not_scored_again(folder):
    saved, exam = folder / "exam-base.json", folder / "exam.jsonl"
    assert gate(saved, folder / "model" / "copy", exam=exam).exit_code == 0
    assert gate(saved, folder / "model" / "broken", exam=exam).exit_code == 1


def test_a_model_answers_the_harness_questions(folder):
    asked = folder / "exam-base.jsonl"
    assert gate(asked, folder / "model" / "copy").exit_code == 0
    assert gate(asked, folder / "model" / "broken").exit_code == 1


def test_a_model_cannot_answer_in_writing(folder):
    with pytest.raises(BadInput, match="cannot be asked as an exam"):
        gate(write(folder / "written.jsonl", graded([1, 0])), folder / "model" / "copy")


def test_written_answers_are_judged(folder):
    before = write(folder / "before.jsonl", graded([1] * 300))
    after = write(folder / "after.jsonl", graded([1] * 200 + [0] * 100))
    assert gate(before, before).exit_code == 0
    assert gate(before, after).exit_code == 1


def test_an_unanswered_exam_is_refused(folder):
    cards = folder / "exam-base.json", folder / "exam-copy.json"
    with pytest.raises(BadInput, match="answered 'exam', not 'ten-model'"):
        gate(*cards, exam=folder / "ten-model.jsonl")


# ---------------------------------------------------------------- what it leaves behind


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_the_html_holds_its_picture(folder, arguments, tmp_path, capsys):
    out = tmp_path / "gate.html"
    assert main(["gate", *arguments("model", "broken"), f"--html={out}"]) == 1
    page = Page(out.read_text())
    addresses = [value for _, at in page.tags for key in ("src", "href") if (value := at.get(key))]
    assert len(addresses) == 1
    assert b64decode(addresses[0].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)
    assert "REGRESSED" in page.text
    cards = folder / "exam-base.json", folder / "exam-broken.json"
    lost = len(gate(*cards, exam=folder / "exam.jsonl").lost)
    assert f"Lost: {lost} questions" in page.text
    assert page.text.count("The ") == min(lost, 50) > 10  # the questions themselves


def test_no_name_or_question_becomes_a_tag(tmp_path):
    evil = "<script>alert('1')</script>\"&"
    questions = [Question(evil, f"{evil} {n}", (f"a{evil}", "b"), 0) for n in range(40)]
    exam = Exam(tuple(questions), (), evil)
    exam.save(tmp_path / "exam.jsonl")
    for name, nats in (("before", (-0.1, -5.0)), ("after", (-5.0, -0.1))):
        card = _card(exam, nats, f"{name} {evil}")
        card.save(tmp_path / f"{name}.json")
    decision = gate(tmp_path / "before.json", tmp_path / "after.json", exam=tmp_path / "exam.jsonl")
    assert len(decision.lost) == 40
    decision.save_html(tmp_path / "gate.html")
    page = Page((tmp_path / "gate.html").read_text())
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("alert('1')") > 40


def test_spoken_answers_show_was_and_now(tmp_path):
    asked = [
        Question("capitals", f"Land {n}?", expect={"contains": "Paris"}, group=str(n))
        for n in range(80)
    ]
    exam = Exam(tuple(asked), (), "spoken")
    exam.save(tmp_path / "exam.jsonl")
    for name, nats in (("before", (0.0, -math.inf)), ("after", (-math.inf, 0.0))):
        said = (
            ("It is Paris.",) * 80 if name == "before" else ("\u200f<i>Click</i>\x00 | `x`",) * 80
        )
        bare = _card(exam, nats, name)
        replace(bare, said=said).save(tmp_path / f"{name}.json")
    decision = gate(tmp_path / "before.json", tmp_path / "after.json", exam=tmp_path / "exam.jsonl")
    assert decision.exit_code == 1
    assert decision.lost_answers[0] == (asked[0], said_before := "It is Paris.", said[0])
    decision.save_html(tmp_path / "gate.html")
    page = Page((tmp_path / "gate.html").read_text())
    assert page.text.count(said_before) == page.text.count("<i>Click</i>") == 50
    assert "i" not in {tag for tag, _ in page.tags}
    decision.save_markdown(tmp_path / "gate.md")
    written = (tmp_path / "gate.md").read_text()
    assert "| Land 0? | It is Paris. | " in written
    assert "&lt;i&gt;Click" in written


def _card(exam, nats, subject):
    n = len(exam)
    characters = tuple(tuple(map(len, q.choices)) or (1, 1) for q in exam.questions)
    names = tuple(question.capability for question in exam.questions)
    return Scorecard(subject, exam.name, exam.fingerprint, names, (0,) * n, (nats,) * n, characters)


@pytest.mark.parametrize(("name", "verdict"), [("copy", "HELD"), ("broken", "REGRESSED")])
def test_the_json_holds_the_decision(name, verdict, arguments, tmp_path, capsys):
    out = tmp_path / "gate.json"
    code = main(["gate", *arguments("samples", name), f"--json={out}"])
    found = json.loads(out.read_text())
    assert (found["verdict"], found["exit_code"]) == (verdict, code)
    assert found["sentence"] in capsys.readouterr().out
    assert found["report"]["rows"][-1]["name"] == "overall"


def test_no_old_result_outlives_a_failure(tmp_path, folder, arguments):
    outs = tmp_path / "gate.json", tmp_path / "gate.html"
    given = [f"--json={outs[0]}", f"--html={outs[1]}"]
    assert main(["gate", *arguments("scorecard", "copy"), *given]) == 0
    assert all(out.exists() for out in outs)
    assert main(["gate", str(folder / "nowhere.json"), str(folder / "exam-copy.json"), *given]) == 2
    assert not any(out.exists() for out in outs)


def test_a_result_never_replaces_an_input(folder, arguments, capsys):
    given = arguments("scorecard", "copy")
    assert main(["gate", *given, f"--json={given[0]}"]) == 2
    assert "is an input" in capsys.readouterr().err
    assert main(["gate", *given]) == 0


def test_a_bad_output_is_refused_at_once(tmp_path, monkeypatch, arguments, capsys):
    monkeypatch.setattr(gating, "scorecard_of", lambda *_: pytest.fail("it was scored"))
    for out in (tmp_path / "nowhere" / "gate.json", tmp_path):
        assert main(["gate", *arguments("model", "copy"), f"--json={out}"]) == 2
        assert "cannot be written" in capsys.readouterr().err


# ---------------------------------------------------------------- caplab score


def test_a_score_is_kept_for_the_gate(folder, tmp_path, capsys):
    out = tmp_path / "card.json"
    exam = f"--exam={folder / 'exam.jsonl'}"
    assert main(["score", str(folder / "model" / "base"), exam, f"--json={out}"]) == 0
    card = Scorecard.load(out)
    assert capsys.readouterr().out.strip() == repr(card)
    assert card == score(load(folder / "model" / "base"), _read(folder / "exam.jsonl"))


def test_a_score_of_nothing_fails(capsys):
    assert main(["score", "nowhere/at/all"]) == 2
    assert "There is no folder" in capsys.readouterr().err
