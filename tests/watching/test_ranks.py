"""Several processes under one guard: every one asks, and all act alike. Real ones, two of them."""

from types import SimpleNamespace

import pytest
import tiny
import two_processes
from accelerate.utils import DistributedType
from drill import fault
from guarded import known, model, trainer

from caplab import RegressionGuard
from caplab.measuring.score import score
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput
from caplab.watching import ranks

SHORT = ["ddp", "fsdp", "fsdp_rollback", "fsdp_one_fails", "tensor_parallel"]
LONG = ["fsdp_one_by_one", "ddp_rollback", "ddp_one_fails", "two_exams", "one_question", "fsdp_1"]
LONG += ["fsdp_rollback_lora", "fsdp_rollback_half"]
LONG += ["diverged", "fsdp_cannot", "fsdp_rollback_on_disk", "ddp_rollback_on_disk"]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return two_processes.start(SHORT, tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return two_processes.start(LONG, tmp_path_factory.mktemp("long"))


def of(found, name):
    """What both processes found; none of them failed on the way."""
    one, other = (rank[name] for rank in found)
    assert "failed" not in one | other, one.get("failed") or other.get("failed")
    return one, other


# ---------------------------------------------------------------- one verdict


def check_watched(one, other):
    assert one["same weights"]
    assert other["same weights"]
    assert one["checks"] == other["checks"]  # to the microsecond: it is one and the same
    assert [look[0] for look in one["checks"]] == [0, 2, 4]
    assert one["far"] < 1e-4
    assert one["texts"] < 1e-3
    assert one["said alike"]
    assert one["order alike"]
    assert one["asked"] == [15] * 3
    assert other["asked"] == [14] * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_each_asks_its_share_and_nothing_changes(short, name):
    check_watched(*of(short, name))


@pytest.mark.weekly
def test_a_family_without_trees_keeps_step(long):
    check_watched(*of(long, "fsdp_one_by_one"))


@pytest.mark.slow
def test_pieces_roll_back_together(short):
    assert of(short, "fsdp_rollback") == ({"restored": 0, "steps": 4, "as before": True},) * 2


@pytest.mark.weekly
@pytest.mark.parametrize("name", ["ddp_rollback", "fsdp_rollback_lora", "fsdp_rollback_half"])
def test_other_layouts_roll_back_together(long, name):
    """Copies; an adapter in pieces; pieces that are read in half precision."""
    assert of(long, name) == ({"restored": 0, "steps": 4, "as before": True},) * 2


@pytest.mark.weekly
@pytest.mark.parametrize(("name", "files"), [("fsdp", 4), ("ddp", 2)])
def test_snapshots_on_disk_are_put_back(long, name, files):
    for found in of(long, f"{name}_rollback_on_disk"):
        assert found["as before"]
        assert found["restored"] == 0
        assert len(found["files"]) == files


@pytest.mark.weekly
def test_few_questions_leave_no_process_behind(long):
    assert of(long, "one_question") == ({"ddp": [1, 3], "fsdp": [1, 3]},) * 2


@pytest.mark.weekly
def test_nan_is_seen_by_all(long):
    for found in of(long, "diverged"):
        assert found == {"diverged": True, "steps": 2, "verdict": "REGRESSED"}


# ---------------------------------------------------------------- nobody waits in vain


def check_failed(one, other):
    assert one == {"error": "RuntimeError", "said": "Process 1 of 2 failed: no room"}
    assert other == {"error": "RuntimeError", "said": "no room"}


@fault("one of two processes fails while it asks", "both end, and say which one failed")
@pytest.mark.slow
def test_one_failure_ends_all_with_pieces(short):
    check_failed(*of(short, "fsdp_one_fails"))


@pytest.mark.weekly
def test_one_failure_ends_all_with_copies(long):
    check_failed(*of(long, "ddp_one_fails"))


@pytest.mark.weekly
def test_different_exams_are_refused_by_all(long):
    for found in of(long, "two_exams"):
        assert found["error"] == "BadInput"
        assert "process 0 asks known" in found["said"]


@fault("one of two processes fails within a layer of FSDP", "the other does not wait for ever")
@pytest.mark.weekly
def test_a_failure_within_a_layer_ends_all(tmp_path):
    one, other = of(two_processes.start(["fsdp_midway"], tmp_path), "fsdp_midway")
    assert one["error"]
    assert other["said"] == "out of memory in a layer"


@pytest.mark.weekly
def test_pieces_are_saved_whole(long):
    for found in of(long, "fsdp_cannot"):
        assert found["error"] == "BadInput"
        assert "cannot roll back" in found["said"]
        assert found["saved"] < 0.3  # the other model's, which stood there


# ---------------------------------------------------------------- what is refused


@pytest.mark.slow
def test_tensor_parallelism_is_refused(short):
    for found in of(short, "tensor_parallel"):
        assert found["error"] == "BadInput"
        assert "tensor parallelism" in found["said"]
        assert "caplab watch" in found["said"]


@pytest.mark.weekly
def test_the_first_fsdp_is_refused(long):
    for found in of(long, "fsdp_1"):
        assert "fsdp_version to 2" in found["said"]


STATES = {
    "zero 3": ({"distributed_type": DistributedType.DEEPSPEED, "zero": 3}, "ZeRO 3"),
    "megatron": ({"distributed_type": DistributedType.MEGATRON_LM}, "Megatron"),
    "xla": ({"distributed_type": DistributedType.XLA}, "XLA"),
    "context": ({"spread": 4}, "context"),
}


def pretend(monkeypatch, *, distributed_type=DistributedType.NO, zero=0, spread=1):
    """Stands in for accelerate's state: DeepSpeed and Megatron are not installed here."""
    state = SimpleNamespace(
        distributed_type=distributed_type,
        deepspeed_plugin=SimpleNamespace(zero_stage=zero),
        parallelism_config=SimpleNamespace(non_data_parallel_size=spread),
    )
    monkeypatch.setattr(ranks, "AcceleratorState", lambda: state)


@pytest.mark.parametrize("name", STATES)
def test_what_cannot_be_asked_is_refused(tmp_path, monkeypatch, name):
    state, words = STATES[name]
    run = trainer(tmp_path, RegressionGuard(known()))
    pretend(monkeypatch, **state)
    with pytest.raises(BadInput, match=words):
        run.train()


def test_partitioned_weights_are_refused():
    """However it was switched on, ZeRO 3 marks its weights."""
    plain = model()
    next(plain.parameters()).ds_id = 0
    assert "ZeRO 3" in ranks.layout_problem(plain)


@pytest.mark.parametrize(("axis", "words"), [("pp", "pipeline"), ("tp", "tensor")])
def test_a_mesh_tells_its_axes(axis, words):
    plain = model()
    plain._device_mesh = SimpleNamespace(mesh_dim_names=("fsdp", axis), shape=(2, 2))
    assert words in ranks.layout_problem(plain)


@pytest.mark.parametrize("stage", [1, 2])
def test_zero_1_and_2_are_watched_and_not_rolled_back(tmp_path, monkeypatch, stage):
    run = trainer(tmp_path, RegressionGuard(known(), every=4, action="stop"), learning_rate=1e-6)
    back = trainer(tmp_path, RegressionGuard(known(), action="rollback"))
    pretend(monkeypatch, distributed_type=DistributedType.DEEPSPEED, zero=stage)
    run.train()
    with pytest.raises(BadInput, match='Choose action="stop"'):
        back.train()


def test_an_environment_alone_refuses_nothing(tmp_path, monkeypatch):
    """accelerate ignores FSDP on a CPU: the model tells what is the case."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    trainer(tmp_path, RegressionGuard(known()), max_steps=1).train()


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize("processes", [1, 3, 100])
def test_shares_make_a_whole(processes):
    exam = Exam((*tiny.exam().questions, *tiny.SPOKEN.questions), tiny.exam().texts, "both")
    who = tiny.subject()
    shares = ranks.shared_out(exam, processes)
    assert all(len(share) for share in shares)
    assert sum(map(len, shares)) == len(exam)
    cards = [score(who, share, progress=False) for share in shares]
    one, other = ranks.joined(exam, cards), score(who, exam, progress=False)
    assert close(one, other)
    assert (one.said, one.group, one.capability) == (other.said, other.group, other.capability)
    assert one.fingerprint == other.fingerprint
    assert [tokens for _, tokens in one.text_losses] == [n for _, n in other.text_losses]


def close(one, other):
    pairs = zip(one.loglikelihoods, other.loglikelihoods, strict=True)
    return all(a == pytest.approx(b, abs=1e-4) for a, b in pairs)
