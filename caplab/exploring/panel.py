"""`explorer`: the Explorer's panel, its widgets and what happens when one is touched."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from caplab.exploring.asleep import show_panel
from caplab.exploring.atlas_bands import bands_of, shipped_atlas
from caplab.exploring.cells import kept_in_cell
from caplab.exploring.controls import (
    MIDDLE,
    WORDS,
    hidden_layout,
    make_buttons,
    make_control,
    make_guesses,
    setting_value,
    show_if,
    without_effect,
)
from caplab.exploring.drawing import as_saved, render
from caplab.exploring.experiment import PanelSetup, in_words, judged, perform, warm_up
from caplab.exploring.presets import PRESETS
from caplab.exploring.runner import Job, Runner, threads_show
from caplab.exploring.sentences import label, name
from caplab.exploring.state import Pin, State
from caplab.exploring.theme import LIVE
from caplab.measuring.policy import check_budget
from caplab.models.load import load
from caplab.models.subject import Subject
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput, did_you_mean, require_type, short_repr
from caplab.support.machine import release_openmp_threads
from caplab.training.recipe import Recipe

if TYPE_CHECKING:
    from caplab.study.atlas import Atlas

__all__ = ["Explorer", "explorer"]
_NO_TUNED_MODEL = "There is no tuned model yet: press Run first."
_NO_RUN: dict[str, Any] = {
    "points": (),
    "outcome": None,
    "guard": None,
    "mixes": {},
    "trained": None,
}


def explorer(
    preset: str = "first_look",
    subject: Subject | str | None = None,
    *,
    task: Any = None,
    exam: Exam | None = None,
    task_exam: Exam | None = None,
    atlas: "Atlas | None" = None,
    predict: bool = False,
    live: bool = True,
    budget: float = 0.05,
    threaded: bool | None = None,
    **settings: Any,
) -> "Explorer":
    """Open a panel whose sliders train a model.

    `preset` is one of "first_look", "full_vs_lora", "learning_rate", "replay", "in_turn", "guard"
    and "interpolate". Further settings are a `Recipe`'s: `explorer("replay", learning_rate=3e-3)`.
    With `predict` the learner guesses before the first run; without `live` nothing is trained
    until Run is pressed.
    """
    _check(preset, budget, exam, task_exam, task, atlas)
    named = subject if isinstance(subject, str) else id(subject)
    objects = tuple(map(id, (task, exam, task_exam, atlas)))  # alive as long as their panel
    asked = (preset, named, objects, budget, predict, live, threaded, settings)

    def make() -> "Explorer":
        setup = PanelSetup(_opened(subject), task, exam, task_exam)
        state = _first_state(preset, setup, budget, predict, settings)
        threads = threads_show() if threaded is None else threaded
        found = atlas or (shipped_atlas(setup.subject.name) if setup.is_course else None)
        return Explorer(setup, state, found, live=live, threaded=threads)

    return kept_in_cell(asked, make)


def _opened(subject: Subject | str | None) -> Subject:
    return subject if isinstance(subject, Subject) else load(subject or "pocket")


def _first_state(
    preset: str, setup: PanelSetup, budget: float, predict: bool, settings: dict[str, Any]
) -> State:
    """Return what a new panel shows."""
    chosen = PRESETS[preset]
    return State(
        preset=chosen,
        recipe=chosen.recipe.change(**settings),
        subject=setup.subject.name,
        budget=budget,
        questions=setup.questions,
        predicting=predict,
        guess=MIDDLE if predict else None,
    )


def _check(preset: Any, budget: Any, exam: Any, task_exam: Any, task: Any, atlas: Any) -> None:
    """Refuse at once what would fail when Run is pressed."""
    if preset not in list(PRESETS):
        hint, there = did_you_mean(preset, PRESETS), ", ".join(PRESETS)
        raise BadInput(f"There is no preset {short_repr(preset)}.{hint} There are: {there}.")
    check_budget(budget)
    for given in (exam, task_exam):
        require_type(given, (Exam, type(None)), "The Explorer needs an Exam, such as exam(path)")
    if task is not None:
        from caplab.training.task_rows import open_task

        open_task(task)
    if atlas is not None and not hasattr(atlas, "points"):
        raise BadInput(f"atlas is what sweep returns and atlas() opens, not {short_repr(atlas)}.")


class Explorer:
    """A panel: controls, a picture, and a runner that trains what the controls say."""

    def __init__(
        self, setup: PanelSetup, state: State, atlas: "Atlas | None", *, live: bool, threaded: bool
    ) -> None:
        self.setup, self.live = setup, live
        self._bands = bands_of(atlas) if atlas else None
        base = self._bands.base if self._bands else None
        self.state = self._first = replace(state, base=base, **self._seen(state.recipe))
        self._lock = threading.RLock()
        self._runner = Runner(threaded)
        self._keep: Callable[[], None] = lambda: None  # bring what is saved up to date
        self._loop: asyncio.AbstractEventLoop | None = None  # the main thread's, in a kernel
        self._moving = False  # controls are being set by the panel, not by the learner
        whole = widgets.Layout(width="100%")
        self._screen = widgets.HTML(render(self.state), tooltip="", layout=whole)
        self.controls = {each: make_control(each, self.state) for each in state.preset.controls}
        self.buttons = make_buttons(self.state)
        self.guesses = make_guesses(self.state)
        self._listen()
        self.widget = self._laid_out()

    def _listen(self) -> None:
        """Connect every control with its effect."""
        for each, control in self.controls.items():
            control.observe(self._on_setting(each), "value")
        for what in ("run", "stop", "pin", "clear", "reset"):
            self.buttons[what].on_click(self._on_click(what))
        self.buttons["detail"].observe(self._on_detail, "value")
        self.buttons["predict"].observe(self._on_predict, "value")
        for guess in self.guesses:
            guess.observe(self._on_guess, "value")

    def _laid_out(self) -> widgets.VBox:
        """Put title, controls, buttons and picture below each other."""
        preset = self.state.preset
        title = f'<div class="cl-title">{preset.title}</div>'
        advice = f'<div class="cl-advice">{preset.advice}</div>'
        head = widgets.HTML(f"{LIVE}{title}{advice}", tooltip="")
        wrap = widgets.Layout(flex_flow="row wrap", align_items="center")
        self._guessing = widgets.HBox(self.guesses, layout=hidden_layout(not self.state.predicting))
        self._idle = widgets.HTML(tooltip="")
        self._rest()
        rows = [
            head,
            widgets.HBox(list(self.controls.values()), layout=wrap),
            self._idle,
            widgets.HBox(list(self.buttons.values()), layout=wrap),
            self._guessing,
            self._screen,
        ]
        box = widgets.VBox(rows)
        box.add_class("caplab-explorer")
        return box

    # ------------------------------------------------------------ what a program can do

    def run(self, seconds: float = 600) -> "Explorer":
        """Train the present setting, and wait until it is done."""
        self._start()
        self._runner.join(seconds)
        return self

    def stop(self) -> None:
        """End the training within a step."""
        self._runner.stop()
        if self.state.phase == "training":
            self._show(phase="stopping")

    def pin(self) -> None:
        """Keep the model that is shown as a dot on the plane."""
        with self._lock:
            state = self.state
            if state.place is None or state.veiled:
                self._show(message="There is nothing to pin yet: press Run first.")
                return
            number = max((pin.number for pin in state.pins), default=0) + 1
            new = Pin(number, name(state), state.place, state.points)
            if all((pin.name, pin.place) != (new.name, new.place) for pin in state.pins):
                self._show(pins=(*state.pins, new))

    def clear(self) -> None:
        """Remove all pins."""
        self._show(pins=())

    def reset(self) -> None:
        """Set every control back to its first value, and forget the run; the pins stay."""
        with self._lock:
            self._runner.forget()
            self._moving = True
            for each, control in self.controls.items():
                control.value = setting_value(each, self._first)
            self.buttons["predict"].value = self._first.predicting
            self._moving = False
            kept: dict[str, Any] = {
                each: getattr(self.state, each) for each in ("pins", "base", "detailed")
            }
            blank = tuple(replace(line, after=None) for line in self.state.answers)
            self._set(replace(self._first, answers=blank, **kept))
            self._rest()
            show_if(self._guessing, self._first.predicting)

    # ------------------------------------------------------------ what a learner does

    def _on_click(self, what: str) -> Any:
        act = {"run": self._start}.get(what) or getattr(self, what)
        return lambda _: act()

    def _on_setting(self, name: str) -> Any:
        """Return the callback of a control."""

        def changed(change: Any) -> None:
            if not self._moving:
                self._change(name, change["new"])

        return changed

    def _change(self, name: str, value: Any) -> None:
        """Take over a new setting, and train again if it makes a difference to the training."""
        with self._lock:
            if name == "alpha":
                coming = self.state.mixes or self.state.busy or self.state.phase == "walking"
                state = replace(self.state, alpha=value, message="" if coming else _NO_TUNED_MODEL)
                self._set(judged(state, state.budget))
            elif name == "budget":
                self._set(judged(self.state, value))
            elif name in ("action", "every"):
                self._show(**{name: value})
            else:
                self._new_setting(name, value)
            retrain = name != "alpha" and (name != "budget" or self.state.preset.guards)
            if retrain and self._matters(name):
                self._again()

    def _matters(self, name: str) -> bool:
        """Check whether a setting makes a difference: without LoRA a rank does not."""
        return name not in without_effect(self.state)

    def _new_setting(self, name: str, value: Any) -> None:
        recipe = self.state.recipe.change(**{name: value})
        if name == "method" and "alpha" in self.controls:
            scaled = "LoRA scale" if value == "lora" else WORDS["alpha"][0]
            self.controls["alpha"].description = scaled
        self._show(recipe=recipe, message="", **self._seen(recipe))
        self._rest()

    def _rest(self) -> None:
        """Disable the controls that change nothing now, and say why."""
        idle = without_effect(self.state)
        reasons = []
        for each, control in self.controls.items():
            control.disabled = each in idle
            reasons += [idle[each]] if each in idle else []
        self._idle.value = f'<div class="cl-idle">{" ".join(reasons)}</div>' if reasons else ""

    def _seen(self, recipe: Recipe) -> dict[str, Any]:
        return self._bands.of(recipe) if self._bands else {}

    def _again(self) -> None:
        """Train again at once, or wait for Run if the learner guesses first."""
        if self.live and not self.state.predicting:
            self._start()
        else:
            self._runner.forget()
            self._show(phase="ready", **_NO_RUN)

    def _on_detail(self, change: Any) -> None:
        self._show(detailed=change["new"])

    def _on_predict(self, change: Any) -> None:
        """Hide the answer and show the guess, or the reverse."""
        if self._moving:
            return
        with self._lock:
            guessing = change["new"]
            guess = tuple(slider.value for slider in self.guesses) if guessing else None
            self._runner.forget()
            self._show(predicting=guessing, guess=guess, phase="ready", **_NO_RUN)
            show_if(self._guessing, guessing)

    def _on_guess(self, _: Any) -> None:
        """Move the guess; the result of an earlier run goes, because this is a new guess."""
        with self._lock:
            guess = tuple(slider.value for slider in self.guesses)
            if self.state.points and not self.state.busy:
                self._show(phase="ready", **_NO_RUN)
            self._show(guess=guess)

    # ------------------------------------------------------------ training

    def _start(self) -> None:
        """Train the present setting instead of whatever runs now."""
        with self._lock:
            answers = tuple(replace(line, after=None) for line in self.state.answers)
            self._show(phase="training", message="", answers=answers, **_NO_RUN)
            state = self.state
            self._release_openmp_threads()
            self._runner.start(lambda job: self._work(job, state))

    def _release_openmp_threads(self) -> None:
        """Release the OpenMP threads of the main thread: they take time from the training thread.

        A click arrives in the main thread, or in a subshell of a newer kernel. From there the main
        thread is asked to do it, which it does as soon as no cell runs.
        """
        if threading.current_thread() is threading.main_thread():
            release_openmp_threads()
        elif self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(release_openmp_threads)

    def _work(self, job: Job, state: State) -> None:
        """Do one job, and show in the panel whatever goes wrong."""

        def tell(**changes: Any) -> bool:
            with self._lock:
                wanted = self._runner.is_latest(job)
                if wanted:
                    self._show(**changes)
                return wanted

        try:
            perform(self.setup, state, job.stop, tell)
        except Exception as error:
            tell(phase="failed", message=in_words(error))
        except KeyboardInterrupt:
            tell(phase="stopped", message="Interrupted.")

    def _show(self, **changes: Any) -> None:
        with self._lock:
            self._set(replace(self.state, **changes))

    def _set(self, state: State) -> None:
        """Show another state; nothing else draws."""
        with self._lock:
            self.state = state
            self._screen.value = render(state)
            self.buttons["stop"].button_style = "warning" if state.busy else ""
            if not state.busy:
                self._keep()

    # ------------------------------------------------------------ in a notebook

    def _ipython_display_(self) -> None:
        """Show the widgets, and behind them a picture for pages without a kernel."""
        self._keep = show_panel(self.widget, repr(self), lambda: as_saved(self.state))
        with suppress(RuntimeError):  # without a kernel there is no loop, and no need to be quick
            self._loop = asyncio.get_running_loop()
            self._loop.call_later(0.1, self._warm_up)

    def _warm_up(self) -> None:
        """Load between two cells what the first training needs.

        This runs in the main thread, so that it never interferes with the imports and random
        numbers of a cell.
        """
        if not self.state.answers and not self.state.busy:
            try:
                self._show(**warm_up(self.setup))
            except Exception as error:
                self._show(phase="failed", message=in_words(error))
            except KeyboardInterrupt:
                return  # the first run will load what it needs

    def __repr__(self) -> str:
        return f"Explorer {self.state.preset.title!r}: {label(self.state.recipe)}"
