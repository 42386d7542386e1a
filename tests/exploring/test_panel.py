"""The Explorer without a browser: what it shows, whoever moves what, and when."""

import asyncio
import logging
import threading
import time

import ipywidgets
import pytest
import tiny
from panels import outcome, point, small

from caplab.exploring import panel as panel_file
from caplab.exploring.panel import explorer
from caplab.exploring.presets import PRESETS, STOPS
from caplab.exploring.sentences import headline
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe


def test_an_unknown_preset_gets_a_suggestion():
    with pytest.raises(BadInput, match=r"no preset 'first_lok'\. Did you mean 'first_look'"):
        explorer("first_lok", tiny.subject())


def test_an_unknown_setting_gets_a_suggestion():
    with pytest.raises(BadInput, match="Did you mean 'learning_rate'"):
        explorer("first_look", tiny.subject(), lr=1e-3)


# ---------------------------------------------------------------- training pretended


@pytest.fixture
def jobs(monkeypatch):
    """Pretend to train: each job waits for its gate, then tells two points and an end."""
    made = []

    def perform(setup, shown, stop, tell):
        job = {"state": shown, "gate": threading.Event(), "stop": stop}
        made.append(job)
        tell(points=(point(0),), trained=shown.recipe)
        job["gate"].wait(10)
        tell(points=(point(0), point(shown.recipe.steps)), trained=shown.recipe)
        job["wanted"] = tell(phase="done", outcome=outcome())

    monkeypatch.setattr(panel_file, "perform", perform)
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


def test_releasing_a_slider_trains(make, jobs):
    panel = make()
    panel.controls["learning_rate"].value = 5e-3
    assert panel.state.busy
    finish(panel, jobs)
    assert [job["state"].recipe.learning_rate for job in jobs] == [5e-3]
    assert "Task .93, classics .48" in panel._screen.value


@pytest.mark.parametrize("clicked_in_the_main_thread", [True, False])
def test_openmp_threads_are_released_first(make, jobs, monkeypatch, clicked_in_the_main_thread):
    released_in = []
    monkeypatch.setattr(
        panel_file, "release_openmp_threads", lambda: released_in.append(threading.current_thread())
    )
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
    assert released_in == [threading.main_thread()]


def test_a_stale_run_overwrites_nothing(make, jobs):
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


def test_of_ten_quick_moves_the_last_is_run(make, jobs):
    panel = make()
    for rate in STOPS["learning_rate"]:
        panel.controls["learning_rate"].value = rate
    finish(panel, jobs)
    assert len(jobs) <= 2
    assert panel.state.trained.learning_rate == STOPS["learning_rate"][-1]
    assert panel.state.phase == "done"


def test_an_idle_slider_trains_nothing(make, jobs):
    lora = make("full_vs_lora")
    lora.controls["rank"].value = 32
    assert lora.controls["rank"].disabled
    assert "Full fine-tuning has no LoRA rank." in lora._idle.value
    replay = make("replay")
    replay.controls["replay_source"].value = "self"
    assert replay.controls["replay_source"].disabled
    assert "No old text is mixed in" in replay._idle.value
    rate = make("learning_rate")
    rate.controls["budget"].value = 0.2
    assert jobs == []
    assert rate.state.budget == 0.2


def test_a_control_wakes_when_it_matters(make, jobs):
    panel = make("full_vs_lora", live=False)
    panel.controls["method"].value = "lora"
    assert (panel.controls["rank"].disabled, panel._idle.value) == (False, "")
    panel.buttons["reset"].click()
    assert panel.controls["rank"].disabled


def test_the_guards_looks_can_be_made_rarer(make, jobs):
    panel = make("guard")
    panel.controls["every"].value = 20
    finish(panel, jobs)
    assert jobs[0]["state"].every == 20


def test_the_table_of_answers_is_there_from_the_start(make):
    assert make()._screen.value.count("<td>") == 2 * len(make().setup.questions)


def test_when_predicting_only_run_trains(make, jobs):
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


def test_before_a_run_no_model_is_between(make, jobs):
    panel = make("interpolate")
    panel.controls["alpha"].value = 0.5
    assert "press Run first" in panel._screen.value
    panel.controls["method"].value = "lora"
    assert panel.controls["alpha"].description == "LoRA scale"
    finish(panel, jobs)


def test_without_live_sliders_only_look_up(make, jobs):
    panel = make(live=False)
    first = panel.state.band
    panel.controls["learning_rate"].value = 1e-4
    assert jobs == []
    assert panel.state.band != first
    assert panel.state.seeds == 5


def test_pins_stay_through_the_next_run(make, jobs):
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


def test_reset_keeps_the_pins_alone(make, jobs):
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
def test_an_error_is_shown_and_survived(make, monkeypatch, jobs, error, words):
    panel = make()
    pretended = panel_file.perform
    monkeypatch.setattr(panel_file, "perform", failing(error))
    panel.run(10)
    assert (panel.state.phase, words in panel._screen.value) == ("failed", True)
    assert "<b>" not in headline(panel.state).detail or "&lt;b&gt;" in panel._screen.value
    monkeypatch.setattr(panel_file, "perform", pretended)
    panel.buttons["run"].click()
    finish(panel, jobs)
    assert panel.state.phase == "done"


def failing(error):
    def perform(*_):
        raise error

    return perform


def test_an_interrupt_leaves_a_usable_panel(make, monkeypatch):
    panel = make(threaded=False)
    monkeypatch.setattr(panel_file, "perform", failing(KeyboardInterrupt()))
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


# ---------------------------------------------------------------- training for real


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_silently(preset, capfd, caplog):
    panel = explorer(preset, **small(learning_rate=1e-2))
    with caplog.at_level(logging.WARNING):
        panel.run()
    assert panel.state.phase == "done", panel.state.message
    assert panel.state.points[0].step == 0
    assert len(panel.state.points) > 3 or panel.state.guard.crossed_at
    assert panel.state.outcome.report.verdict
    assert all(answer.after is not None for answer in panel.state.answers)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_between_base_and_tuned_is_looked_up(monkeypatch):
    for method in ("full", "lora"):
        panel = explorer("interpolate", **small(method=method, learning_rate=1e-2))
        panel.run()
        assert sorted(panel.state.mixes) == list(STOPS["alpha"])
        monkeypatch.setattr(panel_file, "perform", failing(AssertionError("it trained")))
        panel.controls["alpha"].value = 0.0
        assert panel.state.shown.after == panel.state.outcome.before
        assert "0 % of the way" in panel._screen.value
        monkeypatch.undo()


@pytest.mark.parametrize(("phase", "said"), [("ready", "There is no tuned model"), ("walking", "")])
def test_a_missing_model_is_said_before_a_run(phase, said):
    panel = explorer("interpolate", **small())
    panel._show(phase=phase)
    panel.controls["alpha"].value = 0.5
    assert panel.state.message.startswith(said)
    assert bool(panel.state.message) == bool(said)


def test_stop_acts_and_gives_the_turn_back():
    from caplab.training.fine_tune import _TURN

    panel = explorer("first_look", **small(steps=100_000, threaded=True))
    panel.buttons["run"].click()
    until(lambda: panel.state.points)
    panel.buttons["stop"].click()
    assert panel._runner.join(20)
    assert panel.state.phase == "stopped"
    assert panel.state.outcome is not None, "what was reached is judged"
    assert _TURN.acquire(timeout=1)
    _TURN.release()


def test_warming_up_asks_the_base():
    panel = explorer("first_look", **small())
    panel._warm_up()
    assert panel.state.base is not None
    assert [answer.before for answer in panel.state.answers]
    assert panel.state.points == ()


def test_the_first_recipe_is_the_courses():
    panel = explorer("first_look", tiny.subject())
    assert panel.state.recipe == Recipe(learning_rate=2e-3)
    assert panel.state.band is None, "the atlas speaks of another model"
