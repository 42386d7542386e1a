"""The widgets of a panel, and what happens when they are touched."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from caplab.errors import BadInput, did_you_mean, require, shown
from caplab.exam import Exam
from caplab.explorer.drawing import picture, render
from caplab.explorer.experiment import Bench, in_words, judged, perform, warm_up
from caplab.explorer.outlook import Outlook
from caplab.explorer.runner import Job, Runner, threads_show
from caplab.explorer.state import PRESETS, STOPS, Pin, State
from caplab.explorer.style import LIVE
from caplab.explorer.words import headline, label, name, percent, rate
from caplab.models import Subject, load, rest
from caplab.recipe import Recipe
from caplab.stats import check_budget, number

if TYPE_CHECKING:
    from caplab.atlas import Atlas

__all__ = ["Explorer", "explorer"]

_RECIPE = ("method", "learning_rate", "rank", "steps", "seed", "replay", "replay_source")
_WORDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "learning_rate": ("learning rate", rate),
    "steps": ("training steps", str),
    "rank": ("LoRA rank", str),
    "seed": ("seed", str),
    "replay": ("old text mixed in", percent),
    "budget": ("budget", number),
    "alpha": ("base → tuned", percent),
}
_CHOICES = {
    "method": ("method", {"full fine-tuning": "full", "LoRA": "lora"}),
    "replay_source": ("old text from", {"original data": "original", "the model itself": "self"}),
    "action": (
        "at a crossing",
        {"warn": "warn", "stop": "stop", "roll back": "rollback"},
    ),
}
_VIEW = "application/vnd.jupyter.widget-view+json"
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

    `preset` is one of "first_look", "full_vs_lora", "learning_rate", "replay", "guard" and
    "interpolate". Further settings are a `Recipe`'s: `explorer("replay", learning_rate=3e-3)`.
    With `predict` the learner guesses before the first run; without `live` nothing is trained
    until Run is pressed.
    """
    _check(preset, budget, exam, task_exam, task, atlas)
    subject = subject if isinstance(subject, Subject) else load(subject or "pocket")
    bench = Bench(subject, task, exam, task_exam)
    chosen = PRESETS[preset]
    state = State(
        preset=chosen,
        recipe=chosen.recipe.change(**settings),
        subject=subject.name,
        budget=budget,
        predicting=predict,
        guess=_MIDDLE if predict else None,
    )
    threaded = threads_show() if threaded is None else threaded
    return Explorer(bench, state, atlas or _shipped(bench), live=live, threaded=threaded)


def _check(preset: Any, budget: Any, exam: Any, task_exam: Any, task: Any, atlas: Any) -> None:
    """Refuse now what would fail when Run is pressed."""
    if preset not in list(PRESETS):
        hint, there = did_you_mean(preset, PRESETS), ", ".join(PRESETS)
        raise BadInput(f"There is no preset {shown(preset)}.{hint} There are: {there}.")
    check_budget(budget)
    for given in (exam, task_exam):
        require(given, (Exam, type(None)), "The Explorer needs an Exam, such as exam(path)")
    if task is not None:
        from caplab.feed import open_task

        open_task(task)
    if atlas is not None and not hasattr(atlas, "points"):
        raise BadInput(f"atlas is what sweep returns and atlas() opens, not {shown(atlas)}.")


_MIDDLE = (0.5, 0.5)
_NO_WAY = "There is no way back yet: press Run first."


def _shipped(bench: Bench) -> "Atlas | None":
    """Return the course's atlas, if it speaks of this subject and this task."""
    if not bench.is_course:
        return None
    try:
        from caplab.atlas import atlas

        found = atlas()
    except (ImportError, BadInput):
        return None
    return found if found.about.get("subject") == bench.subject.name else None


class Explorer:
    """A panel: controls, the picture, and a runner that trains what they say."""

    def __init__(
        self, bench: Bench, state: State, atlas: "Atlas | None", *, live: bool, threaded: bool
    ) -> None:
        self.bench, self.live = bench, live
        self._outlook = _outlook(atlas) if atlas else None
        base = self._outlook.base if self._outlook else None
        self.state = self._first = replace(state, base=base, **self._seen(state.recipe))
        self._lock = threading.RLock()
        self._runner = Runner(threaded)
        self._printed: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the main thread's, in a kernel
        self._moving = False  # controls are being set by the panel, not by the learner
        self._screen = widgets.HTML(render(self.state), layout=widgets.Layout(width="100%"))
        self.controls = {each: _control(each, self.state) for each in state.preset.controls}
        self.buttons = _buttons(self.state)
        self.guesses = _guesses(self.state)
        self._listen()
        self.widget = self._laid_out()

    def _listen(self) -> None:
        """Connect every control with what it does."""
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
        head = widgets.HTML(f'{LIVE}{title}<div class="cl-advice">{preset.advice}</div>')
        wrap = widgets.Layout(flex_flow="row wrap", align_items="center")
        self._guessing = widgets.HBox(self.guesses, layout=_hidden(not self.state.predicting))
        rows = [
            head,
            widgets.HBox(list(self.controls.values()), layout=wrap),
            widgets.HBox(list(self.buttons.values()), layout=wrap),
            self._guessing,
            self._screen,
        ]
        box = widgets.VBox(rows)
        box.add_class("caplab-explorer")
        return box

    # ------------------------------------------------------------ what a program can do

    def run(self, seconds: float = 600) -> "Explorer":
        """Train the present setting, and wait until that is done."""
        self._start()
        self._runner.join(seconds)
        return self

    def stop(self) -> None:
        """End the training within a step."""
        self._runner.stop()
        if self.state.phase == "training":
            self._show(phase="stopping")

    def pin(self) -> None:
        """Let what is shown stay on the plane."""
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
        """Take all pins away."""
        self._show(pins=())

    def reset(self) -> None:
        """Set every control back to where it began, and forget the run; the pins stay."""
        with self._lock:
            self._runner.forget()
            self._moving = True
            for each, control in self.controls.items():
                control.value = _value(each, self._first)
            self.buttons["predict"].value = self._first.predicting
            self._moving = False
            kept: dict[str, Any] = {
                each: getattr(self.state, each) for each in ("pins", "base", "detailed")
            }
            blank = tuple(replace(line, after=None) for line in self.state.answers)
            self._set(replace(self._first, answers=blank, **kept))
            _show_if(self._guessing, self._first.predicting)

    # ------------------------------------------------------------ what a learner does

    def _on_click(self, what: str) -> Any:
        act = {"run": self._start}.get(what) or getattr(self, what)
        return lambda _: act()

    def _on_setting(self, name: str) -> Any:
        """Return what follows when a control is let go."""

        def changed(change: Any) -> None:
            if not self._moving:
                self._change(name, change["new"])

        return changed

    def _change(self, name: str, value: Any) -> None:
        """Take a new setting over; train again where that makes a difference to the training."""
        with self._lock:
            if name == "alpha":
                coming = self.state.mixes or self.state.busy or self.state.phase == "walking"
                state = replace(self.state, alpha=value, message="" if coming else _NO_WAY)
                self._set(judged(state, state.budget))
            elif name == "budget":
                self._set(judged(self.state, value))
            elif name == "action":
                self._show(action=value)
            else:
                self._new_setting(name, value)
            retrain = name != "alpha" and (name != "budget" or self.state.preset.guards)
            if retrain and self._matters(name):
                self._again()

    def _matters(self, name: str) -> bool:
        """Tell whether a setting makes a difference: without LoRA a rank does nothing."""
        recipe = self.state.recipe
        if name == "rank":
            return recipe.method == "lora"
        return name != "replay_source" or recipe.replay > 0

    def _new_setting(self, name: str, value: Any) -> None:
        recipe = self.state.recipe.change(**{name: value})
        if name == "method" and "alpha" in self.controls:
            scaled = "LoRA scale" if value == "lora" else _WORDS["alpha"][0]
            self.controls["alpha"].description = scaled
        self._show(recipe=recipe, message="", **self._seen(recipe))

    def _seen(self, recipe: Recipe) -> dict[str, Any]:
        return self._outlook.of(recipe) if self._outlook else {}

    def _again(self) -> None:
        """Train again at once, or wait for Run where the learner is to guess first."""
        if self.live and not self.state.predicting:
            self._start()
        else:
            self._runner.forget()
            self._show(phase="ready", **_NO_RUN)

    def _on_detail(self, change: Any) -> None:
        self._show(detailed=change["new"])

    def _on_predict(self, change: Any) -> None:
        """Veil the answer and show the guess, or take both away."""
        if self._moving:
            return
        with self._lock:
            guessing = change["new"]
            guess = tuple(slider.value for slider in self.guesses) if guessing else None
            self._runner.forget()
            self._show(predicting=guessing, guess=guess, phase="ready", **_NO_RUN)
            _show_if(self._guessing, guessing)

    def _on_guess(self, _: Any) -> None:
        """Move the guess; after a run the result goes, for this is a new guess."""
        with self._lock:
            guess = tuple(slider.value for slider in self.guesses)
            if self.state.points and not self.state.busy:
                self._show(phase="ready", **_NO_RUN)
            self._show(guess=guess)

    # ------------------------------------------------------------ training

    def _start(self) -> None:
        """Train the present setting, in the place of whatever runs."""
        with self._lock:
            answers = tuple(replace(line, after=None) for line in self.state.answers)
            self._show(phase="training", message="", answers=answers, **_NO_RUN)
            state = self.state
            self._make_room()
            self._runner.start(lambda job: self._work(job, state))

    def _make_room(self) -> None:
        """Let the main thread's helpers rest, wherever a click arrives: new kernels have subshells.

        While a cell runs it has them; they rest as soon as it has ended.
        """
        if threading.current_thread() is threading.main_thread():
            rest()
        elif self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(rest)

    def _work(self, job: Job, state: State) -> None:
        """Do one job; whatever goes wrong is said in the panel."""

        def tell(**changes: Any) -> bool:
            with self._lock:
                wanted = self._runner.is_latest(job)
                if wanted:
                    self._show(**changes)
                return wanted

        try:
            perform(self.bench, state, job.stop, tell)
        except Exception as error:
            tell(phase="failed", message=in_words(error))
        except KeyboardInterrupt:
            tell(phase="stopped", message="Interrupted.")

    def _show(self, **changes: Any) -> None:
        with self._lock:
            self._set(replace(self.state, **changes))

    def _set(self, state: State) -> None:
        """Show another state; the only place that draws."""
        with self._lock:
            self.state = state
            self._screen.value = render(state)
            self.buttons["stop"].button_style = "warning" if state.busy else ""
            if self._printed and not state.busy:
                self._printed.update(_as_picture(state), raw=True)

    # ------------------------------------------------------------ in a notebook

    def _ipython_display_(self) -> None:
        """Show the widgets, and behind them a picture for pages on which no kernel runs."""
        from IPython.display import display

        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        display({_VIEW: view, "text/plain": repr(self)}, raw=True)  # type: ignore[no-untyped-call]
        if self._runner.threaded:  # where it is not, in Colab, nothing would hide it
            printed = _as_picture(self.state)
            self._printed = display(printed, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        with suppress(RuntimeError):  # no kernel, nobody to be quick for
            self._loop = asyncio.get_running_loop()
            self._loop.call_later(0.1, self._warm_up)

    def _warm_up(self) -> None:
        """Load between two cells what the first training needs.

        In the main thread: imports and random numbers are then never at odds with a cell's.
        """
        if not self.state.answers and not self.state.busy:
            try:
                self._show(**warm_up(self.bench))
            except Exception as error:
                self._show(phase="failed", message=in_words(error))
            except KeyboardInterrupt:
                return  # it comes later, with the first run

    def __repr__(self) -> str:
        return f"Explorer {self.state.preset.title!r}: {label(self.state.recipe)}"


# ---------------------------------------------------------------- the controls


def _control(name: str, state: State) -> widgets.Widget:
    """Make the control of a setting."""
    value = _value(name, state)
    if name in _CHOICES:
        words, choices = _CHOICES[name]
        options = list(choices.items())
        look = {"style": _LABEL | {"button_width": "auto"}, "layout": _ROOM}
        return widgets.ToggleButtons(options=options, value=value, description=words, **look)
    words, write = _WORDS[name]
    stops = sorted({*STOPS[name], value})
    return widgets.SelectionSlider(
        options=[(write(stop), stop) for stop in stops],
        value=value,
        description=words,
        continuous_update=name == "alpha",
        style=_LABEL,
        layout=_ROOM,
    )


_LABEL = {"description_width": "118px"}
_ROOM = {"flex": "1 1 300px", "max_width": "440px"}


def _value(name: str, state: State) -> Any:
    return getattr(state.recipe if name in _RECIPE else state, name)


def _buttons(state: State) -> dict[str, Any]:
    """Make the buttons; none is ever disabled, so that the keyboard's focus stays where it is."""
    wide = widgets.Layout(width="auto")
    run = widgets.Button(description="Run", icon="play", button_style="primary", layout=wide)
    run.add_class("cl-run")
    return {
        "run": run,
        "stop": widgets.Button(description="Stop", icon="stop", layout=wide),
        "pin": widgets.Button(description="Pin this run", layout=wide),
        "clear": widgets.Button(description="Clear pins", layout=wide),
        "reset": widgets.Button(description="Reset", layout=wide),
        "detail": widgets.ToggleButton(description="Each capability", layout=wide),
        "predict": widgets.ToggleButton(state.predicting, description="Predict first", layout=wide),
    }


def _guesses(state: State) -> list[Any]:
    """Make the two sliders that place the guess on the plane."""
    start = state.guess or _MIDDLE
    return [
        widgets.FloatSlider(
            value,
            min=0,
            max=1,
            step=0.05,
            description=f"guess: {what}",
            style=_LABEL,
            layout=_ROOM,
        )
        for what, value in zip(("task", "classics"), start, strict=True)
    ]


def _hidden(hidden: bool) -> widgets.Layout:
    return widgets.Layout(flex_flow="row wrap", display="none" if hidden else "flex")


def _show_if(box: widgets.HBox, shown: bool) -> None:
    box.layout.display = "flex" if shown else "none"


@lru_cache(maxsize=4)
def _outlook(atlas: "Atlas") -> Outlook:
    """Lay an atlas out once for all panels."""
    return Outlook(atlas)


# ---------------------------------------------------------------- without a kernel


def _as_picture(state: State) -> dict[str, str]:
    words = f"{label(state.recipe)}: {headline(state).text}"
    return {"image/svg+xml": picture(state), "text/plain": words}
