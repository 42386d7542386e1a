"""Measure a model at a point of its training: what it knows, has learned, how far it moved."""

import math
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import kl_div

from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.models.subject import Subject, measuring
from caplab.models.weights import digest
from caplab.questions.exam import Exam
from caplab.training.run import Point
from caplab.training.trainer import Collator, Diverged

__all__ = ["Examiner"]

_CLASSICS_ASKED = 48  # questions at a point; the final scorecard answers all
_TASK_ASKED = 32
_CLASSICS_SAID, _TASK_SAID = 12, 8  # of these at most are spoken, which takes longer
_DRIFT_ROWS = 16  # held-out rows on which the KL is measured
_DRIFT_NUMBERS = 2**23  # log-probabilities of the base that are kept at most: 32 MB
_CARDS_KEPT = 32


class _Drift:
    """Measure how far a model has moved from its base: KL(base || model) per token of fixed texts.

    Prompts count as well as completions. In a trial over 22 runs of the pocket model, the whole
    text predicted what was forgotten (R squared .89 for the smooth score) better than the
    completions alone (.69).
    """

    def __init__(self, subject: Subject, rows: Dataset) -> None:
        batch = Collator.of(subject.tokenizer)(list(_spread(rows, subject.model)))
        self.inputs = {
            key: batch[key].to(subject.device)  # (rows, tokens)
            for key in ("input_ids", "attention_mask")
        }
        self.predicted = self.inputs["attention_mask"][:, 1:].bool()  # (rows, tokens - 1)
        self.base = self._log_probabilities(subject.model)

    def _log_probabilities(self, model: Any) -> torch.Tensor:
        """Return the model's log-probabilities of every word after each token, padding left out."""
        with measuring(model):
            logits: torch.Tensor = model(**self.inputs).logits[:, :-1]  # (rows, tokens - 1, words)
            return logits[self.predicted].float().log_softmax(-1)  # (tokens predicted, words)

    def from_base(self, model: Any) -> float:
        """Return the divergence in nats per token; 0 for the base itself."""
        moved = self._log_probabilities(model)
        return kl_div(moved, self.base, reduction="batchmean", log_target=True).item()


def _spread(rows: Dataset, model: Any) -> Dataset:
    """Pick rows at equal distances, as many as the memory limit allows."""
    vocabulary = model.get_output_embeddings().weight.shape[0]
    predicted = sum(len(row["input_ids"]) - 1 for row in rows)
    fitting = _DRIFT_NUMBERS * len(rows) // (vocabulary * predicted)
    count = min(len(rows), _DRIFT_ROWS, max(1, fitting))
    return rows.select([row * len(rows) // count for row in range(count)])


_last_drift: dict[tuple[str, str, str], _Drift] = {}


def _drift(subject: Subject, rows: Dataset, weights: str) -> _Drift:
    """Return the measure of drift from this base; kept, because runs often share their base."""
    key = (weights, rows._fingerprint, str(subject.device))
    if key not in _last_drift:
        _last_drift.clear()
        _last_drift[key] = _Drift(subject, rows)
    return _last_drift[key]


_base_cards: dict[tuple[str, str, str], Scorecard] = {}


def _asked_along(exam: Exam, count: int, said: int) -> Exam:
    """Draw what each point asks: so many questions, and few spoken ones, at equal distances."""
    part = exam.sample(min(count, len(exam)))
    spoken = [n for n, question in enumerate(part.questions) if question.spoken]
    if len(spoken) <= said:
        return part
    kept = {spoken[n * len(spoken) // said] for n in range(said)}
    asked = [q for n, q in enumerate(part.questions) if not q.spoken or n in kept]
    return Exam(tuple(asked), part.texts, part.name)


class Examiner:
    """Measure what a point reports: a sample of each exam, and the distance from the base."""

    def __init__(
        self,
        subject: Subject,
        exam: Exam,
        task_exam: Exam | None,
        rows: Dataset,
        *,
        progress: bool = False,
    ) -> None:
        self.subject, self.exam, self.task_exam = subject, exam, task_exam
        self._progress = progress
        self.weights = digest(subject.model)
        self._classics = _asked_along(exam, _CLASSICS_ASKED, _CLASSICS_SAID)
        self._task = _asked_along(task_exam, _TASK_ASKED, _TASK_SAID) if task_exam else None
        self._drift = _drift(subject, rows, self.weights)

    def cards(self, tuned: Subject | None) -> dict[str, Scorecard]:
        """Score the base, and the tuned subject if one is given, on the whole exams."""
        found = {}
        for suffix, exam in (("", self.exam), ("_task", self.task_exam)):
            if exam:
                found[f"before{suffix}"] = self._base_card(exam)
            if exam and tuned:
                found[f"final{suffix}"] = score(tuned, exam, progress=self._progress)
        return found

    def _base_card(self, exam: Exam) -> Scorecard:
        """Score the base; its answers are kept for all runs that begin from the same weights."""
        key = (self.weights, exam.fingerprint, str(self.subject.tokenizer.chat_template))
        if key not in _base_cards:
            _base_cards[key] = score(self.subject, exam, progress=self._progress)
            for oldest in list(_base_cards)[:-_CARDS_KEPT]:
                _base_cards.pop(oldest)
        return replace(_base_cards[key], subject=self.subject.name)

    def look(self, model: Any | None, step: int, **known: Any) -> Point:
        """Measure the model, or the base where no model is given."""
        kl = 0.0 if model is None else self._drift.from_base(model)
        if not math.isfinite(kl):
            raise Diverged(f"the weights were not finite numbers any more after step {step}")
        classics = self._ask(model, self._classics)
        return Point(
            step=step,
            task_accuracy=self._ask(model, self._task).accuracy if self._task else None,
            classics_accuracy=classics.accuracy,
            by_capability=classics.by_capability,
            smooth=classics.smooth,
            language_loss=classics.language_loss if self._classics.texts else None,
            kl=kl,
            **known,
        )

    def _ask(self, model: Any | None, exam: Exam) -> Scorecard:
        if model is None:
            return self._base_card(exam)
        return score(Subject(model, self.subject.tokenizer, "in training"), exam, progress=False)
