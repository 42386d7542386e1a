"""What lessons call to teach: fine without a front end, and nothing given away."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import ipywidgets
import pytest

import caplab as cl
from caplab.support.errors import BadInput
from caplab.teaching import classroom, guesses, notes
from caplab.teaching.checks import expect
from caplab.teaching.lessons import Choice, Lesson, QuizQuestion


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(guesses, "_GUESSES", {})
    monkeypatch.setattr(classroom, "_HINTS_GIVEN", {})
    monkeypatch.setattr(classroom, "_ANSWERED", {})


@pytest.fixture
def shown(monkeypatch):
    """Collect what is displayed in place of a notebook."""
    bundles = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, raw, display_id=False: bundles.append(data)
    )
    return bundles


@pytest.fixture
def toy(monkeypatch):
    """A lesson of our own: one question, one exercise."""
    choices = (
        Choice("`5`", "One too many."),
        Choice("4", "Yes: **two** and two.", right=True),
    )
    asked = (QuizQuestion("How much is\n2 < 3?", "Count.", choices),)
    lesson = Lesson(asked, {"99_1": ("first", "second")})

    def check(answer):
        expect(answer != 5, "One too many.")
        return {4: "Four."}[answer]

    monkeypatch.setattr(classroom, "read_lesson", lambda number: lesson)
    monkeypatch.setattr(classroom, "checks", lambda number: {"99_1": check})


def parts(widget, kind):
    """Find the widgets of a kind, however deep."""
    found = [widget] if isinstance(widget, kind) else []
    return [
        *found,
        *(one for child in getattr(widget, "children", ()) for one in parts(child, kind)),
    ]


def text(widget):
    return " ".join(part.value for part in parts(widget, ipywidgets.HTML))


# ---------------------------------------------------------------- predict and reveal


def test_a_guess_is_shown_with_the_result():
    cl.predict("How many?", range(4), key="k").commit(2)
    assert repr(cl.reveal("k", 0)).startswith("Result: 0. Your guess: 2.")


@pytest.mark.parametrize("asked", [True, False])
def test_without_a_guess_the_result_is_alone(asked):
    if asked:
        cl.predict("How many?", range(4), key="k")
    assert repr(cl.reveal("k", 0.25)) == "Result: .25. You made no guess this time."


@pytest.mark.parametrize(
    ("options", "guess", "result", "said"),
    [
        (["full", "LoRA"], "LoRA", "LoRA", "You saw it coming."),
        (["full", "LoRA"], "LoRA", "full", "What made the difference?"),
        (range(4), 3, 3, "You saw it coming."),
        ((0.0, 1.0), 0.5, 0.51, "You saw it coming."),
        ((0.0, 1.0), 0.5, 0.58, "Close."),
        ((0, 100), 50, 90, "What made the difference?"),
    ],
)
def test_a_guess_is_judged_by_distance(options, guess, result, said):
    cl.predict("?", options, key="k").commit(guess)
    assert said in cl.reveal("k", result).text


def test_no_event_is_a_result_too():
    cl.predict("At which step?", (0, 60), key="never").commit(20)
    for nothing in (None, math.nan):
        assert "it did not happen" in cl.reveal("never", nothing).text


@pytest.mark.parametrize(("options", "value"), [(["full", "LoRA"], "LoRA"), ((0.0, 1.0), 0.25)])
def test_a_cell_run_again_keeps_the_guess(options, value):
    cl.predict("How much?", options, key="kept").commit(value)
    again = cl.predict("How much?", options, key="kept")
    assert again.value == value
    assert "Noted: " in text(again._widget())
    (choice,) = parts(again._widget(), (ipywidgets.ToggleButtons, ipywidgets.SelectionSlider))
    assert choice.value == value
    assert "Your guess: " in repr(cl.reveal("kept", value))


def test_a_new_question_or_a_known_result_asks_anew():
    cl.predict("How much?", (0.0, 1.0), key="kept").commit(0.25)
    assert cl.predict("How many?", (0.0, 1.0), key="kept").value is None
    cl.predict("How many?", (0.0, 1.0), key="kept").commit(0.5)
    cl.reveal("kept", 0.5)
    assert cl.predict("How many?", (0.0, 1.0), key="kept").value is None


def test_a_late_guess_does_not_count():
    guess = cl.predict("?", range(4), key="k")
    cl.reveal("k", 0)
    guess.commit(0)
    assert guess.value is None


def test_no_button_is_pressed_at_first():
    guess = cl.predict("How many?", range(3), key="k")
    widget = guess._widget()
    (buttons,) = parts(widget, ipywidgets.ToggleButtons)
    assert (buttons.options, buttons.value) == (("0", "1", "2"), None)
    buttons.value = "2"
    assert guess.value == 2
    assert "Noted: 2." in text(widget)


@pytest.mark.parametrize("ends", [(0, 10), (0.0, 1.0)])
def test_a_slider_counts_once_committed(ends):
    guess = cl.predict("How much?", ends, key="k")
    (row,) = parts(guess._widget(), ipywidgets.HBox)
    slider, button = row.children
    assert guess.value is None
    slider.value = ends[1]
    button.click()
    assert guess.value == ends[1]


@pytest.mark.parametrize("options", [(1,), (1, 2, 3), ("a", "b"), [1], []])
def test_a_guess_without_a_choice_is_refused(options):
    with pytest.raises(BadInput, match=r"slider|options"):
        cl.predict("?", options, key="k")


# ---------------------------------------------------------------- quiz


def test_a_quiz_works_without_a_notebook(toy):
    quiz = cl.quiz("99")
    assert repr(quiz.answer("A")) == "Try again: One too many."
    assert quiz.answer("B").kind == "Right"


def test_a_quiz_answers_clicks(toy):
    widget = cl.quiz("99", 1)._widget()
    (buttons,) = parts(widget, ipywidgets.ToggleButtons)
    (hint,) = parts(widget, ipywidgets.Button)
    buttons.value = "A"
    assert "One too many." in text(widget)
    hint.click()
    assert "Count." in text(widget)
    buttons.value = "B"
    assert "Yes: <b>two</b> and two." in text(widget)


def test_a_quiz_run_again_keeps_its_answers(toy):
    cl.quiz("99").answer("A")
    (row,) = parts(cl.quiz("99")._widget(), ipywidgets.ToggleButtons)
    assert row.index == 0
    assert "One too many." in text(cl.quiz("99")._widget())
    assert "One too many." not in repr(cl.quiz("99"))


def test_a_quizs_text_gives_nothing_away(toy):
    assert repr(cl.quiz("99")) == "1. How much is 2 < 3?\n   A  `5`\n   B  4"


def test_a_fresh_quiz_holds_no_feedback(toy):
    widget = cl.quiz("99")._widget()
    state = json.dumps([str(part.get_state()) for part in parts(widget, ipywidgets.Widget)])
    assert "too many" not in state
    assert "2 &lt; 3" in state


@pytest.mark.parametrize(("lesson", "number"), [("01", 0), ("01", 99), ("1", None), ("xy", None)])
def test_a_quiz_that_is_not_there_is_refused(lesson, number):
    with pytest.raises(BadInput):
        cl.quiz(lesson, number)


def test_a_letter_that_is_no_answer_is_refused(toy):
    with pytest.raises(BadInput, match="A, B; you gave 'C'"):
        cl.quiz("99").answer("C")


# ---------------------------------------------------------------- check and hint


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "Not yet: Nothing is filled in yet."),
        (..., "Not yet: Nothing is filled in yet."),
        (5, "Try again: One too many."),
        (6, "Try again: Your code stopped with KeyError: 6"),
        (4, "Right: Four."),
    ],
)
def test_a_check_says_what_is_missing(toy, answer, said):
    feedback = cl.check("99_1", answer)
    assert repr(feedback).startswith(said)
    assert feedback.right == (answer == 4)


def test_hints_come_one_by_one(toy):
    said = [repr(cl.hint("99_1")) for _ in range(4)]
    assert said[:2] == ["Hint 1 of 2: first", "Hint 2 of 2: second"]
    assert said[2] == said[3]
    assert "worked solution of lesson 99" in said[2]


def test_a_wrong_answer_shows_a_hint_button(toy):
    widget = cl.check("99_1", 5)._widget()
    (button,) = parts(widget, ipywidgets.Button)
    assert "first" not in text(widget)
    button.click()
    button.click()
    assert "first" in text(widget)
    assert "second" in text(widget)


def test_a_right_answer_needs_no_widget(toy, shown):
    cl.check("99_1", 4)._ipython_display_()
    assert set(shown[0]) == {"text/plain", "text/html"}


def test_a_misspelt_exercise_is_corrected(toy):
    for ask in (lambda: cl.check("99_2", 1), lambda: cl.hint("99_2")):
        with pytest.raises(BadInput, match="Did you mean '99_1'"):
            ask()


# ---------------------------------------------------------------- in a notebook


def test_the_displayed_text_is_stable(toy, shown):
    for make in (
        lambda: cl.quiz("99"),
        lambda: cl.predict("?", (0, 1), key="k"),
        lambda: cl.check("99_1", None),
    ):
        make()._ipython_display_()
        make()._ipython_display_()
        one, saved, other, _ = shown[-4:]
        assert one["text/plain"] == saved["text/plain"] == other["text/plain"]
        assert "model_id" in one["application/vnd.jupyter.widget-view+json"]


def test_what_is_saved_holds_guesses_and_answers(toy):
    guess = cl.predict("How much?", (0.0, 1.0), key="k")
    assert "You could choose: .00 to 1.00" in guess._saved()
    guess.commit(0.25)
    assert "Noted: .25." in guess._saved()
    quiz = cl.quiz("99", 1)
    assert "Your answer" not in quiz._saved()
    quiz.answer("A")
    assert "Your answer: A" in quiz._saved()
    assert "One too many." in quiz._saved()


def test_a_letter_says_its_whole_answer(toy):
    (letters,) = parts(cl.quiz("99", 1)._widget(), ipywidgets.ToggleButtons)
    assert letters.tooltips[0].startswith("A: ")
    assert len(letters.tooltips) == len(letters.options)


def test_a_slider_writes_values_as_the_course_does():
    (slider,) = parts(cl.predict("?", (0.0, 1.0), key="k")._widget(), ipywidgets.SelectionSlider)
    assert (slider.label, slider.value) == (".50", 0.5)
    (whole,) = parts(cl.predict("?", (1, 3), key="n")._widget(), ipywidgets.SelectionSlider)
    assert [label for label, _ in whole.options] == ["1", "2", "3"]


def test_no_tooltip_is_null(toy):
    for asked in (cl.quiz("99"), cl.predict("?", (0.0, 1.0), key="k"), cl.check("99_1", None)):
        for part in parts(asked._widget(), (ipywidgets.HTML, ipywidgets.SelectionSlider)):
            assert part.tooltip is not None


@pytest.mark.parametrize(
    ("said", "html"),
    [
        ("<b>", "&lt;b&gt;"),
        ("`a*b` and `c*d`", "<code>a*b</code> and <code>c*d</code>"),
        ("`a * b` or *c* **d**", "<code>a * b</code> or <i>c</i> <b>d</b>"),
        ("one\n\ntwo", "one<br><br>two"),
    ],
)
def test_only_code_and_stress_become_html(said, html):
    assert f"{html}</div>" in notes.Note("Right", said)._repr_html_()


def test_teaching_needs_no_big_library():
    code = "import caplab as cl, sys; cl.quiz('01'); cl.check('01_3', 5)"
    command = [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


# ---------------------------------------------------------------- claims


class Named:
    def __init__(self, name):
        self.name = name


def test_a_claim_that_holds_is_shown():
    assert repr(cl.claim("It holds.", True, subject=Named("pocket"))).startswith("Measured: It")


def test_a_false_claim_stops_the_lesson():
    with pytest.raises(AssertionError, match="It holds"):
        cl.claim("It holds.", False)


def test_elsewhere_a_false_claim_is_reported():
    said = cl.claim("It holds.", False, subject=Named("gpt2"))
    assert repr(said) == "Otherwise here: On gpt2 this does not hold: It holds."


@pytest.fixture
def findings(monkeypatch):
    """An atlas claim that was found to be as the test says."""
    found = SimpleNamespace(holds=True)
    monkeypatch.setattr("caplab.study.claims.measure", lambda name, atlas: found)
    return found


@pytest.mark.parametrize("verdict", [True, False, None])
def test_an_atlas_claim_is_shown_as_found(findings, verdict):
    findings.holds = verdict
    assert cl.claim("some_claim") is findings
    assert cl.claim("some_claim", verdict) is findings


@pytest.mark.parametrize(("found", "needed"), [(False, True), (None, True), (True, None)])
def test_a_changed_verdict_stops_the_lesson(findings, found, needed):
    findings.holds = found
    with pytest.raises(AssertionError, match="another verdict"):
        cl.claim("some_claim", needed)
    elsewhere = SimpleNamespace(about={"subject": "gpt2"})
    assert cl.claim("some_claim", needed, atlas=elsewhere) is findings
