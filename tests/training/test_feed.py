"""What a run reads: TRL's own rows, and exactly as much old text as the recipe says."""

import json
from copy import deepcopy

import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict
from trl import SFTConfig, SFTTrainer

from caplab.models.weights import digest
from caplab.questions import world
from caplab.support.errors import BadInput
from caplab.training import replay as feed
from caplab.training.recipe import Recipe
from caplab.training.replay import mixture, own_words
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


def test_a_text_ends_in_the_end_token_and_learns_it():
    row = tokens(open_task(["A dog."])[0], tiny.subject())[0]
    assert row["input_ids"][-1] == row["labels"][-1] == tiny.tokenizer().eos_token_id


def test_the_task_is_tokenised_once_for_each_tokenizer_and_content():
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
def test_a_task_that_cannot_be_trained_on_is_refused(task, said):
    with pytest.raises(BadInput) as caught:
        tokens(open_task(task)[0], tiny.subject())
    assert said in str(caught.value)


def test_messages_need_a_chat_template_and_its_consent():
    rows = open_task(FORMATS["messages"])[0]
    with pytest.raises(BadInput, match="the tokenizer has no chat template"):
        tokens(rows, tiny.subject())
    who = chatty()
    who.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadInput, match=r"refuses the conversation .*roles must alternate"):
        tokens(rows, who)


# ---------------------------------------------------------------- files of one's own


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_gives_the_same_rows_as_its_content(name, tmp_path):
    path = jsonl(tmp_path / "task.jsonl", [row | {"id": 7} for row in FORMATS[name]])
    who = chatty()
    for given in (path, str(path), {"train": path}):
        assert open_task(given)[0].to_list() == open_task(FORMATS[name])[0].to_list()
    assert list(tokens(open_task(path)[0], who)) == list(tokens(open_task(FORMATS[name])[0], who))


def test_all_malformed_lines_are_named_at_once(tmp_path):
    path = tmp_path / "task.jsonl"
    lines = ['{"prompt": "a", "completion": "b"}', "", "{", "[1]", '{"text": "a"}', '{"prompt": 1}']
    lines += ['{"prompt": 1, "completion": " "}', '{"prompt": "a", "completion": [{"role": "x"}]}']
    path.write_text("\n".join([*lines, '{"prompt": "\\ud800", "completion": "b"}']))
    with pytest.raises(BadInput) as refusal:
        open_task(path)
    said = [line.strip() for line in str(refusal.value).splitlines()]
    assert said[0].endswith("task.jsonl has 7 malformed rows:")
    assert said[1].startswith("line 3: this is not JSON (")
    assert said[2:-1] == [
        "line 4: this is not a JSON object but [1]",
        "line 5: it holds text, and other rows prompt and completion",
        "line 6: it holds prompt",
        "line 7: prompt must be a text or messages, not 1",
        "line 7: completion is empty",
        "line 7: of prompt and completion one is a text and the other is not",
        "line 8: message 0 of completion needs a role and a content, both texts",
        "line 8: of prompt and completion one is a text and the other is not",
        "line 9: prompt holds half a character ('\\ud800')",
    ]
    assert said[-1] == "A row holds `prompt` and `completion`, or `messages`, or `text`."


def test_all_malformed_rows_of_a_dataset_are_named_at_once():
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
def test_a_conversation_that_is_none_is_refused(messages, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        open_task(jsonl(tmp_path / "chat.jsonl", [{"messages": messages}]))


def test_a_file_that_is_not_there_or_empty_is_said(tmp_path):
    with pytest.raises(BadInput, match="There is no task file"):
        open_task("nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadInput, match=r"empty\.jsonl is empty"):
        open_task(tmp_path / "empty.jsonl")


# ---------------------------------------------------------------- replay


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5, 1.0])
def test_the_share_of_old_texts_is_exact(share):
    who, recipe = tiny.subject(), Recipe(steps=10, batch_size=8, replay=share)
    mixed = mixture(tokens(open_task(None)[0], who), recipe, who, None)
    assert len(mixed) == 80
    assert sum(mixed["replayed"]) == round(80 * share)


def test_without_replay_the_rows_are_the_task_itself():
    who = tiny.subject()
    rows = tokens(open_task(None)[0], who)
    assert mixture(rows, Recipe(), who, None) is rows


def test_the_task_rows_of_a_mixture_come_equally_often():
    who, recipe = tiny.subject(), Recipe(steps=10, batch_size=2, replay=0.5)
    rows = tokens(open_task(["A dog.", "A cat.", "A pot."])[0], who)
    mixed = mixture(rows, recipe, who, None)
    task = [tuple(row["input_ids"]) for row in mixed if not row["replayed"]]
    assert sorted(task.count(text) for text in set(task)) == [3, 3, 4]


def test_old_texts_of_the_caller_are_used_and_none_twice_while_there_are_enough():
    who, recipe = tiny.subject(), Recipe(steps=4, batch_size=2, replay=0.5)
    old = [f"Old text {number}." for number in range(5)]
    for given in (old, Dataset.from_dict({"text": old})):
        mixed = mixture(tokens(open_task(["New."])[0], who), recipe, who, given)
        texts = who.tokenizer.batch_decode([r["input_ids"] for r in mixed if r["replayed"]])
        assert len(set(texts)) == 4
        assert {text.removesuffix(tiny.END) for text in texts} < set(old)


def test_the_seed_decides_the_mixture():
    who = tiny.subject()
    rows = tokens(open_task(None)[0], who)
    one, same, other = (
        mixture(rows, Recipe(steps=5, replay=0.5, seed=seed), who, None)["input_ids"]
        for seed in (1, 1, 2)
    )
    assert one[:] == same[:]
    assert one[:] != other[:]


def test_examples_takes_a_random_part_that_the_seed_decides():
    who = tiny.subject()
    rows = tokens(open_task(None)[0], who)
    one, same, other = (
        mixture(rows, Recipe(examples=5, seed=seed), who, None)["input_ids"][:]
        for seed in (1, 1, 2)
    )
    assert len(one) == 5
    assert one == same
    assert one != other
    assert len(mixture(rows, Recipe(examples=10**6), who, None)) == len(rows)


# ---------------------------------------------------------------- the model's own words


def test_a_model_writes_the_same_texts_again_and_is_asked_once(monkeypatch):
    who = tiny.subject(seed=7)
    few = own_words(who, 3, seed=1)
    many = own_words(who, 100, seed=1)
    assert many[:3] == few
    assert len(many) == 100
    monkeypatch.setattr(feed, "_write", None)
    assert own_words(who, 100, seed=1) == many


def test_other_weights_or_another_seed_write_other_texts():
    first = own_words(tiny.subject(seed=7), 3, seed=1)
    assert own_words(tiny.subject(seed=7), 3, seed=2) != first
    assert own_words(tiny.subject(seed=8), 3, seed=1) != first


def test_writing_touches_neither_the_random_state_nor_the_mode():
    who = tiny.subject(seed=9)
    who.model.train()
    before = torch.random.get_rng_state()
    own_words(who, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert who.model.training


def test_what_a_model_writes_follows_its_own_probabilities():
    who = tiny.subject(seed=3)
    start = torch.tensor([[who.tokenizer.bos_token_id]])
    with torch.no_grad():
        chances = who.model(start).logits[0, -1].softmax(-1)
    first = [
        ids[0] for ids in feed._sample(who, torch.Generator().manual_seed(0), 4000, 2).tolist()
    ]
    likeliest = int(chances.argmax())
    expected = float(chances[likeliest])
    noise = (expected * (1 - expected) / 4000) ** 0.5
    assert first.count(likeliest) / 4000 == pytest.approx(expected, abs=4 * noise)


def test_self_replay_is_made_of_the_models_own_words():
    who, recipe = tiny.subject(), Recipe(steps=4, batch_size=4, replay=0.5, replay_source="self")
    mixed = mixture(tokens(open_task(["New."])[0], who), recipe, who, None)
    written = tokens(open_task(own_words(who, 8))[0], who)["input_ids"]
    assert [row["input_ids"] for row in mixed if row["replayed"]] == written[:]


def test_digest_tells_weights_apart():
    one, same, other = tiny.subject(seed=1), tiny.subject(seed=1), tiny.subject(seed=1)
    with torch.no_grad():
        next(other.model.parameters()).view(-1)[0] += 1e-6
    assert digest(one.model) == digest(same.model) != digest(other.model)
