"""The rules of a verdict: two scorecards of one exam compared, each capability and the whole.

One picture decides: the interval of the change, and the budget line below zero. The rules:

1. **Counting decides.** REGRESSED: the interval lies wholly below the budget line, so the loss is
   real *and* larger than what was allowed. HELD: the interval excludes a loss beyond the budget.
   Else UNDERPOWERED: too little evidence to tell, and no news is not good news. *Why:* nothing
   else can acquit. A share among four choices, or a mean probability, stays high while a few facts
   are gone; in simulation such a rule called a loss of 5 in 100 HELD in 19 of 100 exams of 30
   questions.
2. **What a model no longer says is lost.** Answers that it *says* and answers that it *chooses*
   have rows of their own, because a loss in one hides behind the other. Where a capability has only
   choices, a right answer that was surely said before (more than half of the probability) and keeps
   less than a tenth of that counts as lost, too: it is preferred, and no longer said. It can
   convict a row, and keep it from HELD. *Why the whole answer's probability:* a user hears that.
3. **Groups are the evidence.** Phrasings of one fact rise and fall together. A row averages within
   each group and weighs groups equally. *Why:* four phrasings of 15 facts, taken for 60 independent
   questions, called REGRESSED in 8.5 of 100 exams without any change.
4. **To convict any, correct; to acquit all, do not.** A row is REGRESSED by an interval that is
   corrected for all deciding rows (one of many looks bad by luck), and HELD by its own plain one.
   *Why:* the whole is HELD only if all rows that must be are, and luck has to strike each of them.
5. **The whole** is REGRESSED if any deciding row is. It is HELD only if the overall rows and all
   must-keep rows are HELD and no deciding row was *seen* to lose more than its budget. Else it is
   UNDERPOWERED, and the report names what stands in the way.
6. **What is promised**, at 95 %: a row that truly lost more than its budget is called HELD in at
   most 2.5 % of exams; so is a whole of which an overall or a must-keep row did. Any row is called
   REGRESSED in at most 2.5 % where none lost more than its budget. A watched capability is promised
   only what its own row says. `benchmarks/verdicts.py` measures all of this.

**The interval** is Gaffke's (see `intervals`): it holds for any distribution of the groups'
changes, and for questions without a group it is Clopper and Pearson's. A bootstrap has no width
where no answer changed, and Tango's score interval takes phrasings of one fact for independent.

**Floors.** A base that is not clearly above chance has nothing to lose: UNDERPOWERED, with a note.
`metric="share"` and `metric="probability"` can convict and never acquit (rule 1).
"""

from collections import Counter
from typing import Any

import numpy as np

from caplab.measuring.evidence import COLLAPSE, Evidence, is_counted, read_answers
from caplab.measuring.policy import ADVISORY, MUST_KEEP, WATCHED, Policy
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED, Report, Row
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import OVERALL
from caplab.support.errors import BadInput, did_you_mean, is_count, require_type, short_repr
from caplab.support.text import format_number

__all__ = ["METRICS", "check_metric", "check_seed", "compare"]

METRICS = {
    "accuracy": "questions whose right answer is the likeliest choice (lm-eval's acc)",
    "accuracy_norm": "the same with log-likelihoods per character (lm-eval's acc_norm)",
    "share": "the right answer's share of the probability of all choices: accuracy, unrounded",
    "probability": "the right answer's own probability; its change is relative to the start",
}


def compare(
    before: Scorecard,
    after: Scorecard,
    *,
    budget: float | None = None,
    confidence: float | None = None,
    metric: str = "accuracy",
    policy: Policy | str | None = None,
    strict: bool = False,
    seed: int = 0,
) -> Report:
    """Compare two scorecards of one exam, and judge every capability and the whole.

    `budget` is the loss that you accept, overall and in each capability (.05); a `policy`, or the
    path of one, gives capabilities budgets and tiers of their own. With `strict` every capability
    must be HELD itself. For `metric` see `METRICS`. The rules and their reasons stand at the head
    of this module.
    """
    agreed = Policy.taken(policy, budget, confidence)
    check_metric(metric)
    check_seed(seed)
    require_type(strict, bool, "strict is True or False")
    _check_same_exam(before, after)
    agreed.check_covers(before.exam, before.capability)
    kinds = before.kinds  # a model that diverged answers in no manner at all
    old, new = (read_answers(card, metric, kinds) for card in (before, after))
    parts = _parts(before, agreed, strict)
    # Rows over the same questions, such as the only capability and the whole, are one.
    family = len({items.tobytes() for _, _, tier, items in parts if tier != ADVISORY})
    rows = []
    for name, capability, tier, items in parts:
        allowed = agreed.budget if capability == OVERALL else agreed.budget_of(capability)
        group = np.unique(np.array(before.groups)[items], return_inverse=True)[1]
        alpha = 1 - agreed.confidence
        found = Evidence(old[items], new[items], group, metric, allowed, alpha, family, seed)
        kind = before.kinds[int(items[0])]
        rows.append(_row(name, capability, tier, kind, found))
    whose = (before.subject, after.subject, before.exam)
    rules = (agreed.budget, agreed.confidence, metric)
    return Report(tuple(rows), *rules, *whose, strict, family, _alike(before, after))


def _alike(before: Scorecard, after: Scorecard) -> bool:
    """Tell whether two models gave the same answers, digit for digit and word for word."""
    names = ("loglikelihoods", "text_losses", "said")
    return all(getattr(before, name) == getattr(after, name) for name in names)


def _parts(card: Scorecard, policy: Policy, strict: bool) -> list[tuple[str, str, str, Any]]:
    """List name, capability, tier and questions of each row; the overall rows come last."""
    parts = []
    for name, capability, _, items in card.parts:
        tier = WATCHED if capability == OVERALL else policy.tier_of(capability)
        tier = MUST_KEEP if strict and tier == WATCHED and capability != OVERALL else tier
        parts.append((name, capability, tier, np.array(items)))
    return parts


# ---------------------------------------------------------------- from evidence to verdict


def _row(name: str, capability: str, tier: str, kind: str, evidence: Evidence) -> Row:
    """Put the numbers and the verdict of one row together."""
    verdict, note = _judge(evidence)
    old, new = evidence.old["right"], evidence.new["right"]
    counted = is_counted(evidence.metric)
    undecided = verdict == UNDERPOWERED and not evidence.unknown
    return Row(
        name=name,
        capability=capability,
        kind=kind,
        n=len(old),
        groups=evidence.groups,
        before=evidence.level(evidence.old),
        after=evidence.level(evidence.new),
        change=evidence.change,
        low=evidence.interval[0],
        high=evidence.interval[1],
        joint_low=evidence.joint_interval[0],
        joint_high=evidence.joint_interval[1],
        p_value=evidence.p_value,
        verdict=verdict,
        note=note,
        budget=evidence.budget,
        tier=tier,
        lost=int((new < old).sum()),
        gained=int((new > old).sum()),
        collapsed=int(evidence.collapsed.sum()),
        said_low=evidence.said_low,
        seen_loss=-float(evidence.said_differences.mean()) if counted else -evidence.change,
        kept=evidence.kept,
        more_groups=evidence.more_groups(joint=True) if undecided else None,
    )


def _judge(evidence: Evidence) -> tuple[str, str]:
    """Apply the rules at the head of this module, the strongest first; return verdict and note."""
    limit, (low, _), (_, high) = -evidence.budget, evidence.interval, evidence.joint_interval
    counted = is_counted(evidence.metric)
    if high < limit:
        return REGRESSED, ""
    if counted and evidence.said_high < limit:
        return REGRESSED, _collapse_note(evidence)
    if evidence.unknown:
        return UNDERPOWERED, _unknown_note(evidence)
    if not counted:
        return UNDERPOWERED, "an average of probabilities cannot acquit: count answers (accuracy)"
    note = _collapse_note(evidence) if evidence.collapsed.any() else ""
    held = low >= limit and evidence.said_low >= limit
    return (HELD if held else UNDERPOWERED), note


def _collapse_note(evidence: Evidence) -> str:
    """Count the answers that are preferred and no longer said."""
    convicting = evidence.silenced.any()
    counted = evidence.silenced if convicting else evidence.collapsed
    count, of = int(counted.sum()), int((evidence.old["right"] > 0).sum())
    kept = f"under {100 * COLLAPSE:.0f} % of their probability is left"
    note = f"{count} of {of} right answers are preferred, but no longer said ({kept})"
    return note if convicting else f"{note}; what it says was asked, and decides"


def _unknown_note(evidence: Evidence) -> str:
    """Say that there is nothing to lose."""
    right, chance = evidence.old["right"].mean(), evidence.old["chance"].mean()
    levels = f"{format_number(right)}, chance {format_number(chance)}"
    return f"the base never knew this, or too few items show it ({levels}): nothing to lose"


# ---------------------------------------------------------------- bad input


def check_metric(metric: object) -> None:
    """Refuse a metric that nobody knows."""
    if not isinstance(metric, str) or metric not in METRICS:
        known = "; ".join(f"{name!r}: {meaning}" for name, meaning in METRICS.items())
        hint = did_you_mean(metric, METRICS)
        raise BadInput(f"metric is {short_repr(metric)}. Choose one of {known}.{hint}")


def check_seed(seed: object) -> None:
    """Refuse what no random numbers start from."""
    if not is_count(seed):
        raise BadInput(f"seed is {short_repr(seed)}: give a whole number from 0 on.")


def _check_same_exam(before: Scorecard, after: Scorecard) -> None:
    for card in (before, after):
        require_type(card, Scorecard, "compare needs two scorecards, such as score(...)")
    if OVERALL in before.capability:
        raise BadInput(f"A capability is called {OVERALL!r}, as the last row is: rename it.")
    if before.fingerprint != after.fingerprint or before.questions != after.questions:
        raise BadInput(
            f"These scorecards answer different exams: {_differences(before, after)}. "
            f"Score both {before.subject!r} and {after.subject!r} with the same exam."
        )
    if before.asked != after.asked:
        how = {"plain": "plainly", "chat": "through its chat template"}
        how["mixed"] = "through it for what it says and plainly for choices, as servers are"
        raise BadInput(
            f"{before.subject!r} was asked {how[before.asked]}, {after.subject!r} "
            f"{how[after.asked]}. Score both alike: score(..., chat=False) or chat=True."
        )
    if before.groups != after.groups:
        raise BadInput(
            "These scorecards know different groups of the same questions. "
            f"Score both {before.subject!r} and {after.subject!r} again."
        )


def _differences(before: Scorecard, after: Scorecard) -> str:
    """Name what differs between the exams behind two scorecards."""
    old, new = Counter(before.capability), Counter(after.capability)
    found = [f"{old[c]} and {new[c]} questions on {c}" for c in old | new if old[c] != new[c]]
    if before.exam != after.exam:
        found.insert(0, f"{before.exam!r} and {after.exam!r}")
    return ", ".join(found) or "as many questions on each capability, but not the same ones"
