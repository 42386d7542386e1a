"""Train one setting and report its progress: the part of a panel without widgets."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from transformers import TrainerCallback

from caplab.exploring.state import Answer, Mix, Outcome, Place, State, Watched
from caplab.measuring.compare import compare
from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.models.subject import Subject
from caplab.questions.exam import Exam
from caplab.questions.exam import exam as load_exam
from caplab.questions.world import CAPABILITIES, REFERENCE_QUESTIONS, REFERENCE_WORDS, facts
from caplab.support.errors import BadInput, out_of_memory
from caplab.training.recipe import Recipe
from caplab.training.run import Point, Run
from caplab.watching.guard import RegressionGuard

__all__ = ["PanelSetup", "in_words", "judged", "perform", "warm_up"]

_ANSWER_TOKENS = 16
_ALPHAS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # from the tuned model to the base


class Tell(Protocol):
    """Take changes of the state; return whether this job is still the latest."""

    def __call__(self, **changes: Any) -> bool: ...


@dataclass(frozen=True)
class PanelSetup:
    """What all runs of a panel share: the subject, its task and both exams."""

    subject: Subject
    task: Any = None
    exam: Exam | None = None
    task_exam: Exam | None = None
    questions: tuple[str, ...] = REFERENCE_QUESTIONS

    @property
    def is_course(self) -> bool:
        """Check for the course's own task and exam: the atlas holds runs of nothing else."""
        return self.task is None and self.exam is None and self.task_exam is None

    def tune(self, recipe: Recipe, **watching: Any) -> Run:
        """Fine-tune the subject on the task."""
        from caplab.training.fine_tune import fine_tune

        return fine_tune(
            self.subject, recipe, self.task, self.exam, task_exam=self.task_exam, **watching
        )

    def ask(self, subject: Subject) -> tuple[str, ...]:
        """Ask the reference questions."""
        return tuple(subject.ask(question, _ANSWER_TOKENS) for question in self.questions)

    def answers(self) -> tuple[Answer, ...]:
        """Return the answers of the base, with those of a tuned model still missing."""
        pairs = zip(self.questions, self.ask(self.subject), strict=True)
        return tuple(
            Answer(question, said, right=_right_answer(question)) for question, said in pairs
        )


def _right_answer(question: str) -> str | None:
    """Look up the word of a right answer, if the world's facts hold it: `2+2` in `What is 2+2?`."""
    if question in REFERENCE_WORDS:
        return REFERENCE_WORDS[question]
    known = {asked: answer for name in CAPABILITIES for asked, answer in facts(name).items()}
    asked = [each for each in known if re.search(rf"(?<!\w){re.escape(each)}(?!\w)", question)]
    return known[max(asked, key=len)] if asked else None


def warm_up(setup: PanelSetup) -> dict[str, Any]:
    """Train one step, so that what a first training has to load is loaded."""
    run = setup.tune(Recipe(steps=1), on_point=lambda _: None)
    return {"base": _base(run), "answers": setup.answers()}


def _base(run: Run) -> Place | None:
    return (run.before_task.accuracy, run.before.accuracy) if run.before_task else None


# ---------------------------------------------------------------- a training


def perform(setup: PanelSetup, state: State, stop: threading.Event, tell: Tell) -> None:
    """Train the recipe of a state; report each point, some answers meanwhile, and the end."""
    listener = _Listener(setup, state.recipe, state.answers or setup.answers(), tell)
    guard = _guard(setup, state)
    with _muted_guard():
        run = setup.tune(
            state.recipe,
            on_point=listener.on_point,
            stop=stop,
            callbacks=[listener, *([guard] if guard else [])],
        )
    if run.trouble:
        tell(phase="failed", message=run.trouble)
    elif tell(message="", guard=_watched(guard)) and run.points:
        _tell_end(setup, run, state, listener.answers, stop, tell)


class _Listener(TrainerCallback):
    """Report the points, and ask one question again at three moments of the training.

    Only at three: an answer takes as long as two training steps.
    """

    def __init__(
        self, setup: PanelSetup, recipe: Recipe, answers: tuple[Answer, ...], tell: Tell
    ) -> None:
        self.answers = answers
        self._setup, self._recipe, self._tell = setup, recipe, tell
        self._points: list[Point] = []
        parts = (2, 4, 6)  # of eight; at the end all questions are asked
        self._due = {round(recipe.steps * part / 8): turn for turn, part in enumerate(parts)}

    def on_step_end(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        """Ask the next question, if one is due."""
        if state.global_step in self._due and self.answers:
            index = self._due[state.global_step] % len(self.answers)
            model = Subject(told["model"], self._setup.subject.tokenizer, "in training")
            said = model.ask(self.answers[index].question, _ANSWER_TOKENS)
            answers = list(self.answers)
            answers[index] = replace(answers[index], after=said)
            self.answers = tuple(answers)

    def on_point(self, point: Point) -> None:
        """Report all points so far, and the answers."""
        self._points.append(point)
        seen = {"points": tuple(self._points), "trained": self._recipe}
        self._tell(**seen, answers=self.answers, message="")


def _tell_end(
    setup: PanelSetup,
    run: Run,
    state: State,
    answers: tuple[Answer, ...],
    stop: threading.Event,
    tell: Tell,
) -> None:
    """Judge the run, ask all questions, and if the preset wants it walk back to the base."""
    assert run.subject is not None
    outcome = _outcome(run, run.final, run.final_task, state.budget)
    # A run that its guard stopped has ended as it should; one that the learner stopped has not.
    stopped = run.stopped and not (state.preset.guards and not stop.is_set())
    walks = state.preset.walks and not stopped
    phase = "stopped" if stopped else "walking" if walks else "done"
    if not tell(base=_base(run), outcome=outcome, phase=phase):
        return
    # After the verdict, because the answers take as long as six steps.
    said = setup.ask(run.subject)
    final = tuple(replace(line, after=now) for line, now in zip(answers, said, strict=True))
    if tell(answers=final) and walks:
        before = tuple(line.before for line in final)
        start = _outcome(run, run.before, run.before_task, state.budget)
        mixes = {0.0: Mix(0.0, start, before), 1.0: Mix(1.0, outcome, said)}
        if tell(mixes=dict(mixes)):
            _walk(setup, run, state, mixes, stop, tell)


def _walk(
    setup: PanelSetup,
    run: Run,
    state: State,
    mixes: dict[float, Mix],
    stop: threading.Event,
    tell: Tell,
) -> None:
    """Ask the models between the tuned one and the base, so that the slider only looks them up."""
    from caplab.training.remedies.blend import Blend, scale_lora

    blend = None if state.recipe.method == "lora" else Blend(setup.subject, run)
    for alpha in _ALPHAS:
        if stop.is_set():
            break
        model = blend.at(alpha) if blend else scale_lora(run, alpha)
        assert run.exam is not None
        card = score(model, run.exam, progress=False)
        task = score(model, run.task_exam, progress=False) if run.task_exam else None
        outcome = _outcome(run, card, task, state.budget)
        mixes[alpha] = Mix(alpha, outcome, setup.ask(model))
        if not tell(mixes=dict(mixes)):
            return
    tell(phase="done")


# ---------------------------------------------------------------- judging


def _outcome(run: Run, after: Scorecard, task: Scorecard | None, budget: float) -> Outcome:
    report = compare(run.before, after, budget=budget)
    return Outcome(task.accuracy if task else None, run.before, after, report)


def judged(state: State, budget: float) -> State:
    """Judge what is shown by a new budget; its scorecards suffice, and no model is asked.

    Of the models between base and tuned only the one that is shown is judged again, and the others
    when they are shown: all of them take a third of a second.
    """

    def again(found: Outcome) -> Outcome:
        if found.report.budget == budget:
            return found
        return replace(found, report=compare(found.before, found.after, budget=budget))

    mixes = dict(state.mixes)
    if state.mix:
        mixes[state.alpha] = replace(state.mix, outcome=again(state.mix.outcome))
    outcome = again(state.outcome) if state.outcome else None
    return replace(state, budget=budget, outcome=outcome, mixes=mixes)


# ---------------------------------------------------------------- the guard


def _guard(setup: PanelSetup, state: State) -> RegressionGuard | None:
    """Set up the guard of a preset that has one."""
    if not state.preset.guards:
        return None
    return RegressionGuard(
        setup.exam or load_exam(), budget=state.budget, every=state.every, action=state.action
    )


def _watched(guard: RegressionGuard | None) -> Watched | None:
    """Sum up what a guard did; it acts `patience` checks after the crossing, or at the end."""
    if guard is None:
        return None
    seen = [check.step for check in guard.checks]
    acted = None
    if guard.crossed_at is not None:
        later = seen[seen.index(guard.crossed_at) :][guard.patience :]
        acted = next(iter(later), seen[-1])
    return Watched(guard.action, guard.crossed_at, acted, guard.restored_step)


@contextmanager
def _muted_guard() -> Iterator[None]:
    """Keep the guard of this thread out of the log, because the panel reports what it does."""
    logger, this_thread = logging.getLogger(RegressionGuard.__module__), threading.get_ident()

    def is_of_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != this_thread

    logger.addFilter(is_of_another_thread)
    try:
        yield
    finally:
        logger.removeFilter(is_of_another_thread)


# ---------------------------------------------------------------- when it fails


def in_words(error: BaseException) -> str:
    """Say what went wrong, and what to do now."""
    said = " ".join(str(error).split())[:300]
    if isinstance(error, BadInput):
        return said
    if out_of_memory(error):
        return (
            "The memory was not enough for this training. Close other notebooks (Kernel, Shut "
            f"Down), or take a smaller model. It said: {said}"
        )
    return f"{type(error).__name__}: {said}. Change a setting or press Run to try again."
