"""Several models of one recipe, judged together."""

import json
from dataclasses import replace

import numpy as np
import pytest
from gated import answers, exam_of

from caplab.cli.commands import main
from caplab.measuring.compare import compare
from caplab.measuring.intervals import mean_interval
from caplab.measuring.policy import Policy
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput
from caplab.watching.gate_seeds import compare_seeds, gate_seeds

EXAM = exam_of({"capitals": 150})
MUCH, LITTLE = range(30), range(30, 33)


def models(*wrong, exam=EXAM):
    """Answers of several models; each gets the named questions wrong, and no two are alike."""
    cards = [answers(exam, wrong=each) for each in wrong]
    return [replace(told(card, n), subject=f"seed {n}") for n, card in enumerate(cards)]


def told(card, n):
    shifted = tuple(tuple(x - n * 1e-6 for x in row) for row in card.loglikelihoods)
    return replace(card, loglikelihoods=shifted)


def judged(*wrong, exam=EXAM, **policy):
    return compare_seeds(answers(exam), models(*wrong, exam=exam), policy=Policy(**policy))


# ---------------------------------------------------------------- the statistic


def test_a_facts_change_is_the_mean_over_models():
    row = judged(range(6), range(3), range(0)).overall
    change = np.zeros(150)
    change[:3], change[3:6] = -2 / 3, -1 / 3
    assert row.change == pytest.approx(change.mean())
    assert (row.low, row.high) == pytest.approx(mean_interval(change, 0.05))


def test_models_add_no_facts():
    """Three models that lose the same facts are as much evidence as one."""
    one = compare(answers(EXAM), answers(EXAM, wrong=MUCH))
    three = judged(MUCH, MUCH, MUCH)
    assert three.overall.groups == one.overall.groups == 150
    assert (three.overall.low, three.overall.high) == pytest.approx(
        (one.overall.low, one.overall.high)
    )


def test_losses_of_different_facts_are_told_apart_better():
    """Their mean varies less from fact to fact."""
    alike = judged(range(9), range(9), range(9)).overall
    apart = judged(range(9), range(9, 18), range(18, 27)).overall
    assert alike.change == pytest.approx(apart.change)
    assert apart.low > alike.low


def test_groups_stay_groups():
    asked = [replace(q, group=f"fact {n // 3}") for n, q in enumerate(EXAM.questions)]
    report = judged(range(3), range(6), exam=Exam(tuple(asked), name="mine"))
    assert report.overall.groups == 50
    assert report.overall.change == pytest.approx(-1.5 / 50)


def test_what_the_base_guessed_stays_unknown():
    """Three times right by luck is no knowledge."""
    exam = exam_of({"capitals": 150, "luck": 5})
    base = answers(exam, wrong=range(150, 153))  # 2 of 5 right, chance .25
    report = compare_seeds(
        base, models(*[range(150, 153)] * 12, exam=exam), policy=Policy(budget=0.6)
    )
    assert report["luck"].verdict == "UNDERPOWERED"
    assert "does not know luck" in report["luck"].note


# ---------------------------------------------------------------- the verdict


def test_a_harmless_recipe_is_held():
    report = judged([1], [2], [3])
    assert report.verdict == "HELD"
    assert report.sentence.startswith("mean of 3 models: ")
    assert report.sentence.endswith("by themselves: 3 HELD")
    assert report.conditions.endswith("about these 3 models, not about others")


def test_a_harmful_recipe_regresses():
    report = judged(MUCH, MUCH, MUCH)
    assert report.verdict == "REGRESSED"
    assert "3 REGRESSED (seed 0, seed 1 and seed 2)" in report.sentence


def test_one_bad_model_cannot_hide():
    """The mean of ten is well within the budget, and one of them lost a fifth."""
    report = judged(MUCH, *[[]] * 9)
    assert report.overall.verdict == "HELD"
    assert report.verdict == "UNDERPOWERED"
    assert report.obstacles == ["seed 0 is REGRESSED by itself"]
    assert "9 HELD" in report.sentence
    assert "seed 0: REGRESSED (-.20" in repr(report)


def test_a_must_keep_row_holds_for_the_mean():
    exam = exam_of({"capitals": 150, "sums": 150})
    rules = {"sums": {"tier": "must-keep"}}
    assert judged([1], [2], exam=exam, capability=rules).verdict == "HELD"
    lost = judged(range(150, 160), range(150, 160), exam=exam, capability=rules)
    assert lost.verdict != "HELD"


# ---------------------------------------------------------------- the command


def saved(folder, *wrong):
    EXAM.save(folder / "exam.jsonl")
    answers(EXAM).save(folder / "before.json")
    paths = []
    for n, card in enumerate(models(*wrong)):
        card.save(folder / f"seed-{n}.json")
        paths.append(str(folder / f"seed-{n}.json"))
    return ["gate", str(folder / "before.json"), *paths, f"--exam={folder / 'exam.jsonl'}"]


@pytest.mark.parametrize(
    ("wrong", "code"), [(([1], [2]), 0), ((MUCH, MUCH), 1), ((MUCH, *[[]] * 9), 3)]
)
def test_the_exit_code_is_the_means(tmp_path, capsys, wrong, code):
    assert main(saved(tmp_path, *wrong)) == code
    assert "by themselves" in capsys.readouterr().out


def test_all_outputs_are_written(tmp_path):
    names = {form: tmp_path / f"out.{form}" for form in ("html", "markdown", "junit", "json")}
    options = [f"--{form}={path}" for form, path in names.items()]
    main([*saved(tmp_path, MUCH, LITTLE), *options])
    assert all("mean of 2" in names[form].read_text("utf-8") for form in ("html", "markdown"))
    assert "(lost by 1 of 2)" in names["html"].read_text("utf-8")
    content = json.loads(names["json"].read_text("utf-8"))
    assert [each["after"] for each in content["report"]["seeds"]] == ["seed 0", "seed 1"]


def test_the_lost_are_ranked_by_how_many_lost_them(tmp_path):
    saved(tmp_path, [1, 2], [2], [2, 3])
    decision = gate_seeds(
        tmp_path / "before.json",
        [tmp_path / f"seed-{n}.json" for n in range(3)],
        exam=tmp_path / "exam.jsonl",
    )
    first, *others = decision.lost_answers
    assert first.question == EXAM.questions[2]
    assert first.now.endswith("(lost by 3 of 3)")
    assert len(others) == 2


def test_one_model_given_twice_is_refused(tmp_path, capsys):
    arguments = saved(tmp_path, [1], [2])
    assert main([*arguments[:3], arguments[2], arguments[-1]]) == 2
    assert "given twice" in capsys.readouterr().err


def test_two_names_of_one_model_are_refused(tmp_path, capsys):
    arguments = saved(tmp_path, [1], [2])
    replace(models([1])[0], subject="other").save(tmp_path / "seed-1.json")
    assert main(arguments) == 2
    assert "bit for bit alike" in capsys.readouterr().err


def test_a_single_model_needs_no_seeds(tmp_path):
    saved(tmp_path, [1])
    with pytest.raises(BadInput, match="at least two"):
        gate_seeds(tmp_path / "before.json", [tmp_path / "seed-0.json"])


def test_a_model_of_another_exam_is_refused(tmp_path, capsys):
    arguments = saved(tmp_path, [1], [2])
    answers(exam_of({"capitals": 10})).save(tmp_path / "seed-1.json")
    assert main(arguments) == 2
    assert capsys.readouterr().err
