"""action.yml: a gate whose verdict decides, and a comment that cannot hide it."""

import json
import re
from dataclasses import replace

import pytest
import yaml
from actions import EXPRESSION, Job
from answers_made import pair

ASIDE = "$(touch aside)`touch aside`; touch aside #"  # runs, if a shell reads it as a script


@pytest.fixture(scope="session")
def action(root):
    return yaml.safe_load((root / "action.yml").read_text())


@pytest.fixture
def job(root, tmp_path):
    return Job(root, tmp_path)


def save(folder, n, lost):
    """Write the answers before and after: so many groups, so many lost."""
    before, after = pair(n, lost=lost)
    before.save(folder / "before.json")
    replace(after, subject=ASIDE).save(folder / "after.json")
    return {"before": "before.json", "after": "after.json"}


def pretend_gh(job, found="", code=0):
    """Put a program `gh` on the path, which writes down what it is asked, line by line."""
    program = job.folder / "bin" / "gh"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{job.folder}/asked"\n'
        f'case "$*" in *--paginate*) printf "%s" "{found}" ;; esac\nexit {code}\n'
    )
    program.chmod(0o755)
    return job.folder / "asked"


def comment(job):
    return (job.temp / "caplab-gate" / "comment.md").read_text()


# ---------------------------------------------------------------- the file


def test_it_is_a_composite_action(action):
    assert action["runs"]["using"] == "composite"
    assert [step["name"] for step in action["runs"]["steps"]] == [
        "Install",
        "Gate",
        "Comment",
        "Verdict",
    ]
    assert all(step["shell"] == "bash" for step in action["runs"]["steps"])


def test_inputs_that_are_used_exist(action):
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(action)))
    assert used == action["inputs"].keys()


def test_no_expression_stands_in_a_script(action):
    for step in action["runs"]["steps"]:
        assert not EXPRESSION.search(step["run"]), step["name"]


def test_it_installs_its_own_checkout(action):
    install = action["runs"]["steps"][0]["run"]
    assert 'pip install --quiet "$GITHUB_ACTION_PATH"' in install


# ---------------------------------------------------------------- its verdict


def test_it_ends_with_the_gates_verdict(job):
    assert job.use_action(**save(job.folder, 100, 40)) == 1
    for form in ("html", "json", "md", "xml"):
        assert (job.temp / "caplab-gate" / f"gate.{form}").exists()
    assert "REGRESSED" in (job.folder / "summary.md").read_text()
    assert comment(job).startswith("<!-- caplab gate -->\n### ")
    assert "REGRESSED" in comment(job)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_it_ends_with_the_gates_code(job, code):
    job.pretend_gate(code, "### what it found")
    assert job.use_action(before="a.json", after="b.json") == code
    assert job.values["steps.gate.outputs.exit-code"] == str(code)
    assert comment(job) == "<!-- caplab gate -->\n### what it found\n"


def test_without_a_comparison_it_fails(job):
    assert job.use_action(before="none.json", after="none.json") == 2
    assert "made no comparison" in comment(job)


def test_an_old_summary_is_not_shown_again(job):
    job.pretend_gate(0, "HELD")
    assert job.use_action(before="a.json", after="b.json") == 0
    job.pretend_gate(2)
    assert job.use_action(before="a.json", after="b.json") == 2
    assert "HELD" not in comment(job)


GIVEN = {"exam": "my exam.jsonl", "policy": "policy.toml", "budget": "0.01", "strict": "true"}


def test_what_is_given_arrives(job):
    asked = job.pretend_gate(0)
    job.use_action(before="a b", after="c", **GIVEN)
    words = asked.read_text().splitlines()
    assert words[0] == "gate"
    assert words[-3:] == ["--", "a b", "c"]
    assert {"--exam=my exam.jsonl", "--policy=policy.toml", "--budget=0.01", "--strict"} < set(
        words
    )


def test_what_is_not_given_is_not_said(job):
    asked = job.pretend_gate(0)
    job.use_action(before="a", after="b")
    assert not {word.partition("=")[0] for word in asked.read_text().splitlines()} & {
        f"--{name}" for name in GIVEN
    }


def test_foreign_text_never_runs(job):
    assert job.use_action(**save(job.folder, 100, 0)) == 0
    assert ASIDE.split("`")[0] in (job.temp / "caplab-gate" / "gate.json").read_text()
    names = ("before", "after", "exam", "policy", "budget", "strict")
    assert job.use_action(**dict.fromkeys(names, ASIDE)) == 2
    assert not (job.folder / "aside").exists()


# ---------------------------------------------------------------- its comment


@pytest.fixture
def decided(job):
    """A job on a pull request in which the gate has come to a verdict."""
    job.number = "7"
    job.values["steps.gate.outputs.exit-code"] = "1"
    return job


AFTER_IT = ("Comment", "Verdict")


def test_it_writes_one_comment(decided):
    asked = pretend_gh(decided)
    assert decided.use_action(AFTER_IT) == 1
    find, write = asked.read_text().splitlines()[0], asked.read_text().splitlines()[-1]
    assert find.startswith("api --paginate repos/owner/name/issues/7/comments")
    assert "--method POST repos/owner/name/issues/7/comments" in write
    assert write.endswith(f"body=@{decided.temp}/caplab-gate/comment.md")


def test_it_updates_its_comment(decided):
    asked = pretend_gh(decided, found="41\n42\n")
    assert decided.use_action(AFTER_IT) == 1
    assert "--method PATCH repos/owner/name/issues/comments/41 " in asked.read_text()
    assert "POST" not in asked.read_text()


def test_a_comment_that_fails_hides_no_verdict(decided, capsys):
    asked = pretend_gh(decided, code=1)
    assert decided.use_action(AFTER_IT) == 1
    assert "::warning::" in capsys.readouterr().out
    assert "POST" not in asked.read_text()


def test_it_comments_only_where_it_should(decided):
    asked = pretend_gh(decided)
    decided.use_action(AFTER_IT, comment="false")
    decided.number = ""
    decided.use_action(AFTER_IT)
    assert not asked.exists()
