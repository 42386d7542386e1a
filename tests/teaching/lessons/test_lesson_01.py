"""The checks of lesson 01 know the typical slips."""

from answers import diagnoses

import caplab as cl


def question(capability="capitals", prompt="What?"):
    return cl.Question(capability, prompt, ("yes", "no"), 0)


def exam(*pairs):
    return cl.Exam([question(*pair) for pair in pairs])


def plain(text):
    return " ".join(text.lower().split())


def found(keep):
    """Make a solution that keeps the questions of which `keep` says so."""
    return lambda exam, texts: [q for q in exam.questions if any(keep(q.prompt, t) for t in texts)]


def test_01_1_wants_several_capabilities():
    several = [(capability, word) for capability in ("a", "b") for word in ("one?", "two?")]
    apart = [(capability, f"{capability} {word}") for capability, word in several]
    wrong = [
        "an exam",
        [question()],
        exam(*apart[:3]),
        cl.Exam([*exam(*apart).questions, cl.Question(*apart[0], ("yes", "never"), 0)]),
        exam(*(("a", word) for _, word in apart)),
    ]
    diagnoses("01_1", right=exam(*apart), wrong=wrong)


def test_01_2_tells_comparisons_apart():
    right = found(lambda prompt, text: plain(prompt) in plain(text))
    wrong = [
        found(lambda prompt, text: prompt in text),
        found(lambda prompt, text: plain(text) in plain(prompt) or plain(prompt) in plain(text)),
        found(lambda prompt, text: True),
        found(lambda prompt, text: False),
        lambda exam, texts: len(right(exam, texts)),
        lambda exam, texts: [q.prompt for q in right(exam, texts)],
        right(exam(("a", "b")), ["c"]),
    ]
    diagnoses("01_2", right=right, wrong=wrong)


def test_01_2_waits_for_a_return_value():
    assert cl.check("01_2", lambda exam, texts: None).kind == "Not yet"


def test_01_2_says_how_the_code_stopped():
    said = cl.check("01_2", lambda exam, texts: exam.prompts)
    assert said.kind == "Try again"
    assert "stopped with AttributeError" in said.text


def test_01_3_names_the_forgotten_argument():
    plan = {"power": 0.9, "budget": 0.05, "capabilities": 2}
    right = cl.items_needed(0.15, **plan)
    changes = ({"capabilities": 1}, {"power": 0.8}, {"budget": 0.02})
    slips = [cl.items_needed(0.15, **(plan | change)) for change in changes]
    diagnoses("01_3", right=right, wrong=[*slips, 2 * right, right + 1, float(right)])
