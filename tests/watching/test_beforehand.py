"""What a guard says before the first step: where its exam is blind, and what the rows practise."""

import time
from dataclasses import replace

import pytest
import tiny
from answers_made import card, flipped
from datasets import Dataset, IterableDataset
from drill import fault
from guarded import known, model, trainer

from caplab import RegressionGuard
from caplab.measuring.policy import CapabilityRule, Policy
from caplab.questions.exam import Exam, Question
from caplab.watching.beforehand import blind_spots, practised, practised_sentence, row_texts


def base(wrong=0, **sizes):
    """A base that answers so many questions, the first ones wrong."""
    import numpy as np

    total = sum(sizes.values())
    margins, said = np.full(total, 3.0), np.full(total, -0.2)
    return card(flipped(margins, list(range(wrong))), said, sizes, "base")


def blind(answers, **rules):
    return " ".join(blind_spots(answers, Policy(**rules), "accuracy"))


# ---------------------------------------------------------------- what an exam can never show


def test_a_good_exam_is_silent():
    assert blind(base(capitals=100, sums=100)) == ""


@pytest.mark.parametrize(("groups", "said"), [(71, True), (72, False)])
def test_too_few_to_be_held_is_said_with_the_number(groups, said):
    assert ("overall has 71 groups and needs 72" in blind(base(capitals=groups))) == said


@fault("an exam is too short to ever show a loss", "a guard says how long it must be")
@pytest.mark.parametrize(("groups", "said"), [(8, True), (9, False)])
def test_too_few_to_regress_is_said_with_the_number(groups, said):
    """All of nine groups lost exclude a loss within .30 at 95 %: .025 ** (1 / 9) is over .65."""
    words = blind(base(capitals=groups), budget=0.3)
    assert ("could call REGRESSED" in words) == said
    assert ("So the guard can never act" in words) == said
    assert ("has 8 groups and needs 9" in words) == said


def test_a_small_row_beside_a_large_one():
    words = blind(base(capitals=200, tips=3))
    assert "tips has 3 groups and needs" in words
    assert "never act" not in words


def test_a_must_keep_row_has_to_be_large():
    rules = {"sums": CapabilityRule(tier="must-keep")}
    words = blind(base(capitals=200, sums=40), capability=rules)
    assert "no look can say HELD: sums has 40 groups and needs 72" in words


def test_an_advisory_row_may_be_small():
    rules = {"tips": CapabilityRule(tier="advisory")}
    assert blind(base(capitals=200, tips=3), capability=rules) == ""


def test_what_the_base_does_not_know_is_named():
    words = blind(base(wrong=75, sums=100, capitals=100))
    assert "The base does not know sums (.25 right" in words
    assert "sums has" not in words  # not said a second time


def test_a_guard_says_it_once(tmp_path, warned):
    exam = Exam(known().questions[:20], name="short")
    guard = RegressionGuard(exam, every=4)
    trainer(tmp_path, guard, learning_rate=1e-6).train()
    (said,) = warned()
    assert said.startswith("Even if nothing is lost, no look can say HELD: overall has 20 groups")


def test_names_cannot_command_a_log(tmp_path, warned):
    asked = tuple(
        replace(question, capability="x" if n else "::error:: sums")
        for n, question in enumerate(known().questions[:20])
    )
    trainer(tmp_path, RegressionGuard(Exam(asked, name="##[group]odd")), max_steps=1).train()
    assert warned()
    assert not any("##[group]" in message for message in warned())


# ---------------------------------------------------------------- what the training practises


def exam(*prompts, **more):
    asked = [Question("any", prompt, ("Paris", "Rome"), 0, **more) for prompt in prompts]
    return Exam(tuple(asked), name="mine")


FRANCE = "Question: What is the capital of France?\nAnswer:"


@pytest.mark.parametrize(
    "row",
    [
        "What is the capital of France? Paris.",
        "WHAT IS THE CAPITAL   of\n\nfrance",
        "well: what is the \uff43apital of France",  # a full-width c
        "She asked: “What is the capital of France?”, and left.",
    ],
)
def test_a_row_is_found_in_any_dress(row):
    assert practised(["nothing", row], exam(FRANCE)) == ([1], {0})


@pytest.mark.parametrize(
    "row",
    [
        "What is the capital of Italy?",
        "What is the capital of Francesca?",
        "The capital of France is what?",
        "capital of France",
        "",
    ],
)
def test_another_row_is_not(row):
    assert practised([row], exam(FRANCE)) == ([], set())


def test_a_short_prompt_needs_its_answer():
    """`A dog` stands everywhere."""
    asked = Exam((Question("any", "A dog says", ("woof", "meow"), 0),), name="dogs")
    assert practised(["A dog says nothing.", "A dog says woof!"], asked) == ([1], {0})
    tiny_one = Exam((Question("any", "2+2", ("4", "5"), 0),), name="sums")
    assert practised(["2 + 2 = 4", "2 2 4"], tiny_one) == ([], set())


def test_examples_before_the_question_do_not_count():
    asked = exam("Q: What is 1+1?\nA: 2\n\nQ: What is the capital of France?\nA:")
    assert practised(["What is the capital of France? Paris"], asked) == ([0], {0})


def test_a_prompt_within_a_prompt():
    asked = exam("What is the capital", "What is the capital of France", "is the capital of France")
    assert practised(["What is the capital of France"], asked) == ([0], {0, 1, 2})


CHAT = [{"role": "user", "content": "What is the capital of France?"}]
ROWS = {
    "text": [{"text": "What is the capital of France? Paris"}],
    "prompt and completion": [{"prompt": "What is the capital of France?", "completion": " P"}],
    "messages": [{"messages": [*CHAT, {"role": "assistant", "content": "Paris"}]}],
    "a chat prompt": [{"prompt": CHAT, "completion": [{"role": "assistant", "content": "P"}]}],
    "ShareGPT": [{"conversations": [{"from": "human", "value": CHAT[0]["content"]}]}],
    "preference": [{"chosen": CHAT, "rejected": CHAT, "score": 1.5}],
    "tokens": [{"input_ids": tiny.tokenizer()(CHAT[0]["content"])["input_ids"]}],
}


@fault("training rows contain questions of the exam", "a guard says so before it trains")
@pytest.mark.parametrize("form", ROWS)
def test_all_forms_of_rows_are_read(form):
    rows = Dataset.from_list(ROWS[form] * 3)
    said = practised_sentence(rows, tiny.tokenizer(), exam(FRANCE))
    assert said.startswith("3 of the training rows contain 1 of the exam's 1 questions")


@pytest.mark.parametrize("rows", [None, [], 5, Dataset.from_list([])])
def test_other_rows_are_left_alone(rows):
    assert practised_sentence(rows, tiny.tokenizer(), exam(FRANCE)) == ""


def test_a_stream_is_left_alone():
    """Reading it would take its rows from the training."""
    read = []

    def rows():
        for n in range(3):
            read.append(n)
            yield {"text": "What is the capital of France?"}

    stream = IterableDataset.from_generator(rows)
    assert list(row_texts(stream, tiny.tokenizer())) == []
    assert read == []


def test_a_transform_is_not_run():
    """It may draw random numbers, and a guard that watches changes nothing."""
    rows = Dataset.from_list(ROWS["text"])
    rows.set_transform(lambda batch: pytest.fail("it was run"))
    assert list(row_texts(rows, tiny.tokenizer())) == ["What is the capital of France? Paris"]


def test_it_is_said_before_training(tmp_path, warned):
    asked = exam("The opposite of hot is cold, of big is")
    run = trainer(tmp_path, RegressionGuard(asked), max_steps=1)
    run.train()
    assert warned()[0].startswith("32 of the training rows contain 1 of the exam's 1 questions")


def test_conversations_are_heard_as_tokens():
    """So they reach a guard: a Trainer has written them through the template before."""
    tokens = tiny.chatty().tokenizer
    ids = tokens.apply_chat_template(CHAT, tokenize=True, return_dict=True)["input_ids"]
    rows = Dataset.from_list([{"input_ids": ids, "labels": ids}] * 8)
    said = practised_sentence(rows, tokens, exam(FRANCE))
    assert said.startswith("8 of the training rows contain 1 of the exam's 1 questions")


def test_thousands_by_thousands_take_a_moment():
    """With one beginning for all, which is the hard case."""
    words = [f"word{n}" for n in range(3000)]
    asked = exam(*(f"What is the capital of the country {word}?" for word in words))
    filler = "and so on it went for quite a while, as such stories do, until the end. "
    texts = [f"{filler * 3}What is the capital of the country of {word}?" for word in words]
    texts[7] = f"{filler}What is the capital of the country word5?"
    practised(texts[:10], asked)
    start = time.process_time()
    found = practised(texts, asked)
    assert time.process_time() - start < 1
    assert found == ([7], {5})


def test_it_changes_no_bit(tmp_path):
    """The order in which the rows come stays as it is."""
    from weights import same, weights

    def train(*callbacks):
        run = trainer(tmp_path, *callbacks, of=model(dropout=0.2), max_steps=4)
        run.train()
        return weights(run.model)

    asked = exam("The opposite of hot is cold, of big is")
    assert same(train(), train(RegressionGuard(asked, every=2)))
