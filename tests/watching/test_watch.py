"""The watch of a run's folder: what it takes for whole, what it says, when it ends."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy

import pytest
import tiny
import torch
from drill import fault
from guarded import known, model
from peft import LoraConfig, get_peft_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from caplab.cli.commands import main
from caplab.measuring.policy import Policy
from caplab.support.errors import BadInput
from caplab.watching import checkpoints, watch
from caplab.watching.checkpoints import Finder
from caplab.watching.watch import Watch, share_of_error


@pytest.fixture(autouse=True)
def settled_at_once(monkeypatch):
    monkeypatch.setattr(checkpoints, "SETTLED", 0.0)
    monkeypatch.setattr(watch, "SETTLED", 0.01)


@pytest.fixture
def base(tmp_path):
    return written(tmp_path / "base", tokenizer=True)


@pytest.fixture
def asked(monkeypatch):
    """Which folders were scored, in this order."""
    names, plain = [], watch.scorecard_of

    def counted(source, exam, manner, **options):
        names.append(os.path.basename(source))
        return plain(source, exam, manner, cache=False)

    monkeypatch.setattr(watch, "scorecard_of", counted)
    return names


def written(folder, noise=0.0, tokenizer=False):
    """Write a checkpoint, as much changed as wished."""
    changed = deepcopy(model())
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in changed.parameters():
            weight.add_(noise * torch.randn_like(weight))
    changed.save_pretrained(folder)
    if tokenizer:
        tiny.tokenizer().save_pretrained(folder)
    return folder


def watching(tmp_path, **changes):
    said = []
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    given = {"run": run, "base": str(tmp_path / "base"), "exam": known(), "policy": Policy()}
    return Watch(**given | {"say": said.append} | changes), said


# ---------------------------------------------------------------- what is whole


NAMES = ["checkpoint-10", "epoch_0", "step_100", "epoch_1/hf", "weights/iter_0000500/hf", "."]


@pytest.mark.parametrize("name", NAMES)
def test_many_trainers_names_are_found(tmp_path, base, name):
    written(tmp_path / "run" / name)
    (found,) = Finder(tmp_path / "run").whole()
    assert found.name == name
    numbers = {"checkpoint-10": 10, "step_100": 100, "weights/iter_0000500/hf": 500}
    assert found.step == numbers.get(name, 1 if name == "epoch_1/hf" else 0)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_shard(folder):
    shutil.rmtree(folder)
    model().save_pretrained(folder, max_shard_size="20KB")
    next(folder.glob("model-00002*")).unlink()


def without_index(folder):
    shutil.rmtree(folder)
    model().save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors.index.json").unlink()


HALVES = {
    "weights cut short": cut,
    "no weights yet": lambda folder: (folder / "model.safetensors").unlink(),
    "an empty file": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "half a config": lambda folder: (folder / "config.json").write_text('{"model_ty'),
    "a shard is missing": without_shard,
    "the index is missing": without_index,
    "an adapter without weights": lambda f: (f / "adapter_config.json").write_text("{}"),
    "a pickle": lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
}


@fault("a checkpoint is written by halves", "it is not scored before it is whole")
@pytest.mark.parametrize("half", HALVES)
def test_half_a_checkpoint_waits(tmp_path, base, half):
    folder = written(tmp_path / "run" / "checkpoint-1")
    finder = Finder(tmp_path / "run")
    assert finder.whole()
    HALVES[half](folder)
    assert finder.whole() == []
    assert finder.problems


def test_what_still_changes_waits(tmp_path, base, monkeypatch):
    monkeypatch.setattr(checkpoints, "SETTLED", 1000.0)
    folder = written(tmp_path / "run" / "checkpoint-1")
    finder = Finder(tmp_path / "run")
    assert finder.whole() == []
    assert finder.waiting
    for path in folder.iterdir():
        os.utime(path, (0, 0))  # written long ago
    assert len(finder.whole()) == 1
    assert not finder.waiting


def test_hidden_folders_and_links_are_left_out(tmp_path, base):
    written(tmp_path / "run" / ".tmp" / "checkpoint-1")
    (tmp_path / "run" / "latest").symlink_to(base)
    assert Finder(tmp_path / "run").whole() == []


def test_the_trainers_step_counts(tmp_path, base):
    folder = written(tmp_path / "run" / "last")
    (folder / "trainer_state.json").write_text('{"global_step": 70}')
    assert Finder(tmp_path / "run").whole()[0].step == 70


# ---------------------------------------------------------------- one pass


def test_it_ends_at_a_crossing(tmp_path, base, asked):
    for n, noise in enumerate((0.0, 1.0, 0.0)):
        folder = written(tmp_path / "run" / f"checkpoint-{n}", noise)
        for path in folder.iterdir():
            os.utime(path, (n * 100, n * 100))
    seen, said = watching(tmp_path)
    assert seen.once() == 1
    assert asked == ["base", "checkpoint-0", "checkpoint-1"]
    assert said[-1] == "checkpoint-1 crossed the budget."
    assert [line.split(":")[0] for line in said[:-1]] == ["checkpoint-0", "checkpoint-1"]


def test_what_is_known_is_not_asked_again(tmp_path, base, asked):
    written(tmp_path / "run" / "checkpoint-1")
    code = watching(tmp_path, policy=Policy(budget=0.2))[0].once()
    assert code == 0
    written(tmp_path / "run" / "checkpoint-2", 1e-4)
    again, said = watching(tmp_path, policy=Policy(budget=0.2))
    assert again.once() == 0
    assert asked == ["base", "checkpoint-1", "checkpoint-2"]
    assert said[0] == "1 known from the log; the latest:"
    stricter = watching(tmp_path, policy=Policy(budget=0.05))[0]
    assert stricter.once() == 3  # by today's policy, from the answers in the log
    assert len(asked) == 3


def test_a_checkpoint_written_anew_is_asked_anew(tmp_path, base, asked):
    written(tmp_path / "run" / "last")
    watching(tmp_path)[0].once()
    written(tmp_path / "run" / "last", 1e-4)
    watching(tmp_path)[0].once()
    assert asked == ["base", "last", "last"]


def test_an_adapter_is_scored(tmp_path, base, asked):
    """Its base lay on the machine that trained it, and is given here."""
    tuned = get_peft_model(model(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    with torch.no_grad():
        tuned.base_model.model.transformer.h[0].attn.c_attn.lora_B.default.weight.fill_(1e-6)
    tuned.peft_config["default"].base_model_name_or_path = "/data/not/here"
    tuned.save_pretrained(tmp_path / "run" / "step_5")
    seen, said = watching(tmp_path, policy=Policy(budget=0.2))
    assert seen.once() == 0, said
    assert said[0].startswith("step_5 names the base /data/not/here, which is not here: ")
    assert "known 1.00, was 1.00: HELD" in said[1]


@fault("a checkpoint answers with NaN", "a watch calls it a crossing")
def test_a_diverged_model_is_a_crossing(tmp_path, base):
    written(tmp_path / "run" / "checkpoint-1", float("nan"))
    seen, said = watching(tmp_path)
    assert seen.once() == 1
    assert "NaN" in said[0]
    assert watching(tmp_path)[0].once() == 1  # from the log, too


def test_an_empty_run_is_a_failure(tmp_path, base):
    seen, said = watching(tmp_path)
    assert seen.once() == 2
    assert said[-1].endswith("holds no whole checkpoint.")


SHARDS = {
    "checkpoint-5/global_step5": "zero_to_fp32",
    "checkpoint-5/pytorch_model_fsdp_0": "accelerate merge-weights",
    "iter_0000005/mp_rank_00": "Megatron",
}


@pytest.mark.parametrize("folder", SHARDS)
def test_shards_are_named(tmp_path, base, folder):
    (tmp_path / "run" / folder).mkdir(parents=True)
    seen, said = watching(tmp_path)
    assert seen.once() == 2
    assert SHARDS[folder] in said[0]


def test_what_cannot_be_scored_is_said_once(tmp_path, base, monkeypatch):
    written(tmp_path / "run" / "checkpoint-1")
    (tmp_path / "run" / "checkpoint-1" / "config.json").write_text('{"model_type": "nobody"}')
    seen, said = watching(tmp_path)
    seen._recall()
    assert not seen._look_at_all()
    assert not seen._look_at_all()
    assert len([line for line in said if "cannot be scored" in line]) == 1


# ---------------------------------------------------------------- following a run


def test_it_follows_until_told(tmp_path, base):
    done, polls = tmp_path / "done", []

    def later(seconds):
        polls.append(seconds)
        if len(polls) == 2:
            written(tmp_path / "run" / "checkpoint-1")
        if len(polls) == 4:
            done.touch()
        assert len(polls) < 9, "it does not end"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch.time, "sleep", later)
        seen, said = watching(tmp_path, policy=Policy(budget=0.2))
        assert seen.follow(until=done) == 0
    assert len(said) == 1
    assert 4 <= len(polls) <= 5


def test_it_ends_after_a_pause(tmp_path, base):
    written(tmp_path / "run" / "checkpoint-1")
    seen, _ = watching(tmp_path, policy=Policy(budget=0.2))
    assert seen.follow(idle=1e-9, poll=0.01) == 0


def test_a_crossing_is_acted_on(tmp_path, base):
    written(tmp_path / "run" / "checkpoint-7", 1.0)
    out = tmp_path / "told.json"
    script = tmp_path / "tell.py"
    script.write_text(
        "import json, os, sys\n"
        "told = {k: v for k, v in os.environ.items() if k.startswith('CAPLAB_')}\n"
        "json.dump([told, sys.argv[2:]], open(sys.argv[1], 'w'))\nsys.exit(4)\n"
    )
    command = f"{sys.executable} {script} {out} 'two words' ; $(touch {tmp_path / 'shell'})"
    seen, said = watching(tmp_path, stop_file=tmp_path / "STOP", command=command)
    assert seen.follow(poll=0.01) == 1
    told, words = json.loads(out.read_text())
    assert told["CAPLAB_STEP"] == "7"
    assert told["CAPLAB_VERDICT"] == "REGRESSED"
    assert told["CAPLAB_CHECKPOINT"].endswith("checkpoint-7")
    assert words[0] == "two words"
    assert not (tmp_path / "shell").exists(), "no shell reads it"
    assert "REGRESSED" in (tmp_path / "STOP").read_text()
    assert said[-1].endswith("ended with exit code 4.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": "no-such-program --now"}, "no program 'no-such-program'"),
        ({"command": "'"}, "cannot be read"),
        ({"command": " "}, "no program"),
        ({"run": "nowhere"}, "no folder nowhere"),
        ({"policy": Policy(capability={"sums": {}})}, "does not test"),
    ],
)
def test_it_is_checked_beforehand(tmp_path, base, asked, options, message):
    with pytest.raises(BadInput, match=message):
        watching(tmp_path, **options)
    assert asked == []


def test_a_stop_file_replaces_nothing(tmp_path, base):
    (tmp_path / "STOP").write_text("mine")
    with pytest.raises(BadInput, match="is there already"):
        watching(tmp_path, stop_file=tmp_path / "STOP")
    assert (tmp_path / "STOP").read_text() == "mine"


@pytest.mark.parametrize("options", [{"idle": 0}, {"idle": float("nan")}, {"poll": -1}])
def test_times_are_above_zero(tmp_path, base, options):
    with pytest.raises(BadInput, match="above 0"):
        watching(tmp_path)[0].follow(**options)


def test_tensorboard_shows_the_checkpoints(tmp_path, base):
    for n in (10, 20):
        written(tmp_path / "run" / f"checkpoint-{n}")
    watching(tmp_path, board=tmp_path / "board")[0].once()
    events = EventAccumulator(str(tmp_path / "board")).Reload().Scalars("guard/accuracy")
    assert [(event.step, event.value) for event in events] == [(10, 1.0), (20, 1.0)]


# ---------------------------------------------------------------- the log


def logged(tmp_path):
    written(tmp_path / "run" / "checkpoint-1")
    watching(tmp_path)[0].once()
    return tmp_path / "run" / "caplab-watch.jsonl"


def test_a_line_cut_short_is_asked_again(tmp_path, base, asked):
    log = logged(tmp_path)
    whole = log.read_bytes()
    log.write_bytes(whole[:-50])
    watching(tmp_path)[0].once()
    assert asked == ["base", "checkpoint-1", "checkpoint-1"]
    assert log.read_bytes().count(b"\n") == 2
    assert watching(tmp_path)[0].once() == 3


def changed(content):
    return content.replace(b'"verdict"', b'"Verdict"')


def reordered(content):
    lines = content.splitlines(keepends=True)
    return b"".join(lines[::-1])


SPOILED = {
    "a word changed": changed,
    "a line taken out": lambda content: content.split(b"\n", 1)[1],
    "lines in another order": reordered,
    "a line put in": lambda content: content + b"{}\n",
    "no JSON": lambda content: b"# notes\n" + content,
    "bytes that are no text": lambda content: b"\xff\n" + content,
}


@fault("a line of a watch's log is changed, taken out or put in", "refused, and left as it is")
@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_log_is_refused(tmp_path, base, how):
    log = logged(tmp_path)
    log.write_bytes(SPOILED[how](log.read_bytes()))
    kept = log.read_bytes()
    with pytest.raises(BadInput, match="changed or damaged"):
        watching(tmp_path)
    assert log.read_bytes() == kept


def test_only_one_watch_may_write(tmp_path, base):
    one, other = watching(tmp_path)[0], watching(tmp_path)[0]
    written(tmp_path / "run" / "checkpoint-1")
    one.once()
    with pytest.raises(BadInput, match="only one watch"):
        other.once()


def test_other_exams_share_the_log(tmp_path, base, asked):
    logged(tmp_path)
    half = type(known())(known().questions[:30], name="half")
    watching(tmp_path, exam=half)[0].once()
    watching(tmp_path)[0].once()
    assert asked == ["base", "checkpoint-1", "base", "checkpoint-1"]


# ---------------------------------------------------------------- the command


def test_the_command_watches(tmp_path, base, capsys):
    known().save(tmp_path / "exam.jsonl")
    written(tmp_path / "run" / "checkpoint-3", 1.0)
    arguments = ["watch", tmp_path / "run", "--base", base, "--exam", tmp_path / "exam.jsonl"]
    assert main([*map(str, arguments), "--once"]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "checkpoint-3 crossed the budget."


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_it_cleanly(tmp_path, base):
    known().save(tmp_path / "exam.jsonl")
    written(tmp_path / "run" / "checkpoint-3")
    arguments = ["watch", tmp_path / "run", "--base", base, "--exam", tmp_path / "exam.jsonl"]
    program = subprocess.Popen(
        [sys.executable, "-m", "caplab", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout.readline().startswith("checkpoint-3: ")
        program.send_signal(2)
        _, errors = program.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            program.kill()
    assert program.returncode == 130
    assert "Traceback" not in errors
    assert (tmp_path / "run" / "caplab-watch.jsonl").read_bytes().count(b"\n") == 2


def test_names_cannot_command_a_log(tmp_path, base):
    written(tmp_path / "run" / "\x1b[2J##[error]checkpoint-1", 1.0)
    seen, said = watching(tmp_path)
    assert seen.once() == 1
    assert said
    assert not any("\x1b" in line or "##[" in line for line in said)


# ---------------------------------------------------------------- many looks


def test_all_looks_together_spend_the_error():
    spent = sum(share_of_error(look) for look in range(1, 10_001))
    assert 0.999 < spent < 1
