"""A subject is asked through its chat template; what the template refuses is one sentence."""

import copy

import pytest
import tiny
from tokenizers.processors import TemplateProcessing

from caplab.models import chat
from caplab.models.chat import answer_alone, as_asked, encode, render, stop_tokens, uses_chat
from caplab.questions.exam import Question
from caplab.support.errors import BadInput

ASKED = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system turns.') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Turns must alternate.') }}{% endif %}{{ m['content'] }}{% endfor %}"
)
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def user(text):
    return {"role": "user", "content": text}


def test_a_template_decides_how_one_asks():
    plain, chatty = tiny.subject(), tiny.chatty()
    assert not uses_chat(plain)
    assert uses_chat(chatty)
    assert not uses_chat(chatty, chat=False)
    with pytest.raises(BadInput, match="The tokenizer of gpt2 has no chat template"):
        uses_chat(plain, chat=True)
    with pytest.raises(BadInput, match="chat is True, False or None, not 'yes'"):
        uses_chat(chatty, chat="yes")


def test_a_prompt_is_one_user_turn():
    who = tiny.chatty()
    assert as_asked(who, "Hi") == as_asked(who, [user("Hi")]) == ASKED
    assert as_asked(who, "Hi", chat=False) == "Hi"
    system = "<|im_start|>system\nBe kind.<|im_end|>\n"
    assert as_asked(who, "Hi", system="Be kind.") == system + ASKED


def test_questions_are_asked_as_they_say():
    who, turns = tiny.chatty(), (user("One"), {"role": "assistant", "content": "1"}, user("Hi"))
    expected = {"contains": "Hello"}
    spoken = as_asked(who, Question("greeting", expect=expected, messages=turns))
    assert spoken.endswith(ASKED)
    assert "<|im_start|>assistant\n1<|im_end|>" in spoken
    assert as_asked(who, Question("greeting", "Hi", expect=expected)) == ASKED
    assert as_asked(who, Question("greeting", "Hi", expect=expected), chat=False) == "Hi"


def test_turns_without_a_template():
    turns = [user("1+1="), {"role": "assistant", "content": "2"}, user("2+2=")]
    assert as_asked(tiny.subject(), turns) == "1+1= 2\n\n2+2="
    assert as_asked(tiny.subject(), "Hi", system="Be kind.") == "Be kind.\n\nHi"


def test_an_answer_begun_is_continued():
    turns = [user("Hi"), {"role": "assistant", "content": "Hello,"}]
    assert as_asked(tiny.chatty(), turns) == ASKED + "Hello,"


def test_a_template_that_starts_adds_no_second_start():
    who = tiny.chatty(template="{{ bos_token }}" + tiny.CHAT)
    start = (tiny.END, who.tokenizer.bos_token_id)
    who.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tiny.END} $A", special_tokens=[start]
    )
    [ids] = encode(who.tokenizer, [as_asked(who, "Hi")])
    assert ids.count(who.tokenizer.bos_token_id) == 1
    template_ids = who.tokenizer.apply_chat_template([user("Hi")], add_generation_prompt=True)
    assert ids == template_ids["input_ids"]


@pytest.mark.parametrize(
    ("template", "asked", "said"),
    [
        (STRICT, {"system": "Be kind."}, "refuses the conversation .*No system turns"),
        (STRICT, {"asked": [user("a"), user("b")]}, "refuses .*Turns must alternate"),
        ("{{ messages[0].content }}", {"asked": [user("a"), user("b")]}, "leaves out message 1"),
        ("{{ messages[-1].content }}", {"system": "Be kind."}, "out message 0, a system turn"),
        ("{% for", {}, "refuses the conversation"),
        ("{{ 'x' * 2000000 }}", {}, "never ends: it wrote 2000000 characters"),
        (tiny.CHAT, {"system": ""}, "system is a string, not ''"),
        (tiny.CHAT, {"asked": []}, r"A question is a string, not \[\]"),
        (tiny.CHAT, {"asked": 7}, "A question is a string, not 7"),
        (tiny.CHAT, {"asked": [{"role": "user"}]}, "message 0 needs a role and a content"),
        (tiny.CHAT, {"asked": ["Hi"]}, "message 0 needs a role and a content"),
        (tiny.CHAT, {"asked": [user("\ud800")]}, "message 0 holds a lone surrogate"),
        (tiny.CHAT, {"asked": [{"role": "assistant", "tool_calls": [{}]}]}, "without a function's"),
    ],
)
def test_what_a_template_refuses_is_one_sentence(template, asked, said):
    who = tiny.chatty(template=template)
    with pytest.raises(BadInput, match=said) as caught:
        as_asked(who, asked.get("asked", "Hi"), system=asked.get("system"))
    assert "\n" not in str(caught.value)


def test_an_endless_template_is_stopped(monkeypatch):
    monkeypatch.setattr(chat, "_SECONDS", 0.2)
    with pytest.raises(BadInput, match=r"never ends: it ran for 0\.2 seconds"):
        as_asked(tiny.chatty(template=ENDLESS), "Hi")


def test_a_call_of_a_tool_passes_or_is_named():
    turns = [user("Hi"), {"role": "assistant", "content": None, "tool_calls": [CALL]}, user("And?")]
    assert '"name": "get_weather"' in as_asked(tiny.chatty(template=tiny.TOOLS), turns)
    with pytest.raises(BadInput, match="message 1, a call of the tool 'get_weather'"):
        as_asked(tiny.chatty(), turns)
    with pytest.raises(BadInput, match="Message 1 calls the tool 'get_weather'"):
        as_asked(tiny.subject(), turns)
    assert "get_weather" in render(
        tiny.chatty(template=tiny.TOOLS).tokenizer, [user("Hi")], tools=[TOOL]
    )
    with pytest.raises(BadInput, match="leaves out the tools"):
        render(tiny.chatty().tokenizer, [user("Hi")], tools=[TOOL])


def test_an_answer_ends_with_its_turn():
    who = tiny.chatty()
    end = who.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert stop_tokens(who, chat=True) == [0, end]
    assert stop_tokens(who, chat=False) == [0]
    who.model.generation_config.eos_token_id = [5, 0, 7]
    assert stop_tokens(who, chat=True) == [5, 0, 7, end]
    assert answer_alone(who, " Rome.<|im_end|>\n<|im_start|>", chat=True) == "Rome."
    assert answer_alone(who, " Rome.<|im_end|>", chat=False) == "Rome.<|im_end|>"


def test_a_mark_of_plain_letters_is_cut():
    template = tiny.CHAT.replace("<|im_end|>", "</turn>")
    assert answer_alone(tiny.chatty(template=template), "Rome.</turn><user>", chat=True) == "Rome."


def test_rendering_leaves_the_messages_alone():
    turns = [user("Hi"), {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    before = copy.deepcopy(turns)
    render(tiny.chatty(template=tiny.TOOLS).tokenizer, turns)
    assert turns == before
