"""Conversations as TRL reads them, learned whole or only what the assistant says."""

from copy import deepcopy
from pathlib import Path

import pytest
import tiny
import trl
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from caplab.support.errors import BadInput
from caplab.training.chat_rows import _MARKED, marked_template
from caplab.training.task_rows import as_dataset, open_task, tokens

# As SmolLM2 has it: a system turn of its own, and no marks.
SMOL = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is 2+2?"},
    {"role": "assistant", "content": "4."},
    {"role": "user", "content": "A dog says"},
    {"role": "assistant", "content": "woof"},
]
TALKS = {
    "messages": [{"messages": TALK}, {"messages": TALK[1:3]}],
    "prompt and completion": [
        {"prompt": TALK[:2], "completion": TALK[2:]},
        {"prompt": TALK[1:2], "completion": TALK[2:3]},
    ],
}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
TIME = {"type": "function", "function": {"name": "get_time", "arguments": {"zone": 1}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
CALLS = [
    [
        {"role": "user", "content": "What is the weather in Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "get_weather", "content": "Hot."},
        {"role": "assistant", "content": "It is hot."},
    ]
    for call in (CALL, TIME)
]


def trl_rows(who, rows, folder, monkeypatch, template=None):
    """The rows that TRL itself would train on, of the assistant's turns alone if asked so."""
    monkeypatch.setattr(SFTTrainer, "_send_telemetry", lambda self: None)
    settings = {"max_length": who.context, "bf16": False, "use_cpu": True, "report_to": "none"}
    tokenizer = deepcopy(who.tokenizer)
    tokenizer.chat_template = template or tokenizer.chat_template
    trainer = SFTTrainer(
        model=deepcopy(who.model),
        args=SFTConfig(
            str(folder),
            gradient_checkpointing=False,
            assistant_only_loss=template is not None,
            **settings,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    return [{key: row[key] for key in ("input_ids", "labels")} for row in trainer.train_dataset]


@pytest.mark.parametrize("template", [SMOL, tiny.CHAT], ids=["SmolLM2", "plain"])
@pytest.mark.parametrize("name", TALKS)
def test_assistant_only_rows_are_those_of_trl(name, template, tmp_path, monkeypatch):
    """TRL is given the marked copy of the template."""
    who = tiny.chatty(template=template)
    rows = open_task(TALKS[name])[0]
    made = list(tokens(rows, who, assistant_only=True))
    marked = marked_template(who.tokenizer)
    assert made == trl_rows(who, rows, tmp_path, monkeypatch, marked)
    assert [row["input_ids"] for row in made] == tokens(rows, who)["input_ids"][:]


def test_only_the_assistant_is_learned():
    who = tiny.chatty(template=SMOL)
    [row] = tokens(open_task([{"messages": TALK}])[0], who, assistant_only=True)
    learned = [token for token in row["labels"] if token != -100]
    assert who.tokenizer.decode(learned) == "4.<|im_end|>\nwoof<|im_end|>\n"


def templates():
    """Those of TRL of which it has a copy with marks."""
    folder = Path(trl.__file__).parent / "chat_templates"
    marked = sorted(folder.glob("*_training.jinja"))
    pairs = [(path.with_name(path.name.replace("_training", "")), path) for path in marked]
    return [pair for pair in pairs if pair[0].exists()]


def test_our_marks_are_where_trl_sets_them():
    """Our wrapper around an unmarked template learns the tokens that TRL's own marks learn."""
    equal, tokenizer = 0, tiny.chatty().tokenizer
    for plain, by_hand in templates():
        wrapped = _MARKED.replace("@BODY@", plain.read_text(encoding="utf-8").removesuffix("\n"))
        masks = []
        for template in (wrapped, by_hand.read_text(encoding="utf-8")):
            try:
                made = tokenizer.apply_chat_template(
                    TALK[1:],
                    chat_template=template,
                    return_dict=True,
                    return_assistant_tokens_mask=True,
                )
            except Exception:
                break  # refused, in our wrapper's words or the template's own
            masks.append((made["input_ids"], made["assistant_masks"]))
        equal += len(masks) == 2 and masks[0] == masks[1]
    assert equal >= 10


def test_known_templates_get_trls_own_marks(tmp_path, monkeypatch):
    folder = Path(trl.__file__).parent / "chat_templates"
    who = tiny.chatty(template=(folder / "qwen2_5.jinja").read_text(encoding="utf-8"))
    rows = open_task(TALKS["messages"])[0]
    made = list(tokens(rows, who, assistant_only=True))
    assert made == trl_rows(who, rows, tmp_path, monkeypatch, who.tokenizer.chat_template)


def test_a_template_that_cannot_be_marked_is_named():
    last = "{% for m in messages %}{{ m.content }}{% if loop.last %}!{% endif %}{% endfor %}"
    who = tiny.chatty(template=last)
    with pytest.raises(BadInput, match="assistant_only cannot mark what the assistant says"):
        tokens(open_task(TALKS["messages"])[0], who, assistant_only=True)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["A text."], "assistant_only learns the assistant's turns of chat messages"),
        ([{"messages": TALK[:2]}], "a conversation has no assistant's turn"),
    ],
)
def test_assistant_only_needs_an_assistant(rows, said):
    with pytest.raises(BadInput, match=said):
        tokens(open_task(rows)[0], tiny.chatty(), assistant_only=True)


# ---------------------------------------------------------------- tools


@pytest.mark.parametrize("only", [False, True])
def test_calls_of_tools_are_read_as_trl_reads_them(only, tmp_path, monkeypatch):
    who = tiny.chatty(template=tiny.TOOLS)
    rows = open_task([{"messages": talk, "tools": [TOOL]} for talk in CALLS])[0]
    made = list(tokens(rows, who, assistant_only=only))
    marked = marked_template(who.tokenizer) if only else None
    assert made == trl_rows(who, rows, tmp_path, monkeypatch, marked)
    first, second = (who.tokenizer.decode(row["input_ids"]) for row in made)
    assert '"arguments": {"city": "Rome"}' in first  # and nothing of the other row's
    assert '"arguments": {"zone": 1}' in second
    assert '"parameters": {}' in first


def test_tools_without_a_place_are_refused():
    rows = [{"messages": talk} for talk in CALLS]
    with pytest.raises(BadInput, match="leaves out message 1, a call of the tool 'get_weather'"):
        tokens(open_task(rows)[0], tiny.chatty())
    rows = [{"messages": TALK, "tools": [TOOL]}]
    with pytest.raises(BadInput, match="leaves out the tools"):
        tokens(open_task(rows)[0], tiny.chatty())


def test_a_dataset_with_calls_is_taken_as_it_is():
    rows = Dataset.from_list([{"messages": talk} for talk in CALLS], on_mixed_types="use_json")
    assert as_dataset(rows, "The task") is rows


def test_another_template_is_another_reading():
    who, rows = tiny.chatty(), open_task(TALKS["messages"])[0]
    first = tokens(rows, who)["input_ids"][:]
    who.tokenizer.chat_template = SMOL
    assert tokens(rows, who)["input_ids"][:] != first
