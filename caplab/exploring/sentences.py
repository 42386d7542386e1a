"""Write the Explorer's sentences: the headline over the charts, its detail, names of settings."""

from dataclasses import dataclass

from caplab.exploring.presets import COURSE
from caplab.exploring.state import Outcome, State
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED
from caplab.support.text import (
    format_number,
    format_percent,
    format_rate,
    format_signed,
    join_words,
)
from caplab.training.recipe import Recipe

__all__ = ["ABOUT", "Headline", "headline", "label", "name"]

ABOUT = "≈ "  # before a level that only a sample of the questions tells


@dataclass(frozen=True)
class Headline:
    """The sentence over the picture, with the verdict once a run has ended."""

    text: str
    verdict: str = ""
    change: str = ""
    detail: str = ""


# ---------------------------------------------------------------- names


def label(recipe: Recipe) -> str:
    """Name a recipe by what a panel can change: `LoRA 5e-3, rank 4, 10 % replay`."""
    lora = recipe.method == "lora"
    words = [f"{'LoRA' if lora else 'full'} {format_rate(recipe.learning_rate)}"]
    if lora and recipe.rank != COURSE.rank:
        words.append(f"rank {recipe.rank}")
    if recipe.replay:
        own = "self-" if recipe.replay_source == "self" else ""
        words.append(f"{format_percent(recipe.replay)} {own}replay")
    if recipe.steps != COURSE.steps:
        words.append(f"{recipe.steps} steps")
    if recipe.seed:
        words.append(f"seed {recipe.seed}")
    return ", ".join(words)


def name(state: State) -> str:
    """Name the model that a panel shows, as its pin does."""
    words = label(state.trained or state.recipe)
    if state.mix and state.alpha < 1:
        return f"{words}, {format_percent(state.alpha)} of the way"
    if state.points and state.points[-1].step < (state.trained or state.recipe).steps:
        return f"{words}, step {state.points[-1].step}"
    return words


# ---------------------------------------------------------------- the sentence


def headline(state: State) -> Headline:
    """Say in words what the panel shows."""
    if state.phase == "failed":
        return Headline("That did not work.", detail=state.message)
    if state.shown and not state.busy:
        return _outcome(state, state.shown)
    if state.points:
        return _unfinished(state)
    if state.busy:
        return Headline("Training starts …", detail=state.message)
    return _guessing(state) if state.predicting else _before(state)


def _outcome(state: State, found: Outcome) -> Headline:
    """Report a run that has ended: both accuracies on all questions, and the verdict."""
    report = found.report
    row = report.overall
    change = f"{format_signed(row.change)}, {format_signed(row.low)} to {format_signed(row.high)}"
    text = f"Task {_share(found.task)}, classics {format_number(found.after.accuracy)}"
    if state.mix and state.alpha < 1:
        text = f"{format_percent(state.alpha)} of the way: task{text[4:]}"
    elif state.phase == "stopped":
        text = f"Stopped at step {state.points[-1].step}: task{text[4:]}"
    notes = [_guard(state), _guess(state, found), _reason(found), state.message]
    change = change.replace("-", "−")  # a minus sign, not a hyphen
    return Headline(text, report.verdict, change, " ".join(filter(None, notes)))


def _share(value: float | None) -> str:
    return "not asked" if value is None else format_number(value)


def _reason(found: Outcome) -> str:
    """Say what the verdict rests on."""
    report = found.report
    lost = [row.name for row in report.capabilities if row.name in report.regressed]
    names, budget = join_words(lost), format_number(report.budget)
    if len(lost) == len(report.capabilities) > 1:
        names = f"all {len(lost)} capabilities"
    why = {
        REGRESSED: f"More lost than the budget of {budget}: {names}." if lost else "",
        HELD: f"No loss beyond the budget of {budget}.",
        UNDERPOWERED: f"Not sure enough: {'; '.join(report.obstacles[:2])}.",
    }[report.verdict]
    possible = max((row.possible_loss for row in report.capabilities), default=0.0)
    if report.verdict == HELD and possible > report.budget:
        why += f" A single capability may have lost up to {format_number(possible)}."
    silenced = sum(row.collapsed for row in report.rows if row.is_overall)
    if silenced:
        why += f" {silenced} right answers are preferred, but no longer said."
    return f"{why} All {report.overall.n} questions, paired; 95 % interval.".strip()


def _guess(state: State, found: Outcome) -> str:
    """Compare the guess with the result."""
    if not state.guess or found.place is None:
        return ""
    off = [abs(guess - true) for guess, true in zip(state.guess, found.place, strict=True)]
    guess = f"task {format_number(state.guess[0])}, classics {format_number(state.guess[1])}"
    return f"Your guess was {guess}: off by {format_number(off[0])} and {format_number(off[1])}."


def _guard(state: State) -> str:
    """Say what the guard did."""
    guard = state.guard
    if not guard:
        return ""
    if guard.crossed_at is None:
        return "The guard saw no crossing."
    done = {
        "warn": f"It warned at step {guard.acted_at}, and training went on.",
        "stop": f"It stopped the training at step {guard.acted_at}.",
        "rollback": f"It stopped at step {guard.acted_at} and put back the weights of step "
        f"{guard.restored}.",
    }[guard.action]
    if guard.action == "rollback" and guard.restored is None:
        done = f"It stopped at step {guard.acted_at}; no earlier weights were within the budget."
    return f"The guard saw the budget crossed from step {guard.crossed_at} on. {done}"


def _unfinished(state: State) -> Headline:
    """Report a run that goes on or was stopped, by its last point: a sample of the questions."""
    point, steps = state.points[-1], (state.trained or state.recipe).steps
    doing = {"training": "Training", "stopping": "Stopping"}.get(state.phase, "Stopped")
    task, classics = _share(point.task_accuracy), format_number(point.classics_accuracy)
    task = task if point.task_accuracy is None else ABOUT + task
    where = f"{doing}, step {point.step} of {steps}: task {task}, classics {ABOUT}{classics}"
    note = "Each point asks a sample of the questions; the ends of the curves ask all."
    if point.step == steps and state.busy:
        note = "The training is done. Now all questions are asked, for the verdict …"
    return Headline(where, detail=state.message or note)


def _guessing(state: State) -> Headline:
    """Repeat the guess, and say how to change it."""
    guess = state.guess or (0.0, 0.0)
    return Headline(
        f"Your guess: task {format_number(guess[0])}, classics {format_number(guess[1])}",
        detail="Place it with the two guess sliders. Run shows what happens.",
    )


def _before(state: State) -> Headline:
    """Say what to expect of a setting that has not been trained here yet."""
    band = state.band
    if not band:
        return Headline("Not trained yet: press Run.", detail=state.message)
    task, classics = _range(band.task[-1]), _range(band.classics[-1])
    return Headline(
        f"Expect task {task}, classics {classics}",
        detail=state.message
        or f"The pale bands: {state.seeds} earlier runs of this setting, whose seeds differ. "
        "Press Run to train your own.",
    )


def _range(interval: tuple[float, float, float]) -> str:
    low, high = format_number(max(0.0, interval[1])), format_number(min(1.0, interval[2]))
    return low if low == high else f"{low} to {high}"
