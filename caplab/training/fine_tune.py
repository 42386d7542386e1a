"""Fine-tune a subject by a recipe: one call that trains, measures and returns a `Run`."""

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import peft
import torch
import transformers
import trl
from datasets import Dataset
from transformers import TrainerCallback

from caplab.models.subject import Subject
from caplab.models.weights import set_base_name, unwrapped
from caplab.questions.exam import Exam, Question
from caplab.questions.exam import exam as load_exam
from caplab.questions.question import ROLES
from caplab.support import __version__
from caplab.support.errors import BadInput, is_count, require_type, short_repr, within_memory
from caplab.training.estimate import BIG, announce_estimate
from caplab.training.examiner import Examiner
from caplab.training.observer import Clock, Observer, random_state_kept
from caplab.training.recipe import Recipe
from caplab.training.replay import mixture, old_texts
from caplab.training.run import Point, Run
from caplab.training.task_rows import Rows, Task, open_task, tokens
from caplab.training.trainer import cheap_collections, make_trainer

__all__ = ["fine_tune"]

# Trainings take turns: two at once would share one random state, and take longer than in sequence.
_TURN = threading.RLock()

_LESS = 'Try a smaller batch_size, a smaller rank, or method="lora".'
_POINTS = 8  # after step 0, unless `every` says otherwise
_ANCHOR_TEXTS = 512  # old texts that a KL anchor reads at most


def fine_tune(
    subject: Subject,
    recipe: Recipe,
    task: Task | None = None,
    exam: Exam | None = None,
    *,
    task_exam: Exam | None = None,
    replay_data: Rows | None = None,
    every: int | None = None,
    on_point: Callable[[Point], object] | None = None,
    stop: threading.Event | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Run:
    """Fine-tune a copy of the subject and return what happened; the subject itself stays as it is.

    `task` defaults to the customer-service dialogues and `exam` to the classics. `on_point` is
    called with each `Point`: at step 0, every `every` steps (by default eight times) and at the
    end. Setting `stop` ends the run within one step. `callbacks` are transformers' own, such as a
    `RegressionGuard`; a recipe that averages the weights takes none.

    The held-out task accuracy comes from `task_exam`, or without one from the task's own exam or
    its test rows. Old texts for replay and for a KL anchor come from `replay_data`, or
    from the synthetic world.

    A point asks a fixed sample of each exam, so that measuring costs less than training; the
    scorecards, such as `run.before` and `run.final`, answer the whole exam.
    """
    _check(subject, recipe, every, exam, task_exam)
    _check_watchers(on_point, stop, callbacks, recipe.average)
    clock = Clock()
    spared = cheap_collections(collect=subject.parameters >= BIG)
    with _TURN, random_state_kept(subject.device), within_memory(_LESS), spared:
        train, test = open_task(task)
        rows = tokens(train, subject, recipe.assistant_only)
        fed = mixture(rows, recipe, subject, replay_data)
        exam = exam or load_exam()
        if task_exam is None:
            task_exam = load_exam("task") if task is None else _exam_of(test)
        if on_point is None:
            announce_estimate(subject, recipe, rows, exam, task_exam)
        held_out = tokens(test, subject) if test else rows
        examiner = Examiner(subject, exam, task_exam, held_out, progress=on_point is None)
        anchored = _anchor_rows(subject, recipe, replay_data) if recipe.anchor == "kl" else None
        trainer = make_trainer(subject, recipe, fed, callbacks, anchored)
        looks = _steps_to_look(recipe.steps, every)
        observer = Observer(trainer, examiner, looks, clock, on_point, stop)
        run = _run(recipe, observer, trouble=observer.train())
        del trainer, observer  # they refer to each other: the collection that follows frees them
    return run


def _anchor_rows(subject: Subject, recipe: Recipe, old: Rows | None) -> Dataset:
    """Return the old texts that a KL anchor reads; a long run reads them several times."""
    count = min(recipe.steps * recipe.batch_size, _ANCHOR_TEXTS)
    return tokens(old_texts(subject, recipe.anchor_data, old, count, recipe.seed), subject)


def _check(subject: Any, recipe: Any, every: Any, *exams: Any) -> None:
    """Refuse early what would fail deep inside a library."""
    require_type(subject, Subject, 'fine_tune needs a Subject, such as load("pocket")')
    require_type(recipe, Recipe, "fine_tune needs a Recipe as its second argument")
    if every is not None and not is_count(every, 1):
        given = short_repr(every)
        raise BadInput(
            f"every counts the steps from one point to the next: at least 1, not {given}."
        )
    for exam in exams:
        require_type(
            exam, (Exam, type(None)), "fine_tune needs an Exam, such as exam() or exam(path)"
        )


def _check_watchers(on_point: Any, stop: Any, callbacks: Any, average: float) -> None:
    """Refuse a listener that cannot be called, a wrong `stop` and wrong callbacks."""
    if on_point is not None and not callable(on_point):
        raise BadInput(f"on_point is a function that takes a Point, not {short_repr(on_point)}.")
    require_type(stop, (threading.Event, type(None)), "stop is a threading.Event")
    require_type(callbacks, Sequence, "callbacks is a list of callbacks, such as [guard]")
    for each in callbacks:
        kind = isinstance(each, type) and issubclass(each, TrainerCallback)
        require_type(each, type if kind else TrainerCallback, "A callback is a TrainerCallback")
    if average and callbacks:
        raise BadInput(
            "A callback, such as a guard, judges and restores the weights that are trained, and "
            f"this run ends with their running average (average={average:g}). Leave out one."
        )


def _steps_to_look(steps: int, every: int | None) -> set[int]:
    if every is None:
        return {round(steps * part / _POINTS) for part in range(1, _POINTS + 1)}
    return {*range(every, steps, every), steps}


def _exam_of(test: Dataset | None) -> Exam | None:
    """Turn held-out rows into questions: which of four completions belongs to this prompt?

    An exam puts one space before each choice, so completions that begin otherwise need a
    `task_exam` of their own; in a chat nothing comes before the answer.
    """
    columns = set(test.column_names) if test else set()
    if test is None or not ({"prompt", "completion"} <= columns or "messages" in columns):
        return None
    pairs = (
        (row["prompt"], row["completion"])
        if "prompt" in columns
        else (row["messages"][:-1], row["messages"][-1:])
        for row in test
    )
    rows = [_asked_and_right(*pair) for pair in pairs]
    known = sorted({right for row in rows if row for right in [row[1]]})
    if not all(rows) or len(known) < 2:
        return None
    rng = random.Random("held-out rows")
    questions = [_question(*row, known, rng) for row in rows if row]
    return Exam(tuple(questions), (), "the task's held-out rows", repeats=True)


def _asked_and_right(prompt: Any, completion: Any) -> tuple[dict[str, Any], str] | None:
    """Return how a question asks and its right choice; None where an exam cannot ask it."""
    if isinstance(completion, str):
        right = completion.strip()
        asks = completion.startswith(" ") and prompt.strip() and right
        return ({"prompt": prompt}, right) if asks else None
    turns = [{"role": turn["role"], "content": turn.get("content") or ""} for turn in prompt]
    said = [turn.get("content") or "" for turn in completion if turn["role"] == "assistant"]
    asks = turns and turns[-1]["role"] == "user"
    asks = asks and all(turn["role"] in ROLES and turn["content"].strip() for turn in turns)
    answers = len(said) == len(completion) == 1 and said[0].strip()
    return ({"messages": turns}, said[0].strip()) if asks and answers else None


def _question(asked: dict[str, Any], right: str, known: list[str], rng: random.Random) -> Question:
    """Ask for the right completion among up to three wrong ones, in random order."""
    wrong = [other for other in known if other != right]
    choices = [right, *rng.sample(wrong, min(3, len(wrong)))]
    rng.shuffle(choices)
    return Question("task", choices=tuple(choices), answer=choices.index(right), **asked)


def _run(recipe: Recipe, observer: Observer, trouble: str | None) -> Run:
    """Gather what happened into a `Run`."""
    trainer, examiner = observer.trainer, observer.examiner
    tuned = _tuned(trainer.model, examiner.subject, recipe)
    return Run(
        recipe=recipe,
        points=observer.points,
        cards=examiner.cards(None if observer.cut_short else tuned),
        exam=examiner.exam,
        task_exam=examiner.task_exam,
        subject=tuned,
        base=examiner.subject.name,
        base_digest=examiner.weights,
        steps=trainer.state.global_step,
        stopped=trainer.state.global_step < recipe.steps,
        trouble=trouble,
        replay_fraction=trainer.replayed / max(1, trainer.read),
        seconds=observer.clock.elapsed,
        device=str(tuned.device),
        versions={"caplab": __version__}
        | {library.__name__: library.__version__ for library in (torch, transformers, trl, peft)},
        **_parameters(trainer.model),
    )


def _tuned(model: Any, subject: Subject, recipe: Recipe) -> Subject:
    """Take the model out of its trainer and make it ready to answer."""
    model = unwrapped(model).eval()
    model.zero_grad()
    model.config.use_cache = subject.model.config.use_cache
    if recipe.method == "full":
        set_base_name(model, "")
    name = f"{subject.name}, {recipe.method} {recipe.learning_rate:g}"
    return Subject(model, subject.tokenizer, name)


def _parameters(model: Any) -> dict[str, int]:
    """Count the weights that were trained, and all weights."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    return {
        "trainable_parameters": sum(size for size, trained in sizes if trained),
        "total_parameters": sum(size for size, _ in sizes),
    }
