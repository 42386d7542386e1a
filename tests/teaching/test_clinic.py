"""The error clinic's instruments: an error shown as it is, and no path of this machine."""

import sys

import pytest
import tiny
import torch
from datasets import Dataset

from caplab.teaching import clinic
from caplab.teaching.clinic import symptom

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="caps its memory on Linux")


def test_a_symptom_is_the_last_line(capsys):
    with symptom():
        torch.ones(1, 1, 2, dtype=torch.long) @ torch.ones(1, 2, 1)
    shown = capsys.readouterr().out
    assert shown.startswith("RuntimeError: expected scalar type")
    assert shown.endswith("\n")


def test_without_an_error_a_symptom_says_so(capsys):
    with symptom():
        pass
    assert capsys.readouterr().out == "No error.\n"


def test_an_error_without_words_is_shown(capsys):
    with symptom():
        next(iter([]))
    assert capsys.readouterr().out == "StopIteration: (no message)\n"


def test_a_symptom_lets_the_learner_interrupt():
    with pytest.raises(KeyboardInterrupt), symptom():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("cannot import 'x' from 'y' (/home/ada/lab/y.py)", "cannot import 'x' from 'y'"),
        ("no file at C:\\Users\\ada\\model here", "no file at here"),
        ("[enforce fail at alloc_cpu.cpp:127] err == 0. No memory", "No memory"),
        ("mean and/or sum of 1/2", "mean and/or sum of 1/2"),
        ("one\n  two", "one two"),
    ],
)
def test_a_message_loses_its_paths(message, shown):
    assert clinic._last_line("Error", message) == f"Error: {shown}"


def test_a_long_message_is_cut_between_words():
    cut = clinic._last_line("Error", "word " * 100)
    assert len(cut) < 260
    assert cut.endswith("word ...")


def test_training_leaves_no_traces(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    who = tiny.subject()
    before = [weight.clone() for weight in who.model.parameters()]
    trained = clinic.train(who, Dataset.from_dict({"text": ["hot pot", "cold pot"]}))
    assert trained.state.global_step == 4
    assert all(map(torch.equal, before, who.model.parameters()))
    assert not all(map(torch.equal, before, trained.model.cpu().parameters()))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_an_empty_data_set_stays_empty():
    empty = Dataset.from_dict({"text": []})
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever TRL says today
        clinic.train(tiny.subject(), empty)


def test_chance_of_end_is_the_next_tokens():
    who = tiny.subject()
    ids = who.tokenizer("hot pot", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        chances = who.model(ids.to(who.device)).logits[0, -1].softmax(-1)
    expected = chances[who.tokenizer.eos_token_id].item()
    assert clinic.chance_of_end(who, ["hot pot", "hot pot"]) == pytest.approx(expected)


def take(megabytes):
    """Take so much memory at once."""
    torch.zeros(megabytes, 2**18)


def twice(megabytes):
    """Call a helper."""
    take(2 * megabytes)


@linux
@pytest.mark.slow
def test_a_size_beyond_memory_fails_alone():
    trial = clinic.in_little_memory(take, [50, 900, 60], megabytes=300)
    assert trial.outcomes[50] == trial.outcomes[60] == "fits"
    assert trial.outcomes[900].startswith("RuntimeError: DefaultCPUAllocator: can't allocate")
    assert trial.largest == 60
    assert max(len(line) for line in repr(trial).splitlines()) <= 79


@linux
@pytest.mark.slow
def test_helpers_travel_along():
    trial = clinic.in_little_memory(twice, [50, 250], take, megabytes=300)
    assert trial.largest == 50


@linux
def marked(size):
    """Need what the other process does not have."""


@linux
@pytest.mark.slow
def test_a_trial_that_cannot_begin_says_why():
    with pytest.raises(clinic.BadInput, match="NameError"):
        clinic.in_little_memory(marked, [1], megabytes=300)


def test_only_linux_runs_the_trial(monkeypatch):
    monkeypatch.setattr(clinic.sys, "platform", "darwin")
    trial = clinic.in_little_memory(take, [1], megabytes=300)
    assert trial.largest == 0
    assert repr(trial).startswith("Not run: only Linux")
