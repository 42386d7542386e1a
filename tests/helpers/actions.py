"""Run the shell steps of action.yml as GitHub would, without GitHub."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

STEPS = ("Gate", "Comment", "Verdict")
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass
class Job:
    """A folder with the files that a runner gives to a job's steps."""

    root: Path
    folder: Path
    number: str = ""  # of the pull request, if there is one
    values: dict[str, str] = field(default_factory=dict)  # of the expressions in `env`
    gate: str = ""  # a script in place of the real program

    @property
    def temp(self) -> Path:
        return self.folder / "runner temp"

    def use_action(self, only: Sequence[str] = STEPS, **inputs: str) -> int:
        """Run the action's steps but for the installation; return the first exit code but 0."""
        action = yaml.safe_load((self.root / "action.yml").read_text())
        assert inputs.keys() <= action["inputs"].keys()
        self._install()
        for name, about in action["inputs"].items():
            self.values[f"inputs.{name}"] = inputs.get(name, about.get("default", ""))
        self.values["github.event.pull_request.number"] = self.number
        steps = [step for step in action["runs"]["steps"] if step["name"] in only]
        codes = (self._run(step) for step in steps)
        code = next((code for code in codes if code), 0)
        for name, about in action["outputs"].items():
            self.values[f"steps.gate.outputs.{name}"] = self.fill(about["value"])
        return code

    def shell(self, command: str, **given: str) -> int:
        """Run one command as a runner does: the programs beside this Python come first."""
        path = [self.folder / "bin", Path(sys.executable).parent, os.environ["PATH"]]
        environment = os.environ | {
            "PATH": os.pathsep.join(map(str, path)),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            "GITHUB_REPOSITORY": "owner/name",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
        }
        options = {"cwd": self.folder, "env": environment | given, "text": True, "timeout": 300}
        bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
        done = subprocess.run(bash, capture_output=True, check=False, **options)
        print(done.stdout, done.stderr)
        return done.returncode

    def fill(self, text: str) -> str:
        """Put the values of expressions into a text; what nobody set is empty, as on GitHub."""
        return EXPRESSION.sub(lambda found: self.values.get(found[1], ""), text)

    def _install(self) -> None:
        """Give the action this Python's caplab, or a pretended one, for one that it installs."""
        programs = self.temp / "caplab-gate" / "venv" / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        program = programs / "caplab"
        program.write_text(self.gate or f'#!/bin/sh\nexec "{sys.executable}" -m caplab "$@"\n')
        program.chmod(0o755)

    def pretend_gate(self, code: int, summary: str = "") -> Path:
        """Let a gate end with a code and a summary at once; what it was asked is in the file."""
        asked = self.folder / "asked of the gate"
        self.gate = (
            f'#!/bin/sh\nprintf "%s\\n" "$@" > "{asked}"\nfor word in "$@"; do case "$word" in\n'
            f'  --markdown=*) [ -z "{summary}" ] || echo "{summary}" > "${{word#*=}}" ;;\n'
            f"esac; done\nexit {code}\n"
        )
        return asked

    def _run(self, step: dict) -> int:
        given = {name: self.fill(text) for name, text in step.get("env", {}).items()}
        code = self.shell(step["run"], **given)
        output = self.folder / "output"
        for line in output.read_text().splitlines() if output.exists() else ():
            name, _, value = line.partition("=")
            self.values[f"steps.{step.get('id')}.outputs.{name}"] = value
        output.unlink(missing_ok=True)
        return code
