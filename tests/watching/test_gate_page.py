"""The gate's page: what was agreed, what was lost, and nothing that a name could smuggle in."""

from html.parser import HTMLParser

import pytest
from gated import answers, exam_of

from caplab.measuring.compare import compare
from caplab.measuring.policy import Policy
from caplab.watching.gate import Decision

RULES = {"capitals": {"budget": 0.02, "tier": "must-keep"}, "sums": {"tier": "advisory"}}


class Page(HTMLParser):
    """The text of a page, and the rows of its tables."""

    def __init__(self, text):
        super().__init__()
        self.text, self.rows, self.metas, self.inside = "", [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True
        if tag == "meta":
            self.metas.append(dict(attributes))

    def handle_data(self, data):
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")


@pytest.fixture
def page(tmp_path):
    def page(wrong=(), silent=(), exam=None, **options):
        exam = exam or exam_of()
        before, after = answers(exam), answers(exam, wrong, silent)
        decision = Decision(compare(before, after, **options), before, after, exam)
        decision.save_html(tmp_path / "gate.html")
        return Page((tmp_path / "gate.html").read_text()), decision

    return page


def test_it_shows_budgets_tiers_and_groups(page):
    found, _ = page(policy=Policy(capability=RULES))
    assert "Budget: .05, but .02 in capitals." in found.text
    assert "Must-keep (must be HELD itself): capitals." in found.text
    assert "Advisory (never decides): sums." in found.text
    table = {row[0]: dict(zip(found.rows[0], row, strict=True)) for row in found.rows[1:]}
    assert [*table] == ["capitals (must-keep)", "sums (advisory)", "overall"]
    assert [row["groups"] for row in table.values()] == ["100", "400", "500"]


def test_one_budget_is_said_once(page):
    found, _ = page()
    assert "Budget: .05, overall and in each capability." in found.text
    assert "tier" not in found.text
    assert "Advisory" not in found.text


def test_questions_of_a_group_are_one(page):
    found, _ = page(exam=exam_of({"capitals": 80}, group="France"))
    assert found.rows[1][:3] == ["capitals", "80", "1"]


def test_unsaid_answers_are_lost_with_a_reason(page):
    found, decision = page(wrong=[7], silent=[2, 5])
    assert [question.prompt for question, _, _ in decision.lost_answers] == [
        f"capitals, question {n}?" for n in (7, 2, 5)
    ]
    assert "Lost: 3 questions" in found.text
    assert found.rows[-3:] == [
        ["capitals", "capitals, question 7?", "four", "one"],
        *(
            ["capitals", f"capitals, question {n}?", word, f"{word} ({REASON})"]
            for n, word in ((2, "three"), (5, "two"))
        ),
    ]


REASON = "preferred, but said with .0001 where it was .82"


def test_a_phone_shows_it_in_its_own_width(page):
    found, _ = page()
    assert {"name": "viewport", "content": "width=device-width"} in found.metas
