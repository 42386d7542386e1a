"""What a spoken answer is expected to be: rules that a person can read, judged without a model.

An answer meets an expectation if all of its rules hold. An empty answer meets none.
"""

import json
from dataclasses import dataclass
from typing import Any

from caplab.questions import rule_checks
from caplab.questions.rules import Rule, decide_all, listed, meet_all, read_rules
from caplab.support.errors import BadInput

__all__ = ["Expectation"]


@dataclass(frozen=True)
class Expectation:
    """The rules that an answer has to meet, written as in an exam's file."""

    written: str  # JSON

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", tuple(read_rules(json.loads(self.written))))

    @classmethod
    def of(cls, rules: object) -> "Expectation":
        """Take the rules of one question; refuse what cannot be judged or met."""
        if problems := list(rule_checks.problems(rules)):
            raise BadInput("; ".join(problems))
        assert isinstance(rules, dict)
        found = cls(json.dumps(rules, ensure_ascii=False))
        if contradiction := rule_checks.contradiction(rules):
            raise BadInput(f"no answer can meet expect ({found.sentence}): {contradiction}")
        return found

    @property
    def rules(self) -> dict[str, Any]:
        """Return the rules as they stand in a file."""
        found: dict[str, Any] = json.loads(self.written)
        return found

    @property
    def sentence(self) -> str:
        """Say in English what is expected: `contains Paris, has at most 3 words`."""
        return ", ".join(rule.sentence for rule in self._parts)

    @property
    def example(self) -> str | None:
        """Return an answer in words that meets the expectation, where the rules name one."""
        rules = self.rules
        start = [*listed(rules.get("starts_with", ()))][:1]
        core = [*listed(rules.get("equals", rules.get("contains", ())))][:1]
        number = [str(rules["number"])] if "number" in rules else []
        answer = " ".join([*start, *core, *rules.get("contains_all", ()), *number])
        return answer if self.meets(answer) else None

    def meets(self, answer: str) -> bool:
        """Tell whether an answer is right."""
        return meet_all(self._parts, answer)

    def decided(self, answer: str, *, ended: bool = False) -> bool | None:
        """Tell the verdict that no continuation of the answer can change; None if one can."""
        return self.meets(answer) if ended else decide_all(self._parts, answer)

    @property
    def _parts(self) -> tuple["Rule", ...]:
        rules: tuple[Rule, ...] = vars(self)["_rules"]
        return rules
