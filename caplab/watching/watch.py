"""Watch a run's folder: score each checkpoint as it appears, and tell a crossing of the budget.

This works beside any trainer, on any machine that sees its folder.

**Many checkpoints, one promise.** The line of a checkpoint says what the gate would say of it
alone. But each look is one more chance of a false alarm, and nobody knows beforehand how many there
will be. So what ends a watch is a REGRESSED that holds among them all: the k-th look spends
1/(k (k + 1)) of the error that the confidence allows, a half, a sixth, a twelfth, together never
more than all of it.
"""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from caplab.measuring.cache import Manner
from caplab.measuring.compare import compare
from caplab.measuring.policy import Policy
from caplab.measuring.report import REGRESSED
from caplab.measuring.scorecard import Scorecard
from caplab.models.folder import SHIPPED, SMOLLM2, has_tokenizer, is_folder
from caplab.models.hub import find_folder
from caplab.models.subject import Diverged
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput, as_number, explaining_failure, short_repr
from caplab.support.files import as_path, write_atomically
from caplab.support.safe_text import log_text
from caplab.watching.checkpoints import SETTLED, Checkpoint, Finder
from caplab.watching.gate import EXIT_CODES, FAILED, scorecard_of, with_groups
from caplab.watching.looks import Check, nothing_said
from caplab.watching.watch_log import WatchLog, default_log

__all__ = ["Look", "Watch", "default_board", "share_of_error"]

Say = Callable[[str], None]


def share_of_error(look: int) -> float:
    """Return the share of the allowed error that a look spends, the first being number 1."""
    return 1 / (look * (look + 1))


@dataclass(frozen=True)
class Look:
    """A checkpoint, what is found in it, and whether that is a crossing among all looks so far."""

    found: Checkpoint
    check: Check
    crossing: bool

    @property
    def sentence(self) -> str:
        """Say the result in one line."""
        doubt = self.check.verdict == REGRESSED and not self.crossing
        among = " (by itself; among all looks it may be chance)" if doubt else ""
        return f"{self.found.name}: {self.check.sentence}{among}"


@dataclass
class Watch:
    """A run's folder, the base, the exam and the policy; and what to do on a crossing."""

    run: Path
    base: str
    exam: Exam
    policy: Policy
    log: Path | None = None
    board: Path | None = None
    stop_file: Path | None = None
    command: str | None = None
    manner: Manner = field(default_factory=Manner)
    cache: bool = True
    say: Say = print
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policy.check_covers(self.exam.name, self.exam.capabilities)
        self._words = _command(self.command)
        if self.stop_file and self.stop_file.exists():
            raise BadInput(f"{self.stop_file} is there already: remove it, or name another one.")
        self._finder = Finder(self.run)
        self._log = WatchLog(self.log or default_log(self._finder.run))
        self._before: Scorecard | None = None
        self._failed: set[Any] = set()
        self._writer: Any = None

    # ------------------------------------------------------------ when it looks

    def once(self) -> int:
        """Score all checkpoints that are there, and return the exit code of the whole."""
        self._recall()
        while self._finder.waiting:
            time.sleep(SETTLED / 10)
        crossed = self._crossed() or self._look_at_all()
        return self._end(crossed)

    def follow(
        self, *, until: Path | None = None, idle: float | None = None, poll: float = 30
    ) -> int:
        """Score each checkpoint as it appears, until told otherwise; return the exit code."""
        for name, value in (("idle", idle), ("poll", poll)):
            if value is not None and not as_number(value) > 0:
                raise BadInput(f"{name} is {short_repr(value)}: give a time above 0.")
        self._recall()
        crossed, since = self._crossed(), time.monotonic()
        while not crossed:
            asked, ended = len(self.looks), bool(until and until.exists())
            crossed = self._look_at_all()
            since = time.monotonic() if len(self.looks) > asked else since
            quiet = idle is not None and time.monotonic() - since > 60 * idle
            if (ended or quiet) and not self._finder.waiting:
                break
            if not crossed:
                time.sleep(min(poll, SETTLED) if ended or self._finder.waiting else poll)
        return self._end(crossed)

    def _look_at_all(self) -> bool:
        """Score what is new; tell whether the budget was crossed."""
        known = {(look.found.name, look.found.files) for look in self.looks} | self._failed
        for found in self._finder.whole():
            if (found.name, found.files) not in known:
                self._look(found)
                if self._crossed():
                    return True
        return False

    def _crossed(self) -> bool:
        return any(look.crossing for look in self.looks)

    def _end(self, crossed: bool) -> int:
        """Act on a crossing, and return the exit code: the gate's, of the latest checkpoint."""
        if crossed:
            self._act(next(look for look in self.looks if look.crossing))
            return EXIT_CODES[REGRESSED]
        for problem in dict.fromkeys([*self._finder.problems, self._finder.shards()]):
            if problem:
                self._tell(f"Not scored: {problem}")
        if not self.looks:
            self._tell(f"{self._finder.run} holds no whole checkpoint.")
            return FAILED
        return EXIT_CODES[self.looks[-1].check.verdict]

    # ------------------------------------------------------------ one look

    def _look(self, found: Checkpoint) -> None:
        """Score a checkpoint, judge it, and write it down."""
        start = time.perf_counter()
        diverged = False
        try:
            with self._openable(found) as folder:
                manner = replace(self.manner, revision=None)  # which is the base's
                card = scorecard_of(folder, self.exam, manner, cache=False)  # the log keeps them
                card = replace(card, subject=found.name)
        except Diverged:
            card, diverged = replace(nothing_said(self._base()), subject=found.name), True
        except BadInput as error:
            self._failed.add((found.name, found.files))
            if found.folder.is_dir():  # else it was deleted while it was read
                self._tell(f"{found.name} cannot be scored: {error}")
            return
        seconds = time.perf_counter() - start
        self._judge(found, card, found.step, seconds, diverged)
        look, check = self.looks[-1], self.looks[-1].check
        self._log.append(
            {
                "kind": "checkpoint",
                "name": found.name,
                "step": check.step,
                "files": found.files,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": seconds,
                "diverged": diverged,
                "verdict": check.verdict,
                "crossing": look.crossing,
                "sentence": look.sentence,
                "card": asdict(card),
            }
        )
        self._show(check)
        self._tell(look.sentence)

    def _judge(
        self, found: Checkpoint, card: Scorecard, step: int, seconds: float, diverged: bool
    ) -> None:
        error = (1 - self.policy.confidence) * share_of_error(len(self.looks) + 1)
        wide = replace(self.policy, confidence=1 - error)
        report = compare(self._base(), card, policy=self.policy)
        sure = diverged or compare(self._base(), card, policy=wide).verdict == REGRESSED
        self.looks.append(Look(found, Check(step, report, seconds, diverged), sure))

    def _base(self) -> Scorecard:
        """Return the base's answers; it is asked once, and its answers are in the log."""
        if self._before is None:
            card = with_groups(self._ask_base(), self.exam)
            if card.fingerprint != self.exam.fingerprint:
                raise BadInput(f"{self.base} answered {card.exam!r}, not {self.exam.name!r}.")
            entry = {"kind": "base", "name": self.base, "card": asdict(card)}
            self._log.append(entry)
            self._before = card
        return self._before

    def _ask_base(self) -> Scorecard:
        return scorecard_of(self.base, self.exam, self.manner, cache=self.cache)

    def _recall(self) -> None:
        """Take from the log what was asked before, and judge it by today's policy."""
        for entry in self._log.entries:
            card = Scorecard(**entry["card"])
            if card.fingerprint != self.exam.fingerprint:
                continue
            if entry["kind"] == "base":
                self._before = card if entry["name"] == self.base else None
            elif self._before is not None:
                files = tuple(tuple(file) for file in entry["files"])
                found = Checkpoint(entry["name"], self._finder.run / entry["name"], files)
                self._judge(found, card, *(entry[n] for n in ("step", "seconds", "diverged")))
        if self.looks:
            self._tell(f"{len(self.looks)} known from the log; the latest:")
            self._tell(self.looks[-1].sentence)
        self._base()

    @contextmanager
    def _openable(self, found: Checkpoint) -> Iterator[Path]:
        """Yield a folder that can be loaded: trainers often leave out the tokenizer or the base."""
        settings = found.folder / "adapter_config.json"
        adapter = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
        named = str(adapter.get("base_model_name_or_path"))
        stranger = bool(adapter) and named != self.base and not _is_here(named)
        lacks = stranger or (not adapter and not has_tokenizer(found.folder))
        if not lacks or as_path(self.base).suffix == ".json":
            yield found.folder
            return
        if stranger:
            self._tell(
                f"{found.name} names the base {named}, which is not here: {self.base} it is."
            )
        base = find_folder(self.base, self.manner.revision)
        with tempfile.TemporaryDirectory() as above:
            view = Path(above, found.folder.name or "model")
            view.mkdir()
            for path in (*_beside_weights(base), *found.folder.iterdir()):
                (view / path.name).unlink(missing_ok=True)
                (view / path.name).symlink_to(path.resolve())
            if stranger:
                (view / settings.name).unlink()
                adapter["base_model_name_or_path"] = str(base.resolve())
                (view / settings.name).write_text(json.dumps(adapter), encoding="utf-8")
            yield view

    # ------------------------------------------------------------ who is told

    def _tell(self, line: str) -> None:
        """Say a line; names of folders may hold what a terminal or a log would obey."""
        self.say(log_text(line))

    def _show(self, check: Check) -> None:
        """Write the values where TensorBoard shows them, as the guard names them."""
        if self.board is not None:
            if self._writer is None:
                self._writer = _writer(self.board)
            for name, value in check.values.items():
                self._writer.add_scalar(name, value, check.step)
            self._writer.flush()

    def _act(self, look: Look) -> None:
        """Write the stop file and call the command; the exit code comes by itself."""
        self._tell(f"{look.found.name} crossed the budget.")
        if self.stop_file:
            write_atomically(self.stop_file, f"{look.sentence}\n")
        if self._words:
            told = {"CHECKPOINT": str(look.found.folder), "STEP": str(look.check.step)}
            told |= {"VERDICT": look.check.verdict, "SENTENCE": look.sentence}
            told = {f"CAPLAB_{name}": text.replace("\0", "") for name, text in told.items()}
            ended = subprocess.run(self._words, env=os.environ | told, check=False)
            if ended.returncode:
                self._tell(f"{self._words[0]} ended with exit code {ended.returncode}.")


def default_board(run: Path) -> Path | None:
    """Return where TensorBoard finds the values beside the run's own, if it is installed."""
    return run / "runs" / "caplab-watch" if find_spec("tensorboard") else None


def _command(command: str | None) -> list[str]:
    """Split a command into its words, without a shell; refuse what does not exist now."""
    if command is None:
        return []
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BadInput(f"The command {short_repr(command)} cannot be read: {error}.") from error
    if not words or shutil.which(words[0]) is None:
        raise BadInput(f"There is no program {short_repr(words[0] if words else command)} to run.")
    return words


def _writer(folder: Path) -> Any:
    with explaining_failure(f"TensorBoard's files cannot be written to {folder}"):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder))


def _is_here(name: str) -> bool:
    """Tell whether an adapter's base is on this machine, without a download."""
    from huggingface_hub import try_to_load_from_cache

    if is_folder(name) or name in (*SHIPPED, SMOLLM2):
        return True
    with suppress(ValueError):  # no name of a model on the hub
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    return False


def _beside_weights(folder: Path) -> Iterator[Path]:
    """List the files of a tokenizer, and whatever else is small and no part of the model."""
    for path in folder.iterdir():
        model = path.name in ("config.json", "SHA256SUMS", "generation_config.json")
        weights = ".safetensors" in path.name or path.suffix in (".bin", ".pt", ".gguf")
        if path.is_file() and not model and not weights:
            yield path
