"""The Explorer without a browser: what it shows, says and trains, whoever moves what, and when."""

import asyncio
import logging
import threading
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise, product
from types import SimpleNamespace
from xml.etree import ElementTree

import ipywidgets
import pretend
import pytest
import tiny
import torch
from caplab.explorer import panel as panels

from caplab.exploring.atlas_bands import Outlook
from caplab.exploring.curves import _apart
from caplab.exploring.drawing import picture, render
from caplab.exploring.experiment import PanelSetup, _watched, in_words, judged
from caplab.exploring.panel import explorer
from caplab.exploring.presets import COURSE, PRESETS, STOPS
from caplab.exploring.runner import Runner
from caplab.exploring.sentences import headline, label
from caplab.exploring.state import Answer, Band, Mix, Outcome, Pin, State, Watched
from caplab.measuring.compare import compare
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput
from caplab.training.fine_tune import fine_tune
from caplab.training.recipe import Recipe
from caplab.training.run import Point

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
TASK = [
    {"prompt": f"Customer: {wish}\nAgent:", "completion": f" Click {page}."}
    for wish, page in [("a pot", "Pots"), ("a shelf", "Shelves"), ("a dog", "Dogs")]
]
# ---------------------------------------------------------------- things to look at


def point(step, task=0.5, classics=0.9, names=("capitals", "arithmetic")):
    return Point(
        step=step,
        task_loss=None,
        task_accuracy=task,
        classics_accuracy=classics,
        by_capability=dict.fromkeys(names, classics),
        smooth=0.5,
        language_loss=1.0,
        kl=0.1,
        learning_rate=1e-3,
        elapsed=0.1,
    )


def card(right, n=100, names=("capitals", "arithmetic")):
    """A scorecard with so many of n answers right, shared out evenly among capabilities."""
    good, bad = (-0.1, -3.0), (-3.0, -0.1)
    return Scorecard(
        subject="pretended",
        exam="classics",
        fingerprint="0",
        capability=tuple(names[at % len(names)] for at in range(n)),
        answer=(0,) * n,
        loglikelihoods=tuple(good if at < right else bad for at in range(n)),
        characters=((3, 3),) * n,
    )


def outcome(before=97, after=48, task=0.93, budget=0.05, names=("capitals", "arithmetic")):
    old, new = card(before, names=names), card(after, names=names)
    return Outcome(task, old, new, compare(old, new, budget=budget))


def state(preset="first_look", **changes):
    shown = State(preset=PRESETS[preset], recipe=PRESETS[preset].recipe)
    return replace(shown, **changes)


def trained(**changes):
    """A run that came to its end."""
    points = (point(0, 0.28, 0.97), point(30, 0.7, 0.8), point(60, 0.93, 0.48))
    ended = {"phase": "done", "points": points, "trained": COURSE, "outcome": outcome()}
    return state(**ended | {"base": (0.28, 0.97)} | changes)


class Tags(HTMLParser):
    """Which tags and attributes a browser would find, and what it would show as text."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text += data


# ---------------------------------------------------------------- presets and the atlas


@pytest.fixture(scope="module")
def atlas(root):
    return pretend.course(root, noise=0.1)


@pytest.fixture(scope="module")
def outlook(atlas):
    return Outlook(atlas)


@pytest.mark.parametrize("name", PRESETS)
def test_every_slider_starts_at_one_of_its_stops(name):
    preset = PRESETS[name]
    first = State(preset=preset, recipe=preset.recipe)
    for control in set(preset.controls) & set(STOPS):
        assert panels._value(control, first) in STOPS[control]


@pytest.mark.parametrize("name", ["first_look", "learning_rate", "interpolate"])
def test_every_setting_of_a_preset_has_an_answer_in_the_atlas_at_once(outlook, name):
    preset = PRESETS[name]
    axes = [control for control in preset.controls if control in ("learning_rate", "steps", "seed")]
    for values in product(*(STOPS[axis] for axis in axes)):
        recipe = preset.recipe.change(**dict(zip(axes, values, strict=True)))
        assert outlook.of(recipe)["seeds"] == 5


def test_a_band_spans_what_single_seeds_did_up_to_the_last_step(outlook):
    band = outlook.of(COURSE.change(steps=40, seed=3, rank=32))["band"]  # no LoRA: no rank
    assert band.steps == (0, 10, 20, 30, 40)
    low, high = band.classics[-1][1:]
    alone = [pretend.levels(COURSE.change(seed=s, steps=100), 40, noise=0.1) for s in range(5)]
    assert (low, high) == pytest.approx(
        (
            min(found["classics"] for found, *_ in alone),
            max(found["classics"] for found, *_ in alone),
        )
    )


def test_a_setting_that_nobody_tried_has_no_band(outlook):
    assert outlook.of(COURSE.change(batch_size=16)) == {"band": None, "seeds": 0}


def test_an_unknown_preset_is_answered_with_those_that_exist():
    with pytest.raises(BadInput, match=r"no preset 'first_lok'\. Did you mean 'first_look'"):
        explorer("first_lok", tiny.subject())


def test_an_unknown_setting_is_answered_like_a_recipes():
    with pytest.raises(BadInput, match="Did you mean 'learning_rate'"):
        explorer("first_look", tiny.subject(), lr=1e-3)


# ---------------------------------------------------------------- in words


def test_the_sentence_gives_both_accuracies_the_verdict_and_the_change():
    said = headline(trained())
    assert (said.text, said.verdict) == ("Task .93, classics .48", "REGRESSED")
    assert said.change == "−.49 ± .10"
    assert "all 2 capabilities" in said.detail


def test_before_a_training_the_sentence_says_what_earlier_runs_did():
    band = Band((0, 60), ((0.28,) * 3, (0.95, 0.9, 1.0)), ((0.97,) * 3, (0.6, 0.5, 0.7)))
    said = headline(state(band=band, seeds=5))
    assert said.text == "Expect task .90 to 1.00, classics .50 to .70"
    assert headline(state()).text == "Not trained yet: press Run."


def test_guess_and_result_stand_together():
    said = headline(trained(predicting=True, guess=(0.9, 0.8)))
    assert said.text == "Task .93, classics .48"
    assert "Your guess was task .90, classics .80: off by .03 and .32." in said.detail


def test_while_the_learner_guesses_nothing_gives_the_answer_away():
    band = Band((0, 60), ((0.28,) * 3, (0.911,) * 3), ((0.97,) * 3, (0.522,) * 3))
    veiled = render(state(band=band, seeds=5, predicting=True, guess=(0.5, 0.5)))
    open_ = render(state(band=band, seeds=5))
    traces = ("cl-band", "cl-cloud", ".52", ".91")
    assert all(trace in open_ for trace in traces)
    assert not any(trace in veiled for trace in traces)


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        (Watched("stop"), "The guard saw no crossing."),
        (Watched("stop", 10, 20), "crossed from step 10 on. It stopped the training at step 20."),
        (Watched("warn", 10, 20), "It warned at step 20, and training went on."),
        (Watched("rollback", 10, 20, 0), "at step 20 and put back the weights of step 0."),
        (Watched("rollback", 10, 20), "at step 20; no earlier weights were within the budget."),
    ],
)
def test_what_a_guard_did_is_said(guard, words):
    assert words in headline(trained(guard=guard)).detail


@pytest.mark.parametrize(("patience", "acted"), [(0, 10), (1, 20), (2, 20)])
def test_a_guard_acts_when_its_patience_ends_or_the_training_does(patience, acted):
    looks = [SimpleNamespace(step=step) for step in (0, 10, 20)]
    guard = SimpleNamespace(
        action="stop", crossed_at=10, restored_step=None, patience=patience, checks=looks
    )
    assert _watched(guard) == Watched("stop", 10, acted)
    assert "guard: stop" in render(trained(guard=_watched(guard)))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "full 2e-3"),
        ({"method": "lora", "rank": 4}, "LoRA 2e-3, rank 4"),
        ({"replay": 0.05, "replay_source": "self"}, "full 2e-3, 5 % self-replay"),
        ({"steps": 40, "seed": 3}, "full 2e-3, 40 steps, seed 3"),
    ],
)
def test_a_run_is_named_by_what_is_not_usual(changes, name):
    assert label(COURSE.change(**changes)) == name


@pytest.mark.parametrize(
    ("after", "fate"),
    [
        (None, ""),
        ("2+2 is 4.", "kept"),
        ("4", "kept"),
        ("The sum is 4.", "kept"),
        ("14.", "lost"),
        ("4 it4 and 4 make 1", "lost"),
        ("", "lost"),
    ],
)
def test_another_wording_of_the_right_answer_is_not_lost(after, fate):
    assert Answer("What is 2+2?", "2+2 is 4.", after, right="4").fate == fate


def test_where_the_base_was_not_right_a_new_answer_is_only_another_one():
    assert Answer("What is 2+2?", "A lot.", "Much.", right="4").fate == "changed"
    assert Answer("How are you?", "Well.", "Fine.").fate == "changed"


# ---------------------------------------------------------------- the picture


def states():
    names = (EVIL, "arithmetic")
    points = (point(0, names=names), point(8, names=names))
    answers = (Answer(EVIL, EVIL, EVIL), Answer(EVIL, EVIL))
    mixes = {0.5: Mix(0.5, outcome(names=names), (EVIL, EVIL))}
    ended = {"points": points, "detailed": True, "answers": answers}
    return {
        "before": state(message=EVIL, answers=answers),
        "failed": state(phase="failed", message=EVIL),
        "trained": trained(**ended, outcome=outcome(names=names)),
        "pinned": trained(pins=(Pin(1, EVIL, (0.9, 0.5), points),), message=EVIL),
        "between": trained(**ended, mixes=mixes, alpha=0.5, outcome=outcome(names=names)),
    }


@pytest.mark.parametrize("name", states())
def test_what_models_and_files_say_is_shown_as_text(name):
    found = Tags(render(states()[name]))
    assert not {"script", "img"} & found.tags
    assert not any(attribute.startswith("on") for attribute in found.attributes)
    assert "onerror" in found.text, "it is shown, not dropped"


@pytest.mark.parametrize("name", states())
def test_the_saved_picture_is_an_svg_of_its_own(name):
    drawn = picture(states()[name])
    names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawn).iter()}
    assert not {"script", "img"} & names
    assert not any(word in drawn for word in ("var(", "--jp"))


def test_the_saved_picture_cuts_no_words():
    lengthy = " ".join(f"word{number}" for number in range(60))
    answers = (Answer("Why?", lengthy, lengthy), Answer("Who?", "I.", ""))
    drawn = ElementTree.fromstring(picture(trained(answers=answers, message=lengthy)))
    lines = [line.text or "" for line in drawn.findall("{*}text")]
    assert max(map(len, lines)) <= 114
    assert " ".join(line.strip() for line in lines).count(lengthy) == 3
    assert lines[-1] == "Who? → I. → (nothing)"
    _, _, _, height = map(float, drawn.attrib["viewBox"].split())
    assert height >= max(float(line.attrib["y"]) for line in drawn.findall("{*}text")) + 6


def test_the_markup_stays_small():
    points = tuple(point(step) for step in range(0, 61, 6))
    pins = tuple(Pin(n, f"full {n}e-3", (n / 10, 1 - n / 10), points) for n in range(1, 8))
    assert len(render(trained(points=points, pins=pins, detailed=True))) < 20_000


def test_the_end_of_a_curve_shows_what_all_questions_say():
    sampled = trained(outcome=None, phase="training")
    assert "classics .48" in render(sampled)
    assert "classics .31" in render(trained(outcome=outcome(after=31)))


def test_labels_at_the_right_edge_never_cover_each_other():
    for levels in ([100.0, 101.0, 99.0], [270.0, 275.0, 280.0], [10.0, 200.0]):
        moved = sorted(_apart(levels, 19, 280))
        assert all(low - high >= 19 for high, low in pairwise(moved))
        assert moved[-1] <= 280


def test_another_budget_judges_anew_and_asks_no_model():
    lenient = judged(trained(), 0.2)
    assert (lenient.budget, lenient.outcome.report.budget) == (0.2, 0.2)
    assert judged(trained(outcome=outcome(after=95)), 0.2).outcome.report.verdict == "HELD"


def test_a_stop_on_the_way_back_is_judged_anew_when_it_is_shown():
    far = trained(mixes={0.5: Mix(0.5, outcome(after=95), ())}, alpha=1.0)
    assert judged(far, 0.2).mixes[0.5].outcome is far.mixes[0.5].outcome
    assert judged(replace(far, alpha=0.5), 0.2).shown.report.budget == 0.2


# ---------------------------------------------------------------- one job at a time


def test_of_ten_quick_jobs_the_first_and_the_last_are_done_and_the_last_counts():
    runner, begun, gate = Runner(), [], threading.Event()

    def work(job):
        begun.append(job.number)
        gate.wait(10)

    jobs = [runner.start(work) for _ in range(10)]
    gate.set()
    assert runner.join(10)
    assert begun in ([1, 10], [10])
    assert [runner.is_latest(job) for job in jobs] == [False] * 9 + [True]
    assert all(job.stop.is_set() for job in jobs[:-1])
    assert not jobs[-1].stop.is_set()


def test_no_thread_stays_behind_when_the_work_is_done():
    runner = Runner()
    runner.start(lambda job: None)
    assert runner.join(10)
    assert "explorer" not in [thread.name for thread in threading.enumerate()]


def test_in_the_foreground_a_job_is_done_when_start_returns():
    done, here = [], threading.current_thread()
    Runner(threaded=False).start(lambda job: done.append(threading.current_thread() is here))
    assert done == [True]


# ---------------------------------------------------------------- the panel, training pretended


@pytest.fixture
def jobs(monkeypatch):
    """Pretend to train: each job waits for its gate, then tells two points and an end."""
    made = []

    def perform(bench, shown, stop, tell):
        job = {"state": shown, "gate": threading.Event(), "stop": stop}
        made.append(job)
        tell(points=(point(0),), trained=shown.recipe)
        job["gate"].wait(10)
        tell(points=(point(0), point(shown.recipe.steps)), trained=shown.recipe)
        job["wanted"] = tell(phase="done", outcome=outcome())

    monkeypatch.setattr(panels, "perform", perform)
    return made


@pytest.fixture
def make(atlas):
    """Make panels that end with the test."""
    made = []

    def panel(preset="first_look", **options):
        made.append(explorer(preset, tiny.subject(), **{"atlas": atlas, **options}))
        return made[-1]

    yield panel
    for each in made:
        each._runner.forget()


def until(condition, seconds=20):
    """Wait for what another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def finish(panel, jobs):
    """Let every job go on, those that are still to come too, until none is left."""

    def done():
        for job in list(jobs):
            job["gate"].set()
        return panel._runner.join(0)

    until(done)


def test_releasing_a_slider_starts_the_experiment(make, jobs):
    panel = make()
    panel.controls["learning_rate"].value = 5e-3
    assert panel.state.busy
    finish(panel, jobs)
    assert [job["state"].recipe.learning_rate for job in jobs] == [5e-3]
    assert "Task .93, classics .48" in panel._screen.value


@pytest.mark.parametrize("clicked_in_the_main_thread", [True, False])
def test_the_main_threads_helpers_rest_before_another_trains(
    make, jobs, monkeypatch, clicked_in_the_main_thread
):
    rested_in = []
    monkeypatch.setattr(panels, "rest", lambda: rested_in.append(threading.current_thread()))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    panel = make()

    async def kernel():
        panel._ipython_display_()
        if clicked_in_the_main_thread:
            panel._start()
        else:  # as in the subshells of ipykernel 7
            await asyncio.to_thread(panel._start)
        await asyncio.sleep(0)

    asyncio.run(kernel())
    finish(panel, jobs)
    assert rested_in == [threading.main_thread()]


def test_a_stale_run_never_overwrites_a_newer_one(make, jobs):
    panel = make()
    panel.controls["learning_rate"].value = 5e-3
    until(lambda: jobs)
    panel.controls["learning_rate"].value = 1e-3
    assert jobs[0]["stop"].is_set()
    jobs[0]["gate"].set()
    finish(panel, jobs)
    assert jobs[0]["wanted"] is False
    assert [job["state"].recipe.learning_rate for job in jobs] == [5e-3, 1e-3]
    assert panel.state.trained.learning_rate == 1e-3


def test_ten_quick_moves_leave_one_run_the_last(make, jobs):
    panel = make()
    for rate in STOPS["learning_rate"]:
        panel.controls["learning_rate"].value = rate
    finish(panel, jobs)
    assert len(jobs) <= 2
    assert panel.state.trained.learning_rate == STOPS["learning_rate"][-1]
    assert panel.state.phase == "done"


def test_a_slider_that_makes_no_difference_trains_nothing(make, jobs):
    lora = make("full_vs_lora")
    lora.controls["rank"].value = 32
    replay = make("replay")
    replay.controls["replay_source"].value = "self"
    rate = make("learning_rate")
    rate.controls["budget"].value = 0.2
    assert jobs == []
    assert rate.state.budget == 0.2


def test_while_the_learner_predicts_only_run_trains(make, jobs):
    panel = make(predict=True)
    panel.controls["learning_rate"].value = 5e-3
    panel.guesses[0].value = 0.9
    assert jobs == []
    assert panel.state.guess == (0.9, 0.5)
    assert panel.state.veiled
    panel.buttons["run"].click()
    finish(panel, jobs)
    assert not panel.state.veiled
    assert "Your guess was task .90, classics .50" in panel._screen.value


def test_before_a_run_there_is_no_way_back_to_walk(make, jobs):
    panel = make("interpolate")
    panel.controls["alpha"].value = 0.5
    assert "press Run first" in panel._screen.value
    panel.controls["method"].value = "lora"
    assert panel.controls["alpha"].description == "LoRA scale"
    finish(panel, jobs)


def test_without_live_sliders_look_up_and_run_trains(make, jobs):
    panel = make(live=False)
    first = panel.state.band
    panel.controls["learning_rate"].value = 1e-4
    assert jobs == []
    assert panel.state.band != first
    assert panel.state.seeds == 5


def test_pins_stay_as_labelled_dots_through_the_next_run(make, jobs):
    panel = make()
    panel.buttons["pin"].click()
    assert "nothing to pin" in panel._screen.value
    panel.buttons["run"].click()
    finish(panel, jobs)
    panel.buttons["pin"].click()
    panel.buttons["pin"].click()  # once is enough
    panel.controls["learning_rate"].value = 1e-4
    finish(panel, jobs)
    assert [(pin.number, pin.name) for pin in panel.state.pins] == [(1, "full 2e-3")]
    assert ">full 2e-3<" in panel._screen.value
    panel.buttons["clear"].click()
    assert panel.state.pins == ()


def test_reset_brings_the_controls_back_and_keeps_the_pins(make, jobs):
    panel = make()
    panel.controls["learning_rate"].value = 1e-4
    finish(panel, jobs)
    panel.buttons["pin"].click()
    panel.buttons["reset"].click()
    assert panel.controls["learning_rate"].value == panel.state.recipe.learning_rate == 2e-3
    assert (panel.state.points, panel.state.phase, len(panel.state.pins)) == ((), "ready", 1)
    assert len(jobs) == 1, "to reset is not to train"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "The memory was not enough"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: <b>"), "memory was not enough"),
        (BadInput("The task is empty."), "The task is empty."),
        (KeyError("x"), "KeyError"),
    ],
)
def test_an_error_is_said_in_the_panel_and_the_panel_goes_on(make, monkeypatch, jobs, error, words):
    panel = make()
    pretended = panels.perform
    monkeypatch.setattr(panels, "perform", failing(error))
    panel.run(10)
    assert (panel.state.phase, words in panel._screen.value) == ("failed", True)
    assert "<b>" not in headline(panel.state).detail or "&lt;b&gt;" in panel._screen.value
    monkeypatch.setattr(panels, "perform", pretended)
    panel.buttons["run"].click()
    finish(panel, jobs)
    assert panel.state.phase == "done"


def failing(error):
    def perform(*_):
        raise error

    return perform


def test_an_interrupt_in_the_foreground_leaves_a_usable_panel(make, monkeypatch):
    panel = make(threaded=False)
    monkeypatch.setattr(panels, "perform", failing(KeyboardInterrupt()))
    panel.buttons["run"].click()
    assert panel.state.phase == "stopped"


def test_every_control_has_a_name(make):
    for preset in PRESETS:
        panel = make(preset)
        for widget in [*panel.controls.values(), *panel.buttons.values(), *panel.guesses]:
            assert widget.description.strip()


def test_no_output_widget_is_used(make):
    def inside(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from inside(child)

    kinds = {type(widget) for widget in inside(make("interpolate").widget)}
    assert ipywidgets.Output not in kinds


def test_plain_words_for_errors_are_one_line():
    assert "\n" not in in_words(RuntimeError("a\nb"))


# ---------------------------------------------------------------- the panel, training for real


def bench(**options):
    exams = {"exam": tiny.exam(), "task_exam": _task_exam(), "task": TASK}
    return {"subject": tiny.subject(), **exams, "threaded": False, "steps": 8, **options}


def _task_exam():
    choices = tuple(row["completion"].strip() for row in TASK)
    return Exam(
        tuple(Question("task", row["prompt"], choices, at) for at, row in enumerate(TASK)), (), "t"
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_without_a_word_on_the_screen(preset, capfd, caplog):
    panel = explorer(preset, **bench(learning_rate=1e-2))
    with caplog.at_level(logging.WARNING):
        panel.run()
    assert panel.state.phase == "done", panel.state.message
    assert panel.state.points[0].step == 0
    assert len(panel.state.points) > 3 or panel.state.guard.crossed_at
    assert panel.state.outcome.report.verdict
    assert all(answer.after is not None for answer in panel.state.answers)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_between_base_and_tuned_the_slider_only_looks_up(monkeypatch):
    for method in ("full", "lora"):
        panel = explorer("interpolate", **bench(method=method, learning_rate=1e-2))
        panel.run()
        assert sorted(panel.state.mixes) == list(STOPS["alpha"])
        monkeypatch.setattr(panels, "perform", failing(AssertionError("it trained")))
        panel.controls["alpha"].value = 0.0
        assert panel.state.shown.after == panel.state.outcome.before
        assert "0 % of the way" in panel._screen.value
        monkeypatch.undo()


@pytest.mark.parametrize(("phase", "said"), [("ready", "There is no way back"), ("walking", "")])
def test_the_way_back_is_missing_before_a_run_but_not_while_it_is_walked(phase, said):
    panel = explorer("interpolate", **bench())
    panel._show(phase=phase)
    panel.controls["alpha"].value = 0.5
    assert panel.state.message.startswith(said)
    assert bool(panel.state.message) == bool(said)


@pytest.mark.parametrize("threaded", [True, False])
def test_a_run_of_the_panel_is_the_one_of_a_cell(monkeypatch, threaded):
    runs, tune = [], PanelSetup.tune
    monkeypatch.setattr(PanelSetup, "tune", lambda *a, **k: runs.append(tune(*a, **k)) or runs[-1])
    panel = explorer("first_look", **bench(learning_rate=1e-2, threaded=threaded))
    panel.run()
    there = panel.bench
    cell = fine_tune(
        there.subject, panel.state.recipe, there.task, there.exam, task_exam=there.task_exam
    )
    weights = [run.subject.model.state_dict() for run in (runs[-1], cell)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert [point.by_capability for point in panel.state.points] == [
        point.by_capability for point in cell.points
    ]


def test_a_run_that_diverges_is_said_in_words():
    panel = explorer("first_look", **bench(learning_rate=1e30))
    panel.run()
    assert panel.state.phase == "failed"
    assert "try a lower learning rate" in panel._screen.value


def test_stop_acts_within_a_step_and_gives_the_turn_back():
    from caplab.training.fine_tune import _TURN

    panel = explorer("first_look", **bench(steps=100_000, threaded=True))
    panel.buttons["run"].click()
    until(lambda: panel.state.points)
    panel.buttons["stop"].click()
    assert panel._runner.join(20)
    assert panel.state.phase == "stopped"
    assert panel.state.outcome is not None, "what was reached is judged"
    assert _TURN.acquire(timeout=1)
    _TURN.release()


def test_a_panel_is_as_fast_the_second_time_because_it_warms_up():
    panel = explorer("first_look", **bench())
    panel._warm_up()
    assert panel.state.base is not None
    assert [answer.before for answer in panel.state.answers]
    assert panel.state.points == ()


def test_a_recipe_from_the_panel_is_the_course_recipe():
    panel = explorer("first_look", tiny.subject())
    assert panel.state.recipe == Recipe(learning_rate=2e-3)
    assert panel.state.band is None, "the atlas speaks of another model"
