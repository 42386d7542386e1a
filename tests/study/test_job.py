"""The job of a sweep: another task and exam, in every worker, and levels that stay apart."""

import json

import pytest
import tiny
from sweeps import QUICK

from caplab.questions.exam import Exam, Question, exam
from caplab.study.job import SERVICE, Job
from caplab.study.sweep import sweep
from caplab.support.errors import BadInput

CHOOSING = [
    Question("capitals", f"The capital of {n} is", ("a", "b"), 0, group=f"c{n}", tags=(tag,))
    for n, tag in enumerate(["mentioned", "not mentioned"] * 2)
]
SPEAKING = [
    Question("capitals", f"Capital of {n}?", expect={"contains": ["a"]}, group=f"c{n}", tags=(tag,))
    for n, tag in enumerate(["mentioned", "not mentioned"] * 2)
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A task of one's own and its exams, as files."""
    folder = tmp_path_factory.mktemp("job")
    rows = [{"prompt": f"Say {n}", "completion": f" {n}"} for n in range(16)]
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Exam(tuple(CHOOSING + SPEAKING)).save(folder / "exam.jsonl")
    Exam(tuple(CHOOSING[:2])).save(folder / "task_exam.jsonl")
    return {name: folder / f"{name}.jsonl" for name in ("task", "exam", "task_exam")}


@pytest.fixture(scope="module")
def atlas(files, model):
    return sweep(QUICK[:1], model, n_jobs=1, **files)


def test_without_names_it_is_customer_service():
    assert Job.of() == SERVICE
    assert SERVICE.circumstances()["exams"]["task"] == exam("task").fingerprint


def test_a_built_in_task_brings_its_exam_and_old_rows():
    job = Job.of("everyday", "everyday", questions=60)
    given = job.settings()
    assert given["task_exam"].fingerprint == exam("everyday_task").fingerprint
    assert len(given["replay_data"]) == 8
    assert 50 < len(given["exam"]) <= 60


def test_said_and_chosen_have_columns_of_their_own(atlas):
    assert {"said", "chosen", "capitals, said", "capitals, chosen"} <= set(atlas.runs.columns)
    run = atlas.runs.iloc[0]
    assert run["classics_accuracy"] == pytest.approx((run["said"] + run["chosen"]) / 2)


def test_mentioned_and_not_mentioned_have_columns_of_their_own(atlas):
    run = atlas.runs.iloc[0]
    halves = [run[f"{tag}, chosen"] for tag in ("mentioned", "not mentioned")]
    assert sum(halves) / 2 == pytest.approx(run["chosen"])
    assert "mentioned, said" in atlas.runs.columns


def test_the_atlas_says_which_job(atlas, files):
    assert atlas.about["job"]["task"] == str(files["task"])
    assert "task" in atlas.about


def test_other_rows_are_other_circumstances(files, tmp_path):
    longer = tmp_path / "longer.jsonl"
    longer.write_text(files["task"].read_text() + json.dumps({"prompt": "x", "completion": " y"}))
    jobs = [Job.of(**(files | {"task": path})) for path in (files["task"], longer)]
    assert jobs[0].circumstances() != jobs[1].circumstances()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"task": "evryday"}, "Name the task_exam"),
        ({"task": "evryday", "task_exam": "task"}, "Did you mean 'everyday'"),
        ({"exam": "nope.jsonl"}, "There is no exam"),
        ({"questions": 0}, "questions counts"),
        ({"task": 3}, "task is a name or a path"),
    ],
)
def test_a_faulty_job_is_refused_before_any_worker(given, said):
    with pytest.raises(BadInput, match=said):
        sweep(QUICK, "pocket", **given)


def test_a_sample_keeps_twins_together():
    asked = {"expect": {"contains": ["a"]}, "together": True}
    twins = [Question("twins", f"{g} {k}", group=g, **asked) for g in "abcdef" for k in "12"]
    drawn = Exam(tuple(twins)).sample(7)
    groups = [question.group for question in drawn.questions]
    assert len(groups) == 6
    assert all(groups.count(group) == 2 for group in groups)


def test_a_sample_without_twins_has_what_was_asked_for():
    assert len(tiny.exam().sample(5)) == 5
