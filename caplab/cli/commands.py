"""The command line: `caplab doctor`, `fetch`, `score`, `exam`, `gate`, `watch`, `sweep`, ..."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from caplab.support import __version__
from caplab.support.errors import BadInput, within_memory
from caplab.support.safe_text import log_text

if TYPE_CHECKING:
    from caplab.measuring.cache import Manner
    from caplab.measuring.scorecard import Scorecard
    from caplab.questions.exam import Exam

__all__ = ["main"]

_FAILED = 2  # not 1, Python's own code for a failure: for a script 1 means REGRESSED
_INTERRUPTED = 130  # the shells' code for a command ended by Ctrl-C
_SOURCE = "a model (name, folder or adapter), a scorecard (.json) or lm_eval samples (.jsonl)"
_FORMS = {
    "html": "the report as one HTML file",
    "markdown": "a summary as Markdown (also appended to $GITHUB_STEP_SUMMARY)",
    "junit": "a test case for each row as JUnit XML",
}
_WATCH_CODES = (
    "exit code: 1 once a checkpoint is REGRESSED; at the end that of the latest, as `caplab gate`; "
    "2 failure. docs/watch.md has more."
)
_CODES = "exit code: 0 HELD, 1 REGRESSED, 3 UNDERPOWERED (too few questions to tell), 2 failure"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # print "?" for characters that the terminal lacks
        sys.stdout.reconfigure(errors="replace")
    try:
        with within_memory("Close other programs, or use a smaller model."):
            code: int = options.run(options)
        if sys.stdout is not None:  # None where a job's output is closed
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of the output is gone: discard the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except (BadInput, OSError) as error:  # OSError: a full disk behind `> file`
        _say(f"caplab: {error}", file=sys.stderr)
        return _FAILED
    except Exception:
        _say(traceback.format_exc(), file=sys.stderr)
        return _FAILED
    return code


def _say(thing: object, file: TextIO | None = None) -> None:
    """Print what others may have written, safe for a terminal and the log of a CI job."""
    print(log_text(str(thing)), file=file)


def _say_now(thing: object) -> None:
    """Print a line at once: a log file shows it while the command goes on."""
    _say(thing)
    if sys.stdout is not None:
        sys.stdout.flush()


class _Parser(argparse.ArgumentParser):
    """A parser whose messages quote arguments that a terminal or a log would obey."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the program, with a message that is safe to print."""
        super().exit(status, message and log_text(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="caplab", description="Capability Regression Lab")
    parser.add_argument("--version", action="version", version=f"caplab {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    doctor = commands.add_parser("doctor", help="check this machine and its installation")
    doctor.set_defaults(run=_doctor)
    fetch = commands.add_parser("fetch", help="download a model now, to use it offline later")
    fetch.add_argument("model", help="smollm2 (docs/real-model.md), or a name on the hub: gpt2")
    fetch.set_defaults(run=_fetch)
    score = commands.add_parser("score", help="score a model on an exam")
    score.add_argument("model", nargs="?", help=_SOURCE)
    _add_server(score)
    score.set_defaults(run=_score)
    gate = commands.add_parser("gate", help="decide whether a model may ship", epilog=_CODES)
    gate.add_argument("before", help=_SOURCE)
    gate.add_argument(
        "after", nargs="+", help="what is to ship; several: models of one recipe, one per seed"
    )
    accepted = gate.add_mutually_exclusive_group()
    accepted.add_argument(
        "--budget", type=float, help="largest accepted loss, overall and in each (default: 0.05)"
    )
    accepted.add_argument("--policy", metavar="FILE", help="budgets and tiers as TOML")
    gate.add_argument("--strict", action="store_true", help="every capability must be HELD")
    for form, what in _FORMS.items():
        gate.add_argument(f"--{form}", type=Path, metavar="OUT", help=f"write {what}")
    gate.set_defaults(run=_gate)
    for command in (score, gate):
        command.add_argument(
            "--exam", metavar="FILE", help="questions as JSONL (default: classics)"
        )
        command.add_argument("--json", type=Path, metavar="OUT", help="write the result as JSON")
        _add_manner(command)
    _add_watch(commands.add_parser("watch", help="score a run's checkpoints", epilog=_WATCH_CODES))
    exam = commands.add_parser("exam", help="work on an exam").add_subparsers(
        metavar="command", required=True
    )
    check = exam.add_parser(
        "check",
        help="say what an exam can tell about a model, before it is used",
        epilog="exit code: 0 nothing to mend, 1 something to mend, 2 failure",
    )
    check.add_argument("exam", metavar="FILE", help="questions as JSONL, or a built-in exam")
    check.add_argument("--model", default="pocket", help="a name or a folder (default: pocket)")
    check.add_argument("--budget", type=float, default=0.05, help="accepted loss (default: 0.05)")
    check.set_defaults(run=_exam_check)
    kept = commands.add_parser("cache", help="say where answers are kept, and how large they are")
    kept.add_argument("--clear", action="store_true", help="remove all of them")
    kept.set_defaults(run=_cache)
    _add_sweep(commands.add_parser("sweep", help="train a grid of recipes, see docs/sweeps.md"))
    claims = commands.add_parser("claims", help="measure each claim of the course in an atlas")
    claims.set_defaults(run=_claims)
    league = commands.add_parser("league", help="compare remedies at equal skill in an atlas")
    league.add_argument("--task", type=float, default=0.9, help="level to reach (default: 0.9)")
    for name, what in (("kept", "the old"), ("learned", "the task")):
        league.add_argument(
            f"--{name}", metavar="COLUMN", help=f"what counts of {what} (default: what is said)"
        )
    league.add_argument("--svg", type=Path, metavar="OUT", help="write it as a picture, too")
    league.set_defaults(run=_league)
    for command in (claims, league):
        command.add_argument("--atlas", type=Path, help="your own atlas (default: the shipped one)")
    return parser


def _add_watch(watch: argparse.ArgumentParser) -> None:
    watch.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="what the trainer fills")
    watch.add_argument("--base", required=True, help=f"what it was before: {_SOURCE}")
    watch.add_argument("--exam", metavar="FILE", help="questions as JSONL (default: classics)")
    accepted = watch.add_mutually_exclusive_group()
    accepted.add_argument("--budget", type=float, help="largest accepted loss (default: 0.05)")
    accepted.add_argument("--policy", metavar="FILE", help="budgets and tiers as TOML")
    watch.add_argument("--once", action="store_true", help="score what is there, and end")
    watch.add_argument("--until", type=Path, metavar="FILE", help="end when this file is there")
    watch.add_argument("--idle", type=float, metavar="MINUTES", help="end after so long a pause")
    watch.add_argument("--poll", type=float, default=30, metavar="SECONDS", help="(default: 30)")
    watch.add_argument("--stop-file", type=Path, metavar="OUT", help="written on a crossing")
    watch.add_argument("--run", dest="command", metavar="COMMAND", help="called on a crossing")
    watch.add_argument("--log", type=Path, help="(default: RUN_FOLDER/caplab-watch.jsonl)")
    watch.add_argument(
        "--board", type=Path, help="for TensorBoard (default: RUN_FOLDER/runs/caplab-watch)"
    )
    _add_manner(watch)
    watch.set_defaults(run=_watch)


def _add_manner(command: argparse.ArgumentParser) -> None:
    manner = command.add_argument_group("how models are loaded and asked")
    manner.add_argument("--device", help="cuda, mps or cpu (default: the first that is there)")
    manner.add_argument("--dtype", help="float32 (default), bfloat16, float16 or auto")
    manner.add_argument("--device-map", metavar="MAP", help="auto: spread over all devices")
    manner.add_argument("--revision", help="branch, tag or commit of a model of the hub")
    manner.add_argument("--batch-size", type=int, metavar="N", help="rows in one forward pass")
    manner.add_argument("--no-cache", action="store_true", help="ask again, and keep no answers")


def _add_server(score: argparse.ArgumentParser) -> None:
    served = score.add_argument_group(
        "a served model (instead of MODEL)",
        "Any server that speaks OpenAI's protocol, see docs/servers.md. Its key, if it needs one, "
        "is read from the environment variable CAPLAB_API_KEY.",
    )
    served.add_argument("--server", metavar="URL", help="where it is: http://host:8000/v1")
    served.add_argument("--model", metavar="NAME", dest="served", help="the name it has there")
    served.add_argument(
        "--concurrency", type=int, default=4, help="requests at a time (default: 4)"
    )
    served.add_argument(
        "--timeout", type=float, default=120.0, help="seconds for one request (default: 120)"
    )


def _add_sweep(sweep: argparse.ArgumentParser) -> None:
    sweep.add_argument("grid", type=Path, help="a TOML file with the recipes")
    sweep.add_argument(
        "--model", default="pocket", help="a name or a folder (default: %(default)s)"
    )
    sweep.add_argument("--out", type=Path, help="the atlas to write (default: GRID.parquet)")
    sweep.add_argument("--store", type=Path, help="folder for finished runs (default: GRID.runs)")
    sweep.add_argument(
        "--jobs", type=int, help="processes (default: one per core, or one on a GPU)"
    )
    sweep.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler: tcp://host:8786")
    sweep.add_argument("--dry-run", action="store_true", help="print the estimated work and stop")
    sweep.set_defaults(run=_sweep)


def _doctor(options: argparse.Namespace) -> int:
    from caplab.cli.doctor import examine

    return examine()


def _fetch(options: argparse.Namespace) -> int:
    from caplab.models.hub import find_folder

    _say(f"{options.model} is in {find_folder(options.model)}")
    return 0


def _score(options: argparse.Namespace) -> int:
    from caplab.cli.outputs import Outputs
    from caplab.questions.exam import exam
    from caplab.watching.gate import scorecard_of

    if (options.model is None) == (options.server is None):
        raise BadInput("Give one model: by its name or folder, or by --server URL --model NAME.")
    if (options.served is None) != (options.server is None):
        raise BadInput("--server URL and --model NAME belong together: give both, or neither.")
    outputs = Outputs({"scorecard": options.json}, [options.model, options.exam])
    outputs.clear()
    asked = exam(options.exam or "classics")
    card = (
        _served(options, asked)
        if options.server
        else scorecard_of(options.model, asked, _manner(options), cache=not options.no_cache)
    )
    if options.exam and card.fingerprint != asked.fingerprint:
        raise BadInput(f"{options.model} answers {card.exam!r}, not {asked.name!r}.")
    outputs.write("scorecard", card.save)
    _say(card)
    return 0


def _manner(options: argparse.Namespace) -> "Manner":
    """Return how models are to be loaded and asked."""
    from dataclasses import fields

    from caplab.measuring.cache import Manner

    return Manner(**{field.name: getattr(options, field.name) for field in fields(Manner)})


def _cache(options: argparse.Namespace) -> int:
    from caplab.measuring import cache

    files = cache.kept_files()
    size = sum(path.stat().st_size for path in files) / 1e6
    _say(f"{cache.answers_folder()}: {len(files)} files, {size:.1f} MB")
    if options.clear:
        _say(f"Removed: {cache.clear()} files.")
    return 0


def _served(options: argparse.Namespace, asked: "Exam") -> "Scorecard":
    """Score a model behind a server."""
    from caplab.measuring.server import score_server

    limits = {"at_once": options.concurrency, "seconds": options.timeout}
    return score_server(options.server, options.served, asked, **limits)


def _exam_check(options: argparse.Namespace) -> int:
    from caplab.measuring.exam_check import check_exam
    from caplab.models.load import load
    from caplab.questions.exam import exam

    found = check_exam(exam(options.exam), load(options.model), budget=options.budget)
    _say(found)
    return 1 if found.problems else 0


def _gate(options: argparse.Namespace) -> int:
    from caplab.cli.outputs import Outputs
    from caplab.watching.gate import gate
    from caplab.watching.gate_seeds import gate_seeds

    forms = ("json", *_FORMS)
    inputs = [options.before, *options.after, options.exam, options.policy]
    summary = os.environ.get("GITHUB_STEP_SUMMARY") or None
    outputs = Outputs({form: getattr(options, form) for form in forms}, inputs, summary)
    outputs.clear()
    given: dict[str, Any] = {n: getattr(options, n) for n in ("exam", "budget", "policy", "strict")}
    given |= {"manner": _manner(options), "cache": not options.no_cache}
    if len(options.after) == 1:
        decision = gate(options.before, options.after[0], **given)
    else:
        decision = gate_seeds(options.before, options.after, **given)
    for form in forms:
        outputs.write(form, getattr(decision, f"save_{form}"))
    if summary:
        decision.append_markdown(summary)
    _say(decision)
    return decision.exit_code


def _watch(options: argparse.Namespace) -> int:
    from caplab.cli.outputs import Outputs
    from caplab.measuring.policy import Policy
    from caplab.questions.exam import exam
    from caplab.watching.watch import Watch, default_board
    from caplab.watching.watch_log import default_log

    checkpoints = [path.parent for path in options.folder.glob("*/*config.json")]
    Outputs(
        {
            "log": options.log or default_log(options.folder),
            "stop file": options.stop_file,
            "folder": options.board or default_board(options.folder),
        },
        [options.base, options.exam, options.policy, *checkpoints],
    )
    watch = Watch(
        run=options.folder,
        base=options.base,
        exam=exam(options.exam or "classics"),
        policy=Policy.taken(options.policy, options.budget, None),
        log=options.log,
        board=options.board or default_board(options.folder),
        stop_file=options.stop_file,
        command=options.command,
        manner=_manner(options),
        cache=not options.no_cache,
        say=_say_now,
    )
    if options.once:
        return watch.once()
    return watch.follow(until=options.until, idle=options.idle, poll=options.poll)


def _sweep(options: argparse.Namespace) -> int:
    from caplab.cli.outputs import Outputs
    from caplab.study.grid import read_grid
    from caplab.study.sweep import estimate_sweep, sweep
    from caplab.study.workers import on_dask

    out = options.out or options.grid.with_suffix(".parquet")
    store = options.store or options.grid.with_suffix(".runs")
    Outputs({"atlas": out, "folder": store}, [options.grid, options.model])
    recipes, settings = read_grid(options.grid)
    given = {"n_jobs": options.jobs, "store": store, **settings}
    with on_dask(options.dask):
        if options.dry_run:
            _say(estimate_sweep(recipes, options.model, **given))
            return 0
        atlas = sweep(recipes, options.model, **given)
    for recipe, reason in zip(atlas.failed["hash"], atlas.failed["reason"], strict=True):
        _say(f"{recipe} failed: {reason}", file=sys.stderr)
    if len(atlas.runs):
        _say(f"{atlas}\nwritten to {atlas.save(out)}")
    return _FAILED if len(atlas.failed) else 0


def _claims(options: argparse.Namespace) -> int:
    from caplab.study import claims
    from caplab.study.atlas import atlas

    _say(claims.measure_all(atlas(options.atlas)))
    return 0


def _league(options: argparse.Namespace) -> int:
    from caplab.cli.outputs import Outputs
    from caplab.study.atlas import atlas
    from caplab.study.charts import league as draw
    from caplab.study.league import league

    outputs = Outputs({"svg": options.svg}, [options.atlas])
    found = league(atlas(options.atlas), options.task, options.kept, options.learned)
    _say(found)
    mark = {"Title": "caplab league"}  # so that the next call may replace it
    outputs.write("svg", lambda path: draw(found).savefig(path, format="svg", metadata=mark))
    return 0
