import json
import pickle
from copy import deepcopy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caplab.questions.expectations import Expectation
from caplab.support.errors import BadInput

PERSON = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}}


def meets(rules, answer):
    return Expectation.of(rules).meets(answer)


# ---------------------------------------------------------------- one rule


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("Paris", "paris", True),
        ("Paris", " Paris. ", True),
        ("Paris", "**Paris**", True),
        ("Paris", "_Paris_", True),
        ("Paris", "\u200fPa\u200bris\x07", True),
        ("Paris", "It is Paris.", False),
        ("Paris", "Paris, Paris", False),
        ("Paris", "Parisian", False),
        ("the Atlantic Ocean", "Atlantic ocean", True),
        ("Atlantic Ocean", "The Atlantic Ocean!", True),
        ("Put the pot on a stove", "put pot on the stove", True),
        ("Vitamin A", "vitamin A.", True),
        ("Vitamin A", "vitamin", False),
        ("A", "a", True),
        ("A", "The", False),
        ("don't", "Don’t!", True),
        ("1000", "1,000", True),
        ("3.5", "3.5.", True),
        ("3.5", "3 5", False),
        ("5", "-5", False),
        ("-5", "−5", True),
        ("café", "CAFE\u0301", True),
        ("Straße", "STRASSE", True),
        ("巴黎", "巴黎。", True),
        (["no", "none"], "None.", True),
        (["no", "none"], "nothing", False),
    ],
)
def test_equals(text, answer, right):
    assert meets({"equals": text}, answer) is right


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("Paris", "The capital of France is Paris.", True),
        ("Paris", "PARIS's towers", True),
        ("Paris", "Parisians", False),
        ("Paris", "comParison", False),
        ("New York", "It is new\nyork", True),
        ("New York", "York New", False),
        ("the pot on the stove", "Put a pot on stove.", True),
        ("Vitamin A", "Vitamin A is good.", True),
        ("Vitamin A", "Vitamin C is good.", False),
        ("3", "3.14", False),
        ("3", "3, 14", True),
        ("1000", "exactly 1,000.", True),
        ("well known", "a well-known man", True),
        ("巴黎", "法国的首都是巴黎。", True),
        ("巴黎", "法国的首都是黎巴。", False),
        ("नमस्ते", "नमस्ते दुनिया", True),
        ("नमस", "नमस्ते", False),
        (["woof", "bark"], "Dogs bark.", True),
        (["woof", "bark"], "Dogs meow.", False),
        ("שלום", "\u200fשלום\u200e!", True),
    ],
)
def test_contains(text, answer, right):
    assert meets({"contains": text}, answer) is right


def test_contains_all():
    rules = {"contains_all": ["red", "dark green"]}
    assert meets(rules, "Dark green, then RED")
    assert not meets(rules, "Dark red and green")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("4", True),
        ("2+2=4", True),
        ("4.0 km", True),
        ("It is 4.", True),
        ("First 3, then 4.", True),
        ("\n\n 4\n5", True),
        ("**4**", True),
        ("$4.00!", True),
        ("４", True),
        ("٤", True),
        ("8-4", True),
        ("4%", True),
        ("1,2,4", True),
        ("Nine is 4\r5", True),
        ("-4", False),
        ("8 - -4", False),
        ("−4", False),
        ("4 and 5", False),
        ("four", False),
        ("H4", False),
        ("5\n4", False),
        ("4,000", False),
        ("0.4", False),
        (".4", False),
        ("", False),
    ],
)
def test_number(answer, right):
    assert meets({"number": 4}, answer) is right


def test_number_of_other_kinds():
    assert meets({"number": -2.5}, "about -2.50")
    assert meets({"number": 1234567}, "1,234,567")
    assert meets({"number": 1e3}, "1000")
    assert not meets({"number": 0.1}, "1e-1 or 0.10001")


def test_matches_somewhere():
    assert meets({"matches": r"\d{3}-\d{4}"}, "Call 555-1234 now")
    assert not meets({"matches": r"^\d+$"}, "Call 5")
    assert meets({"matches": "^[A-Z ]+$"}, " ALL CAPITALS \n")


@pytest.mark.parametrize(
    ("wanted", "answer", "right"),
    [
        (True, '{"a": 1}', True),
        (True, " [1, 2] \n", True),
        (True, '```json\n{"a": 1}\n```', True),
        (True, '```\n{"a": 1}\n```', True),
        (True, "42", False),
        (True, '"Paris"', False),
        (True, '{"a": NaN}', False),
        (True, '{"a": 1} That is it.', False),
        (True, 'Here: {"a": 1}', False),
        (True, "{'a': 1}", False),
        (True, "[" * 100_000, False),
        (["a", "b"], '{"b": 1, "a": null, "c": 2}', True),
        (["a", "b"], '{"a": 1}', False),
        (["a"], '["a"]', False),
        (PERSON, '{"age": 5}', True),
        (PERSON, '{"age": "5"}', False),
        (PERSON, "[]", False),
        ({"type": "string", "pattern": "^a+$"}, '"aaa"', True),
        ({"type": "string", "pattern": "^a+$"}, '"b"', False),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "number"}}}, "5", True),
    ],
)
def test_json(wanted, answer, right):
    assert meets({"json": wanted}, answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Red, well-known, 3.5!", True),
        ("Red - green - blue", True),
        ("red,green,3,500", True),
        ("red,green,blue,black", False),
        ("Red green blue black", False),
        ("红绿", True),
        ("红绿蓝黑", False),
    ],
)
def test_max_words(answer, right):
    assert meets({"max_words": 3, "matches": "."}, answer) is right


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ("Paris", 1),
        ("Dr. Smith, e.g. J. Smith, pays 3.5 euros.", 1),
        ("It is. It was!", 2),
        ('"Yes." He left...', 2),
        ("1. Red\n2. Blue", 2),
        ("你好。再见。", 2),
        ("Really?! Yes", 2),
    ],
)
def test_max_sentences(answer, count):
    assert meets({"max_sentences": count, "matches": "."}, answer)
    assert count == 1 or not meets({"max_sentences": count - 1, "matches": "."}, answer)


@pytest.mark.parametrize(
    ("start", "answer", "right"),
    [
        ("Yes", "yes, it is", True),
        ("Yes", "  Yes", True),
        ("Yes", "Yesterday", False),
        ("- ", "- milk", True),
        ("- ", "-5", False),
        ("{", '{"a": 1}', True),
        ("Dear Ms", "Dear Mr", False),
        (["Yes", "No"], "No.", True),
        ("你", "你好", True),
    ],
)
def test_starts_with(start, answer, right):
    assert meets({"starts_with": start}, answer) is right


def test_rules_combine():
    rules = {"contains": ["Paris"], "max_words": 3, "not": {"contains": "Rome"}}
    assert meets(rules, "It's Paris.")
    assert not meets(rules, "The capital is Paris.")
    assert not meets(rules, "Paris, not Rome")
    assert meets({"contains": "x", "not": {"max_words": 2}}, "x y z")


@pytest.mark.parametrize("answer", ["", " \n", "\x00", "\u200f\u200b"])
@pytest.mark.parametrize(
    "rules",
    [
        {"matches": ".*", "max_words": 3},
        {"matches": "", "not": {"contains": "x"}},
        {"matches": "(?s).*"},
        {"matches": ".?", "max_sentences": 1},
        {"not": {"contains": "x"}, "starts_with": "y"},
    ],
)
def test_an_empty_answer_is_wrong(rules, answer):
    if rules.get("matches") == "":
        rules = rules | {"matches": "(?:)"}
    assert not meets(rules, answer)
    assert Expectation.of(rules).decided(answer) is not True
    assert Expectation.of(rules).decided(answer, ended=True) is False


# ---------------------------------------------------------------- as a value


def test_expectations_are_values():
    rules = {"json": PERSON, "not": {"contains": ["x"]}, "max_words": 9}
    one, other = Expectation.of(rules), Expectation.of(json.loads(json.dumps(rules)))
    assert one == other
    assert len({one, other, pickle.loads(pickle.dumps(one)), deepcopy(one)}) == 1
    assert one.rules == rules
    assert pickle.loads(pickle.dumps(one)).meets('{"age": 3}')


@pytest.mark.parametrize(
    ("rules", "sentence", "answer"),
    [
        ({"contains": "Paris"}, "contains Paris", "Paris"),
        ({"equals": ["no", "none"]}, "equals no or none", "no"),
        ({"contains_all": ["a b", "c"]}, "contains a b and c", "a b c"),
        ({"number": 4.5}, "ends its first line with the number 4.5", "4.5"),
        ({"contains": "x", "max_words": 1}, "contains x, has at most 1 word", "x"),
        ({"json": ["a"]}, "is a JSON object with the key a", None),
        ({"starts_with": "Yes", "number": 3}, None, "Yes 3"),
        ({"contains": "x", "not": {"equals": "x"}}, "contains x, not (equals x)", None),
    ],
)
def test_expectations_read_as_english(rules, sentence, answer):
    found = Expectation.of(rules)
    assert sentence in (None, found.sentence)
    assert found.example == answer


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, r"expect is an object of rules, such as .*, not \{\}"),
        ("Paris", "expect is an object of rules, such as .*, not 'Paris'"),
        ({"contain": "x"}, "unknown rule 'contain'. Did you mean 'contains'"),
        ({"zzz": "x"}, "unknown rule 'zzz'. The rules are equals, contains"),
        ({"contains": []}, r"contains is a string or a list of strings, not \[\]"),
        ({"contains": [1]}, "contains is a string or a list of strings; 1 is none"),
        ({"contains": "a\ud800"}, "contains has a lone surrogate"),
        ({"contains": "?!"}, "no letter and no digit to look for: use starts_with"),
        ({"contains_all": "x"}, "contains_all is a list of strings, not 'x'"),
        ({"number": "4"}, "number is a number, not '4'"),
        ({"number": True}, "number is a number, not True"),
        ({"number": float("nan")}, "number is a number, not nan"),
        ({"matches": 4}, "matches is a regular expression, not 4"),
        ({"matches": "("}, r"not a regular expression \(missing \)"),
        ({"matches": "(a|aa)+$"}, "takes longer than .25 s|takes longer than 0.25 s"),
        ({"json": {"pattern": "(a|aa)+$"}}, "json has a pattern that takes longer"),
        ({"json": {"patternProperties": {"x": {}}}}, "not supported: name the properties"),
        ({"json": False}, "json is true, a list of keys or a JSON Schema, not False"),
        ({"json": [1]}, "json lists 1, which is no key"),
        ({"json": {"type": "objekt"}}, "not a JSON Schema that can be used: 'objekt'"),
        ({"json": {"$ref": "http://a.b/c"}}, "not a JSON Schema that can be used"),
        ({"json": {"properties": {"a": {"$ref": "#/x"}}}}, "not a JSON Schema that can be"),
        ({"json": {"$ref": "#"}}, "not a JSON Schema that can be used"),
        ({"max_words": 0, "contains": "x"}, "max_words is a whole number of at least 1, not 0"),
        ({"max_words": True, "contains": "x"}, "at least 1, not True"),
        ({"max_words": 3}, "expect has only max_words, which noise .* can meet: add what"),
        ({"not": {"contains": "x"}, "max_sentences": 1}, "has only not and max_sentences"),
        ({"not": {"contian": "x"}, "contains": "y"}, "not expect has the unknown rule"),
        ({"starts_with": " "}, "with which every answer starts"),
    ],
)
def test_each_problem_is_one_sentence(rules, message):
    with pytest.raises(BadInput, match=message) as refusal:
        Expectation.of(rules)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "rules",
    [
        {"contains": ["Paris"], "not": {"contains": ["paris", "Rome"]}},
        {"contains_all": ["a1", "b1"], "not": {"contains_all": ["b1", "a1"]}},
        {"contains": ["a1", "a2"], "not": {"contains": ["a1", "a2"]}},
        {"equals": "New York City", "max_words": 2},
        {"equals": "4", "number": 5},
        {"equals": ["yes", "no"], "contains": "maybe"},
        {"equals": "Paris", "not": {"contains": "Paris"}},
        {"contains_all": ["red", "green", "blue"], "max_words": 2},
        {"contains": ["New York", "Old York"], "contains_all": ["city"], "max_words": 2},
    ],
)
def test_contradictions_are_refused(rules):
    with pytest.raises(BadInput, match="no answer can meet expect"):
        Expectation.of(rules)


@pytest.mark.parametrize(
    ("rules", "answer"),
    [
        ({"contains_all": ["well-known"], "max_words": 1}, "Well-known"),
        ({"contains": ["a1", "a2"], "not": {"contains": "a1"}}, "a2"),
        ({"contains_all": ["New York", "York"], "max_words": 2}, "New York"),
        ({"equals": "yes", "matches": "^[A-Z]+!$"}, "YES!"),
        ({"equals": ["yes", "no"], "not": {"equals": "yes"}}, "no"),
        ({"contains": "Paris", "not": {"equals": "Paris"}}, "Paris it is"),
        ({"equals": "the end", "max_words": 1}, "End."),
    ],
)
def test_what_can_be_met_is_taken(rules, answer):
    assert meets(rules, answer)


# ---------------------------------------------------------------- decided early


@pytest.mark.parametrize(
    ("rules", "begun", "verdict"),
    [
        ({"contains": "Paris"}, "It is Paris", None),
        ({"contains": "Paris"}, "It is Paris.", True),
        ({"contains": "3"}, "It is 3.", None),
        ({"contains": "3"}, "It is 3. ", True),
        ({"contains": "Paris", "max_words": 2}, "It's Paris.", None),
        ({"contains": "Paris", "max_words": 2}, "The capital is", False),
        ({"contains": "Paris", "not": {"contains": "Rome"}}, "Rome or", False),
        ({"contains": "Paris", "not": {"contains": "Rome"}}, "Paris or", None),
        ({"equals": "Paris"}, "The", None),
        ({"equals": "Paris"}, "The Rom", None),
        ({"equals": "Paris"}, "The Rome ", False),
        ({"equals": "Paris"}, "Paris is", None),
        ({"equals": "Paris"}, "Paris is ", False),
        ({"number": 4}, "4", None),
        ({"number": 4}, "It is 4\n", True),
        ({"number": 4}, "\n\nIt is 5\n", False),
        ({"starts_with": "Yes"}, "Ye", None),
        ({"starts_with": "Yes"}, "Yes", None),
        ({"starts_with": "Yes"}, "Yes,", True),
        ({"starts_with": ["No", "Yes"]}, "Maybe", False),
        ({"json": True}, "The", False),
        ({"json": True}, '{"a": 1', None),
        ({"json": True}, '{"a": 1}', None),
        ({"json": True}, '{"a": 1}\nSo', False),
        ({"json": ["a"]}, '{"b": 1}', False),
        ({"matches": r"\d+ km"}, "5 km", True),
        ({"matches": r"\d+ km$"}, "5 km", None),
        ({"matches": r"\bkm\b"}, "5 km ", None),
        ({"matches": "a(?!b)"}, "ac", None),
        ({"matches": "a++b"}, "aab", None),
    ],
)
def test_decided_as_soon_as_it_can_be(rules, begun, verdict):
    assert Expectation.of(rules).decided(begun) is verdict


TEXTS = ["Paris", "the New York", "3", "-5", "1,000", "Vitamin A", "don't", "巴黎", "é", "no"]
PHRASES = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "equals": PHRASES,
        "contains": PHRASES,
        "contains_all": PHRASES,
        "number": st.sampled_from([3, -5, 1000, 3.5]),
        "matches": st.sampled_from(
            [
                r"\d+",
                "^P",
                "s$",
                r"\bno\b",
                "(?i)paris|york",
                "[^a]{2,3}?",
                ".*3",
                "a(?!b)",
                r"\.\s",
            ]
        ),
        "json": st.sampled_from([True, ["a"], PERSON, {"type": "number"}]),
        "max_words": st.integers(1, 4),
        "max_sentences": st.integers(1, 2),
        "starts_with": st.sampled_from(["Paris", "- ", "{", ["no", "3"]]),
    },
)
NESTED = st.one_of(RULES, st.tuples(RULES, RULES).map(lambda pair: pair[0] | {"not": pair[1]}))
PIECES = [*TEXTS, *"PparisY 3.,-!?\n\r\t\"'`{}[]:_", "\u0301", "\u200f", "\u2028", "Dr. ", "ß", "ﬁ"]
PIECES += [
    '{"a": 1}',
    '{"age": 5}',
    "paris ",
    " York",
    "ा",
    "ั",
    "½",
    "\x00",
    "\x1c",
    "²",
    "…",
    "。",
]


@settings(max_examples=600, deadline=None)
@given(NESTED, st.lists(st.sampled_from(PIECES), max_size=6), st.lists(st.sampled_from(PIECES)))
@example({"contains": ["3"]}, ["3", "."], ["3"])
@example({"starts_with": "- "}, ["-", " "], [])
def test_what_is_decided_never_flips(rules, begun, rest):
    try:
        expectation = Expectation.of(rules)
    except BadInput:
        return
    begun, whole = "".join(begun), "".join([*begun, *rest])
    verdict = expectation.decided(begun)
    if verdict is not None:
        assert expectation.meets(whole) is verdict
        assert expectation.meets(begun) is verdict
        assert expectation.decided(whole) in (verdict, None)


@settings(max_examples=300, deadline=None)
@given(NESTED, st.text(max_size=12), st.text(max_size=12))
def test_nor_does_it_with_any_text(rules, begun, rest):
    try:
        expectation = Expectation.of(rules)
    except BadInput:
        return
    verdict = expectation.decided(begun)
    assert verdict is None or expectation.meets(begun + rest) is verdict
