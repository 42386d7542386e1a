import math
from dataclasses import asdict, replace

import pytest
import tiny
from exams import SMALL

from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import exam
from caplab.support.errors import BadInput
from caplab.support.files import write_atomically, write_sealed


def card(**changes):
    """A scorecard of four items, two right."""
    return replace(
        Scorecard(
            subject="pocket",
            exam="small",
            fingerprint="f00d",
            capability=("capitals", "capitals", "capitals", "arithmetic"),
            answer=(0, 1, 0, 2),
            loglikelihoods=((-1.0, -2.0), (-1.0, -2.0), (-3.0, -3.0), (-9.0, -8.0, -8.5)),
            characters=((5, 4), (9, 30), (4, 4), (1, 1, 2)),
            text_losses=((10.0, 4), (2.0, 2)),
        ),
        **changes,
    )


def test_its_measures_are_those_of_lm_eval():
    assert card().chosen == [0, 0, 0, 1]
    assert card().correct == [True, False, True, False]
    assert card().correct_norm == [True, True, True, True]
    assert (card().accuracy, card().accuracy_norm) == (0.5, 1.0)
    assert card().by_capability == {"capitals": pytest.approx(2 / 3), "arithmetic": 0.0}
    assert card().probability == [math.exp(nats) for nats in (-1.0, -2.0, -3.0, -8.5)]
    assert card().smooth == pytest.approx(sum(card().probability) / 4)


def test_the_language_loss_is_per_token():
    assert card().language_loss == 2.0
    assert math.isnan(card(text_losses=()).language_loss)


def test_a_scorecard_loads_as_it_was_saved(tmp_path):
    third = card(loglikelihoods=((-1 / 3, -2 / 3), (-1e-17, -math.inf), (-3, -3), (-9, -8, -8.5)))
    third.save(tmp_path / "card.json")
    assert Scorecard.load(tmp_path / "card.json") == third
    assert third != card()
    assert hash(third) == hash(Scorecard.load(tmp_path / "card.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("[1]", "contains no JSON object"),
        ("{}", "no seal, and its format is None"),
        ('{"format": "caplab gate 1"}', "no seal, and its format is 'caplab gate 1'"),
        ({"format": "caplab report", "version": 1}, "marked .*caplab report"),
        ({"format": "caplab scorecard", "version": 4}, "'version': 4"),
        ({"format": "caplab scorecard", "version": 1}, "missing 7 required"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    write = write_sealed if isinstance(content, dict) else write_atomically
    write(tmp_path / "card.json", content)
    with pytest.raises(BadInput, match=rf"card\.json is not a scorecard: .*{message}"):
        Scorecard.load(tmp_path / "card.json")


def test_a_missing_scorecard_suggests_others(tmp_path):
    card().save(tmp_path / "card.json")
    with pytest.raises(BadInput, match=r"no scorecard .*cart\.json\. Did you mean '.*card\.json'"):
        Scorecard.load(tmp_path / "cart.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": (0, 1, 0)}, "one entry per item"),
        ({"characters": ((5, 4),) * 4}, "one entry per item"),
        ({"answer": (0, 2, 0, 2)}, "answer out of range"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        card(**changes)


def test_its_repr_is_a_table_with_intervals():
    assert repr(card()).splitlines() == [
        "Scorecard: pocket on small",
        "capability     n  accuracy  95 % interval",
        "capitals       3     0.667  0.208 to 0.939",
        "arithmetic     1     0.000  0.000 to 0.793",
        "overall        4     0.500  0.150 to 0.850",
        "language loss 2.000 nats per token (texts: 2)",
    ]
    shown = card(subject="<me>", capability=("a&b",) * 4)._repr_html_()
    assert "&lt;me&gt;" in shown
    assert "a&amp;b" in shown
    assert "0.150 to 0.850" in shown


def test_to_pandas_has_one_row_per_item():
    table = card().to_pandas()
    assert list(table["correct"]) == card().correct
    assert list(table.columns[:4]) == ["capability", "group", "answer", "chosen"]
    assert len(table) == 4


def test_to_pandas_with_its_exam_shows_texts():
    who = tiny.subject()
    found = score(who, SMALL)
    table = found.to_pandas(SMALL)
    assert list(table["expected"]) == ["Paris", "Rome", "4"]
    assert list(table["given"]) == [
        question.choices[best] for question, best in zip(SMALL.questions, found.chosen, strict=True)
    ]
    with pytest.raises(BadInput, match="given to 'small', not to 'task'"):
        found.to_pandas(exam("task"))


def test_version_1_is_read_without_groups(tmp_path):
    stamp = {"format": "caplab scorecard", "version": 1}
    old = {key: value for key, value in asdict(card()).items() if key != "group"}
    write_sealed(tmp_path / "old.json", stamp | old)
    read = Scorecard.load(tmp_path / "old.json")
    assert read == card()
    assert len(set(read.groups)) == len(read.answer)


def heard(**changes):
    """A scorecard of two choices and two spoken answers, one of each right."""
    wrong, right = (-math.inf, 0.0), (0.0, -math.inf)
    known = {
        "answer": (0, 1, 0, 0),
        "loglikelihoods": ((-1.0, -2.0), (-1.0, -2.0), right, wrong),
        "characters": ((5, 4), (5, 4), (1, 1), (1, 1)),
        "said": ("", "", "It is 4.", "\u200f<b>Click\x00"),
    }
    return card(**known | changes)


def test_spoken_answers_count_as_choices_do():
    found = heard()
    assert found.kinds == ["chosen", "chosen", "said", "said"]
    assert found.correct == found.correct_norm == [True, False, True, False]
    assert found.by_kind == {"chosen": 0.5, "said": 0.5}
    assert card().by_kind == {"chosen": 0.5}
    assert found.accuracy == 0.5
    assert not any(math.isnan(value) for value in found.probability)


def test_said_and_chosen_have_rows_of_their_own():
    rows = [line[:18].rstrip() for line in repr(heard()).splitlines()[2:-1]]
    both = [f"{name}, {kind}" for name in ("capitals", "overall") for kind in ("said", "chosen")]
    assert rows == [*both[:2], "arithmetic", *both[2:]]


def test_answers_are_saved_letter_for_letter(tmp_path):
    heard(asked="chat").save(tmp_path / "card.json")
    assert Scorecard.load(tmp_path / "card.json") == heard(asked="chat")


def test_version_2_is_read_without_answers(tmp_path):
    stamp = {"format": "caplab scorecard", "version": 2}
    old = {key: value for key, value in asdict(card()).items() if key not in ("said", "asked")}
    write_sealed(tmp_path / "old.json", stamp | old)
    assert Scorecard.load(tmp_path / "old.json") == card()
    assert card().asked == "plain"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"said": ("", "")}, "one answer per item among those that it said"),
        ({"said": (1, 2, 3, 4)}, "1 among its said"),
        ({"asked": "loudly"}, "was asked 'loudly'"),
    ],
)
def test_answers_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        heard(**changes)


def test_one_group_per_item():
    with pytest.raises(BadInput, match="one group per item"):
        replace(card(), group=("France",))
    with pytest.raises(BadInput, match="3 among its group"):
        replace(card(), group=(3,) * len(card().answer))
