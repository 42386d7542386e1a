"""Read results of lm-evaluation-harness: an exam and a scorecard from what `--log_samples` wrote.

Two such files, of a model before and after, hold everything that a paired comparison needs, and
`lm_eval` itself never makes one: its standard errors treat the two as strangers.

Every task becomes a capability. Of a multiple-choice task all log-likelihoods are taken over, digit
for digit. Of other tasks (written answers, the last word of a text) only right and wrong is known,
by the first of their metrics that is 0 or 1 in every line; they are compared by counting.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput, as_number, require_type, short_repr
from caplab.support.files import as_path, from_json, make_folder, read_text, write_atomically
from caplab.support.text import join_words

__all__ = ["exam_from_lm_eval", "is_lm_eval", "scorecard_from_lm_eval", "write_samples"]

Row = dict[str, Any]

_SAMPLES = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
_KEYS = ("doc_id", "target", "arguments", "filtered_resps", "metrics")
_HOW_TO_MAKE_THEM = (
    "`lm_eval --log_samples --output_path FOLDER ...` writes samples_TASK_DATE.jsonl."
)
_MOST_PROBLEMS = 20  # named in one refusal


class _Item(NamedTuple):
    """One sample: what was asked, which choice is right, and how likely the model found each."""

    capability: str
    prompt: str  # empty where the choices do not follow one prompt after one space
    choices: tuple[str, ...]
    answer: int
    loglikelihoods: tuple[float, ...]
    characters: tuple[int, ...]
    group: str | None = None  # the document's own `group`, where it has one

    @property
    def line(self) -> str:
        """Write the question as an exam's own file has it, so that their fingerprints agree."""
        fields = ("capability", "prompt", "choices", "answer")
        return (
            json.dumps({field: getattr(self, field) for field in fields}, ensure_ascii=False) + "\n"
        )


def scorecard_from_lm_eval(path: str | os.PathLike[str]) -> Scorecard:
    """Read the answers of one model from a samples file, or from a folder of them."""
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
        group=tuple(item.group for item in items),
    )


def exam_from_lm_eval(path: str | os.PathLike[str]) -> Exam:
    """Read the questions behind a samples file, to ask them of another model.

    Its fingerprint is that of the scorecard from the same file, so that the answers which you have
    can be compared with the ones that you then get.
    """
    items = _read(as_path(path))
    questions, problems = [], []
    for number, item in enumerate(items):
        try:
            questions.append(_question(item))
        except BadInput as error:
            problems.append(f"item {number} of {item.capability}: {error}")
    _refuse_if(problems, f"{path} cannot be asked as an exam")
    return Exam(tuple(questions), (), _title(items))


def write_samples(
    folder: str | os.PathLike[str], exam: Exam, card: Scorecard, date: str = "2026-01-01T00-00-00.0"
) -> None:
    """Write answers as `lm_eval --log_samples` does, each capability as a task of its own.

    For tools that read such files, and to have some where the harness is not installed.
    """
    require_type(exam, Exam, "write_samples needs an Exam")
    require_type(card, Scorecard, "write_samples needs the Scorecard of that exam")
    if exam.fingerprint != card.fingerprint:
        raise BadInput(f"These answers were given to {card.exam!r}, not to {exam.name!r}.")
    make_folder(folder)
    for task in exam.capabilities:
        lines = [
            json.dumps(_sample(number, exam.questions[place], card, place)) + "\n"
            for number, place in enumerate(n for n, c in enumerate(card.capability) if c == task)
        ]
        write_atomically(as_path(folder) / f"samples_{task}_{date}.jsonl", "".join(lines))


def _sample(number: int, question: Question, card: Scorecard, place: int) -> Row:
    """Write one answer as one line of the harness."""
    pairs = [{"arg_0": question.prompt, "arg_1": f" {choice}"} for choice in question.choices]
    nats = [[str(value), "False"] for value in card.loglikelihoods[place]]
    return {
        "doc_id": number,
        "doc": {"prompt": question.prompt, "choices": question.choices, "group": question.group},
        "target": str(question.answer),
        "arguments": {f"gen_args_{n}": pair for n, pair in enumerate(pairs)},
        "resps": [[pair] for pair in nats],
        "filtered_resps": nats,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "acc": float(card.correct[place]),
        "acc_norm": float(card.correct_norm[place]),
    }


def is_lm_eval(path: Path) -> bool:
    """Tell whether a path is a samples file, or a folder with some and no model."""
    if path.is_dir():
        return not any(path.glob("*config.json")) and any(path.rglob("samples_*.jsonl"))
    return path.suffix == ".jsonl"


def _question(item: _Item) -> Question:
    if not item.prompt:
        raise BadInput("its choices do not follow one prompt after a space, as an exam's do")
    return Question(item.capability, item.prompt, item.choices, item.answer, item.group)


def _title(items: list[_Item]) -> str:
    tasks = list(dict.fromkeys(item.capability for item in items))
    return join_words(tasks) if len(tasks) < 4 else f"{len(tasks)} tasks"


def _model(path: Path) -> str:
    """Name the model: lm_eval writes the samples into a folder that is called like it."""
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
        raise BadInput(f"{path} holds samples of several models: name one folder of {names}.")
    return {_task(file): file for file in found}  # of one task the last is the newest


def _task(file: Path) -> str:
    """Take the task from the file's name; two files that were renamed are still of one task."""
    match = _SAMPLES.fullmatch(file.name)
    return match[1] if match else "samples"


def _items(file: Path, task: str) -> list[_Item]:
    """Read one samples file, and say of all malformed lines at once what is wrong."""
    rows, problems = [], []
    for number, line in enumerate(read_text(file, "samples file").split("\n"), start=1):
        try:
            rows += [_row(line)] if line.strip() else []
        except BadInput as error:
            problems.append(f"line {number}: {error}")
    _refuse_if(problems, f"{file} is not what lm_eval --log_samples writes")
    if not rows:
        raise BadInput(f"{file} is empty. {_HOW_TO_MAKE_THEM}")
    rows = sorted(_one_filter(rows), key=lambda row: row["doc_id"])
    _refuse_if(_twice(rows), f"{file} has a document more than once")
    metric, known = _metric(rows), _all_choices(rows)
    return [_chosen(row, task, known) or _graded(row, task, metric, file) for row in rows]


def _row(line: str) -> Row:
    """Read one line."""
    row = from_json(line)
    if not isinstance(row, dict):
        raise BadInput(f"this is not a JSON object but {line.strip()[:40]}")
    if missing := [repr(key) for key in _KEYS if key not in row]:
        raise BadInput(f"{', '.join(missing)} is missing")
    if type(row["doc_id"]) is not int or not isinstance(row["metrics"], list):
        raise BadInput(
            f"doc_id is {short_repr(row['doc_id'])}, metrics {short_repr(row['metrics'])}"
        )
    calls = row["arguments"].values() if isinstance(row["arguments"], dict) else row["arguments"]
    if not isinstance(calls, Iterable) or not all(isinstance(c, dict | list) for c in calls):
        raise BadInput(
            f"arguments is {short_repr(row['arguments'])}, and not what the model was asked"
        )
    return row


def _one_filter(rows: list[Row]) -> Iterator[Row]:
    """Keep one line per document: a task may judge the same answer through several filters."""
    first = rows[0].get("filter")
    return (row for row in rows if row.get("filter") == first)


def _twice(rows: list[Row]) -> Iterator[str]:
    for number, group in groupby(rows, key=lambda row: row["doc_id"]):
        if (times := len(list(group))) > 1:
            yield f"document {number} stands there {times} times"


def _refuse_if(problems: Iterable[str], what: str) -> None:
    if found := list(problems):
        more = (
            [f"... and {len(found) - _MOST_PROBLEMS} more"] if len(found) > _MOST_PROBLEMS else []
        )
        raise BadInput("\n  ".join([f"{what}:", *found[:_MOST_PROBLEMS], *more]))


# ---------------------------------------------------------------- one sample


def _pairs(row: Row) -> list[tuple[str, str]]:
    """Return what was put to the model: prompts and what may follow them.

    The same choices without any prompt, which `acc_mutual_info` asks for, are left out.
    """
    given = row["arguments"]
    calls = list(given.values()) if isinstance(given, dict) else given
    pairs = [tuple(call.values() if isinstance(call, dict) else call)[:2] for call in calls]
    texts = [pair for pair in pairs if len(pair) == 2 and all(isinstance(t, str) for t in pair)]
    return [pair for pair in texts if pair[0]] or texts


def _chosen(row: Row, task: str, known: bool) -> _Item | None:
    """Take over a multiple-choice sample with its log-likelihoods; another one is no such."""
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
    """Tell whether every sample of a task is a choice among several."""
    return all(
        1 < len(pairs) <= len(nats) and _answer(row, [t for _, t in pairs], nats) is not None
        for row in rows
        for pairs, nats in [(_pairs(row), _nats(row)[: len(_pairs(row))])]
    )


def _nats(row: Row) -> list[float]:
    """Return the log-likelihoods; written answers have none."""
    found = row["filtered_resps"]
    if not isinstance(found, list) or not all(isinstance(pair, list) for pair in found):
        return []
    try:
        return [float(nats) for nats, _ in found]
    except (TypeError, ValueError):
        return []


def _answer(row: Row, choices: list[str], nats: list[float]) -> int | None:
    """Find the right choice: a number, a text, or for two choices what was judged right or wrong.

    The harness says for each answer whether it was right, and what contradicts that is not taken.
    """
    if not nats or not _is_grade(row.get("acc", 0)):
        return None
    best, judged = max(range(len(nats)), key=nats.__getitem__), row.get("acc")
    target, texts = str(row["target"]), [text.strip() for text in choices]
    candidates = [int(target)] if re.fullmatch(r"\d{1,6}", target) else []
    candidates += [texts.index(target.strip())] if texts.count(target.strip()) == 1 else []
    candidates += [best if judged else 1 - best] if len(nats) == 2 and judged is not None else []
    fits = (n for n in candidates if judged is None or bool(judged) == (n == best))
    return next((n for n in fits if n < len(nats)), None)


def _metric(rows: list[Row]) -> str | None:
    """Find the first metric that says only right or wrong."""
    names = map(str, rows[0]["metrics"])
    return next((name for name in names if all(_is_grade(row.get(name)) for row in rows)), None)


def _is_grade(value: Any) -> bool:
    return isinstance(value, bool) or as_number(value) in (0, 1)


def _graded(row: Row, task: str, metric: str | None, file: Path) -> _Item:
    """Take over right or wrong, as a choice between the two of which nothing more is known."""
    if metric is None:
        raise BadInput(
            f"{file}: none of its metrics ({', '.join(map(str, row['metrics']))}) says right or "
            "wrong in every line, so there is nothing to compare item by item."
        )
    prompt = json.dumps(row["arguments"], sort_keys=True) + str(row["target"])
    nats = (0.0, -math.inf) if row[metric] else (-math.inf, 0.0)
    choices = (f"{metric}: {prompt}", f"not {metric}")
    return _Item(task, "", choices, 0, nats, (1, 1), _group(row, task))


def _group(row: Row, task: str) -> str | None:
    """Take the group that a document names; the task's name keeps groups of two tasks apart."""
    doc = row.get("doc")
    group = doc.get("group") if isinstance(doc, dict) else None
    return f"{task}: {group}" if isinstance(group, str | int) and f"{group}".strip() else None
