import pytest

from caplab.measuring.policy import CapabilityRule, Policy
from caplab.support.errors import BadInput

WHOLE = """
budget = 0.05
confidence = 0.9

[capability.capitals]
budget = 0.02
tier = "must-keep"

[capability.stories]
tier = "advisory"
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return Policy.load(path)

    return read


def test_a_policy_is_read_from_toml(read):
    policy = read(WHOLE)
    assert (policy.budget, policy.confidence) == (0.05, 0.9)
    assert policy.budget_of("capitals") == 0.02
    assert policy.budget_of("stories") == policy.budget_of("sums") == 0.05
    tiers = [policy.tier_of(name) for name in ("capitals", "stories", "sums")]
    assert tiers == ["must-keep", "advisory", "watched"]


def test_an_empty_policy_is_the_default(read):
    assert read("") == Policy() == Policy.taken(None, None, None)


def test_a_budget_stands_for_all():
    policy = Policy.taken(None, 0.02, None)
    assert policy.budget == policy.budget_of("capitals") == 0.02


def test_rules_may_be_written_in_python():
    rules = {"capitals": CapabilityRule(0.02), "sums": {"tier": "advisory"}}
    assert Policy(capability=rules).tier_of("sums") == "advisory"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget = 2", r"policy\.toml: budget is 2"),
        ("budget = true", "budget is True"),
        ("confidence = 95", "confidence is 95"),
        ("budgett = .1", r"policy\.toml is not TOML|budgett"),
        ("budgett = 0.1", "Did you mean 'budget'"),
        ("[capability.capitals]\nbudget = -1", "In the rules of 'capitals', budget is -1"),
        ("[capability.capitals]\ntier = 'must keep'", "Did you mean 'must-keep'"),
        ("[capability.capitals]\ntier = 3", "tier is 3: choose one of must-keep, watched"),
        ("[capability.capitals]\nbugdet = 0.1", "'capitals' a 'bugdet'. Did you mean 'budget'"),
        ("capability = 3", "as a dictionary"),
        ("[capability]\ncapitals = 0.02", "'capitals' a table with budget and tier"),
        ("budget = ", r"policy\.toml is not TOML"),
    ],
)
def test_odd_policies_are_refused(read, text, message):
    with pytest.raises(BadInput, match=message):
        read(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"There is no policy .*none\.toml"):
        Policy.load(tmp_path / "none.toml")


def test_a_policy_covers_its_exam():
    policy = Policy(capability={"capitols": {}})
    with pytest.raises(BadInput, match=r"'classics' does not test it\. Did you mean 'capitals'"):
        policy.check_covers("classics", ["capitals", "sums"])


def test_a_policy_is_a_policy_or_its_path():
    with pytest.raises(BadInput, match="A policy is a Policy, or the path"):
        Policy.taken(0.05, None, None)
