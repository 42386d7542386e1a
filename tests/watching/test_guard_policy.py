"""The guard by a policy, and what weights a rollback may return to."""

from dataclasses import asdict, replace

import pytest
import tiny
from guarded import Keep, known, trainer
from weights import same, weights

from caplab import RegressionGuard
from caplab.measuring.policy import Policy
from caplab.measuring.score import score
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput
from caplab.watching import guard as guard_module


def two():
    """The known exam with its last twenty questions as a capability of their own.

    Whatever the tests forget, they forget there first.
    """
    asked = known().questions
    letters = tuple(replace(question, capability="letters") for question in asked[40:])
    return Exam((*asked[:40], *letters), name="two")


def letters(**rule):
    return Policy(capability={"letters": rule})


# ---------------------------------------------------------------- which weights are good enough


def test_each_row_has_to_be_within_its_budget(tmp_path, forgetting, said):
    """Two of sixty are within the budget overall; two of twenty letters are not."""
    forgetting(0, 0, 2, 30, 30)
    keep, guard = Keep(), RegressionGuard(two(), every=2, action="rollback")
    run = trainer(tmp_path, keep, guard)
    run.train()

    report = guard.checks[2].report
    assert report.overall.seen_loss <= report.overall.budget
    assert report["letters"].seen_loss > report["letters"].budget
    assert report.verdict == "UNDERPOWERED"
    assert guard.restored_step == 2
    assert same(weights(run.model), keep.weights[2])
    assert said()[-1].endswith(
        "Training stops; the weights of step 2 are restored: "
        "every row within its budget on the questions asked."
    )
    assert "HELD" not in said()[-1].split("Training stops")[1]


@pytest.mark.parametrize(
    ("rule", "restored"),
    [
        ({}, 2),
        ({"budget": 0.1}, 4),
        ({"tier": "advisory"}, 4),
        ({"tier": "must-keep"}, 2),
    ],
)
def test_a_policy_says_what_may_be_kept(tmp_path, forgetting, rule, restored):
    forgetting(0, 0, 2, 30, 30)
    guard = RegressionGuard(two(), every=2, action="rollback", policy=letters(**rule))
    trainer(tmp_path, guard).train()
    assert guard.restored_step == restored


def test_what_is_no_longer_said_is_not_kept(tmp_path, monkeypatch):
    """Every answer is still preferred at step 4, and a tenth of them is no longer said."""
    exam, looks = known(), iter([(0, 0), (0, 0), (0, 6), (30, 0), (30, 0)])

    def scripted(subject, asked, **_):
        wrong, silent = next(looks)
        right = [(-0.1, -2.0, -2.0, -2.0)] * (60 - wrong - silent)
        right += [(-6.0, -9.0, -9.0, -9.0)] * silent + [(-2.0, -0.1, -2.0, -2.0)] * wrong
        return replace(score(tiny.subject(), asked), answer=(0,) * 60, loglikelihoods=tuple(right))

    monkeypatch.setattr(guard_module, "score", scripted)
    guard = RegressionGuard(exam, every=2, action="rollback")
    trainer(tmp_path, guard).train()
    assert guard.checks[2].report.overall.change == 0
    assert guard.checks[2].verdict != "REGRESSED"
    assert guard.restored_step == 2


# ---------------------------------------------------------------- budgets and tiers


@pytest.mark.parametrize(
    ("rule", "crossed"),
    [({}, None), ({"budget": 0.02}, 2), ({"budget": 0.02, "tier": "advisory"}, None)],
)
def test_a_capability_can_stop_a_training(tmp_path, forgetting, rule, crossed):
    forgetting(*[0, 12, 12, 12, 12])
    policy = Policy(budget=0.7, capability={"letters": rule})
    guard = RegressionGuard(two(), every=2, policy=policy)
    trainer(tmp_path, guard).train()
    assert guard.crossed_at == crossed
    assert guard.budget == 0.7


def test_a_policy_can_be_a_file(tmp_path, forgetting):
    path = tmp_path / "policy.toml"
    path.write_text("budget = 0.1\nconfidence = 0.9\n[capability.letters]\nbudget = 0.02\n")
    forgetting(*[0] * 5)
    guard = RegressionGuard(two(), every=2, policy=path)
    trainer(tmp_path, guard).train()
    report = guard.checks[-1].report
    assert [row.budget for row in report.rows] == [0.1, 0.02, 0.1]
    assert guard.confidence == 0.9
    assert report.confidence == pytest.approx(1 - 0.1 / 2)  # of the whole run, at two looks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": Policy(capability={"letter": {}})}, "'letter'.*'two'.*Did you mean 'letters'"),
        ({"policy": "nowhere.toml"}, r"There is no policy nowhere\.toml"),
        ({"policy": Policy(), "budget": 0.1}, "not both"),
        ({"policy": 0.1}, "A policy is a Policy, or the path"),
    ],
)
def test_a_policy_is_checked_before_training(options, message):
    with pytest.raises(BadInput, match=message):
        RegressionGuard(two(), **options)


# ---------------------------------------------------------------- groups


def test_an_old_base_gets_its_groups(tmp_path, forgetting):
    """Scorecards and checkpoints of caplab 0.1 know no groups, and today's exams do."""
    asked = [replace(q, group=f"fact {n // 3}") for n, q in enumerate(known().questions)]
    exam = Exam(tuple(asked), name="known")
    forgetting(*[0] * 6)
    plain = guard_module.score(tiny.subject(), exam)
    old = type(plain)(**asdict(plain) | {"group": ()})
    guard = RegressionGuard(exam, every=2, before=old)
    trainer(tmp_path, guard).train()
    assert {check.report.overall.groups for check in guard.checks} == {20}
