"""Read results of lm-evaluation-harness: an exam and a scorecard from what `--log_samples` wrote.

Two such files, of a model before and after, hold everything that a paired comparison needs.
`lm_eval` itself makes none: its standard errors treat the two models as independent samples.

Every task becomes a capability. The log-likelihoods of a multiple-choice task are kept exactly. Of
other tasks (written answers, the last word of a text) only right or wrong is known, from the first
metric that is 0 or 1 in every line; such tasks are compared by counting.
"""

import json
import math
import os
import re
from collections.abc import Iterable
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from caplab.measuring.scorecard import Scorecard
from caplab.questions.duplicates import groups_of
from caplab.questions.exam import Exam, Question
from caplab.questions.wording import plain
from caplab.support.errors import BadInput, as_number, is_count, require_type, short_repr
from caplab.support.files import as_path, make_folder, parse_rows, read_jsonl, write_atomically
from caplab.support.text import join_words

__all__ = ["exam_from_lm_eval", "is_lm_eval", "scorecard_from_lm_eval", "write_samples"]

Row = dict[str, Any]

_SAMPLES = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
_KEYS = ("doc_id", "target", "arguments", "filtered_resps", "metrics")
_HOW_TO_MAKE_THEM = (
    "`lm_eval --log_samples --output_path FOLDER ...` writes samples_TASK_DATE.jsonl."
)
_OTHER_FILE = f"This is not what lm_eval --log_samples writes. {_HOW_TO_MAKE_THEM}"
_SEVERAL_RUNS = "If the file was joined from the files of several runs, give one of those."
_NO_EXAM = "It cannot be asked as an exam. Its answers can still be compared with others to it."


class _Item(NamedTuple):
    """One sample: the question, the right choice, and the log-likelihood of each choice."""

    capability: str
    prompt: str  # empty if the choices do not all follow the same prompt and a space
    choices: tuple[str, ...]
    answer: int
    loglikelihoods: tuple[float, ...]
    characters: tuple[int, ...]  # of each choice
    group: str | None = None  # the document's own `group`, if it has one
    said: str = ""  # where the answer was written and not chosen

    @property
    def fact(self) -> tuple[str, str, str]:
        """Return what questions about one fact have in common, as an exam sees it."""
        return self.capability, plain(self.prompt), plain(self.choices[self.answer])

    @property
    def line(self) -> str:
        """Write the question as in an exam's file, so that their fingerprints agree."""
        fields = ("capability", "prompt", "choices", "answer")
        return (
            json.dumps({field: getattr(self, field) for field in fields}, ensure_ascii=False) + "\n"
        )


def scorecard_from_lm_eval(path: str | os.PathLike[str]) -> Scorecard:
    """Read the answers of one model from a samples file, or from a folder of such files."""
    items = _read(as_path(path))
    lines = "".join(item.line for item in items)
    return Scorecard(
        subject=_model(as_path(path)),
        exam=_title(items),
        fingerprint=sha256(lines.encode(errors="surrogatepass")).hexdigest()[:16],
        capability=tuple(item.capability for item in items),
        answer=tuple(item.answer for item in items),
        loglikelihoods=tuple(item.loglikelihoods for item in items),
        characters=tuple(item.characters for item in items),
        group=tuple(groups_of([item.fact for item in items], [item.group for item in items])),
        said=tuple(item.said for item in items) if any(item.said for item in items) else (),
    )


def exam_from_lm_eval(path: str | os.PathLike[str]) -> Exam:
    """Read the questions of a samples file, to ask another model the same.

    The exam has the fingerprint of the scorecard from the same file, so that the answers in the
    file can be compared with those of the other model.
    """
    items = _read(as_path(path))
    questions = parse_rows(path, enumerate(items), _question, unit="question", advice=_NO_EXAM)
    return Exam(tuple(questions), (), _title(items), repeats=True)


def write_samples(
    folder: str | os.PathLike[str], exam: Exam, card: Scorecard, date: str = "2026-01-01T00-00-00.0"
) -> None:
    """Write answers as `lm_eval --log_samples` does, each capability as one task.

    Where a capability has choices and spoken questions, the latter are a task `..._said`. Other
    tools read such files, and this makes them without the harness.
    """
    require_type(exam, Exam, "write_samples needs an Exam")
    require_type(card, Scorecard, "write_samples needs the Scorecard of that exam")
    if exam.fingerprint != card.fingerprint:
        raise BadInput(f"These answers were given to {card.exam!r}, not to {exam.name!r}.")
    make_folder(folder)
    tasks: dict[tuple[str, bool], list[int]] = {}
    for index, question in enumerate(exam.questions):
        tasks.setdefault((question.capability, question.spoken), []).append(index)
    for (capability, spoken), indices in tasks.items():
        task = f"{capability}_said" if spoken and (capability, False) in tasks else capability
        lines = [
            json.dumps(_sample(number, exam.questions[index], card, index)) + "\n"
            for number, index in enumerate(indices)
        ]
        write_atomically(as_path(folder) / f"samples_{task}_{date}.jsonl", "".join(lines))


def _sample(number: int, question: Question, card: Scorecard, index: int) -> Row:
    """Turn one answer into a line as the harness writes it."""
    if question.expect:
        return _spoken_sample(number, question, card, index)
    space = "" if question.joined else " "
    pairs = [{"arg_0": question.asked, "arg_1": f"{space}{each}"} for each in question.choices]
    nats = [[str(value), "False"] for value in card.loglikelihoods[index]]
    return {
        "doc_id": number,
        "doc": {"prompt": question.asked, "choices": question.choices, "group": question.group},
        "target": str(question.answer),
        "arguments": {f"gen_args_{n}": pair for n, pair in enumerate(pairs)},
        "resps": [[pair] for pair in nats],
        "filtered_resps": nats,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "acc": float(card.correct[index]),
        "acc_norm": float(card.correct_norm[index]),
    }


def _spoken_sample(number: int, question: Question, card: Scorecard, index: int) -> Row:
    """Turn a spoken answer into a line as the harness writes it for `generate_until`."""
    settings = {"until": [], "do_sample": False, "max_gen_toks": question.max_new_tokens}
    expected = question.expect.rules if question.expect else {}
    return {
        "doc_id": number,
        "doc": {"prompt": question.asked, "expect": expected, "group": question.group},
        "target": json.dumps(expected, ensure_ascii=False),
        "arguments": {"gen_args_0": {"arg_0": question.asked, "arg_1": settings}},
        "resps": [[card.said[index]]],
        "filtered_resps": [card.said[index]],
        "filter": "none",
        "metrics": ["met"],
        "met": float(card.correct[index]),
    }


def is_lm_eval(path: Path) -> bool:
    """Check whether a path is a samples file, or a folder that has some and no model."""
    if path.is_dir():
        return not any(path.glob("*config.json")) and any(path.rglob("samples_*.jsonl"))
    return path.suffix == ".jsonl"


def _question(item: _Item) -> Question:
    if not item.prompt:
        wanted = "one prompt and a space, as in an exam"
        raise BadInput(f"the choices of this item of {item.capability} do not follow {wanted}")
    return Question(item.capability, item.prompt, item.choices, item.answer, item.group)


def _title(items: list[_Item]) -> str:
    tasks = list(dict.fromkeys(item.capability for item in items))
    return join_words(tasks) if len(tasks) < 4 else f"{len(tasks)} tasks"


def _model(path: Path) -> str:
    """Name the model: lm_eval writes the samples into a folder named after it."""
    file = next(iter(_files(path).values()))
    folder = file.absolute().parent.name
    return folder.replace("__", "/") if _SAMPLES.fullmatch(file.name) else file.stem


# ---------------------------------------------------------------- files and lines


def _read(path: Path) -> list[_Item]:
    """Read all items, task by task, each in the order of its documents."""
    return [item for task, file in _files(path).items() for item in _items(file, task)]


def _files(path: Path) -> dict[str, Path]:
    """Find the newest samples file of each task."""
    if not path.is_dir():
        return {_task(path): path}
    found = sorted(path.rglob("samples_*.jsonl"))
    if not found:
        raise BadInput(f"{path} holds no samples. {_HOW_TO_MAKE_THEM}")
    if len(folders := {file.parent for file in found}) > 1:
        names = ", ".join(sorted(map(str, folders))[:4])
        raise BadInput(
            f"{path} holds samples of several models. Give one of their folders: {names}."
        )
    return {
        _task(file): file for file in found
    }  # dates sort as text: of one task, the last file is the newest


def _task(file: Path) -> str:
    """Read the task from the file's name; every renamed file counts as the same task."""
    match = _SAMPLES.fullmatch(file.name)
    return match[1] if match else "samples"


def _items(file: Path, task: str) -> list[_Item]:
    """Read one samples file; one error lists all malformed lines."""
    rows = read_jsonl(file, "samples file", _row, advice=_OTHER_FILE)
    if not rows:
        raise BadInput(f"{file} is empty. {_HOW_TO_MAKE_THEM}")
    # A task may judge the same answer through several filters, each in a line of its own.
    first = rows[0].get("filter")
    number = itemgetter("doc_id")
    kept = sorted((row for row in rows if row.get("filter") == first), key=number)
    documents = [(doc_id, list(group)) for doc_id, group in groupby(kept, key=number)]
    rows = parse_rows(file, documents, _only_row, unit="document", advice=_SEVERAL_RUNS)
    metric, known = _metric(rows), _all_choices(rows)
    return [_chosen(row, task, known) or _graded(row, task, metric, file) for row in rows]


def _row(row: Any) -> Row:
    """Check the JSON value of one line."""
    if not isinstance(row, dict):
        raise BadInput(f"this is not a JSON object but {json.dumps(row)[:40]}")
    if missing := [repr(key) for key in _KEYS if key not in row]:
        raise BadInput(f"{', '.join(missing)} is missing")
    if not is_count(row["doc_id"]):
        raise BadInput(f"doc_id must be the number of a document, not {short_repr(row['doc_id'])}")
    if not isinstance(row["metrics"], list):
        raise BadInput(f"metrics must be a list of names, not {short_repr(row['metrics'])}")
    calls = row["arguments"].values() if isinstance(row["arguments"], dict) else row["arguments"]
    if not isinstance(calls, Iterable) or not all(isinstance(c, dict | list) for c in calls):
        given = short_repr(row["arguments"])
        raise BadInput(f"arguments is {given}, not a list of what the model was asked")
    return row


def _only_row(group: list[Row]) -> Row:
    """Return the row of a document; refuse more than one, as nobody knows which counts."""
    if len(group) > 1:
        raise BadInput(f"it appears {len(group)} times")
    return group[0]


# ---------------------------------------------------------------- one sample


def _pairs(row: Row) -> list[tuple[str, str]]:
    """Return what the model was asked: pairs of a prompt and a continuation.

    `acc_mutual_info` also asks for the choices without a prompt: those pairs are left out.
    """
    given = row["arguments"]
    calls = list(given.values()) if isinstance(given, dict) else given
    pairs = [tuple(call.values() if isinstance(call, dict) else call)[:2] for call in calls]
    texts = [pair for pair in pairs if len(pair) == 2 and all(isinstance(t, str) for t in pair)]
    return [pair for pair in texts if pair[0]] or texts


def _chosen(row: Row, task: str, known: bool) -> _Item | None:
    """Read a multiple-choice sample with its log-likelihoods; None if it is of another kind."""
    pairs = _pairs(row) if known else []
    nats = _nats(row)[: len(pairs)]
    answer = _answer(row, [text for _, text in pairs], nats)
    if answer is None:
        return None
    prompt, choices = pairs[0][0], tuple(text[1:] for _, text in pairs)
    characters = tuple(len(text.removeprefix(" ")) for _, text in pairs)
    if any(start != prompt or text[:1] != " " for start, text in pairs):
        prompt, choices = "", tuple(start + text for start, text in pairs)
    return _Item(task, prompt, choices, answer, tuple(nats), characters, _group(row, task))


def _all_choices(rows: list[Row]) -> bool:
    """Check whether every sample of a task is a choice among several."""
    return all(
        1 < len(pairs) <= len(nats) and _answer(row, [t for _, t in pairs], nats) is not None
        for row in rows
        for pairs, nats in [(_pairs(row), _nats(row)[: len(_pairs(row))])]
    )


def _nats(row: Row) -> list[float]:
    """Return the log-likelihoods, one per pair; written answers have none."""
    found = row["filtered_resps"]
    if not isinstance(found, list) or not all(isinstance(pair, list) for pair in found):
        return []
    try:
        return [float(nats) for nats, _ in found]
    except (TypeError, ValueError):
        return []


def _answer(row: Row, choices: list[str], nats: list[float]) -> int | None:
    """Find the number of the right choice; None if it cannot be known.

    The target names it by its number or its text. Of two choices it also follows from the grade:
    the preferred one if that was right, else the other. A candidate that contradicts the grade is
    not used.
    """
    if not nats or not _is_grade(row.get("acc", 0)):
        return None
    best, grade = max(range(len(nats)), key=nats.__getitem__), row.get("acc")
    target, texts = str(row["target"]), [text.strip() for text in choices]
    candidates = [int(target)] if re.fullmatch(r"\d{1,6}", target) else []
    candidates += [texts.index(target.strip())] if texts.count(target.strip()) == 1 else []
    candidates += [best if grade else 1 - best] if len(nats) == 2 and grade is not None else []
    fits = (n for n in candidates if grade is None or bool(grade) == (n == best))
    return next((n for n in fits if n < len(nats)), None)


def _metric(rows: list[Row]) -> str | None:
    """Return the first metric that is 0 or 1 in every row."""
    names = map(str, rows[0]["metrics"])
    return next((name for name in names if all(_is_grade(row.get(name)) for row in rows)), None)


def _is_grade(value: Any) -> bool:
    return isinstance(value, bool) or as_number(value) in (0, 1)


def _graded(row: Row, task: str, metric: str | None, file: Path) -> _Item:
    """Read right or wrong as a choice between the two: nothing more is known of this sample."""
    if metric is None:
        raise BadInput(
            f"{file} cannot be compared item by item: none of its metrics "
            f"({', '.join(map(str, row['metrics']))}) is 0 or 1 in every line. Let the task "
            "report one that is, such as exact_match."
        )
    prompt = json.dumps(row["arguments"], sort_keys=True) + str(row["target"])
    nats = (0.0, -math.inf) if row[metric] else (-math.inf, 0.0)
    choices = (f"{metric}: {prompt}", f"not {metric}")
    found = row["filtered_resps"]
    said = found[0] if isinstance(found, list) and found and isinstance(found[0], str) else ""
    return _Item(task, "", choices, 0, nats, (1, 1), _group(row, task), said)


def _group(row: Row, task: str) -> str | None:
    """Return the group that a document names; the task's name keeps groups of two tasks apart."""
    doc = row.get("doc")
    group = doc.get("group") if isinstance(doc, dict) else None
    return f"{task}: {group}" if isinstance(group, str | int) and f"{group}".strip() else None
