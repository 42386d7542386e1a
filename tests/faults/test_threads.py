"""Several threads use one model at a time; none disturbs another, and none waits for ever."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest
import tiny
import torch
from bench import QUICK
from drill import fault

import caplab as cl
from caplab.models.subject import measuring
from caplab.models.weights import merged_copy

SECONDS = 60  # that a thread may wait at most before a test says that it hangs


def scored(who, exam):
    """What the model answers to an exam."""
    return cl.score(who, exam, progress=False)


def together(*jobs):
    """Do the jobs at the same time, and return what each gave."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = [pool.submit(job) for job in jobs]
        return [each.result(timeout=SECONDS) for each in running]


@pytest.fixture(params=["gpt2", "llama"])
def subject(request):
    """A model that was made for chat, or not, and that nobody else holds."""
    return tiny.chatty() if request.param == "llama" else tiny.subject("gpt2", dropout=0.5)


@fault("four threads score one model at once", "each finds what one alone finds")
def test_scores_at_once(subject):
    exams = [tiny.exam(), tiny.SPOKEN, cl.Exam(tiny.exam().questions[:3]), tiny.exam()]
    alone = [scored(subject, exam) for exam in exams]
    for _ in range(3):
        found = together(*(lambda exam=exam: scored(subject, exam) for exam in exams))
        assert found == alone


@fault("one thread asks while another scores", "both get their answers")
def test_asking_while_scoring(subject):
    said = subject.ask("A dog says", 5)
    found = scored(subject, tiny.exam())
    jobs = [lambda: subject.ask("A dog says", 5), lambda: scored(subject, tiny.exam())]
    assert together(*jobs, *jobs) == [said, found, said, found]


@fault("a model is scored while a thread trains it", "it waits its turn; the training goes on")
def test_scoring_while_it_trains():
    who, ended, failed = tiny.subject(), Event(), []
    who.model.train()
    optimizer = torch.optim.SGD(who.model.parameters(), lr=0.0)  # so that the answers stay

    def train():
        try:
            while not ended.is_set():
                who.model.train()
                ids = torch.randint(0, 400, (2, 16))
                logits = who.model(input_ids=ids, labels=ids).logits
                assert logits.shape == (2, 16, 400)
                logits.float().log_softmax(-1).mean().backward()
                optimizer.step()
        except BaseException as error:
            failed.append(error)

    alone = scored(tiny.subject(), tiny.exam())
    worker = Thread(target=train, daemon=True)
    worker.start()
    found = [scored(who, tiny.exam()) for _ in range(5)]
    ended.set()
    worker.join(SECONDS)
    assert not worker.is_alive()
    assert not failed
    assert found == [alone] * 5


@fault("a model is tuned while it is scored", "the copy that trains carries nothing of the scoring")
def test_tuning_while_scoring(at):
    at.tune()  # everything is imported
    jobs = [lambda: at.tune(), lambda: [scored(at.subject, at.exam) for _ in range(9)]]
    run, cards = together(*jobs)
    assert cards == [at.card] * 9
    hooks = [m for m in run.subject.model.modules() if m._forward_pre_hooks]
    assert not hooks
    assert run.final.loglikelihoods == at.run.final.loglikelihoods


@fault("a copy is made while the model is measured", "it waits until the measuring is over")
def test_copy_waits():
    who, copied = tiny.subject(), []
    with measuring(who.model):
        worker = Thread(target=lambda: copied.append(merged_copy(who.model)), daemon=True)
        worker.start()
        worker.join(0.2)
        assert not copied
    worker.join(SECONDS)
    assert not copied[0]._forward_pre_hooks


@fault("a callback scores the model that is training", "the same thread never waits for itself")
def test_no_deadlock_in_a_callback(at):
    guard = cl.RegressionGuard(at.exam, every=1, action="stop", budget=0.9)
    worker = Thread(target=lambda: at.tune(QUICK, callbacks=[guard]), daemon=True)
    worker.start()
    worker.join(SECONDS)
    assert not worker.is_alive()


@fault("a scoring fails in one thread", "the others still get their turn")
def test_a_failure_frees_the_turn():
    who = tiny.subject()
    with pytest.raises(ZeroDivisionError), measuring(who.model):
        raise ZeroDivisionError
    assert together(lambda: who.ask("A dog says", 3))
    assert not who.model._forward_pre_hooks
