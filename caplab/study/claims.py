"""`claims`: the list of all that the lessons claim, and how to measure one or all of it.

A claim takes a piece of advice and measures it, seed by seed. Its `Finding` says in words what came
out, with the interval over the seeds, and whether the advice holds: True, False, or None where the
seeds do not decide it. Nothing is said that was not measured, so a finding that contradicts the
advice is worded as it was found. All of it is about one tiny world: see `sources` for the others.
"""

from caplab.study import turns
from caplab.study.atlas import Atlas
from caplab.study.atlas import atlas as open_atlas
from caplab.study.claims_forgetting import (
    facts_go_before_skills,
    kl_predicts_forgetting,
    one_seed_can_mislead,
)
from caplab.study.claims_lora import (
    lora_forgets_less_at_one_rate,
    lora_keeps_more_at_matched_task,
    lora_learns_less_at_one_rate,
    smaller_rank_forgets_less_at_one_rate,
    smaller_rank_keeps_more_at_matched_task,
)
from caplab.study.claims_rates import (
    higher_rate_forgets_more,
    lora_above_1e_4_regresses,
    lora_needs_a_higher_rate,
    stopping_early_beats_a_lower_rate,
)
from caplab.study.claims_replay import (
    one_percent_replay_is_enough,
    replay_costs_learning,
    replay_keeps_more,
    self_replay_is_as_good,
)
from caplab.study.findings import Finding, Findings
from caplab.support.errors import BadInput, did_you_mean, require_type, short_repr

__all__ = ["measure", "measure_all", "names"]

_IN_ORDER = (  # of the lessons
    higher_rate_forgets_more,
    lora_above_1e_4_regresses,
    lora_needs_a_higher_rate,
    stopping_early_beats_a_lower_rate,
    lora_learns_less_at_one_rate,
    lora_forgets_less_at_one_rate,
    lora_keeps_more_at_matched_task,
    smaller_rank_forgets_less_at_one_rate,
    smaller_rank_keeps_more_at_matched_task,
    replay_keeps_more,
    replay_costs_learning,
    one_percent_replay_is_enough,
    self_replay_is_as_good,
    kl_predicts_forgetting,
    facts_go_before_skills,
    one_seed_can_mislead,
)
_CLAIMS = {claim.__name__: claim for claim in _IN_ORDER}
# Of several jobs in turn: measured on saved runs of their own, whatever the atlas.
_OF_TURNS = {
    claim.__name__: claim
    for claim in (
        turns.a_later_job_costs_the_first,
        turns.rehearsing_keeps_earlier_jobs,
        turns.old_text_keeps_earlier_jobs,
        turns.one_adapter_keeps_the_first_job,
    )
}


def measure_all(atlas: Atlas | None = None) -> Findings:
    """Measure every claim on an atlas; by default on the shipped one, and on the other runs."""
    wanted = _CLAIMS if atlas else {**_CLAIMS, **_OF_TURNS}
    return Findings(measure(name, atlas) for name in wanted)


def measure(name: str, atlas: Atlas | None = None) -> Finding:
    """Measure one claim on an atlas: by default, the shipped one."""
    require_type(atlas, (Atlas, type(None)), "A claim is measured on an Atlas, such as atlas()")
    known = [*_CLAIMS, *_OF_TURNS]
    if name not in known:
        near = did_you_mean(name, known)
        there = ", ".join(known)
        raise BadInput(f"There is no claim {short_repr(name)}.{near} There are: {there}.")
    if name in _OF_TURNS:
        return _OF_TURNS[name](turns.table())
    return _CLAIMS[name](open_atlas() if atlas is None else atlas)


def names() -> list[str]:
    """Name all claims about an atlas."""
    return list(_CLAIMS)
