import json
import pickle
from dataclasses import replace

import pytest
from exams import FRANCE, ITALY, SMALL, STORY, SUM

from caplab.questions.exam import Exam, Question, Text, exam
from caplab.support.errors import BadInput


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


def test_built_in_exams_are_read_once():
    classics = exam()
    assert classics.name == "classics"
    assert classics is exam("classics")
    assert {"capitals", "arithmetic", "how-to", "opposites", "sounds", "colours"} == set(
        classics.capabilities
    )
    assert classics.texts
    assert len(exam("task")) > 0


def test_an_exam_loads_as_it_was_saved(tmp_path):
    odd = Exam((Question("é", 'A "q"\n\u2028→', ("ü", "☃"), 1), *SMALL.questions), (STORY,), "odd")
    odd.save(tmp_path / "odd.jsonl")
    assert exam(tmp_path / "odd.jsonl") == odd
    assert exam(str(tmp_path / "odd.jsonl")).fingerprint == odd.fingerprint


def test_a_file_of_windows_is_read(tmp_path):
    lines = [json.dumps(line()), "", json.dumps(line(prompt="R:", answer=1)), "", ""]
    text = "\ufeff" + "\r\n".join(lines)
    (tmp_path / "windows.jsonl").write_bytes(text.encode())
    assert [question.answer for question in exam(tmp_path / "windows.jsonl").questions] == [0, 1]


def test_all_malformed_lines_are_listed(written):
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
        (line(choices=["Paris"]), "needs at least two choices, and this one has 1"),
        (line(choices=[]), "this one has 0"),
        (line(choices="Paris"), "choices must be a list of strings, not 'Paris'"),
        (line(choices={"a": 1}), "choices must be a list"),
        (line(choices=["Paris", 4]), "choice 1 must be a string, not 4"),
        (line(choices=["Paris", ""]), "choice 1 is empty"),
        (line(choices=["Paris", " Rome"]), r"choice 1 \(' Rome'\) begins with a space"),
        (line(choices=["Rome", "Paris", "Rome"]), "choice 'Rome' appears 2 times"),
        (line(prompt=""), "prompt is empty"),
        (line(prompt=["Q"]), r"prompt must be a string, not \['Q'\]"),
        (
            line(prompt="\ud800"),
            r"prompt contains a lone surrogate, half a character \('\\ud800'\)",
        ),
        (line(capability=" "), "capability is empty"),
        (line(capability=3), "capability must be a string, not 3"),
        (line(capability="language"), 'the capability "language" is reserved for texts'),
        (line(answer=None), "'answer' is missing"),
        (line(hint="x"), "unknown key 'hint'"),
        ({"capability": "medicine", "text": "A."}, "a text is \"language\", not 'medicine'"),
        ({"capability": "language", "text": 5}, "text must be a string, not 5"),
        ("null", "this is not a JSON object but null"),
        ("[" * 100_000, "this is not JSON"),
        ("1" * 5000, "this is not JSON"),
    ],
)
def test_each_problem_of_a_line_is_named(written, wrong, message):
    with pytest.raises(BadInput, match=r"1 malformed line:\n  line 2: .*" + message):
        exam(written(line(), wrong))


def test_a_question_checks_itself():
    with pytest.raises(BadInput, match=r"answer 4 is out of range.*"):
        Question("capitals", "Q:", ("Paris", "Rome"), 4)
    assert Question("capitals", "Q:", ["Paris", "Rome"], 1).choices == ("Paris", "Rome")


def test_other_than_utf8_is_refused(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps(line()).encode() + b'\n{"capability": "caf\xe9"}')
    with pytest.raises(BadInput, match=r"not UTF-8: byte \d+ \(0xe9\), on line 2"):
        exam(path)


def test_a_file_without_questions_is_refused(written):
    for path in (written(""), written("\n\n"), written({"capability": "language", "text": "A."})):
        with pytest.raises(BadInput, match="holds no question"):
            exam(path)


def test_a_missing_exam_suggests_others(written, tmp_path):
    path = written(line())
    with pytest.raises(
        BadInput, match=r"There is no exam .*mi\.jsonl.* Did you mean '.*my\.jsonl'"
    ):
        exam(path.with_name("mi.jsonl"))
    with pytest.raises(BadInput, match="Did you mean 'classics'"):
        exam("clasics")
    with pytest.raises(BadInput, match=r"cannot be read: Is a directory"):
        exam(tmp_path)
    with pytest.raises(BadInput, match="named by a string or a path, not 3"):
        exam(3)


# ---------------------------------------------------------------- an exam


def test_an_exam_checks_its_items():
    with pytest.raises(BadInput, match="exam 'none' is empty"):
        Exam((), (STORY,), "none")
    with pytest.raises(BadInput, match="takes Questions here, not Text"):
        Exam((STORY,))
    with pytest.raises(BadInput, match="takes Texts here, not Question"):
        Exam((FRANCE,), (FRANCE,))


def test_its_repr_counts_its_questions():
    assert repr(SMALL) == "Exam small: 3 questions (capitals 2, arithmetic 1), texts: 1"
    shown = SMALL._repr_html_()
    assert "<caption>Exam small: 3 questions; texts: 1</caption>" in shown
    assert shown.count("<tr>") == 1 + 2 + 1, "a head, two capabilities, all"
    assert len(SMALL) == 3
    assert SMALL.capabilities == ("capitals", "arithmetic")


def test_the_fingerprint_is_of_the_content():
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


def test_a_sample_keeps_the_proportions():
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


def test_a_target_that_cannot_be_written(tmp_path):
    with pytest.raises(BadInput, match=r"there is no folder '.*nowhere'"):
        SMALL.save(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(BadInput, match="cannot be written: it is a folder"):
        SMALL.save(tmp_path)


# ---------------------------------------------------------------- groups


def test_groups_change_no_fingerprint():
    plain = Question("capitals", "France?", ("Paris", "Rome"), 0)
    exams = [Exam((plain,)), Exam((replace(plain, group="France"),))]
    assert exams[0].fingerprint == exams[1].fingerprint


def test_groups_survive_the_disk(tmp_path):
    grouped = Question("capitals", "France?", ("Paris", "Rome"), 0, "France")
    asked = Exam((grouped, replace(grouped, prompt="Spain?", group=None)))
    asked.save(tmp_path / "exam.jsonl")
    assert exam(tmp_path / "exam.jsonl").questions == asked.questions


def test_tags_mark_questions_and_survive_the_disk(tmp_path):
    plain = Question("capitals", "France?", ("Paris", "Rome"), 0)
    asked = Exam((replace(plain, tags=["mentioned", "1 near"]), replace(plain, prompt="Spain?")))
    asked.save(tmp_path / "exam.jsonl")
    found = exam(tmp_path / "exam.jsonl").questions
    assert found == asked.questions
    assert [question.tags for question in found] == [("mentioned", "1 near"), ()]


def test_tags_change_no_fingerprint():
    plain = Question("capitals", "France?", ("Paris", "Rome"), 0)
    assert Exam((plain,)).fingerprint == Exam((replace(plain, tags=("hard",)),)).fingerprint


def test_parquet_is_read_like_jsonl(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [
        {"capability": "a", "prompt": "one?", "choices": ["1", "2"], "answer": 0, "group": "g"},
        {"capability": "a", "prompt": "two?", "choices": ["1", "2"], "answer": 1, "group": None},
        {"capability": "language", "text": "once upon a time"},
    ]
    pandas.DataFrame(rows).astype({"answer": "Int64"}).to_parquet(tmp_path / "exam.parquet")
    read = exam(tmp_path / "exam.parquet")
    assert [question.group for question in read.questions] == ["g", None]
    assert len(read.texts) == 1
    (tmp_path / "odd.parquet").write_text("no")
    with pytest.raises(BadInput, match=r"odd\.parquet is not a Parquet file"):
        exam(tmp_path / "odd.parquet")


@pytest.mark.parametrize(
    ("group", "message"), [(3, "group must be a string, not 3"), (" ", "group is empty")]
)
def test_odd_groups_are_refused(group, message):
    with pytest.raises(BadInput, match=message):
        Question("capitals", "France?", ("Paris", "Rome"), 0, group)


def test_a_group_stays_in_one_capability():
    one = Question("capitals", "France?", ("Paris", "Rome"), 0, "France")
    with pytest.raises(BadInput, match="'France' spans two capabilities, 'capitals' and 'foods'"):
        Exam((one, replace(one, capability="foods")))


def test_the_world_groups_its_facts():
    groups = {question.capability: set() for question in exam().questions}
    for question in exam().questions:
        groups[question.capability].add(question.group)
    assert "France" in groups["capitals"]
    assert len(groups["opposites"]) == 33  # of 40 questions: seven pairs are asked both ways


# ---------------------------------------------------------------- spoken questions, conversations

PARIS = {"contains": ["Paris"]}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "The capital of France?"},
]


def spoken_line(**changes):
    return line(choices=None, answer=None, expect=PARIS) | changes


def test_spoken_questions_and_conversations_are_read(written, tmp_path):
    path = written(
        line(),
        spoken_line(group="France", max_new_tokens=5),
        line(prompt=None, messages=CHAT),
        spoken_line(messages=CHAT) | {"prompt": ""},
        line(choices=["的", "地"], joined=True),
        spoken_line(prompt="S:", group="twins", together=True),
    )
    found = exam(path)
    assert [q.spoken for q in found.questions] == [False, True, False, True, False, True]
    assert [q.together for q in found.questions] == [False] * 5 + [True]
    assert [dict(turn) for turn in found.questions[2].messages] == CHAT
    assert found.questions[3].asked == "The capital of France?"
    assert found.questions[1].right == "contains Paris"
    assert len({*found.questions}) == 6
    found.save(tmp_path / "again.jsonl")
    assert exam(tmp_path / "again.jsonl").questions == found.questions
    assert exam(tmp_path / "again.jsonl").fingerprint == found.fingerprint
    assert pickle.loads(pickle.dumps(found)).fingerprint == found.fingerprint


def test_lines_without_new_keys_keep_their_bytes(tmp_path, root):
    for name, fingerprint in (("classics", "63cb7cb8269b026e"), ("task", "3bfeb81d37dc9273")):
        assert exam(name).fingerprint == fingerprint
        exam(name).save(tmp_path / "saved.jsonl")
        shipped = (root / f"caplab/assets/{name}.jsonl").read_bytes()
        assert (tmp_path / "saved.jsonl").read_bytes() == shipped


def test_new_keys_change_the_fingerprint():
    one = Question("q", "Q:", expect=PARIS)
    others = [
        replace(one, expect={"contains": ["Rome"]}),
        replace(one, max_new_tokens=3),
        Question("q", messages=CHAT, expect=PARIS),
        Question("q", "Q:", ("a", "b"), 0),
        Question("q", "Q:", ("a", "b"), 0, joined=True),
    ]
    assert len({Exam((each,)).fingerprint for each in (one, *others)}) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (spoken_line(expect={"contain": "x"}), "unknown rule 'contain'. Did you mean 'contains'"),
        (spoken_line(expect="Paris"), "expect is an object of rules"),
        (spoken_line(expect={"max_words": 3}), "has only max_words"),
        (spoken_line(expect={"equals": "4", "number": 5}), "no answer can meet expect"),
        (spoken_line(expct=PARIS), "unknown key 'expct'. Did you mean 'expect'"),
        (line(expect=PARIS), "both choices and expect"),
        (spoken_line(messages=CHAT), "both a prompt and messages"),
        (spoken_line(max_new_tokens=0), "max_new_tokens is a whole number of at least 1, not 0"),
        (line(max_new_tokens=4), "max_new_tokens is for spoken answers"),
        (spoken_line(joined=True), "joined is for choices"),
        (spoken_line(together=True), "together needs a group"),
        (spoken_line(group="twins", together=1), "together is true or false, not 1"),
        (line(group="twins", together=True), "together is for spoken answers"),
        (line(joined="yes"), "joined is true or false, not 'yes'"),
        (line(tags="mentioned"), "tags must be a list of strings, not 'mentioned'"),
        (line(tags=["mentioned", ""]), "tag 1 is empty"),
        (line(choices=None, answer=None), r"'choices \(or expect\)' is missing"),
        (line(prompt=None, messages=[]), "messages is a list of"),
        (line(prompt=None, messages="Hi"), "messages is a list of .*, not 'Hi'"),
        (line(prompt=None, messages=CHAT[:3]), "messages must end with a turn of the user"),
        (line(prompt=None, messages=[*CHAT, CHAT[0], CHAT[1]]), "message 4 is a system turn"),
        (line(prompt=None, messages=[{"role": "user"}]), "message 0 has a role and a content"),
        (
            line(prompt=None, messages=[{"role": "bot", "content": "x"}]),
            "has the role 'bot': system",
        ),
        (line(prompt=None, messages=[{"role": "user", "content": " "}]), "message 0 is empty"),
    ],
)
def test_each_problem_of_the_new_keys_is_named(written, wrong, message):
    with pytest.raises(BadInput, match=r"1 malformed line:\n  line 2: .*" + message):
        exam(written(line(), wrong))


def test_an_exam_limits_its_answers():
    questions = (Question("q", "Q:", expect=PARIS), Question("q", "R:", ("a", "b"), 0))
    limited = Exam(
        (*questions, Question("q", "S:", expect=PARIS, max_new_tokens=3)), max_new_tokens=9
    )
    assert [q.max_new_tokens for q in limited.questions] == [9, None, 3]
    with pytest.raises(BadInput, match="max_new_tokens is a whole number"):
        Exam(questions, max_new_tokens=0)


def test_choices_can_be_asked_alone():
    assert exam().choosing is exam()
    both = Exam((*SMALL.questions, Question("q", "Q:", expect=PARIS)), SMALL.texts, "both")
    assert both.choosing.questions == SMALL.questions
    assert both.choosing.fingerprint == SMALL.fingerprint
    alone = Exam(both.questions[3:]).choosing
    assert (alone.questions, alone.texts) == ((), ())


def test_parquet_holds_expectations_too(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [
        spoken_line(expect=PARIS | {"not": {"contains": ["Rome"]}}),
        spoken_line(prompt="2+2=", expect={"number": 4}),
        line(prompt=None, messages=CHAT),
        line(),
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / "objects.parquet")
    found = exam(tmp_path / "objects.parquet").questions
    assert [q.expect.rules for q in found[:2]] == [rows[0]["expect"], {"number": 4}]
    for row in rows[:2]:
        row["expect"] = json.dumps(row["expect"])
    pandas.DataFrame(rows).to_parquet(tmp_path / "texts.parquet")
    assert exam(tmp_path / "texts.parquet").questions == found
