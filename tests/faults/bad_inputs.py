"""The table of bad inputs: what is done, and the words that the answer must hold.

`at` is a `Bench`: a small subject, exam, scorecard, run and an empty folder to spoil.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tiny
from bench import QUICK, TASK, Bench
from datasets import Dataset
from spoiled import (
    COLUMNS,
    HUGE,
    LINE,
    card,
    circle,
    cut,
    diverged,
    keeping,
    loop,
    mixed,
    no_run,
    other,
    others,
    overall,
    question,
    replay,
    report,
    samples,
    twice,
)

import caplab as cl
from caplab.training import remedies
from caplab.training.remedies.blend import Blend
from caplab.watching.gate import gate

NAN = math.nan


@dataclass(frozen=True)
class Bad:
    """One bad input."""

    where: str  # the public function or command
    what: str  # is wrong with it
    do: Callable[[Bench], Any]
    words: tuple[str, ...]  # that the message must hold: what was given, and what to do


BAD_INPUTS = [
    # -- load
    Bad("load", "no name", lambda at: cl.load(None), ("a string or a path", "None")),
    Bad("load", "an empty name", lambda at: cl.load(""), ("named by", "''")),
    Bad("load", "a misspelt name", lambda at: cl.load("./pockt"), ("no folder", "pockt")),
    Bad("load", "an empty folder", lambda at: cl.load(at.folder), ("config.json",)),
    Bad("load", "a file", lambda at: cl.load(at.file("x")), ("is a file", "folder that holds it")),
    Bad("load", "an unknown device", lambda at: cl.load("pocket", device="gpu"), ("gpu", "cpu")),
    Bad(
        "load", "a device not here", lambda at: cl.load("pocket", device="cuda:9"), ("It has: cpu",)
    ),
    Bad("load", "no precision", lambda at: cl.load("pocket", dtype="int3"), ("int3", "float32")),
    # -- Subject.ask
    Bad("Subject.ask", "a number", lambda at: at.subject.ask(7), ("a string", "7")),
    Bad("Subject.ask", "a book", lambda at: at.subject.ask("dog " * 99), ("tokens", "Shorten")),
    Bad("Subject.ask", "no room", lambda at: at.subject.ask("dog", 0), ("at least 1", "0")),
    # -- exam and its parts
    Bad("exam", "a number", lambda at: cl.exam(3), ("a string or a path", "3")),
    Bad("exam", "a misspelt name", lambda at: cl.exam("clasics"), ("clasics", "classics")),
    Bad("exam", "a folder", lambda at: cl.exam(at.folder), ("cannot be read",)),
    Bad("exam", "an empty file", lambda at: cl.exam(at.file("")), ("holds no question",)),
    Bad("exam", "no JSON", lambda at: cl.exam(at.file("{]")), ("line 1", "not JSON")),
    Bad("exam", "a list", lambda at: cl.exam(at.lines([1, 2])), ("line 1", "not a JSON object")),
    Bad("exam", "not UTF-8", lambda at: cl.exam(at.file(b"\xff\xfe{")), ("not UTF-8", "Save it")),
    Bad(
        "exam",
        "three bad lines",
        lambda at: cl.exam(at.lines(question(answer=2), question(), {}, question(choices=["2"]))),
        ("line 1", "line 3", "line 4"),
    ),
    Bad(
        "exam", "choices twice", lambda at: cl.exam(at.lines(question(choices=["2", "2"]))), ("2",)
    ),
    Bad("exam", "no prompt", lambda at: cl.exam(at.lines(question(prompt=" "))), ("prompt",)),
    Bad("Exam", "nothing in it", lambda at: cl.Exam((), (), "mine"), ("mine", "empty")),
    Bad("Exam", "a stranger", lambda at: cl.Exam((1,), (), "mine"), ("Questions", "1")),
    Bad("Exam.subset", "unknown", lambda at: at.exam.subset("capitol"), ("capitol", "capitals")),
    Bad("Exam.sample", "too many", lambda at: at.exam.sample(999), ("1 to 6", "999")),
    Bad("Exam.save", "no folder", lambda at: at.exam.save(at.folder / "no" / "e"), ("no folder",)),
    # -- score and Scorecard
    Bad("score", "a name", lambda at: cl.score("pocket", at.exam), ("Subject", "load", "pocket")),
    Bad("score", "no exam", lambda at: cl.score(at.subject, None), ("Exam", "None")),
    Bad("score", "batch 0", lambda at: cl.score(at.subject, at.exam, 0), ("at least 1", "0")),
    Bad(
        "Scorecard.load",
        "not there",
        lambda at: cl.Scorecard.load(at.folder / "c"),
        ("There is no",),
    ),
    Bad("Scorecard.load", "cut off", lambda at: cl.Scorecard.load(cut(at)), ("not a scorecard",)),
    # -- compare and statistics
    Bad("compare", "two names", lambda at: cl.compare("a", "b"), ("two scorecards", "'a'")),
    Bad("compare", "other exams", lambda at: cl.compare(at.card, other(at)), ("different exams",)),
    Bad(
        "compare", "budget 2", lambda at: cl.compare(at.card, at.card, budget=2), ("budget", ".05")
    ),
    Bad("compare", "NaN", lambda at: cl.compare(at.card, at.card, budget=NAN), ("budget", "nan")),
    Bad(
        "compare",
        "an unknown metric",
        lambda at: cl.compare(at.card, at.card, metric="acc"),
        ("'acc'", "accuracy"),
    ),
    Bad("compare", "2 %", lambda at: cl.compare(at.card, at.card, budget="2 %"), ("'2 %'", ".05")),
    Bad("compare", "95", lambda at: cl.compare(at.card, at.card, confidence=95), ("95", ".95")),
    Bad("Report.row", "unknown", lambda at: report(at)["captials"], ("captials", "capitals")),
    Bad("Report.load", "no report", lambda at: cl.Report.load(at.file("{}")), ("not a report",)),
    Bad("wilson", "3 of 2", lambda at: cl.wilson(3, 2), ("3", "2")),
    Bad("items_needed", "a drop of 2", lambda at: cl.items_needed(2), ("drop", "2")),
    Bad("items_needed", "power 80", lambda at: cl.items_needed(0.1, power=80), ("80", ".8")),
    # -- Recipe
    Bad("Recipe", "a negative rate", lambda at: cl.Recipe(learning_rate=-1), ("-1", "from 0 on")),
    Bad(
        "Recipe", "a rate of NaN", lambda at: cl.Recipe(learning_rate=NAN), ("nan", "learning_rate")
    ),
    Bad("Recipe", "a rate in words", lambda at: cl.Recipe(learning_rate="1e-3"), ("'1e-3'",)),
    Bad("Recipe", "replay of 10", lambda at: cl.Recipe(replay=10), ("10", "0.1")),
    Bad("Recipe", "rank 0", lambda at: cl.Recipe(method="lora", rank=0), ("rank", "4 to 32")),
    Bad("Recipe", "no step", lambda at: cl.Recipe(steps=0), ("steps", "0")),
    Bad("Recipe", "half a step", lambda at: cl.Recipe(steps=2.5), ("whole number", "2.5")),
    Bad("Recipe", "another's name", lambda at: cl.Recipe(lr=1e-3), ("'lr'", "learning_rate")),
    Bad("Recipe", "an unknown method", lambda at: cl.Recipe(method="qlora"), ("qlora", "'lora'")),
    Bad("Recipe", "a long warmup", lambda at: cl.Recipe(warmup=99), ("warmup", "99", "60")),
    Bad("Recipe.from_json", "no JSON", lambda at: cl.Recipe.from_json("{"), ("not a recipe", "{")),
    Bad(
        "Recipe.from_json",
        "a later format",
        lambda at: cl.Recipe.from_json('{"format": 99}'),
        ("99", "Update caplab"),
    ),
    # -- fine_tune
    Bad("fine_tune", "a name", lambda at: cl.fine_tune("pocket", QUICK), ("Subject", "load")),
    Bad("fine_tune", "a dictionary", lambda at: at.tune({"lr": 1}), ("Recipe", "lr")),
    Bad("fine_tune", "every 0", lambda at: at.tune(every=0), ("every", "0")),
    Bad("fine_tune", "no exam", lambda at: at.tune(exam="classics"), ("exam()", "classics")),
    Bad("fine_tune", "no rows", lambda at: at.tune(task=Dataset.from_list([])), ("empty",)),
    Bad(
        "fine_tune",
        "other columns",
        lambda at: at.tune(task=Dataset.from_list([{"question": "a", "reply": "b"}])),
        ("question", "prompt", "completion"),
    ),
    Bad(
        "fine_tune",
        "an unknown module",
        lambda at: at.tune(QUICK.change(method="lora", target_modules=("q_proj",))),
        ("q_proj", "c_attn"),
    ),
    Bad("Run.load", "an empty folder", lambda at: cl.Run.load(at.folder), ("no complete run",)),
    # -- guard and remedies
    Bad(
        "RegressionGuard",
        "an action",
        lambda at: cl.RegressionGuard(action="halt"),
        ("halt", "stop"),
    ),
    Bad("RegressionGuard", "every -1", lambda at: cl.RegressionGuard(every=-1), ("every", "-1")),
    Bad("RegressionGuard", "budget", lambda at: cl.RegressionGuard(budget=5), ("budget", "5")),
    Bad(
        "RegressionGuard",
        "a policy on another exam",
        lambda at: cl.RegressionGuard(at.exam, policy=keeping("capitols")),
        ("'capitols'", "Did you mean 'capitals'"),
    ),
    Bad("RegressionGuard", "a file", lambda at: cl.RegressionGuard("exam.csv"), ("exam.csv",)),
    Bad("interpolate", "1.5", lambda at: remedies.interpolate(at.subject, at.run, 1.5), ("1.5",)),
    Bad(
        "interpolate", "strangers", lambda at: Blend(at.subject, tiny.subject("llama")), ("tuned",)
    ),
    Bad("scale_lora", "no adapter", lambda at: remedies.scale_lora(at.run, 0.5), ("no LoRA",)),
    Bad("recovery", "a name", lambda at: remedies.recovery(at.subject, "run"), ("Run", "'run'")),
    # -- plots
    Bad("plots.run", "a recipe", lambda at: cl.plots.run(QUICK), ("Run", "fine_tune")),
    Bad("plots.run", "budget 7", lambda at: cl.plots.run(at.run, budget=7), ("7", ".05")),
    Bad("plots.trade_off", "nothing", lambda at: cl.plots.trade_off([]), ("run",)),
    # -- sweeps and the atlas
    Bad("grid", "a misspelt field", lambda at: cl.grid(learning_rat=[1]), ("learning_rate",)),
    Bad("grid", "an empty axis", lambda at: cl.grid(seed=[]), ("seed", "empty")),
    Bad("sweep", "nothing", lambda at: cl.sweep([]), ("no recipe",)),
    Bad("sweep", "a dictionary", lambda at: cl.sweep([{"lr": 1}]), ("Recipes", "lr")),
    Bad("sweep", "no process", lambda at: cl.sweep([QUICK], n_jobs=0), ("n_jobs", "0")),
    Bad("atlas", "not there", lambda at: cl.atlas(at.folder / "a"), ("There is no atlas",)),
    Bad("atlas", "no Parquet", lambda at: cl.atlas(at.file("x")), ("not an atlas",)),
    Bad("Atlas.select", "no field", lambda at: cl.atlas().select(lr=1), ("'lr'", "learning_rate")),
    Bad("Atlas.select", "no value", lambda at: cl.atlas().select(rank=3), ("rank", "It has")),
    Bad("claims.measure", "unknown", lambda at: cl.claims.measure("lora_wins"), ("lora_wins",)),
    # -- the gate
    Bad("gate", "no model", lambda at: gate(at.folder, at.folder), ("config.json",)),
    Bad("gate", "budget 3", lambda at: gate(cut(at), cut(at), budget=3), ("budget", "3")),
    Bad("gate", "half a scorecard", lambda at: gate(cut(at), cut(at)), ("not a scorecard",)),
    Bad("gate", "other lines", lambda at: gate(at.lines(LINE), at.lines(LINE)), ("given.jsonl",)),
    Bad("exam_from_lm_eval", "empty", lambda at: cl.exam_from_lm_eval(at.file("")), ("given",)),
    Bad(
        "scorecard_from_lm_eval",
        "an exam's lines",
        lambda at: cl.scorecard_from_lm_eval(at.lines(LINE)),
        ("line 1",),
    ),
    # -- the classroom and the Explorer
    Bad("quiz", "no such lesson", lambda at: cl.quiz("99"), ("99",)),
    Bad("quiz", "question 0", lambda at: cl.quiz("01", 0), ("1 to", "0")),
    Bad("check", "no such exercise", lambda at: cl.check("01_9", 1), ("01_9",)),
    Bad("hint", "no such exercise", lambda at: cl.hint("01_0"), ("01_0",)),
    Bad("explorer", "a preset", lambda at: cl.explorer("replays"), ("replays", "'replay'")),
    Bad("explorer", "a setting", lambda at: cl.explorer("replay", lr=1), ("'lr'", "learning_rate")),
    Bad("plots.kl", "one run", lambda at: cl.plots.kl([at.run]), ("task_exam",)),
    # -- values of another kind, at every door
    Bad("load", "a zero byte", lambda at: cl.load("a\0b"), ("not a path",)),
    Bad("load", "a name as long as a book", lambda at: cl.load("a" * 5000), ("too long",)),
    Bad("load", "nobody's home", lambda at: cl.load("~nosuchuser/m"), ("not a path", "home")),
    Bad(
        "load", "a stranger's tokenizer", lambda at: cl.load(mixed(at)), ("400", "belong together")
    ),
    Bad("load", "an adapter of itself", lambda at: cl.load(circle(at)), ("adapter of itself",)),
    Bad("load", "a device as a number", lambda at: cl.load("pocket", device=5.5), ("5.5", "cpu")),
    Bad("Subject.ask", "half a character", lambda at: at.subject.ask("\ud800"), ("half",)),
    Bad("Question", "the last row's name", lambda at: overall(), ("overall", "another name")),
    Bad("exam", "two answers", lambda at: cl.exam(twice(at)), ("'answer'", "2 times")),
    Bad(
        "exam",
        "a line break",
        lambda at: cl.exam(at.lines(question(capability="a\nb"))),
        ("break",),
    ),
    Bad("exam", "a symlink to itself", lambda at: cl.exam(loop(at)), ("symbolic links",)),
    Bad("Exam", "one question", lambda at: cl.Exam(at.exam.questions[0]), ("list of questions",)),
    Bad("Exam", "no name", lambda at: cl.Exam(at.exam.questions, (), None), ("name", "None")),
    Bad("Exam.sample", "a list as seed", lambda at: at.exam.sample(2, seed=[1]), ("seed", "[1]")),
    Bad("Exam.save", "no path", lambda at: at.exam.save(None), ("not a path", "None")),
    Bad("Exam.save", "an empty path", lambda at: at.exam.save(""), ("path is missing",)),
    Bad("Exam.save", "a device", lambda at: at.exam.save("/dev/null"), ("device",)),
    Bad("Scorecard", "numbers as texts", lambda at: card(at, answer=("0",) * 6), ("'0'", "answer")),
    Bad("Scorecard", "nothing", lambda at: card(at, loglikelihoods=None), ("loglikelihoods",)),
    Bad("Scorecard.load", "no seal", lambda at: cl.Scorecard.load(at.file("{}")), ("no seal",)),
    Bad("Scorecard.to_pandas", "a name", lambda at: at.card.to_pandas("mine"), ("Exam", "mine")),
    Bad("compare", "a seed", lambda at: cl.compare(at.card, at.card, seed=-1), ("seed", "-1")),
    Bad(
        "compare", "metric 3", lambda at: cl.compare(at.card, at.card, metric=3), ("accuracy", "3")
    ),
    Bad(
        "compare",
        "a policy and a budget",
        lambda at: cl.compare(at.card, at.card, policy=cl.Policy(), budget=0.1),
        ("not both",),
    ),
    Bad(
        "compare",
        "a policy on another exam",
        lambda at: cl.compare(at.card, at.card, policy=keeping("capitols")),
        ("'capitols'", "Did you mean 'capitals'"),
    ),
    Bad("Policy", "a budget of 2", lambda at: cl.Policy(budget=2), ("budget is 2", ".05")),
    Bad("Policy", "an unknown tier", lambda at: keeping("sums", "must keep"), ("'must-keep'",)),
    Bad("Policy.load", "no TOML", lambda at: cl.Policy.load(at.file("x")), ("is not TOML",)),
    Bad("exam", "a number as group", lambda at: cl.exam(at.lines(question(group=3))), ("group",)),
    Bad(
        "exam",
        "a group of two capabilities",
        lambda at: cl.exam(
            at.lines(question(group="a"), question(group="a", capability="maths", prompt="2+2?"))
        ),
        ("'a'", "two capabilities"),
    ),
    Bad("Scorecard", "a number as group", lambda at: card(at, group=(3,) * 6), ("3", "group")),
    Bad("Report.row", "a number", lambda at: report(at)[3], ("no row 3",)),
    Bad("wilson", "95 %", lambda at: cl.wilson(1, 2, confidence=95), ("95", ".95")),
    Bad("wilson", "texts", lambda at: cl.wilson("1", "2"), ("'1'", "'2'")),
    Bad("items_needed", "a text", lambda at: cl.items_needed("0.1"), ("'0.1'", "shares")),
    Bad(
        "items_needed",
        "half a capability",
        lambda at: cl.items_needed(0.1, capabilities=0.5),
        (".5",),
    ),
    Bad("Recipe", "no name for a value", lambda at: cl.Recipe("lora"), ("method=", "'lora'")),
    Bad("Recipe", "a number of 401 digits", lambda at: cl.Recipe(learning_rate=10**400), ("rate",)),
    Bad("Recipe", "a number too long to write", lambda at: cl.Recipe(steps=10**5000), ("large",)),
    Bad("Recipe.from_json", "deep", lambda at: cl.Recipe.from_json("[" * 10**5), ("recursion",)),
    Bad(
        "Recipe.from_json",
        "twice",
        lambda at: cl.Recipe.from_json('{"seed":1,"seed":2}'),
        ("seed",),
    ),
    Bad("fine_tune", "a number", lambda at: at.tune(task=5), ("task is 5", "rows")),
    Bad("fine_tune", "columns", lambda at: at.tune(task={"train": COLUMNS}), ("from_dict",)),
    Bad(
        "fine_tune",
        "one odd row",
        lambda at: at.tune(task=[*TASK, {**TASK[0], "prompt": 5}]),
        ("row 3",),
    ),
    Bad("fine_tune", "half a character", lambda at: at.tune(task=["\ud800"]), ("row 0", "half")),
    Bad(
        "fine_tune", "test 5", lambda at: at.tune(task={"train": TASK, "test": 5}), ("test split",)
    ),
    Bad("fine_tune", "stop now", lambda at: at.tune(stop=True), ("threading.Event", "True")),
    Bad(
        "fine_tune",
        "a lone guard",
        lambda at: at.tune(callbacks=cl.RegressionGuard(at.exam)),
        ("[guard]",),
    ),
    Bad("fine_tune", "replay of splits", lambda at: replay(at, {"train": ["a"]}), ("replay_data",)),
    Bad("fine_tune", "a rank beyond memory", lambda at: at.tune(HUGE), ("Out of memory", "rank")),
    Bad(
        "Run.save", "over others' weights", lambda at: at.run.save(others(at)), ("would delete it",)
    ),
    Bad("Run.load", "an empty run.json", lambda at: cl.Run.load(no_run(at)), ("run.json", "seal")),
    Bad(
        "Run.final",
        "of a run that diverged",
        lambda at: diverged(at).final,
        ("no final", "Diverged"),
    ),
    Bad(
        "RegressionGuard",
        "a name as base",
        lambda at: cl.RegressionGuard(before="x"),
        ("Scorecard",),
    ),
    Bad(
        "RegressionGuard",
        "another exam",
        lambda at: cl.RegressionGuard(before=at.card),
        ("answers",),
    ),
    Bad(
        "interpolate",
        "a run of another base",
        lambda at: remedies.interpolate(tiny.subject(seed=9), at.run, 0.5),
        ("did not begin", "tuned from"),
    ),
    Bad("interpolate", "a name", lambda at: remedies.interpolate("pocket", at.run, 0.5), ("base",)),
    Bad(
        "interpolate", "a text", lambda at: remedies.interpolate(at.subject, at.run, "1"), ("'1'",)
    ),
    Bad("scale_lora", "a text", lambda at: remedies.scale_lora(at.run, "1"), ("scale", "'1'")),
    Bad(
        "recovery",
        "an exam's name",
        lambda at: remedies.recovery(at.subject, at.run, "task"),
        ("Exam",),
    ),
    Bad("plots.scorecard", "a run", lambda at: cl.plots.scorecard(at.run), ("Scorecard", "score")),
    Bad("plots.before_after", "a card", lambda at: cl.plots.before_after(at.card), ("compare",)),
    Bad("plots.looks", "no guard", lambda at: cl.plots.looks("guard"), ("RegressionGuard",)),
    Bad("charts.rates", "no atlas", lambda at: cl.charts.rates("atlas"), ("Atlas", "sweep")),
    Bad("sweep", "a number", lambda at: cl.sweep(5), ("Recipes", "5")),
    Bad("sweep", "a store 5", lambda at: cl.sweep([QUICK], store=5), ("not a path", "5")),
    Bad(
        "Atlas.summary", "no field", lambda at: cl.atlas().summary("lr"), ("'lr'", "learning_rate")
    ),
    Bad("Atlas.curve", "a name", lambda at: cl.atlas().curve("full"), ("Recipe", "full")),
    Bad("Atlas.matched", "90", lambda at: cl.atlas().matched(90), ("90", "0.9")),
    Bad("Atlas.best", "a text", lambda at: cl.atlas().best("5 %"), ("'5 %'", "0.05")),
    Bad(
        "gate", "scorecards at hand", lambda at: gate(at.card, at.card), ("compare(before, after)",)
    ),
    Bad(
        "scorecard_from_lm_eval",
        "arguments",
        lambda at: samples(at, arguments=5),
        ("arguments is 5",),
    ),
    Bad("scorecard_from_lm_eval", "a grade in words", lambda at: samples(at, acc="0.0"), ("acc",)),
    Bad("predict", "a number", lambda at: cl.predict("How many?", 5, key="n"), ("list", "5")),
    Bad(
        "predict",
        "ends in disorder",
        lambda at: cl.predict("How many?", (1, 0), key="n"),
        ("lower",),
    ),
    Bad("quiz.answer", "question 9", lambda at: cl.quiz("01").answer("A", 9), ("1 to", "9")),
    Bad("check", "a number", lambda at: cl.check(1, 1), ("01_1",)),
    Bad("claim", "no verdict", lambda at: cl.claim("The base knows it."), ("holds=",)),
    Bad(
        "explorer", "budget NaN", lambda at: cl.explorer("replay", at.subject, budget=NAN), ("nan",)
    ),
    Bad("explorer", "a task", lambda at: cl.explorer("replay", at.subject, task=5), ("task is 5",)),
]
