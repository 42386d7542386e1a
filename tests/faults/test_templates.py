"""A chat template is a program of a stranger's: it ends, or is ended, and a sentence says so."""

import time

import pytest
import tiny
from drill import fault

import caplab as cl
from caplab.models import chat
from caplab.support.errors import BadInput

ASKED = "{{ messages[0]['content'] }}"
DOUBLING = (
    "{% set ns = namespace(s='a' * 99) %}{% for a in range(60) %}"
    "{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
)
ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "lists": "{% for a in range(99999) %}{% set x = range(99999) | list %}{% endfor %}",
    "a macro that calls itself": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "a range beyond the sandbox": "{% for a in range(10 * 99999) %}{% endfor %}",
    "a text doubled again and again": DOUBLING,
    "a text times a number": "{{ 'a' * 10000000000 }}",
    "a list times a number": "{{ ([1] * 10000000000) | length }}",
    "a power": "{{ 10 ** 10 ** 9 }}",
    "a number of many digits": "{{ 'a' | center(10000000000) }}",
    "a wide format": "{{ '%10000000000d' % 1 }}",
    "another wide format": "{{ '{:>10000000000}'.format(1) }}",
    "an answer without end": "{% for a in range(99999) %}{{ 'a' * 99 }}{% endfor %}",
}


@fault("a chat template that never ends, or fills the memory", "ended, and said in one sentence")
@pytest.mark.parametrize("kind", ENDLESS)
def test_it_is_ended(kind, monkeypatch):
    monkeypatch.setattr(chat, "_SECONDS", 0.3)
    monkeypatch.setattr(chat, "_MEMORY", 2**27)
    who, start = tiny.chatty(template=ENDLESS[kind] + ASKED), time.perf_counter()
    with pytest.raises(BadInput, match=r"^The chat template of chatty llama "):
        who.ask("Hi", 2)
    assert time.perf_counter() - start < 60  # on a busy machine
    with pytest.raises(BadInput, match="chat template"):
        cl.score(who, tiny.exam(), progress=False)


@fault("a template with dates, marks and small sums", "used as it is")
@pytest.mark.parametrize(
    "part",
    [
        "Cutoff 20231231. ",
        "{{ '-' * 20 }}",
        "{{ '%02d' % 7 }}",
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{% endfor %}",
        "{%- generation -%}x{%- endgeneration -%}",
        "{{ strftime_now('%d %b %Y') }}",
        "{{ (1000 * 1000) // 7 }}",
    ],
)
def test_it_is_used(part):
    assert isinstance(tiny.chatty(template=part + tiny.CHAT).ask("Hi", 2), str)


@fault("a model whose weights are not numbers is asked", "it says so, and never answers ''")
@pytest.mark.parametrize("weight", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "mamba"])
def test_a_broken_model_is_no_answer(kind, weight):
    import torch

    who = tiny.subject(kind)
    with torch.no_grad():
        for each in who.model.parameters():
            each.fill_(float(weight))
    with pytest.raises(BadInput, match="NaN"):
        who.ask("A dog says")
    with pytest.raises(BadInput, match="NaN"):
        cl.score(who, tiny.exam(), progress=False)
    with pytest.raises(BadInput, match="NaN"):
        cl.score(who, tiny.SPOKEN, progress=False)
