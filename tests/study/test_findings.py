"""Findings: how a claim is judged and shown."""

import math

import pandas as pd
import pytest

from caplab.study import claims
from caplab.study.findings import Evidence, _lower_first, as_claim
from caplab.support.errors import BadInput


def judged(seeds, above=0, family=1):
    """Measure a claim whose seeds are known."""

    @as_claim("LoRA keeps more.", "a source", family=family)
    def lora_keeps(atlas):
        return Evidence(seeds, "of the classics", above, "It keeps more", "It keeps less", "a note")

    return lora_keeps(None)


@pytest.mark.parametrize(
    ("seeds", "above", "holds", "statement"),
    [
        ([0.1, 0.2, 0.15], 0, True, "It keeps more (a note)."),
        ([-0.1, -0.2, -0.15], 0, False, "It keeps less (a note)."),
        ([0.1, 0.2, 0.15], 0.15, None, "These seeds do not decide it: LoRA keeps more (a note)."),
        ([0.1, 0.2, math.nan], 0, None, "This atlas cannot tell: LoRA keeps more (a note)."),
        ([0.1], 0, None, "These seeds do not decide it: LoRA keeps more (a note)."),
    ],
)
def test_the_whole_interval_decides(seeds, above, holds, statement):
    finding = judged(dict(enumerate(seeds)), above)
    assert (finding.holds, finding.statement) == (holds, statement)


MORE, LESS, UNCLEAR = [0.14, 0.16, 0.15], [-0.14, -0.16, -0.15], [0.1, -0.2, 0.15]
TABLES = [
    ([MORE, MORE], True, "It keeps more at 1 and 2"),
    ([LESS, LESS], False, "It keeps less at 1 and 2"),
    ([MORE, LESS], False, "It keeps more at 1; it keeps less at 2"),
    ([MORE, UNCLEAR], None, "It keeps more at 1; these seeds do not decide it at 2"),
    ([LESS, UNCLEAR], False, "It keeps less at 1; these seeds do not decide it at 2"),
    ([UNCLEAR, UNCLEAR], None, "These seeds do not decide it: LoRA keeps more"),
    ([MORE] * 7, True, "It keeps more in 7 of 7 conditions"),
]


def table(columns):
    """A row for each seed, a column for each condition."""
    return pd.DataFrame({f"at {1 + n}": column for n, column in enumerate(columns)})


@pytest.mark.parametrize(("columns", "holds", "statement"), TABLES)
def test_a_claim_holds_only_in_every_condition(columns, holds, statement):
    finding = judged(table(columns))
    assert (finding.holds, finding.statement) == (holds, f"{statement} (a note).")
    assert repr(finding).count(" over 3 seeds") == 1 + len(columns)
    assert all(line in finding._repr_html_() for line in finding.by_condition)


def test_a_missing_condition_is_not_left_out():
    finding = judged(table([MORE, [0.1, math.nan, 0.2]]))
    assert finding.statement.startswith("This atlas cannot tell")


def test_more_claims_need_more_evidence():
    seeds = dict(enumerate([0.1, 0.14, 0.06]))
    assert [judged(seeds, family=size).holds for size in (1, 10)] == [True, None]


def test_one_of_many_conditions_may_fail_by_luck():
    unlucky = [-0.1, -0.14, -0.06]
    assert judged(table([unlucky])).holds is False
    assert judged(table([MORE] * 9 + [unlucky])).holds is None


def test_a_claim_keeps_its_name_and_sources():
    finding = judged({0: 0.1, 1: 0.2})
    assert (finding.name, finding.sources) == ("lora_keeps", ("a source",))


def test_missing_runs_are_no_failure():
    @as_claim("LoRA keeps more.")
    def lacking(atlas):
        raise BadInput("The atlas has no run with replay.")

    assert lacking(None).statement == (
        "This atlas cannot tell: LoRA keeps more (The atlas has no run with replay)."
    )


def test_findings_show_themselves(course):
    table = claims.measure_all(course)
    assert "[    holds    ] A higher learning rate forgets more.\n" in repr(table)
    assert table._repr_html_().count("<tr>") == len(claims.names()) + 1
    finding = table[0]
    assert "common experience" in repr(finding)
    assert ">advice</td>" in finding._repr_html_()


def test_names_keep_their_capital():
    assert _lower_first("LoRA learns") == "LoRA learns"
    assert _lower_first("A smaller") == "a smaller"
    assert _lower_first("The KL") == "the KL"
