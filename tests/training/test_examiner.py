"""What a point measures: the scores, the loss on the language and the KL to the base."""

from dataclasses import replace

import pytest
import tiny
import torch
from tuning import QUICK, TASK, timeless, tune
from weights import same, weights

from caplab.measuring.score import score
from caplab.questions.exam import Exam, exam
from caplab.training import examiner as examining
from caplab.training.examiner import Examiner
from caplab.training.task_rows import tokens


def test_a_rate_of_zero_changes_no_score():
    run = tune(QUICK.change(learning_rate=0.0))
    assert run.final.loglikelihoods == run.before.loglikelihoods
    assert {point.kl for point in run.points} == {0.0}
    assert len({point.task_loss for point in run.points[1:]}) >= 1
    assert len({point.smooth for point in run.points}) == 1


def test_a_point_is_true_of_its_step():
    whole, half = tune(every=3), tune(QUICK.change(steps=3, schedule="constant"))
    constant = tune(QUICK.change(schedule="constant"), every=3)
    point, last = constant.points[1], half.points[-1]
    assert timeless(point) == replace(timeless(last), task_loss=point.task_loss)
    final = whole.points[-1]
    assert final.classics_accuracy == whole.final.accuracy  # the exam is shorter than a sample
    assert final.by_capability == whole.final.by_capability
    assert final.smooth == whole.final.smooth
    assert final.language_loss == whole.final.language_loss
    assert final.task_accuracy == whole.final_task.accuracy
    assert constant.points[0].task_accuracy == constant.before_task.accuracy


def test_kl_is_that_of_the_definition():
    who = tiny.subject()
    run = tune(who=who)
    total, count = 0.0, 0
    for row in tokens(TASK["test"], who):  # ten rows: all of them are used
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            base, tuned = (m(ids).logits[0].log_softmax(-1) for m in (who.model, run.subject.model))
        for place in range(ids.shape[1] - 1):
            total += float((base[place].exp() * (base[place] - tuned[place])).sum())
            count += 1
    assert run.points[-1].kl == pytest.approx(total / count, rel=1e-4)


def test_kl_keeps_to_its_memory(monkeypatch):
    monkeypatch.setattr(examining, "_DRIFT_NUMBERS", 400 * 120)
    who = tiny.subject()
    drift = examining._Drift(who, tokens(TASK["test"], who))
    assert 60 <= len(drift.base) <= 120


def test_the_base_is_asked_once(monkeypatch):
    tune()
    asked = []
    monkeypatch.setattr(examining, "score", lambda who, *_, **__: asked.append(who.name))
    examiner = Examiner(tiny.subject(), tiny.exam(), None, tokens(TASK["test"], tiny.subject()))
    examiner.look(None, 0, task_loss=None, learning_rate=0.0, elapsed=0.0)
    assert asked == []


def test_spoken_answers_are_asked_along_the_way_and_in_full():
    asked = Exam((*tiny.exam().questions, *tiny.SPOKEN.questions), tiny.exam().texts, "both")
    run = tune(exam=asked)
    assert run.final.said == score(run.subject, asked).said
    assert run.points[-1].classics_accuracy == run.final.accuracy
    assert run.points[0].classics_accuracy == run.before.accuracy
    assert run.before.said == score(tiny.subject(), asked).said


def test_spoken_questions_change_no_training():
    asked = Exam((*tiny.exam().questions, *tiny.SPOKEN.questions))
    run, plain = tune(exam=asked, every=1), tune(exam=tiny.exam(), every=6)
    assert same(weights(run.subject.model), weights(plain.subject.model))


def test_a_point_hears_few_spoken_answers():
    everyday = exam("everyday")
    asked = examining._asked_along(everyday, 48, 12)
    assert sum(question.spoken for question in asked.questions) == 12
    drawn = everyday.sample(48)
    chosen = [question for question in drawn.questions if not question.spoken]
    assert [question for question in asked.questions if not question.spoken] == chosen
    assert {*asked.questions} <= {*drawn.questions}
    classics = exam()
    assert examining._asked_along(classics, 48, 12) == classics.sample(48)
