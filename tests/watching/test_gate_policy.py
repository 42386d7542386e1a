"""The gate by a policy: budgets and tiers of single capabilities, and what it refuses."""

from dataclasses import asdict

import pytest
from gated import SIZES, answers, exam_of, kept, saved

from caplab.cli.commands import main
from caplab.support.files import write_sealed
from caplab.watching import gate as gating
from caplab.watching.gate import gate

OUTPUTS = ("json", "html", "markdown", "junit")


@pytest.fixture
def judge(tmp_path):
    """Compare by a policy and further options, after some answers were lost; return the code."""

    def judge(policy=None, *options, sizes=SIZES, wrong=()):
        given = saved(tmp_path, exam_of(sizes), wrong)
        if policy is not None:
            (tmp_path / "policy.toml").write_text(policy)
            given.append(f"--policy={tmp_path / 'policy.toml'}")
        return main([*given, *options])

    return judge


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ("", 3),  # eight of a hundred are more than .05, and too few to prove it
        ("[capability.capitals]\nbudget = 0.2", 0),
        ("[capability.capitals]\nbudget = 0.005", 1),
        ("budget = 0.2", 0),
    ],
)
def test_a_capability_has_its_own_budget(judge, policy, code):
    assert judge(policy, wrong=range(8)) == code


@pytest.mark.parametrize(("tier", "code"), [("watched", 0), ("must-keep", 3), ("advisory", 0)])
def test_must_keep_needs_a_proof(judge, tier, code):
    """Forty intact questions cannot exclude a loss of .05."""
    policy = f'[capability.capitals]\ntier = "{tier}"'
    assert judge(policy, sizes={"capitals": 40, "sums": 400}) == code


@pytest.mark.parametrize(("tier", "code"), [("watched", 1), ("must-keep", 1), ("advisory", 0)])
def test_an_advisory_row_never_decides(judge, tier, code, capsys):
    policy = f'[capability.capitals]\ntier = "{tier}"'
    assert judge(policy, sizes={"capitals": 40, "sums": 1000}, wrong=range(20)) == code
    assert "REGRESSED" in capsys.readouterr().out


def test_strict_needs_a_proof_of_each(judge):
    few = {"capitals": 40, "sums": 400}
    assert judge(sizes=few) == 0
    assert judge(None, "--strict", sizes=few) == 3
    assert judge('[capability.capitals]\ntier = "advisory"', "--strict", sizes=few) == 0
    assert judge(None, "--strict") == 0


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("[capability.capitols]\nbudget = 0.1", ("'capitols'", "Did you mean 'capitals'")),
        ("budget = 2", ("policy.toml", "budget is 2")),
        ("[capability.capitals]\nbudget = 2", ("'capitals'", "budget is 2")),
        ("[capability.capitals]\ntier = 'most'", ("'most'", "must-keep, watched and advisory")),
        ("budget = ", ("policy.toml is not TOML",)),
        ("[capability.capitals]\ntire = 'watched'", ("'tire'", "Did you mean 'tier'")),
    ],
)
def test_an_odd_policy_is_refused_at_once(judge, tmp_path, monkeypatch, capsys, policy, words):
    monkeypatch.setattr(gating, "scorecard_of", lambda *_: pytest.fail("it was scored"))
    outputs = [f"--{form}={tmp_path / form}" for form in OUTPUTS]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert judge(policy, *outputs) == 2
    heard = capsys.readouterr()
    assert [word for word in words if word not in heard.err] == [], heard.err
    assert heard.err.count("\n") == 1
    assert heard.out == ""
    assert not any((tmp_path / form).exists() for form in OUTPUTS)
    assert (tmp_path / "summary.md").read_text() == ""


def test_a_missing_policy_is_named(judge, capsys):
    assert judge(None, "--policy=nowhere.toml") == 2
    assert "There is no policy nowhere.toml" in capsys.readouterr().err


def test_a_budget_and_a_policy_contradict(judge, capsys):
    with pytest.raises(SystemExit) as stopped:
        judge("budget = 0.1", "--budget=0.1")
    assert stopped.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("form", OUTPUTS)
@pytest.mark.parametrize("name", ["before.json", "after.json", "exam.jsonl", "policy.toml"])
def test_no_output_replaces_an_input(judge, tmp_path, capsys, form, name):
    judge("budget = 0.1")
    before = kept(tmp_path)
    assert judge("budget = 0.1", f"--{form}={tmp_path / name}") == 2
    assert f"{name} is an input" in capsys.readouterr().err
    assert kept(tmp_path) == before


# ---------------------------------------------------------------- scorecards of caplab 0.1


def old(path, card):
    """Save a scorecard as caplab 0.1 did: without groups."""
    content = {key: value for key, value in asdict(card).items() if key != "group"}
    write_sealed(path, {"format": "caplab scorecard", "version": 1} | content)
    return path


@pytest.mark.parametrize("wrong", [(), range(250)], ids=["intact", "half lost"])
def test_scorecards_of_0_1_are_judged(tmp_path, wrong):
    exam = exam_of()
    before = old(tmp_path / "before.json", answers(exam))
    after = old(tmp_path / "after.json", answers(exam, wrong))
    assert gate(before, after).exit_code == (1 if wrong else 0)


@pytest.mark.parametrize("older", ["before", "after"])
def test_an_old_scorecard_gets_its_groups(tmp_path, older):
    """Today's answers know the groups of the exam, and those of 0.1 do not."""
    plain = exam_of()
    exam = type(plain)(
        tuple(
            type(question)(**asdict(question) | {"group": f"{question.capability} {n // 4}"})
            for n, question in enumerate(plain.questions)
        ),
        (),
        plain.name,
    )
    assert exam.fingerprint == plain.fingerprint
    cards = {name: answers(exam) for name in ("before", "after")}
    for name, card in cards.items():
        card.save(tmp_path / f"{name}.json")
    old(tmp_path / f"{older}.json", cards[older])
    decision = gate(tmp_path / "before.json", tmp_path / "after.json", exam=exam)
    assert decision.report.overall.groups == 125
    assert decision.report["capitals"].groups == 25
