"""The checks of lesson 07: a rule for shipping, a blend, and a model that may ship."""

from typing import Any

from caplab.measuring.policy import CapabilityRule, Policy
from caplab.teaching.checks import exercise, expect, filled

__all__ = ["POLICY", "check_07_1", "check_07_2", "check_07_3"]

TASK = 0.97
POLICY = Policy(  # the lesson writes the same one into a file
    budget=0.05,
    capability={
        "capitals": CapabilityRule(budget=0.02),
        "colours": CapabilityRule(budget=0.0),
        "arithmetic": CapabilityRule(tier="advisory"),
    },
)
ALLOWED = 0.025
ROWS = [(0.2, 0.4, 0.0), (0.4, 0.9, 0.02), (0.5, 0.9, 0.024), (0.6, 0.95, 0.03), (1, 1.0, 0.2)]
RUINED = [(0.2, 0.4, 0.1), (1, 1.0, 0.3)]


@exercise("07_1")
def check_07_1(decide: Any) -> str:
    """Ask for each of the four exit codes."""
    expect(callable(decide), "Give the function itself: `decide`, without brackets after it.")
    found = {code: filled(decide(code)) for code in (0, 1, 2, 3)}
    words = set(found.values()) <= {"ship", "stop", "ask"}
    expect(words, 'Return one of the words "ship", "stop" and "ask", as a string.')
    expect(found[0] == "ship", "0 says that a larger drop than the budget is excluded: it ships.")
    expect(found[3] != "ship", "3 says that nobody could tell. Your script would ship it unseen.")
    expect(found[2] != "ship", "2 says that the gate itself failed. Your script would ship then!")
    expect(found[1] == "stop", "1 is a drop that is real and larger than the budget: it stops.")
    expect(found[3] == "ask", "3 is no proof of a regression either. Let a person decide.")
    expect(found[2] == "stop", "Without a comparison a person has nothing to decide on: it stops.")
    return "Only 0 ships, and only 3 needs a person."


@exercise("07_2")
def check_07_2(choose: Any) -> str:
    """Try the choice on small tables, each with a trap."""
    expect(callable(choose), "Give the function itself: `choose`, without brackets after it.")
    found = filled(choose(ROWS, ALLOWED))
    expect(not isinstance(found, tuple), "Return alpha alone: the first number of the row.")
    slips = {
        1: "That row learned most, but it lost far more than allowed. First keep the rows that may "
        "stay, then choose among them.",
        0.2: "That row lost least. It has hardly learned the job: look at the second number.",
        0.5: "Right but for the tie: two rows learned equally much, and the smaller alpha has lost "
        "less.",
        0.9: "That is the task accuracy of the right row. Return its alpha.",
        0.6: "That row lost more than `allowed`. Compare the third number of a row with it.",
    }
    expect(found == 0.4, slips.get(found, f"A small table has 0.4 as its answer; you say {found}."))
    none = filled(choose(RUINED, ALLOWED))
    expect(none == 0, f"If no row is within the allowed drop, return 0, not {none}.")
    edge = choose([(0.3, 0.5, ALLOWED)], ALLOWED)
    expect(edge == 0.3, "A drop of exactly `allowed` is allowed: write `<=`.")
    return "First what may stay, then what learned most. The other order ships the eager model."


@exercise("07_3")
def check_07_3(models: tuple[Any, Any]) -> str:
    """Compare a model with its base, as the gate would."""
    from caplab.measuring.compare import compare
    from caplab.measuring.report import HELD, REGRESSED
    from caplab.models.subject import Subject
    from caplab.support.text import format_number, join_words

    base, mine = filled(models)
    subject = getattr(filled(mine), "subject", mine)  # a run has its model
    expect(
        isinstance(subject, Subject),
        "Put the model itself into `mine`: the `.subject` of a run, or what `interpolate` returns.",
    )
    learned, after = (_answers(subject, name) for name in ("task", "classics"))
    expect(
        learned.accuracy >= TASK,
        f"It has learned too little: task accuracy {format_number(learned.accuracy)}, and "
        f"{format_number(TASK)} is asked for. Try a higher rate, more steps, or a larger alpha.",
    )
    report = compare(_answers(base, "classics"), after, policy=POLICY)
    where = join_words(report.regressed)
    expect(
        report.verdict != REGRESSED,
        f"It has learned the job and REGRESSED in {where}: exit code 1. Try a lower rate, or a "
        "smaller alpha.",
    )
    over = [row for row in report.deciding if not row.within_budget]
    losses = [
        f"{format_number(row.seen_loss)} of {row.name}, where {format_number(row.budget)} is agreed"
        for row in over
    ]
    expect(
        not over,
        f"It was seen to lose {join_words(losses)}: exit code 3. What is preferred, but no longer "
        "said, counts as lost. Try a lower rate, or a smaller alpha.",
    )
    expect(
        report.verdict == HELD,
        f"Up to {format_number(report.overall.possible_loss)} of the whole may be gone, where "
        f"{format_number(report.budget)} is agreed: exit code 3. It needs a smaller loss.",
    )
    known, kept = format_number(learned.accuracy), format_number(report.overall.after)
    return f"Task {known}, classics {kept}, HELD: it may ship."


def _answers(subject: Any, name: str) -> Any:
    """Score a model on one of the course's exams."""
    from caplab.measuring.score import score
    from caplab.questions.exam import exam

    return score(subject, exam(name))
