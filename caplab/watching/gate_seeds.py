"""Judge several models of one recipe together: the same training with several seeds.

**The statistic.** A fact is asked of each of the models, so its change is the mean over them, and
facts remain the independent pieces of evidence. The models are to a fact what phrasings are: they
rise and fall together. So `compare` judges them as further phrasings, by all its rules and with all
its promises. It would be wrong to take three answers to one question for three independent ones.

**What it is about.** The mean loss of *these* models. Three seeds say little about a fourth: for
that, seeds would be the pieces of evidence, and three are none. One model's loss can hide in the
mean, so each model's own verdict stands beside it, and no mean is HELD while one is REGRESSED.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from caplab.measuring.cache import Manner
from caplab.measuring.compare import compare
from caplab.measuring.lost import Lost
from caplab.measuring.policy import Policy
from caplab.measuring.report import REGRESSED, UNDERPOWERED, Report, Row
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput
from caplab.support.text import join_words
from caplab.watching.beforehand import unknown_rows
from caplab.watching.gate import Decision, Source, gate, scorecard_of, with_groups

__all__ = ["SeedsDecision", "SeedsReport", "compare_seeds", "gate_seeds"]


@dataclass(frozen=True, repr=False)
class SeedsReport(Report):
    """The mean over several models, and the report on each of them."""

    seeds: tuple[Report, ...] = ()

    @property
    def regressed_seeds(self) -> list[str]:
        """Name the models that regressed by themselves."""
        return [report.after for report in self.seeds if report.verdict == REGRESSED]

    @property
    def obstacles(self) -> list[str]:
        """Say what stands between the mean and HELD: a model that regressed does, too."""
        own = [f"{name} is REGRESSED by itself" for name in self.regressed_seeds]
        return [*super().obstacles, *own]

    @property
    def sentence(self) -> str:
        """Say the finding in one line, with each model's verdict."""
        verdicts = Counter(report.verdict for report in self.seeds)
        each = [f"{count} {verdict}" for verdict, count in verdicts.items()]
        said = f"mean of {len(self.seeds)} models: {super().sentence}; by themselves: "
        named = f" ({join_words(self.regressed_seeds)})" if self.regressed_seeds else ""
        return f"{said}{join_words(each)}{named}"

    @property
    def conditions(self) -> str:
        """Say what was compared, and that it is about these models."""
        return f"{super().conditions}; about these {len(self.seeds)} models, not about others"

    def _notes(self) -> list[str]:
        """Add a line for each model."""
        each = [
            f"{report.after}: {report.verdict} ({report.words(report.overall)})"
            for report in self.seeds
        ]
        return [*super()._notes(), *each, *self.doubts]

    @property
    def doubts(self) -> list[str]:
        """Say which models answered bit for bit like the base."""
        return [report.warning for report in self.seeds if report.warning]


@dataclass(frozen=True)
class SeedsDecision(Decision):
    """What the gate found about several models; `after` holds the answers of all."""

    each: tuple[Decision, ...] = ()

    @property
    def lost_answers(self) -> list[Lost]:
        """List the questions that any model lost, those that most of them lost first."""
        lost = chain.from_iterable(decision.lost_answers for decision in self.each)
        found: dict[Any, list[Lost]] = {}
        for one in lost:
            found.setdefault(one.question, []).append(one)
        ranked = sorted(found.values(), key=len, reverse=True)
        return [group[0]._replace(now=self._now(group)) for group in ranked]

    def _now(self, group: Sequence[Lost]) -> str:
        said = group[0].now or "(nothing)"
        return f"{said} (lost by {len(group)} of {len(self.each)})"


def gate_seeds(
    before: Source,
    afters: Sequence[Source],
    *,
    exam: Source | Exam | None = None,
    budget: float | None = None,
    policy: Policy | Source | None = None,
    strict: bool = False,
    manner: Manner | None = None,
    cache: bool = True,
) -> SeedsDecision:
    """Compare several models of one recipe with their base; see `gate` for what each may be."""
    if len(afters) < 2:
        raise BadInput("Give at least two models of one recipe; for a single one use gate.")
    agreed = Policy.taken(policy, budget, None)
    told: dict[str, Any] = {"manner": manner, "cache": cache}
    first = gate(before, afters[0], exam=exam, policy=agreed, strict=strict, **told)
    cards = [first.after]
    for after in afters[1:]:
        cards.append(with_groups(scorecard_of(after, first.exam, **told), first.exam))
    names = _names(cards, afters)
    cards = [replace(card, subject=name) for card, name in zip(cards, names, strict=True)]
    _refuse_twins(cards)
    report = compare_seeds(first.before, cards, policy=agreed, strict=strict)
    each = tuple(
        Decision(own, first.before, card, first.exam)
        for own, card in zip(report.seeds, cards, strict=True)
    )
    return SeedsDecision(report, first.before, repeated(cards), first.exam, each)


def _names(cards: Iterable[Scorecard], afters: Iterable[Source]) -> list[str]:
    """Name each model; where two names are alike, by what was given."""
    names = [card.subject for card in cards]
    if len({*names}) == len(names):
        return names
    given = list(map(str, afters))
    if len({*given}) < len(given):
        twice = next(name for name, count in Counter(given).items() if count > 1)
        raise BadInput(f"{twice} is given twice: each model counts once.")
    return given


def _refuse_twins(cards: list[Scorecard]) -> None:
    """Refuse models that answer bit for bit alike: they are one, whatever they are called."""
    seen: dict[Any, str] = {}
    for card in cards:
        if "chosen" not in card.kinds:  # words may well be the same, probabilities hardly
            continue
        twin = seen.setdefault((card.loglikelihoods, card.said), card.subject)
        if twin != card.subject:
            raise BadInput(
                f"{twin} and {card.subject} answer bit for bit alike: they are one model, which "
                "counts once. Was each trained with a seed of its own?"
            )


def compare_seeds(
    before: Scorecard, afters: Sequence[Scorecard], *, policy: Policy, strict: bool = False
) -> SeedsReport:
    """Judge the mean over several models, and each of them."""
    seeds = tuple(compare(before, card, policy=policy, strict=strict) for card in afters)
    bases = repeated([before] * len(afters))
    mean = compare(bases, repeated(list(afters)), policy=policy, strict=strict)
    rows = tuple(_known(mean.rows, before))
    named = {"before": before.subject, "after": f"mean of {len(afters)}", "rows": rows}
    return SeedsReport(**vars(mean) | named, seeds=seeds)


def repeated(cards: list[Scorecard]) -> Scorecard:
    """Put answers of several models side by side: further phrasings of the same facts."""
    first = cards[0]
    names = ("capability", "answer", "loglikelihoods", "characters")
    merged: dict[str, Any] = {
        name: tuple(chain.from_iterable(getattr(card, name) for card in cards)) for name in names
    }
    said = [card.said or ("",) * len(card.answer) for card in cards]
    return replace(
        first,
        subject=join_words([card.subject for card in cards]),
        group=tuple(first.groups) * len(cards),
        said=tuple(chain.from_iterable(said)) if any(card.said for card in cards) else (),
        text_losses=tuple(chain.from_iterable(card.text_losses for card in cards)),
        **merged,
    )


def _known(rows: Iterable[Row], before: Scorecard) -> Iterator[Row]:
    """Let no row be HELD that the base does not know: asked of three models, it only seems to."""
    unknown = dict(unknown_rows(before))
    for row in rows:
        if row.name in unknown and row.verdict != REGRESSED:
            note = f"the base does not know {unknown[row.name]}: nothing to lose"
            row = replace(row, verdict=UNDERPOWERED, note=note, more_groups=None)
        yield row
