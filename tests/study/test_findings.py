"""Findings: how a claim is judged and shown."""

import math

import pytest

from caplab.study import claims
from caplab.study.findings import Evidence, _lower_first, as_claim
from caplab.support.errors import BadInput


def judged(seeds, above=0):
    """Measure a claim whose seeds are known."""

    @as_claim("LoRA keeps more.", "a source")
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
    assert "[    holds    ] Full fine-tuning at 1e-2 forgets more" in repr(table)
    assert table._repr_html_().count("<tr>") == len(claims.names()) + 1
    finding = table[0]
    assert "Kalajdzievski" in repr(finding)
    assert ">advice</td>" in finding._repr_html_()


def test_names_keep_their_capital():
    assert _lower_first("LoRA learns") == "LoRA learns"
    assert _lower_first("A smaller") == "a smaller"
    assert _lower_first("The KL") == "the KL"
