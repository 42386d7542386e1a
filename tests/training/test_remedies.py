"""Going back a part of the way, and telling forgotten from out of practice."""

import gc
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model

from caplab.measuring.score import score
from caplab.models.subject import Subject
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput
from caplab.training import fine_tune as tuning
from caplab.training import remedies
from caplab.training.remedies.blend import Blend, interpolate, scale_lora
from caplab.training.remedies.recovery import Recovered, recovery

gc.collect()
gc.freeze()


def lora(seed=0, **options):
    """The tiny model with an adapter that does something."""
    torch.manual_seed(seed)
    settings = {"r": 4, "target_modules": "all-linear", "fan_in_fan_out": True} | options
    model = get_peft_model(tiny.subject().model, LoraConfig(**settings, init_lora_weights=False))
    return Subject(model.eval(), tiny.tokenizer(), "tiny, lora")


def weights(subject):
    return {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@torch.no_grad()
def logits(subject, text="A dog says woof"):
    return subject.model(**subject.tokenizer(text, return_tensors="pt")).logits


# ---------------------------------------------------------------- between base and tuned


def test_the_ends_of_a_blend_are_base_and_tuned_bit_for_bit():
    base, tuned = tiny.subject(seed=0), tiny.subject(seed=1)

    assert same(weights(interpolate(base, tuned, 0)), weights(base))
    assert same(weights(interpolate(base, tuned, 1)), weights(tuned))


def test_between_them_every_weight_is_the_weighted_mean():
    base, tuned = tiny.subject(seed=0), tiny.subject(seed=1)
    mixed = weights(interpolate(base, tuned, 0.3))

    for name, weight in mixed.items():
        mean = 0.7 * weights(base)[name] + 0.3 * weights(tuned)[name]
        torch.testing.assert_close(weight, mean)


def test_with_an_adapter_the_ends_answer_as_base_and_tuned():
    base, tuned = tiny.subject(), lora()

    assert torch.equal(logits(interpolate(base, tuned, 0)), logits(base))
    torch.testing.assert_close(logits(interpolate(base, tuned, 1)), logits(tuned))


def test_scaling_an_adapter_is_interpolation():
    base, tuned = tiny.subject(), lora()

    for amount in (0, 0.25, 1):
        scaled, mixed = scale_lora(tuned, amount), interpolate(base, tuned, amount)
        torch.testing.assert_close(logits(scaled), logits(mixed), rtol=1e-4, atol=1e-4)


def test_an_adapter_scales_from_where_it_was_trained():
    tuned = lora(r=4, lora_alpha=64, use_rslora=True)

    assert torch.equal(logits(scale_lora(tuned, 1)), logits(tuned))
    twice = scale_lora(scale_lora(tuned, 0.5), 0.5)  # a scale is a setting, no step
    assert torch.equal(logits(twice), logits(scale_lora(tuned, 0.5)))


@pytest.mark.parametrize("remedy", ["interpolate", "scale_lora"])
def test_the_originals_stay_as_they_are(remedy):
    base, tuned = tiny.subject(), lora()
    before = weights(base), weights(tuned), logits(tuned)
    changed = interpolate(base, tuned, 0.5) if remedy == "interpolate" else scale_lora(tuned, 0.5)
    with torch.no_grad():
        for parameter in changed.model.parameters():
            parameter.zero_()

    assert same(weights(base), before[0])
    assert same(weights(tuned), before[1])
    assert torch.equal(logits(tuned), before[2])


def test_a_slider_moves_one_subject_and_comes_back():
    base, tuned = tiny.subject(seed=0), tiny.subject(seed=1)
    blend = Blend(base, tuned)
    middle = weights(blend.at(0.5))
    blend.at(0.9)

    assert blend.at(0.5) is blend.subject
    assert same(weights(blend.subject), middle)
    assert blend.subject.name == "gpt2, 50% of the way"


def test_a_run_will_do_for_its_subject():
    base, tuned = tiny.subject(seed=0), tiny.subject(seed=1)
    run = SimpleNamespace(subject=tuned)

    assert same(weights(interpolate(base, run, 1)), weights(tuned))
    with pytest.raises(BadInput, match="weights=True"):
        interpolate(base, SimpleNamespace(subject=None), 1)


@pytest.mark.parametrize("alpha", [-0.1, 1.01, float("nan")])
def test_there_is_nothing_beyond_the_ends(alpha):
    with pytest.raises(BadInput, match=r"from 0 .* to 1"):
        interpolate(tiny.subject(), tiny.subject(), alpha)


def test_strangers_are_not_mixed():
    with pytest.raises(BadInput, match="llama was not tuned from gpt2"):
        interpolate(tiny.subject("gpt2"), tiny.subject("llama"), 0.5)
    with pytest.raises(BadInput, match=r"transformer.wte.weight is \(50, 32\), float32, cpu here"):
        interpolate(tiny.subject(), tiny.subject(vocab_size=50), 0.5)


def test_without_an_adapter_there_is_nothing_to_scale():
    with pytest.raises(BadInput, match="no LoRA adapter"):
        scale_lora(tiny.subject(), 0.5)
    with pytest.raises(BadInput, match="scale is nan"):
        scale_lora(lora(), float("nan"))


# ---------------------------------------------------------------- forgotten, or out of practice?


def questions(n=20):
    """Two capabilities, answered by counting."""
    return Exam(
        tuple(
            Question(name, f"{name} {i}", ("yes", "no"), 0)
            for name in ("facts", "skills")
            for i in range(n)
        ),
        name="half and half",
    )


@pytest.fixture
def school(monkeypatch):
    """A world in which it is decided what each subject says: base all, tuned none, and so on."""
    lessons = []

    def card(exam, said):
        blank = score(tiny.subject(), exam)
        nats = [-0.1 if said(question) else -5.0 for question in exam.questions]
        return replace(blank, loglikelihoods=tuple((right, -6.0) for right in nats))

    def open_school(comes_back, picked_up=lambda question: False, lost=lambda question: True):
        def fine_tune(subject, recipe, lesson, exam, **_):
            lessons.append((subject.name, lesson, exam))
            known = picked_up if subject.name == "from scratch" else comes_back
            before = card(exam, lambda question: not lost(question))
            after = card(exam, lambda question: known(question) or not lost(question))
            return SimpleNamespace(before=before, final=after)

        monkeypatch.setattr(remedies, "score", lambda subject, exam: card(exam, lambda q: True))
        monkeypatch.setattr(tuning, "fine_tune", fine_tune)
        return lessons

    return open_school


@pytest.mark.parametrize("show", ["questions", "capabilities"])
def test_nothing_is_asked_that_was_shown_and_all_is_asked_once(school, show):
    lessons = school(lambda question: True)
    recovery(tiny.subject(), tiny.subject(), questions(), show=show)

    asked = Counter(question for _, _, exam in lessons for question in exam.questions)
    assert asked == Counter(
        dict.fromkeys(questions().questions, 2)
    )  # by the tuned, and from scratch
    for _, lesson, exam in lessons:
        shown = {row["prompt"] for row in lesson}
        assert shown.isdisjoint(question.prompt for question in exam.questions)
        kinds = {prompt.split()[0] for prompt in shown}
        assert len(kinds) == (2 if show == "questions" else 1)
    assert lessons[0][1][0] == {"prompt": "facts 0", "completion": " yes"}


def test_what_comes_back_unseen_was_out_of_practice_and_what_does_not_was_forgotten(school):
    school(lambda question: question.capability == "facts", lambda q: q.prompt == "facts 3")
    found = recovery(tiny.subject(), tiny.subject(), questions())

    assert found["facts"] == Recovered("facts", 20, 20, 20, 20, 1)
    assert found["skills"] == Recovered("skills", 20, 20, 20, 0, 0)
    assert found["overall"] == Recovered("overall", 40, 40, 40, 20, 1)
    assert [row.finding for row in found.rows] == [
        "out of practice",
        "forgotten",
        "partly forgotten",
    ]


def test_four_lost_questions_say_nothing(school):
    school(lambda q: True, lost=lambda q: q.prompt[-2:] in (" 1", " 2", " 3", " 4"))
    found = recovery(tiny.subject(), tiny.subject(), questions())

    assert found["facts"].lost == 4
    assert found["facts"].finding == "little was lost"
    assert found["overall"].finding == "out of practice"


def test_a_recovery_shows_its_counts(school):
    school(lambda question: question.capability == "facts")
    found = recovery(tiny.subject(), tiny.subject(), questions())

    line = "facts       20  20    20    20    0             1.00 (.84 to 1.00)  out of practice"
    assert line in repr(found)
    assert "<td>1.00 (.84 to 1.00)</td>" in found._repr_html_()
    assert found.to_pandas()["back"].tolist() == [20, 0, 20]
    with pytest.raises(BadInput, match="facts, skills and overall"):
        found["fact"]


def test_the_recovery_really_trains_and_leaves_both_models_alone():
    base, tuned = tiny.subject(seed=0), lora()
    before = weights(base), weights(tuned)
    recipe = tuning.Recipe(steps=2, batch_size=2)
    found = recovery(base, tuned, questions(4), recipe=recipe)

    assert found["overall"].n == 8
    assert same(weights(base), before[0])
    assert same(weights(tuned), before[1])


def test_an_exam_needs_two_halves():
    with pytest.raises(BadInput, match="too small"):
        recovery(tiny.subject(), tiny.subject(), Exam(questions(1).questions[:1]))
    with pytest.raises(BadInput, match=r"'facts'.*questions and capabilities"):
        recovery(tiny.subject(), tiny.subject(), questions(), show="facts")
