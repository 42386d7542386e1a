"""Names, answers and models of an unusual kind are shown, saved and loaded like any other."""

from dataclasses import replace
from xml.etree.ElementTree import fromstring

import pytest
from bench import QUICK, TASK
from drill import fault

import caplab as cl
from caplab.exploring.drawing import picture
from caplab.exploring.state import Answer
from caplab.plots.picture import MOST_ROWS


@fault("a model was tuned, and tuned again", "what is loaded answers as what was saved")
@pytest.mark.parametrize("first", ["full", "lora"])
def test_adapter_of_unsaved_weights(first, at):
    tuned = saved_base(at, first)
    again = cl.fine_tune(
        tuned, QUICK.change(method="lora", learning_rate=0.05), TASK, at.exam, on_point=print
    )
    loaded = cl.Run.load(again.save(at.folder / "again", weights=True))
    answers = cl.score(loaded.subject, at.exam, progress=False)
    for one, other in zip(answers.loglikelihoods, again.final.loglikelihoods, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def saved_base(at, method):
    """Tune a model that lies on the disk; the tuned one does not."""
    recipe = QUICK.change(method=method, learning_rate=0.05, steps=6)
    base = cl.load(at.folder_of_model())
    return cl.fine_tune(base, recipe, TASK, at.exam, on_point=print).subject


NAMES = ["a$b$ \\frac{", "_x^", "<b>bold</b>", "x" * 3000, "word " * 600, "日本", "step", "%s {}"]


@fault("capabilities called like formulas, markup or a whole page", "drawn, shown and saved")
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:6])
def test_a_name_is_only_a_name(name, at):
    asked = [cl.Question(name, f"{word}?", ("dog", "cat"), 0) for word in ("hot", "cold")]
    exam = cl.Exam((*asked, cl.Question("other", "Rome?", ("a", "b"), 0)), (), name)
    guard = cl.RegressionGuard(exam, every=1)
    run = at.tune(exam=exam, callbacks=[guard])
    report = cl.compare(run.before, run.final)
    pictures = cl.plots.scorecard(run.final), cl.plots.before_after(report), cl.plots.looks(guard)
    for shown in (*pictures, cl.plots.run(run, capabilities=True)):
        assert shown.png().startswith(b"\x89PNG")
    for thing in (run.final, report, run):
        assert "<b>bold" not in thing._repr_html_()
    run.final.save(at.folder / "card.json")
    assert cl.Scorecard.load(at.folder / "card.json") == run.final
    assert list(run.to_pandas()["step"]) == [point.step for point in run.points]
    assert list(guard.to_pandas()["step"]) == [check.step for check in guard.checks]


@fault("an exam with three hundred capabilities", "a picture of those that matter, within seconds")
def test_three_hundred_capabilities(at):
    exam = cl.Exam(tuple(cl.Question(f"c{n}", f"{n}?", ("dog", "cat"), 0) for n in range(300)))
    card = cl.score(at.subject, exam, progress=False)
    report = cl.compare(card, card)
    assert len(report.rows) == 301
    for shown in (cl.plots.scorecard(card), cl.plots.before_after(report)):
        rows = [label.get_text() for label in shown.axes[0].get_yticklabels()]
        assert len(rows) == MOST_ROWS
        assert rows[-1] == "overall (300)"
        assert shown.get_size_inches()[1] < 20


@fault("a model that answers with control characters", "the picture of the panel is sound XML")
def test_control_characters_are_replaced(at):
    panel = cl.explorer("first_look", at.subject, task=TASK, exam=at.exam, live=False)
    state = replace(panel.state, answers=(Answer("What?", "\x13\ufffe <b>"),))
    assert "\ufffd" in picture(state)
    assert fromstring(picture(state)).tag.endswith("svg")


@fault("a stored run lies under another recipe's name", "set aside, never taken for it")
def test_stored_run_of_another_recipe(at):
    one, other = QUICK, QUICK.change(seed=1)
    store = at.folder / "store"
    before = cl.sweep([one], store=store, n_jobs=1)
    (path,) = store.glob("*/*.json")
    path.rename(path.with_name(f"{other.hash}.json"))
    with pytest.warns(UserWarning, match="set aside"):
        after = cl.sweep([other], store=store, n_jobs=1)
    assert list(before.runs["hash"]) == [one.hash]
    assert list(after.runs["hash"]) == [other.hash]
    assert list(after.runs["seed"]) == [1]
