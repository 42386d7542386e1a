"""Exams and scorecards are read from the files of lm-evaluation-harness."""

import json
import math
from dataclasses import replace

import pytest
import tiny
from harness import graded, samples, write

from caplab.measuring.compare import compare
from caplab.measuring.lm_eval import (
    exam_from_lm_eval,
    is_lm_eval,
    scorecard_from_lm_eval,
    write_samples,
)
from caplab.measuring.score import score
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput

DATE = "2026-11-21T11-30-00.123456"


@pytest.fixture(scope="module")
def asked():
    """The tiny exam as one task: lm_eval names a capability after its task."""
    questions = tuple(replace(question, capability="shop") for question in tiny.exam().questions)
    return Exam(questions, (), "shop")


@pytest.fixture(scope="module")
def card(asked):
    return score(tiny.subject(), asked)


@pytest.fixture
def rows(asked, card):
    return samples(asked, card)


@pytest.fixture
def file(tmp_path, rows):
    return write(tmp_path / "org__mine" / f"samples_shop_{DATE}.jsonl", rows)


# ---------------------------------------------------------------- a round trip


def test_answers_are_read_exactly(file, card):
    found = scorecard_from_lm_eval(file)
    assert found == replace(card, subject="org/mine")


def test_questions_share_the_cards_fingerprint(file, asked):
    exam = exam_from_lm_eval(file)
    assert exam.questions == asked.questions
    assert exam.fingerprint == scorecard_from_lm_eval(file).fingerprint == asked.fingerprint


def test_written_samples_are_read_back(tmp_path):
    exam = Exam(tiny.exam().questions)
    card = score(tiny.subject(), exam)
    write_samples(tmp_path / "org__mine", exam, card)
    found = scorecard_from_lm_eval(tmp_path)
    assert found.by_capability == card.by_capability
    assert sorted(found.loglikelihoods) == sorted(card.loglikelihoods)
    assert compare(found, score(tiny.subject(), exam_from_lm_eval(tmp_path))).overall.change == 0
    with pytest.raises(BadInput, match="These answers were given to 'exam', not to 'tiny'"):
        write_samples(tmp_path, tiny.exam(), card)


def test_spoken_answers_are_written_and_read_back(tmp_path):
    exam = Exam((*tiny.exam().questions, *tiny.SPOKEN.questions))
    card = score(tiny.subject(), exam)
    write_samples(tmp_path / "org__mine", exam, card)
    assert len([*tmp_path.glob("org__mine/samples_capitals_said_*.jsonl")]) == 1
    found = scorecard_from_lm_eval(tmp_path)
    assert sorted(found.said) == sorted(card.said)
    assert found.by_kind == card.by_kind


@pytest.mark.slow
def test_the_harness_writes_what_is_read(tmp_path, asked, monkeypatch):
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    who, folder = tiny.subject(), tmp_path / "out"
    _evaluate(who, asked, tmp_path, folder)
    found = scorecard_from_lm_eval(folder)
    mine = score(who, asked)
    n = len(asked)
    assert found.capability == ("shop",) * n + ("written",) * n
    assert found.answer[:n] == mine.answer
    assert found.characters[:n] == mine.characters
    for theirs, ours in zip(found.loglikelihoods, mine.loglikelihoods, strict=False):
        assert theirs == pytest.approx(ours, abs=1e-4)
    assert set(found.loglikelihoods[n:]) == {(-math.inf, 0.0)}  # nothing written was right
    (choices,) = folder.rglob("samples_shop_*")
    real, written = json.loads(choices.read_text().splitlines()[0]), samples(asked, mine)[0]
    assert written.keys() <= real.keys()
    for key in ("doc_id", "target", "arguments", "filter", "acc"):
        assert written[key] == real[key]
    assert exam_from_lm_eval(choices).fingerprint == asked.fingerprint


def _evaluate(who, asked, folder, output):
    """Run the harness on the questions, once as choices and once as written answers."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    asked.save(folder / "shop.jsonl")
    task = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "shop.jsonl")}},
        "test_split": "test",
        "doc_to_text": "prompt",
    }
    choices = {"output_type": "multiple_choice", "doc_to_choice": "choices"}
    choices |= {"doc_to_target": "answer"}
    choices |= {"metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
    written = {"output_type": "generate_until", "doc_to_target": "never said"}
    written |= {"generation_kwargs": {"max_gen_toks": 2, "until": ["\n"]}}
    written |= {"metric_list": [{"metric": "exact_match"}]}
    for name, rest in (("shop", choices), ("written", written)):
        (folder / f"{name}.yaml").write_text(json.dumps({"task": name} | task | rest))
    tracker = EvaluationTracker(output_path=str(output))
    model = HFLM(pretrained=who.model, tokenizer=who.tokenizer, batch_size=4)
    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(
        model=model, tasks=["shop", "written"], task_manager=tasks, bootstrap_iters=0
    )
    tracker.general_config_tracker.model_name_sanitized = "org__mine"
    tracker.date_id = DATE
    for name, lines in found["samples"].items():
        tracker.save_results_samples(name, lines)


# ---------------------------------------------------------------- what else a task can be


def test_written_answers_are_counted(tmp_path):
    grades = [1] * 200 + [0] * 100
    before = scorecard_from_lm_eval(write(tmp_path / "a.jsonl", graded(grades)))
    assert before.correct == list(map(bool, grades))
    same = compare(before, before).overall
    assert (same.verdict, same.kept) == ("HELD", 1.0)
    assert same.low == pytest.approx(-0.0126, abs=1e-3)  # counted, not "nothing moved"
    worse = scorecard_from_lm_eval(write(tmp_path / "b.jsonl", graded([0] * 60 + grades[60:])))
    row = compare(before, worse).overall
    assert (row.verdict, row.lost, row.kept) == ("REGRESSED", 60, 0.7)


def test_few_written_answers_acquit_nothing(tmp_path):
    card = scorecard_from_lm_eval(write(tmp_path / "a.jsonl", graded([1] * 20 + [0] * 20)))
    row = compare(card, card).overall
    assert row.verdict == "UNDERPOWERED"
    assert row.more_groups == 32


def test_less_than_half_right_is_not_guessing(tmp_path):
    card = scorecard_from_lm_eval(write(tmp_path / "a.jsonl", graded([1] * 60 + [0] * 240)))
    assert compare(card, card).verdict == "HELD"


def test_written_answers_make_no_exam(tmp_path):
    path = write(tmp_path / "sums.jsonl", graded([1, 0]))
    with pytest.raises(
        BadInput,
        match=r"(?s)question 0: .* samples do not follow one prompt.*cannot be asked as an exam",
    ):
        exam_from_lm_eval(path)


def test_another_metric_is_another_exam(tmp_path):
    a = scorecard_from_lm_eval(write(tmp_path / "a.jsonl", graded([1, 0])))
    b = scorecard_from_lm_eval(write(tmp_path / "b.jsonl", graded([1, 0], "acc")))
    with pytest.raises(BadInput, match="different exams"):
        compare(a, b)


def test_first_metric_of_0_and_1_decides(tmp_path):
    rows = graded([1, 0])
    for row, f1 in zip(rows, (1.0, 0.4), strict=True):
        row |= {"metrics": ["f1", "exact_match"], "f1": f1}
    assert scorecard_from_lm_eval(write(tmp_path / "a.jsonl", rows)).correct == [True, False]
    for row in rows:
        row["metrics"] = ["f1"]
    with pytest.raises(BadInput, match=r"none of its metrics \(f1\) is 0 or 1 in every line"):
        scorecard_from_lm_eval(write(tmp_path / "a.jsonl", rows))


def test_a_target_may_be_a_text(file, rows, asked, card):
    for row, question in zip(rows, asked.questions, strict=True):
        row["target"] = question.choices[question.answer]
    rows[3]["target"] = "0"  # this question's choices are numbers, and its target is one of them
    assert scorecard_from_lm_eval(write(file, rows)).answer == card.answer


def test_several_beginnings_are_compared_not_asked(tmp_path):
    rows = [_winogrande(number, right) for number, right in enumerate((1.0, 0.0))]
    path = write(tmp_path / "winogrande.jsonl", rows)
    card = scorecard_from_lm_eval(path)
    assert card.answer == (1, 0)
    assert card.correct == [True, False]
    with pytest.raises(BadInput, match="do not follow one prompt"):
        exam_from_lm_eval(path)


def _winogrande(number, right):
    starts = ("The cup did not fit as the cup", "The cup did not fit as the box")
    arguments = {
        f"gen_args_{n}": {"arg_0": start, "arg_1": " was small."} for n, start in enumerate(starts)
    }
    nats = [["-5.5", "False"], ["-3.25", "False"]]
    keys = {"doc_id": number, "target": "was small.", "arguments": arguments, "metrics": ["acc"]}
    return keys | {"filtered_resps": nats, "acc": right}


def test_choices_without_a_prompt_are_left_out(file, rows, card):
    for row in rows:
        asked = [pair["arg_1"] for pair in row["arguments"].values()]
        for n, choice in enumerate(asked, start=len(asked)):
            row["arguments"][f"gen_args_{n}"] = {"arg_0": "", "arg_1": choice}
        row["filtered_resps"] += [["-1.0", "False"]] * len(asked)
    found = scorecard_from_lm_eval(write(file, rows))
    assert found.loglikelihoods == card.loglikelihoods


def test_arguments_of_older_versions_are_read(file, rows, card):
    for row in rows:
        row["arguments"] = [list(pair.values()) for pair in row["arguments"].values()]
    assert scorecard_from_lm_eval(write(file, rows)).fingerprint == card.fingerprint


def test_several_filters_count_once(tmp_path):
    strict, loose = graded([1, 0, 0]), graded([1, 1, 1])
    for row in strict:
        row["filter"] = "strict-match"
    for row in loose:
        row["filter"] = "flexible-extract"
    card = scorecard_from_lm_eval(write(tmp_path / "sums.jsonl", strict + loose))
    assert card.correct == [True, False, False]


def test_order_of_lines_does_not_matter(file, rows):
    straight = scorecard_from_lm_eval(file)
    assert scorecard_from_lm_eval(write(file, rows[::-1])) == straight


# ---------------------------------------------------------------- folders


def test_a_folder_gives_each_tasks_newest_file(file, rows):
    older = [row | {"acc": 1.0, "target": "0"} for row in rows]
    write(file.with_name("samples_shop_2025-01-01T00-00-00.0.jsonl"), older[:2])
    write(file.with_name(f"samples_sums_{DATE}.jsonl"), graded([1, 0]))
    card = scorecard_from_lm_eval(file.parents[1])
    assert card.capability == ("shop",) * len(rows) + ("sums",) * 2
    assert (card.subject, card.exam) == ("org/mine", "shop and sums")


def test_one_model_per_folder(file, rows, tmp_path):
    write(tmp_path / "org__other" / file.name, rows)
    with pytest.raises(BadInput, match=r"several models. Give one of their folders: .*org__mine"):
        scorecard_from_lm_eval(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no samples"):
        scorecard_from_lm_eval(tmp_path / "empty")


def test_a_model_with_samples_is_a_model(file):
    assert is_lm_eval(file)
    assert is_lm_eval(file.parent)
    (file.parent / "config.json").write_text("{}")
    assert not is_lm_eval(file.parent)
    assert not is_lm_eval(file.parents[1] / "nothing")


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("arguments"), "line 2: 'arguments' is missing"),
        (
            lambda row: row.update(doc_id="x"),
            "line 2: doc_id must be the number of a document, not 'x'",
        ),
        (
            lambda row: row.update(metrics="acc"),
            "line 2: metrics must be a list of names, not 'acc'",
        ),
        (lambda row: row.update(arguments=5), "line 2: arguments is 5, not a list of what"),
        (lambda row: row.update(doc_id=0), "(?s)document 0: it appears 2 times.*several runs"),
    ],
)
def test_malformed_lines_are_named(file, rows, change, message):
    change(rows[1])
    with pytest.raises(BadInput, match=message):
        scorecard_from_lm_eval(write(file, rows))


def test_at_most_20_malformed_lines_are_listed(file):
    file.write_text("[]\n{\n" * 50)
    with pytest.raises(BadInput) as refusal:
        scorecard_from_lm_eval(file)
    said = str(refusal.value).splitlines()
    assert said[1].strip() == "line 1: this is not a JSON object but []"
    assert said[2].strip().startswith("line 2: this is not JSON")
    assert said[-2].strip() == "... and 80 more"
    assert said[-1].startswith("This is not what lm_eval --log_samples writes.")


def test_empty_or_missing_files_are_refused(tmp_path):
    with pytest.raises(BadInput, match="There is no samples file"):
        scorecard_from_lm_eval(tmp_path / "nothing.jsonl")
    with pytest.raises(BadInput, match="is empty"):
        scorecard_from_lm_eval(write(tmp_path / "empty.jsonl", []))


def test_conversations_and_joined_choices_are_written(tmp_path):
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Up or down?"}]
    asked = (
        Question("talk", messages=talk, choices=("up", "down"), answer=0),
        Question("code", "x =", ("1", "2"), 1, joined=True),
    )
    exam = Exam(asked)
    card = score(tiny.subject(), exam)
    write_samples(tmp_path / "org__mine", exam, card)
    found = scorecard_from_lm_eval(tmp_path / "org__mine")
    assert sorted(found.loglikelihoods) == sorted(card.loglikelihoods)
    first = json.loads(next((tmp_path / "org__mine").glob("samples_talk*")).read_text())
    assert first["arguments"]["gen_args_1"] == {"arg_0": "Up or down?", "arg_1": " down"}
    second = json.loads(next((tmp_path / "org__mine").glob("samples_code*")).read_text())
    assert second["arguments"]["gen_args_1"] == {"arg_0": "x =", "arg_1": "2"}
