"""The rows of a task: TRL's own tokens, and every malformed row named."""

import json
from copy import deepcopy

import pytest
import tiny
from datasets import Dataset, DatasetDict
from trl import SFTConfig, SFTTrainer

from caplab.questions import world
from caplab.support.errors import BadInput
from caplab.training.task_rows import open_task, tokens

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


TEXTS = ["The opposite of hot is cold.", "A dog says woof.", "Put the pot on the shelf. " * 9]


FORMATS = {
    "text": [{"text": text} for text in TEXTS],
    "prompt and completion": [
        {"prompt": "What is 2+2?", "completion": " 4."},
        {"prompt": "A dog says", "completion": " woof" + tiny.END},
        {"prompt": "merges acro", "completion": "ss the border"},
        {"prompt": "word " * 40, "completion": " lost, because the prompt fills the context"},
    ],
    "messages": [
        {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "Yes."}]}
        for t in TEXTS
    ],
    "chat prompt and completion": [
        {
            "prompt": [{"role": "user", "content": text}],
            "completion": [{"role": "assistant", "content": "Yes."}],
        }
        for text in TEXTS
    ],
}


def chatty():
    who = tiny.subject()
    who.tokenizer = deepcopy(who.tokenizer)
    who.tokenizer.chat_template = CHAT
    return who


def trl_rows(who, rows, folder, monkeypatch):
    """The rows that TRL itself would train on."""
    monkeypatch.setattr(SFTTrainer, "_send_telemetry", lambda self: None)
    settings = {"max_length": who.context, "bf16": False, "use_cpu": True, "report_to": "none"}
    trainer = SFTTrainer(
        model=deepcopy(who.model),
        args=SFTConfig(str(folder), gradient_checkpointing=False, **settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=deepcopy(who.tokenizer),
    )
    return [{key: row[key] for key in ("input_ids", "labels")} for row in trainer.train_dataset]


@pytest.mark.parametrize("name", FORMATS)
def test_the_rows_are_those_of_trl(name, tmp_path, monkeypatch):
    who = chatty()
    made = list(tokens(open_task(FORMATS[name])[0], who))
    assert made == trl_rows(who, FORMATS[name], tmp_path, monkeypatch)


def test_a_text_learns_its_end():
    row = tokens(open_task(["A dog."])[0], tiny.subject())[0]
    assert row["input_ids"][-1] == row["labels"][-1] == tiny.tokenizer().eos_token_id


def test_a_task_is_tokenised_once():
    who = tiny.subject()
    first = tokens(open_task(None)[0], who)
    assert tokens(world.task()["train"], who) is first
    assert tokens(world.task()["test"], who) is not first


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ([], "is empty"),
        (Dataset.from_list([]), "is empty"),
        ("one text", "single text"),
        ([{"question": "a", "answer": "b"}], "columns question, answer. It needs `prompt` and"),
        ([{"prompt": "a"}], "columns prompt. It needs `prompt` and `completion`"),
        ([1, 2.0], "holds float, int"),
        (DatasetDict(test=Dataset.from_dict({"text": ["a"]})), "split named 'train'; it has: test"),
        ({"train": [], "test": ["a"]}, "training split is empty"),
        ([{"prompt": "a", "completion": None}], "row 0: completion must be a text or messages"),
        ([{"text": None}], "row 0: text must be a text, not None"),
        ([{"prompt": "word " * 99, "completion": " b"}], "Nothing is left to learn"),
    ],
)
def test_an_unusable_task_is_refused(task, said):
    with pytest.raises(BadInput) as caught:
        tokens(open_task(task)[0], tiny.subject())
    assert said in str(caught.value)


def test_messages_need_a_chat_template():
    rows = open_task(FORMATS["messages"])[0]
    with pytest.raises(BadInput, match="the tokenizer has no chat template"):
        tokens(rows, tiny.subject())
    who = chatty()
    who.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadInput, match=r"refuses the conversation .*roles must alternate"):
        tokens(rows, who)


# ---------------------------------------------------------------- files


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_gives_the_rows_it_holds(name, tmp_path):
    path = jsonl(tmp_path / "task.jsonl", [row | {"id": 7} for row in FORMATS[name]])
    who = chatty()
    for given in (path, str(path), {"train": path}):
        assert open_task(given)[0].to_list() == open_task(FORMATS[name])[0].to_list()
    assert list(tokens(open_task(path)[0], who)) == list(tokens(open_task(FORMATS[name])[0], who))


def test_malformed_lines_are_all_named(tmp_path):
    path = tmp_path / "task.jsonl"
    lines = ['{"prompt": "a", "completion": "b"}', "", "{", "[1]", '{"text": "a"}', '{"prompt": 1}']
    lines += ['{"prompt": 1, "completion": " "}', '{"prompt": "a", "completion": [{"role": "x"}]}']
    path.write_text("\n".join([*lines, '{"prompt": "\\ud800", "completion": "b"}']))
    with pytest.raises(BadInput) as refusal:
        open_task(path)
    said = [line.strip() for line in str(refusal.value).splitlines()]
    assert said[0].endswith("task.jsonl has 7 malformed lines:")
    assert said[1].startswith("line 3: this is not JSON (")
    mixed = "of prompt and completion one is a text and the other is not"
    assert said[2:-1] == [
        "line 4: this is not a JSON object but [1]",
        "line 5: it holds text, and other rows prompt and completion",
        "line 6: it holds prompt",
        f"line 7: prompt must be a text or messages, not 1; completion is empty; {mixed}",
        f"line 8: message 0 of completion needs a role and a content, both texts; {mixed}",
        "line 9: prompt holds a lone surrogate, half a character ('\\ud800')",
    ]
    assert said[-1] == "A row holds `prompt` and `completion`, or `messages`, or `text`."


def test_malformed_rows_are_all_named():
    rows = Dataset.from_dict({"prompt": ["a", None, "c"], "completion": ["x", "y", ""]})
    with pytest.raises(BadInput, match=r"(?s)row 1: prompt must be .*row 2: completion is empty"):
        open_task(rows)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("Hello", "messages must be a list of messages, not 'Hello'"),
        ([], "messages is empty"),
        (["Hello"], "message 0 of messages needs a role and a content"),
        ([{"role": "user", "content": None}], "message 0 of messages needs a role and a content"),
    ],
)
def test_a_malformed_chat_is_refused(messages, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        open_task(jsonl(tmp_path / "chat.jsonl", [{"messages": messages}]))


def test_no_file_or_an_empty_one(tmp_path):
    with pytest.raises(BadInput, match="There is no task file"):
        open_task("nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadInput, match=r"empty\.jsonl is empty"):
        open_task(tmp_path / "empty.jsonl")
