from contextlib import suppress

import pytest
import tiny
import torch

from caplab.models.load import load
from caplab.models.subject import Subject, measuring
from caplab.support.errors import BadInput


@pytest.fixture(scope="module")
def mine(saved):
    return load(saved)


# ---------------------------------------------------------------- asking


def test_an_answer_is_greedy(mine):
    ids = mine.tokenizer("A dog says")["input_ids"]
    for _ in range(4):
        with torch.no_grad():
            ids.append(int(mine.model(torch.tensor([ids])).logits[0, -1].argmax()))
    expected = mine.tokenizer.decode(ids[-4:], skip_special_tokens=True).strip()
    assert mine.ask("A dog says", max_new_tokens=4) == expected


def test_sampling_settings_do_not_matter(saved):
    who = load(saved)
    calm = who.ask("A dog says")
    who.model.generation_config.update(do_sample=True, temperature=3.0, repetition_penalty=5.0)
    assert {who.ask("A dog says") for _ in range(3)} == {calm}


def test_an_answer_stops_at_end_of_text(saved):
    who = load(saved)
    with torch.no_grad():
        who.model.transformer.ln_f.weight.zero_()
        who.model.transformer.ln_f.bias.copy_(10 * who.model.lm_head.weight[0])
    assert who.ask("A dog says") == ""


def test_asking_changes_no_state(saved):
    who = load(saved)
    who.model.train()
    before = torch.get_rng_state()
    who.ask("A dog says")
    assert who.model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_an_answer_fits_the_context(mine):
    asked = mine.tokenizer.decode([70] * (mine.context - 2))
    length = len(mine.tokenizer(asked)["input_ids"])
    answer = mine.ask(asked, max_new_tokens=500)
    assert length < mine.context
    assert len(mine.tokenizer(answer)["input_ids"]) <= mine.context


@pytest.mark.parametrize(
    ("question", "tokens", "message"),
    [
        ("", 5, "A question is a string, not ''"),
        (None, 5, "not None"),
        ("Hi", 0, "at least 1, not 0"),
        ("\ud800", 5, r"lone surrogate, half a character \('\\ud800'\)"),
        ("Hi", 2.5, "not 2.5"),
        ("Hi", True, "not True"),
        ("dog " * 100, 5, r"has \d+ tokens and mine reads 64 at once"),
    ],
)
def test_what_cannot_be_asked_is_refused(mine, question, tokens, message):
    with pytest.raises(BadInput, match=message):
        mine.ask(question, tokens)


def test_an_answer_with_nan_is_refused(saved):
    who = load(saved)
    with torch.no_grad():
        who.model.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(BadInput, match="mine answers with NaN, not with probabilities"):
        who.ask("A dog says")


# ---------------------------------------------------------------- asking a chat model


def test_a_chat_model_is_asked_through_its_template():
    who = tiny.chatty()
    ids = who.tokenizer.apply_chat_template(
        [{"role": "user", "content": "A dog says"}], add_generation_prompt=True
    )["input_ids"]
    said = []
    for _ in range(6):
        with torch.no_grad():
            said.append(int(who.model(torch.tensor([ids + said])).logits[0, -1].argmax()))
    expected = who.tokenizer.decode(said, skip_special_tokens=True).strip()
    bare = Subject(who.model, tiny.tokenizer(), "the same, without a template")
    assert who.ask("A dog says", 6) == expected
    assert who.ask("A dog says", 6, chat=False) == bare.ask("A dog says", 6)
    assert who.ask("A dog says", 6, system="Be kind.") != expected


@pytest.mark.parametrize("mark", ["<|im_end|>", tiny.END, "z"])
def test_every_end_mark_ends_an_answer(mark):
    who = tiny.chatty()
    number = who.tokenizer.convert_tokens_to_ids(mark)
    who.model.generation_config.eos_token_id = [0, who.tokenizer.convert_tokens_to_ids("z")]

    def always(_layer, _inputs, logits):
        return torch.zeros_like(logits).index_fill(-1, torch.tensor(number), 1.0)

    who.model.lm_head.register_forward_hook(always)
    answer = who.ask("A dog says", 5)
    assert answer in ("", "z")  # one token, and not five


# ---------------------------------------------------------------- what it shows


def test_its_repr_names_what_matters(mine):
    assert repr(mine) == "Subject mine: 40.3 k parameters, GPT-2, 64-token context, cpu"
    assert repr(tiny.subject("mamba")).endswith("MambaForCausalLM, 2048-token context, cpu")
    odd = Subject(mine.model, mine.tokenizer, "<b>")
    assert odd._repr_html_().startswith("<b>Subject &lt;b&gt;</b>: 40.3 k")


def test_tied_weights_count_once(mine):
    assert mine.parameters == mine.model.num_parameters()
    assert mine.parameters < sum(weight.numel() for weight in mine.model.state_dict().values())


# ---------------------------------------------------------------- measuring


def test_measuring_restores_after_a_failure(saved):
    model = load(saved).model.train()
    before = torch.get_rng_state()
    with suppress(KeyError), measuring(model):
        torch.rand(3)
        assert not model.training
        assert not torch.is_grad_enabled()
        assert not (model.lm_head.weight * 2).is_inference()  # a model may keep what it computes
        raise KeyError
    assert model.training
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
