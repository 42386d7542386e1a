"""Try an exercise's check: with nothing, the right answer and typical wrong ones."""

import caplab as cl


def diagnoses(exercise, right, wrong):
    """The check accepts what is right, waits for what is blank, and tells slips apart."""
    assert cl.check(exercise, right).kind == "Right"
    assert cl.check(exercise, ...).kind == "Not yet"
    assert cl.check(exercise, None).kind == "Not yet"
    said = [cl.check(exercise, answer) for answer in wrong]
    assert [feedback.kind for feedback in said] == ["Try again"] * len(wrong), said
    assert len({feedback.text for feedback in said}) == len(wrong) >= 3, said
    stopped = [feedback for feedback in said if feedback.text.startswith("Your code stopped")]
    assert not stopped, stopped
    assert min(len(feedback.text) for feedback in said) > 30, said
