import json
import math
import pickle
from dataclasses import replace

import pytest
import tiny
from caplab.support.files import write_atomically

from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question, Text, exam
from caplab.support.errors import BadInput
from caplab.support.files import write_sealed

FRANCE = Question("capitals", "The capital of France is", ("Paris", "Rome"), 0)
ITALY = Question("capitals", "The capital of Italy is", ("Paris", "Rome"), 1)
SUM = Question("arithmetic", "2+2=", ("4", "5", "22"), 0)
STORY = Text("language", "Once there was a dog.")
SMALL = Exam((FRANCE, ITALY, SUM), (STORY,), "small")


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


@pytest.fixture
def written(tmp_path):
    """Write lines (texts, or values to be made JSON) to a file."""

    def write(*lines, name="my.jsonl"):
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts), encoding="utf-8")
        return path

    return write


def line(**changes):
    """A right line, changed; a key that is None is left out."""
    right = {"capability": "capitals", "prompt": "Q:", "choices": ["Paris", "Rome"], "answer": 0}
    return {key: value for key, value in (right | changes).items() if value is not None}


# ---------------------------------------------------------------- reading an exam


def test_the_built_in_exams_are_there_and_read_once():
    classics = exam()
    assert classics.name == "classics"
    assert classics is exam("classics")
    assert {"capitals", "arithmetic", "how-to", "opposites", "sounds", "colours"} == set(
        classics.capabilities
    )
    assert classics.texts
    assert len(exam("task")) > 0


def test_an_exam_comes_back_as_it_was_saved(tmp_path):
    odd = Exam((Question("é", 'A "q"\n\u2028→', ("ü", "☃"), 1), *SMALL.questions), (STORY,), "odd")
    odd.save(tmp_path / "odd.jsonl")
    assert exam(tmp_path / "odd.jsonl") == odd
    assert exam(str(tmp_path / "odd.jsonl")).fingerprint == odd.fingerprint


def test_a_file_from_another_editor_is_read(tmp_path):
    text = "\ufeff" + json.dumps(line()) + "\r\n\r\n" + json.dumps(line(answer=1)) + "\r\n\r\n"
    (tmp_path / "windows.jsonl").write_bytes(text.encode())
    assert [question.answer for question in exam(tmp_path / "windows.jsonl").questions] == [0, 1]


def test_all_malformed_lines_are_named_at_once(written):
    path = written(
        line(),
        "{oops",
        line(answer=2),
        "",
        [1],
        line(choices=["Paris"]),
        line(prompt=None, promt="Q:"),
        line(answer="Paris"),
        line(choices=["Paris", "Paris"]),
        {"capability": "language", "text": " "},
    )
    with pytest.raises(BadInput) as refusal:
        exam(path)
    said = str(refusal.value).splitlines()
    assert said[0] == f"{path} has 8 malformed lines:"
    assert [row.split(":")[0] for row in said[1:-1]] == [
        f"  line {number}" for number in (2, 3, 5, 6, 7, 8, 9, 10)
    ]
    assert "this is not JSON (Expecting property name" in said[1]
    assert "'prompt' is missing; unknown key 'promt'. Did you mean 'prompt'?" in said[5]
    assert '"answer": 0}' in said[-1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (line(answer=2), "answer 2 is out of range: the choices are numbered 0 to 1"),
        (line(answer=-1), "answer -1 is out of range"),
        (line(answer=True), "counted from 0, not True"),
        (line(answer=1.0), r"counted from 0, not 1\.0"),
        (line(answer="Paris"), "counted from 0, not 'Paris'"),
        (line(choices=["Paris"]), "needs two choices or more, and this one has 1"),
        (line(choices=[]), "this one has 0"),
        (line(choices="Paris"), "choices must be a list of texts, not 'Paris'"),
        (line(choices={"a": 1}), "choices must be a list"),
        (line(choices=["Paris", 4]), "choice 1 must be a text, not 4"),
        (line(choices=["Paris", ""]), "choice 1 is empty"),
        (line(choices=["Paris", " Rome"]), r"choice 1 \(' Rome'\) begins with a space"),
        (line(choices=["Rome", "Paris", "Rome"]), "choice 'Rome' stands there 2 times"),
        (line(prompt=""), "prompt is empty"),
        (line(prompt=["Q"]), r"prompt must be a text, not \['Q'\]"),
        (line(prompt="\ud800"), r"prompt holds half a character \('\\ud800'\)"),
        (line(capability=" "), "capability is empty"),
        (line(capability=3), "capability must be a text, not 3"),
        (line(capability="language"), 'the capability "language" is kept for texts'),
        (line(answer=None), "'answer' is missing"),
        (line(hint="x"), "unknown key 'hint'"),
        ({"capability": "medicine", "text": "A."}, "a text is \"language\", not 'medicine'"),
        ({"capability": "language", "text": 5}, "text must be a text, not 5"),
        ("null", "this is not a JSON object but null"),
        ("[" * 100_000, "this is not JSON"),
        ("1" * 5000, "this is not JSON"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(written, wrong, message):
    with pytest.raises(BadInput, match=r"1 malformed line:\n  line 2: .*" + message):
        exam(written(line(), wrong))


def test_a_question_made_in_python_is_checked_too():
    with pytest.raises(BadInput, match=r"answer 4 is out of range.*"):
        Question("capitals", "Q:", ("Paris", "Rome"), 4)
    assert Question("capitals", "Q:", ["Paris", "Rome"], 1).choices == ("Paris", "Rome")


def test_what_is_not_utf8_is_named_by_byte_and_line(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps(line()).encode() + b'\n{"capability": "caf\xe9"}')
    with pytest.raises(BadInput, match=r"not UTF-8: byte \d+ \(0xe9\), on line 2"):
        exam(path)


def test_an_empty_file_and_one_without_questions_are_refused(written):
    for path in (written(""), written("\n\n"), written({"capability": "language", "text": "A."})):
        with pytest.raises(BadInput, match="holds no question"):
            exam(path)


def test_an_exam_that_is_not_there_brings_its_neighbours_to_mind(written, tmp_path):
    path = written(line())
    with pytest.raises(
        BadInput, match=r"There is no exam .*mi\.jsonl.* Did you mean '.*my\.jsonl'"
    ):
        exam(path.with_name("mi.jsonl"))
    with pytest.raises(BadInput, match="Did you mean 'classics'"):
        exam("clasics")
    with pytest.raises(BadInput, match=r"cannot be read: Is a directory"):
        exam(tmp_path)
    with pytest.raises(BadInput, match="named by a text or a path, not 3"):
        exam(3)


# ---------------------------------------------------------------- an exam


def test_an_exam_needs_questions_and_takes_nothing_else():
    with pytest.raises(BadInput, match="exam 'none' is empty"):
        Exam((), (STORY,), "none")
    with pytest.raises(BadInput, match="takes Questions here, not Text"):
        Exam((STORY,))
    with pytest.raises(BadInput, match="takes Texts here, not Question"):
        Exam((FRANCE,), (FRANCE,))


def test_an_exam_shows_what_it_holds():
    assert repr(SMALL) == "Exam small: 3 questions (capitals 2, arithmetic 1), texts: 1"
    assert len(SMALL) == 3
    assert SMALL.capabilities == ("capitals", "arithmetic")


def test_the_fingerprint_follows_the_content_and_not_the_name():
    assert replace(SMALL, name="other").fingerprint == SMALL.fingerprint
    for other in (
        replace(SMALL, texts=()),
        replace(SMALL, questions=SMALL.questions[::-1]),
        replace(SMALL, questions=(replace(FRANCE, answer=1), ITALY, SUM)),
    ):
        assert other.fingerprint != SMALL.fingerprint
    assert pickle.loads(pickle.dumps(SMALL)).fingerprint == SMALL.fingerprint


def test_a_subset_keeps_one_capability():
    assert SMALL.subset("capitals") == Exam((FRANCE, ITALY), (), "small/capitals")
    with pytest.raises(BadInput, match="Did you mean 'capitals'"):
        SMALL.subset("capital")


def test_a_sample_keeps_the_proportions_and_depends_on_the_seed_alone():
    many = tuple(replace(FRANCE, prompt=f"{n}") for n in range(60))
    few = tuple(replace(SUM, prompt=f"{n}") for n in range(30))
    texts = tuple(Text("language", f"{n} dogs") for n in range(9))
    whole = Exam((*many, *few), texts, "whole")
    drawn = whole.sample(31)
    assert [question.capability for question in drawn.questions].count("capitals") == 21
    assert len(drawn) == 31
    assert len(drawn.texts) == 4
    assert drawn == whole.sample(31, seed=0) != whole.sample(31, seed=1)
    assert len(set(drawn.questions)) == 31
    places = [whole.questions.index(question) for question in drawn.questions]
    assert places == sorted(places)
    assert whole.sample(90).questions == whole.questions
    for wrong in (0, 91, 2.5, True):
        with pytest.raises(BadInput, match="1 to 90 questions"):
            whole.sample(wrong)


# ---------------------------------------------------------------- writing


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(BadInput, match=r"kept\.json cannot be written: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"there is no folder '.*nowhere'"):
        SMALL.save(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(BadInput, match="cannot be written: it is a folder"):
        SMALL.save(tmp_path)


# ---------------------------------------------------------------- a scorecard


def test_the_measures_are_those_of_lm_evaluation_harness():
    assert card().chosen == [0, 0, 0, 1]
    assert card().correct == [True, False, True, False]
    assert card().correct_norm == [True, True, True, True]
    assert (card().accuracy, card().accuracy_norm) == (0.5, 1.0)
    assert card().by_capability == {"capitals": pytest.approx(2 / 3), "arithmetic": 0.0}
    assert card().probability == [math.exp(nats) for nats in (-1.0, -2.0, -3.0, -8.5)]
    assert card().smooth == pytest.approx(sum(card().probability) / 4)


def test_the_language_loss_is_weighted_by_tokens():
    assert card().language_loss == 2.0
    assert math.isnan(card(text_losses=()).language_loss)


def test_a_scorecard_comes_back_digit_for_digit(tmp_path):
    third = card(loglikelihoods=((-1 / 3, -2 / 3), (-1e-17, -math.inf), (-3, -3), (-9, -8, -8.5)))
    third.save(tmp_path / "card.json")
    assert Scorecard.load(tmp_path / "card.json") == third
    assert third != card()
    assert hash(third) == hash(Scorecard.load(tmp_path / "card.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("[1]", "no JSON object"),
        ("{}", "no seal, and is marked None"),
        ('{"format": "caplab gate 1"}', "no seal, and is marked 'caplab gate 1'"),
        ({"format": "caplab report", "version": 1}, "marked .*caplab report"),
        ({"format": "caplab scorecard", "version": 2}, "'version': 2"),
        ({"format": "caplab scorecard", "version": 1}, "missing 7 required"),
    ],
)
def test_what_is_no_scorecard_is_refused(tmp_path, content, message):
    write = write_sealed if isinstance(content, dict) else write_atomically
    write(tmp_path / "card.json", content)
    with pytest.raises(BadInput, match=rf"card\.json is not a scorecard: .*{message}"):
        Scorecard.load(tmp_path / "card.json")


def test_a_scorecard_that_is_not_there_is_named(tmp_path):
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
def test_a_scorecard_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        card(**changes)


def test_a_scorecard_shows_a_table_with_intervals():
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


def test_a_scorecard_becomes_a_table_of_items():
    table = card().to_pandas()
    assert list(table["correct"]) == card().correct
    assert list(table.columns[:3]) == ["capability", "answer", "chosen"]
    assert len(table) == 4


def test_with_its_exam_the_table_shows_questions_and_answers():
    who = tiny.subject()
    found = score(who, SMALL)
    table = found.to_pandas(SMALL)
    assert list(table["expected"]) == ["Paris", "Rome", "4"]
    assert list(table["given"]) == [
        question.choices[best] for question, best in zip(SMALL.questions, found.chosen, strict=True)
    ]
    with pytest.raises(BadInput, match="given to 'small', not to 'task'"):
        found.to_pandas(exam("task"))


# ---------------------------------------------------------------- scoring


def test_a_score_says_who_answered_what():
    found = score(tiny.subject(), SMALL)
    assert (found.subject, found.exam, found.fingerprint) == ("gpt2", "small", SMALL.fingerprint)
    assert found.capability == ("capitals", "capitals", "arithmetic")
    assert found.answer == (0, 1, 0)
    assert found.characters == ((5, 4), (5, 4), (1, 1, 2))
    assert [len(row) for row in found.loglikelihoods] == [2, 2, 3]
    assert len(found.text_losses) == 1


def test_what_cannot_be_scored_is_said():
    who = tiny.subject()
    with pytest.raises(BadInput, match="score needs a Subject"):
        score("pocket", SMALL)
    with pytest.raises(BadInput, match="score needs an Exam"):
        score(who, "classics")
    for size in (0, -1, 2.0, True):
        with pytest.raises(BadInput, match="batch_size is a whole number"):
            score(who, SMALL, size)
