"""The controls of a panel: sliders, buttons, and the two that place a guess."""

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from caplab.exploring.presets import STOPS
from caplab.exploring.state import State
from caplab.support.text import format_number, format_percent, format_rate

_RECIPE = ("method", "learning_rate", "rank", "steps", "seed", "replay", "replay_source")
WORDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "learning_rate": ("learning rate", format_rate),
    "steps": ("training steps", str),
    "rank": ("LoRA rank", str),
    "seed": ("seed", str),
    "replay": ("old text mixed in", format_percent),
    "budget": ("budget", format_number),
    "every": ("a look every", lambda steps: f"{steps} steps"),
    "alpha": ("base → tuned", format_percent),
}
_CHOICES = {
    "method": ("method", {"full fine-tuning": "full", "LoRA": "lora"}),
    "replay_source": ("old text from", {"original data": "original", "the model itself": "self"}),
    "action": ("at a crossing", {"warn": "warn", "stop": "stop", "roll back": "rollback"}),
}
MIDDLE = (0.5, 0.5)  # of the plane: where a guess starts
_LABEL = {"description_width": "118px"}
_ROOM = {"flex": "1 1 300px", "max_width": "440px"}


def make_control(name: str, state: State) -> widgets.Widget:
    """Make the control of a setting."""
    value = setting_value(name, state)
    if name in _CHOICES:
        words, choices = _CHOICES[name]
        options = list(choices.items())
        look = {"style": _LABEL | {"button_width": "auto"}, "layout": _ROOM, "tooltip": words}
        return widgets.ToggleButtons(options=options, value=value, description=words, **look)
    words, write = WORDS[name]
    stops = sorted({*STOPS[name], value})
    return widgets.SelectionSlider(
        options=[(write(stop), stop) for stop in stops],
        value=value,
        description=words,
        tooltip=words,
        continuous_update=name == "alpha",  # the others start a training when they are let go
        style=_LABEL,
        layout=_ROOM,
    )


def setting_value(name: str, state: State) -> Any:
    """Return the present value of a setting, from the recipe or the panel."""
    return getattr(state.recipe if name in _RECIPE else state, name)


def without_effect(state: State) -> dict[str, str]:
    """Name the controls that change nothing at the present setting, each with the reason."""
    idle = {}
    if state.recipe.method != "lora":
        idle["rank"] = "Full fine-tuning has no LoRA rank."
    if state.recipe.replay == 0:
        idle["replay_source"] = "No old text is mixed in, so it does not matter where it is from."
    return idle


def make_buttons(state: State) -> dict[str, Any]:
    """Make the buttons; none is ever disabled, because that would take the keyboard focus away."""
    wide = widgets.Layout(width="auto")
    detail, first = "Each capability", "Predict first"  # without a tooltip theirs would be "null"
    run = widgets.Button(description="Run", icon="play", button_style="primary", layout=wide)
    run.add_class("cl-run")
    return {
        "run": run,
        "stop": widgets.Button(description="Stop", icon="stop", layout=wide),
        "pin": widgets.Button(description="Pin this run", layout=wide),
        "clear": widgets.Button(description="Clear pins", layout=wide),
        "reset": widgets.Button(description="Reset", layout=wide),
        "detail": widgets.ToggleButton(False, description=detail, tooltip=detail, layout=wide),
        "predict": widgets.ToggleButton(
            state.predicting, description=first, tooltip=first, layout=wide
        ),
    }


def make_guesses(state: State) -> list[Any]:
    """Make the two sliders that place the guess on the plane."""
    start = state.guess or MIDDLE
    return [
        widgets.SelectionSlider(
            options=[(format_number(part / 20), part / 20) for part in range(21)],
            value=value,
            description=f"guess: {what}",
            tooltip=f"guess: {what}",
            style=_LABEL,
            layout=_ROOM,
        )
        for what, value in zip(("task", "classics"), start, strict=True)
    ]


def hidden_layout(hidden: bool) -> widgets.Layout:
    """Lay out a row that can be hidden."""
    return widgets.Layout(flex_flow="row wrap", display="none" if hidden else "flex")


def show_if(box: widgets.HBox, shown: bool) -> None:
    """Show a row, or hide it."""
    box.layout.display = "flex" if shown else "none"
