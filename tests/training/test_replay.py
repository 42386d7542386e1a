"""Replay: exactly as much old text as the recipe says, and the model's own words."""

from dataclasses import replace
from itertools import islice

import pytest
import tiny
import torch
from datasets import Dataset

from caplab.questions import world
from caplab.questions.world2.documents import documents
from caplab.training import replay
from caplab.training.recipe import Recipe
from caplab.training.replay import mixture, own_words
from caplab.training.task_rows import open_task, tokens


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5, 1.0])
def test_the_share_of_old_texts_is_exact(share):
    who, recipe = tiny.subject(), Recipe(steps=10, batch_size=8, replay=share)
    mixed = mixture(tokens(open_task(None)[0], who), recipe, who, None)
    assert len(mixed) == 80
    assert sum(mixed["replayed"]) == round(80 * share)


def test_without_replay_rows_are_the_task():
    who = tiny.subject()
    rows = tokens(open_task(None)[0], who)
    assert mixture(rows, Recipe(), who, None) is rows


def test_task_rows_come_equally_often():
    who, recipe = tiny.subject(), Recipe(steps=10, batch_size=2, replay=0.5)
    rows = tokens(open_task(["A dog.", "A cat.", "A pot."])[0], who)
    mixed = mixture(rows, recipe, who, None)
    task = [tuple(row["input_ids"]) for row in mixed if not row["replayed"]]
    assert sorted(task.count(text) for text in set(task)) == [3, 3, 4]


def test_callers_texts_come_once_each():
    who, recipe = tiny.subject(), Recipe(steps=4, batch_size=2, replay=0.5)
    old = [f"Old text {number}." for number in range(5)]
    for given in (old, Dataset.from_dict({"text": old})):
        mixed = mixture(tokens(open_task(["New."])[0], who), recipe, who, given)
        texts = who.tokenizer.batch_decode([r["input_ids"] for r in mixed if r["replayed"]])
        assert len(set(texts)) == 4
        assert {text.removesuffix(tiny.END) for text in texts} < set(old)


@pytest.mark.parametrize("tuned", ["", ", full 0.001"])
def test_each_pocket_reads_on_in_its_own_world(tuned):
    first = [*islice(world.pretraining_documents("replay 7"), 20)]
    second = [*islice(documents(7, mentioned=True, anybody=True), 20)]
    for name, expected in (("pocket", first), ("gpt2", first), ("pocket2", second)):
        who = replace(tiny.subject(), name=name + tuned)
        assert replay.old_texts(who, "original", None, 20, 7)["text"][:] == expected


def test_the_seed_decides_the_mixture():
    who = tiny.subject()
    rows = tokens(open_task(None)[0], who)
    one, same, other = (
        mixture(rows, Recipe(steps=5, replay=0.5, seed=seed), who, None)["input_ids"]
        for seed in (1, 1, 2)
    )
    assert one[:] == same[:]
    assert one[:] != other[:]


def test_examples_takes_a_random_part():
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


def test_own_words_are_written_once(monkeypatch):
    who = tiny.subject(seed=7)
    few = own_words(who, 3, seed=1)
    many = own_words(who, 100, seed=1)
    assert many[:3] == few
    assert len(many) == 100
    monkeypatch.setattr(replay, "_write", None)
    assert own_words(who, 100, seed=1) == many


def test_own_words_differ_by_seed_and_model():
    first = own_words(tiny.subject(seed=7), 3, seed=1)
    assert own_words(tiny.subject(seed=7), 3, seed=2) != first
    assert own_words(tiny.subject(seed=8), 3, seed=1) != first


def test_writing_leaves_state_and_mode():
    who = tiny.subject(seed=9)
    who.model.train()
    before = torch.random.get_rng_state()
    own_words(who, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert who.model.training


def test_own_words_follow_the_model():
    who = tiny.subject(seed=3)
    start = torch.tensor([[who.tokenizer.bos_token_id]])
    with torch.no_grad():
        chances = who.model(start).logits[0, -1].softmax(-1)
    first = [
        ids[0] for ids in replay._sample(who, torch.Generator().manual_seed(0), 4000, 2).tolist()
    ]
    likeliest = int(chances.argmax())
    expected = float(chances[likeliest])
    noise = (expected * (1 - expected) / 4000) ** 0.5
    assert first.count(likeliest) / 4000 == pytest.approx(expected, abs=4 * noise)


def test_self_replay_is_own_words():
    who, recipe = tiny.subject(), Recipe(steps=4, batch_size=4, replay=0.5, replay_source="self")
    mixed = mixture(tokens(open_task(["New."])[0], who), recipe, who, None)
    written = tokens(open_task(own_words(who, 8))[0], who)["input_ids"]
    assert [row["input_ids"] for row in mixed if row["replayed"]] == written[:]


# ---------------------------------------------------------------- a chat model's own words


def talker(seed=0):
    """A random chat model whose turns end soon."""
    who = tiny.chatty(seed=seed)
    end = who.tokenizer.convert_tokens_to_ids("<|im_end|>")

    def ending(_layer, _inputs, logits):
        return logits.index_add(-1, torch.tensor([end]), torch.full((*logits.shape[:-1], 1), 3.0))

    who.model.lm_head.register_forward_hook(ending)
    return who


def test_a_chat_model_replays_conversations():
    who = talker()
    talks = own_words(who, 20)
    assert own_words(who, 3) == talks[:3]
    assert len(talks) == 20
    for talk in talks:
        assert [turn["role"] for turn in talk["messages"]] == ["user", "assistant"]
        assert all(turn["content"].strip() for turn in talk["messages"])
        assert not any("<|im_" in turn["content"] for turn in talk["messages"])


def test_the_template_decides_own_words():
    who = talker()
    talks = own_words(who, 3)
    who.tokenizer.chat_template = None
    assert all(isinstance(text, str) for text in own_words(who, 3))
    who.tokenizer.chat_template = tiny.CHAT.replace("<|im_start|>", "<|im_start|>the ")
    assert own_words(who, 3) != talks


def test_questions_follow_the_model():
    who = tiny.chatty()
    start = torch.tensor(who.tokenizer(["<|im_start|>user\n"])["input_ids"])
    with torch.no_grad():
        chances = who.model(start).logits[0, -1].softmax(-1)
    drawn = replay._continue(who, torch.Generator().manual_seed(0), start.tolist() * 2000, 1)
    likeliest = int(chances.argmax())
    expected = float(chances[likeliest])
    noise = (expected * (1 - expected) / 2000) ** 0.5
    assert drawn.flatten().tolist().count(likeliest) / 2000 == pytest.approx(
        expected, abs=4 * noise
    )


def test_prompts_of_two_lengths_disturb_nothing():
    """Padding on the left changes no probability: the likeliest tokens are those without it."""
    who = tiny.chatty()
    with torch.no_grad():
        who.model.lm_head.weight.mul_(100)  # as good as certain
    short, long = who.tokenizer(["A dog says", "The opposite of hot is cold, of big is"])[
        "input_ids"
    ]
    both = replay._continue(who, torch.Generator(), [short, long], 4)
    alone = [replay._continue(who, torch.Generator(), [ids], 4)[0] for ids in (short, long)]
    assert both.tolist() == [ids.tolist() for ids in alone]


def test_an_unfinished_turn_ends_with_a_sentence(monkeypatch):
    who = tiny.chatty()
    said = "Put the pot on it. What is hot? A dog"
    monkeypatch.setattr(
        replay, "_continue", lambda *_: torch.tensor(who.tokenizer([said])["input_ids"])
    )
    assert replay._turns(who, torch.Generator(), ["Hi"]) == ["Put the pot on it. What is hot?"]
    said = "A dog says woof<|im_end|>. And?"
    assert replay._turns(who, torch.Generator(), ["Hi"]) == ["A dog says woof"]


def test_self_replay_of_a_chat_model():
    who, task = talker(), [{"messages": [{"role": "user", "content": "Hi"}] * 2}]
    task[0]["messages"][1] = {"role": "assistant", "content": "Hello."}
    for only in (False, True):
        recipe = Recipe(steps=4, batch_size=4, replay=0.5, replay_source="self")
        recipe = recipe.change(assistant_only=only)
        mixed = mixture(tokens(open_task(task)[0], who, only), recipe, who, None)
        written = tokens(open_task(own_words(who, 8))[0], who, only)
        replayed = [row for row in mixed if row["replayed"]]
        assert [row["labels"] for row in replayed] == written["labels"][:]
    recipe = recipe.change(replay_source="original")
    texts = mixture(tokens(open_task(task)[0], who, True), recipe, who, ["An old text."])
    old = next(row for row in texts if row["replayed"])
    assert old["labels"] == old["input_ids"]  # a plain text among chat rows is learned whole
