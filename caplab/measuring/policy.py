"""Which losses are acceptable: one budget for all, and for a capability its own budget and tier.

A policy is one small TOML file that a team agrees on before the training:

    budget = 0.05
    confidence = 0.95

    [capability.capitals]
    budget = 0.02
    tier = "must-keep"

A **must-keep** capability has to be HELD itself before the whole is; a **watched** one (the
default) stops the whole when it is REGRESSED, or was seen to lose more than its budget; an
**advisory** one is reported and never decides.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from caplab.support.errors import BadInput, as_number, did_you_mean, require_type, short_repr
from caplab.support.files import read_text
from caplab.support.text import join_words

__all__ = ["BUDGET", "CONFIDENCE", "TIERS", "CapabilityRule", "Policy", "check_budget"]

BUDGET, CONFIDENCE = 0.05, 0.95  # unless somebody says otherwise
MUST_KEEP, WATCHED, ADVISORY = TIERS = ("must-keep", "watched", "advisory")


@dataclass(frozen=True)
class CapabilityRule:
    """What is agreed for one capability; without a budget of its own it has the policy's."""

    budget: float | None = None
    tier: str = WATCHED

    def __post_init__(self) -> None:
        if self.budget is not None:
            check_budget(self.budget)
            object.__setattr__(self, "budget", float(self.budget))
        if self.tier not in TIERS:
            raise BadInput(
                f"tier is {short_repr(self.tier)}: choose one of {join_words(list(TIERS))}."
                f"{did_you_mean(self.tier, TIERS)}"
            )


@dataclass(frozen=True)
class Policy:
    """Budgets and tiers: what `compare`, the guard and the gate decide by."""

    budget: float = BUDGET
    confidence: float = CONFIDENCE
    capability: Mapping[str, CapabilityRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_budget(self.budget)
        check_confidence(self.confidence)
        require_type(self.capability, Mapping, "A policy takes its capabilities as a dictionary")
        rules = {name: _rule(name, given) for name, given in self.capability.items()}
        for name, value in (("budget", float(self.budget)), ("confidence", float(self.confidence))):
            object.__setattr__(self, name, value)  # of numpy's numbers not all can be JSON
        object.__setattr__(self, "capability", rules)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Policy":
        """Read a policy from its TOML file."""
        text = read_text(path, "policy")
        try:
            return cls._of(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise BadInput(f"{os.fspath(path)} is not TOML: {error}.") from error
        except BadInput as error:
            raise BadInput(f"{os.fspath(path)}: {error}") from error

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> "Policy":
        known = ("budget", "confidence", "capability")
        for key in content:
            if key not in known:
                near = did_you_mean(key, known)
                raise BadInput(f"A policy has no {short_repr(key)}.{near} It has: {_LISTED}.")
        return cls(**content)

    @classmethod
    def taken(
        cls,
        policy: "Policy | str | os.PathLike[str] | None",
        budget: float | None,
        confidence: float | None,
    ) -> "Policy":
        """Take a policy, the path of one, or a budget for all; both at once contradict."""
        if policy is None:
            return cls(
                BUDGET if budget is None else budget,
                CONFIDENCE if confidence is None else confidence,
            )
        if budget is not None or confidence is not None:
            raise BadInput("Give a policy, or a budget and a confidence for all: not both.")
        kinds = (cls, str, os.PathLike)
        require_type(policy, kinds, "A policy is a Policy, or the path of its TOML file")
        return policy if isinstance(policy, cls) else cls.load(policy)  # type: ignore[arg-type]

    def budget_of(self, capability: str) -> float:
        """Return the loss that is acceptable in a capability."""
        own = self.capability.get(capability, CapabilityRule()).budget
        return self.budget if own is None else own

    def tier_of(self, capability: str) -> str:
        """Return a capability's tier."""
        return self.capability.get(capability, CapabilityRule()).tier

    def check_covers(self, exam: str, capabilities: Iterable[str]) -> None:
        """Refuse a policy that names a capability which the exam does not test."""
        tested = list(dict.fromkeys(capabilities))
        for name in self.capability:
            if name not in tested:
                raise BadInput(
                    f"The policy names the capability {short_repr(name)}, and the exam {exam!r} "
                    f"does not test it.{did_you_mean(name, tested)} "
                    f"It tests: {', '.join(tested)}."
                )


_LISTED = "budget, confidence and a [capability.NAME] for each capability with rules of its own"


def _rule(name: object, given: object) -> CapabilityRule:
    """Take the rule of one capability as it stands in the TOML file, or as it is."""
    require_type(name, str, "A policy names its capabilities with strings")
    if isinstance(given, CapabilityRule):
        return given
    require_type(given, Mapping, f"The policy gives {name!r} a table with budget and tier")
    assert isinstance(given, Mapping)
    known = ("budget", "tier")
    for key in given:
        if key not in known:
            raise BadInput(
                f"The policy gives {name!r} a {short_repr(key)}.{did_you_mean(key, known)} "
                "It can give budget and tier."
            )
    try:
        return CapabilityRule(**given)
    except BadInput as error:
        raise BadInput(f"In the rules of {name!r}, {error}") from error


def check_budget(budget: object) -> None:
    """Refuse what is no loss that one could accept."""
    if not 0 <= as_number(budget) < 1:
        raise BadInput(
            f"budget is {short_repr(budget)}: give the loss that you accept, a share from 0 up to "
            "1, such as .05."
        )


def check_confidence(confidence: object) -> None:
    """Refuse a confidence that no interval is made for."""
    if not 0.5 <= as_number(confidence) < 1:
        raise BadInput(
            f"confidence is {short_repr(confidence)}: give a share from .5 up to 1, such as .95."
        )
