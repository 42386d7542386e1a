"""Write pocket 2's model card from what `tools/pocket_bars.py` has measured, and its checksums.

python tools/pocket2_card.py     # a minute: it asks the base, and times ten short runs
"""

import argparse
import hashlib
import statistics
from collections.abc import Callable, Iterator

from pocket_bars import (
    ROOT,
    Condition,
    Result,
    Results,
    conditions,
    good_rate,
    jobs,
    seeds_of,
    task_rows,
)
from scipy.stats import t

import caplab as cl

POCKET = ROOT / "caplab" / "assets" / "pocket2"
TEXT = ROOT / "tools" / "pocket2_card.md"
RESULTS = ROOT / "tools" / "pocket2_bars.jsonl"
ALL = "all"
Bar = tuple[str, str, str, bool | None]  # what, to reach, measured, met


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """Return a mean over seeds, and half of its 95 % interval (Student's t)."""
    if len(values) < 2:
        return values[0], float("nan")
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), float(half)


def written(middle: float, half: float) -> str:
    """Write a mean with its interval, where several seeds allow one."""
    return f"{middle:.3f}" + ("" if half != half else f" ± {half:.3f}")


def capabilities(base: Result) -> list[str]:
    """List the capabilities of the exam."""
    return [n for n in base["choices"] if "," not in n and "mentioned" not in n and n != ALL]


class Measured:
    """What was measured of one method: runs by the name of their condition."""

    def __init__(self, results: Results, method: str, seeds: range) -> None:
        self.base, self.method = results.of(None, only=True), method
        self.good = good_rate(results, method, seeds, only=True)
        self.runs: dict[str, list[Result]] = {}
        for name, condition in conditions(method, self.good).items():
            found = (_there(results, condition, seed) for seed in seeds_of(name, seeds))
            if runs := [run for run in found if run]:
                self.runs[name] = runs

    def lost(self, name: str, what: str = ALL, how: str = "choices") -> list[float]:
        """Return what each run of a condition lost."""
        return [self.base[how][what] - run[how][what] for run in self.runs.get(name, ())]

    def farthest(self, name: str) -> tuple[float, str]:
        """Return the largest mean change of a capability, in either direction, and whose it is."""
        moved = {c: statistics.mean(self.lost(name, c)) for c in capabilities(self.base)}
        whose = max(moved, key=lambda c: abs(moved[c]))
        return moved[whose], whose


def _there(results: Results, condition: Condition, seed: int) -> Result | None:
    """Return a measurement that was made, and nothing for one that was not."""
    try:
        return results.of(condition, seed, only=True)
    except LookupError:
        return None


# ---------------------------------------------------------------- the bars


def base_bars(base: Result) -> Iterator[Bar]:
    """Compare the base with what it should know, in wordings that pretraining never used."""
    for how, least in (("choices", 0.85), ("spoken", 0.80)):
        overall = base[how][ALL]
        lowest = min(capabilities(base), key=lambda name: base[how][name])
        found = f"{overall:.3f}; {lowest} {base[how][lowest]:.3f}"
        met = 0.90 <= overall <= 0.98 and base[how][lowest] >= least
        yield f"base, {how}", f".90 to .98, every capability >= {least:.2f}", found, met


def method_bars(measured: Measured) -> Iterator[Bar]:
    """Compare the runs of one method with the bars."""
    yield from _still(measured)
    yield from _learned(measured)
    for name, least in (("task, 2 g", 0.03), ("task, 4 g", 0.10), ("task, 8 g", 0.30)):
        yield _bar(measured, f"loss at {name[6:]}", f">= {least:.2f}", name, _overall(least))
    yield _bar(measured, "spoken falls before choices at 2 g", ">= .10", "task, 2 g", _first)
    yield from _replay(measured)


def _bar(
    measured: Measured,
    what: str,
    wanted: str,
    name: str,
    judged: Callable[[Measured, str], tuple[str, bool]],
) -> Bar:
    """Judge a condition, or say that it was not measured."""
    title = f"{measured.method}: {what}"
    return (
        (title, wanted, *judged(measured, name))
        if name in measured.runs
        else _missing(title, wanted)
    )


def _missing(title: str, wanted: str) -> Bar:
    return title, wanted, "not measured", None


def _within(most: float) -> Callable[[Measured, str], tuple[str, bool]]:
    def judged(measured: Measured, name: str) -> tuple[str, bool]:
        moved, whose = measured.farthest(name)
        return f"{-moved:+.3f} ({whose})", abs(moved) <= most + 1e-9  # 8 of 160 is .05

    return judged


def _overall(least: float) -> Callable[[Measured, str], tuple[str, bool]]:
    def judged(measured: Measured, name: str) -> tuple[str, bool]:
        loss, half = mean_and_half(measured.lost(name))
        return written(loss, half), loss >= least

    return judged


def _first(measured: Measured, name: str) -> tuple[str, bool]:
    spoken = measured.lost(name, how="spoken")
    ahead = [s - c for s, c in zip(spoken, measured.lost(name), strict=True)]
    middle, half = mean_and_half(ahead)
    return written(middle, half), middle >= 0.10


def _still(measured: Measured) -> Iterator[Bar]:
    """What must not move: old text alone, and rates that learn nothing."""
    for n, most in ((1, 0.02), (2, 0.05), (6, 0.10)):
        name = f"old text, {n} g"
        yield _bar(measured, name, f"every capability within {most:.2f}", name, _within(most))
    before = measured.base["task"]
    for name in ("task, 0.05 g", "task, 0.1 g"):
        gained = [run["task"] - before for run in measured.runs.get(name, ())]
        if gained and statistics.mean(gained) < 0.05:
            what = f"{name}: it learns nothing"
            yield _bar(measured, what, "every capability within .02", name, _within(0.02))


def _learned(measured: Measured) -> Iterator[Bar]:
    """What must be learned, on every seed."""
    for name in ("task, 1 g", "task, 2 g"):
        yield _bar(measured, name, ">= .95 on every seed, spoken >= .90", name, _task)


def _task(measured: Measured, name: str) -> tuple[str, bool]:
    runs = measured.runs[name]
    least, said = min(r["task"] for r in runs), statistics.mean(r["task spoken"] for r in runs)
    return f"lowest seed {least:.2f}, spoken {said:.2f}", least >= 0.95 and said >= 0.90


def _replay(measured: Measured) -> Iterator[Bar]:
    """Where something is lost, replay must keep more of it, seed by seed."""
    for n in (2, 4, 8):
        without = measured.lost(f"task, {n} g")
        for share in ("10%", "25%"):
            name = f"task, {n} g, {share} replay"
            title = f"{measured.method}: {share} replay at {n} g"
            wanted = "keeps more than none, interval above zero, where .05 or more is lost"
            if not without or name not in measured.runs:
                yield _missing(title, wanted)
                continue
            kept = [a - b for a, b in zip(without, measured.lost(name), strict=False)]
            middle, half = mean_and_half(kept)
            lost = statistics.mean(without)
            found = f"{written(middle, half)} of {lost:.3f} lost, {len(kept)} seeds"
            yield title, wanted, found, middle - half > 0 if lost >= 0.05 else None


def write_bars(bars: list[Bar]) -> Iterator[str]:
    """Write the bars as a table."""
    verdict = {True: "yes", False: "**no**", None: "-"}
    for what, wanted, found, met in bars:
        yield f"| {what} | {wanted} | {found} | {verdict[met]} |"


def write_missed(bars: list[Bar]) -> Iterator[str]:
    """List what was not reached."""
    for what, wanted, found, met in bars:
        if met is False:
            yield f"- {what}: {found}; to reach: {wanted}."


# ---------------------------------------------------------------- the other tables


def knowledge(base: Result) -> Iterator[str]:
    """Write what the base knows."""
    for name in [*capabilities(base), "mentioned", "not mentioned", ALL]:
        yield f"| {name} | {base['choices'][name]:.3f} | {base['spoken'][name]:.3f} |"
    both = [f"{base[how]['declining, together']:.3f}" for how in ("choices", "spoken")]
    yield f"| declining, both twins right | {' | '.join(both)} |"


def losses(measured: Measured) -> Iterator[str]:
    """Write what became of the task and of the old capabilities, condition by condition."""
    for name, runs in measured.runs.items():
        task = statistics.mean(run["task"] for run in runs)
        said = statistics.mean(run["task spoken"] for run in runs)
        columns = [f"{measured.method}, {name}", f"{len(runs)}", f"{task:.2f}", f"{said:.2f}"]
        parts = [(ALL, "choices"), (ALL, "spoken"), ("mentioned", "choices")]
        for what, how in [*parts, ("not mentioned", "choices")]:
            middle, half = mean_and_half(measured.lost(name, what, how))
            columns.append(written(middle, half))
        moved, whose = measured.farthest(name)
        yield f"| {' | '.join(columns)} | {whose} {moved:+.3f} |"


def speed() -> Bar:
    """Time the course's default run on both pockets in turn, in one process."""
    seconds: dict[str, list[float]] = {"pocket": [], str(POCKET): []}
    bases = {name: cl.load(name) for name in seconds}
    one = cl.exam().sample(1)
    for _ in range(6):  # the first of each is thrown away
        for name, base in bases.items():
            run = cl.fine_tune(
                base,
                cl.Recipe(steps=60),
                task_rows("service"),
                one,
                every=60,
                on_point=lambda p: None,
            )
            seconds[name].append(run.seconds)
    first, second = (statistics.median(found[1:]) for found in seconds.values())
    found = f"{second:.2f} s against {first:.2f} s"
    return "60 steps of 8 rows, against the first pocket", "no slower", found, second <= first


def answers(base: cl.Subject) -> Iterator[str]:
    """Write what the model says to the reference lesson's questions."""
    for question in cl.world.REFERENCE_QUESTIONS:
        yield f"| {question} | {base.ask(question).strip()} |"


def write_card(seeds: range) -> None:
    """Fill the card's text with measurements."""
    subject = cl.load(str(POCKET))
    results = Results(subject, RESULTS)
    base = results.of(None)
    bars, tables = [*base_bars(base)], []
    for method in ("full", "lora"):
        try:
            measured = Measured(results, method, seeds)
        except LookupError:
            bars.append(_missing(f"{method}: everything", ""))
            continue
        bars += [(f"{method}: g", "", f"{measured.good:g}", None), *method_bars(measured)]
        tables += [*losses(measured)]
    bars.append(speed())
    text = TEXT.read_text(encoding="utf-8").format(
        parameters=f"{subject.model.num_parameters():,}",
        megabytes=f"{(POCKET / 'model.safetensors').stat().st_size / 1e6:.1f}",
        knowledge="\n".join(knowledge(base)),
        tasks=", ".join(f"{job} {base[f'task {job}']:.2f}" for job in jobs.JOBS),
        answers="\n".join(answers(subject)),
        bars="\n".join(write_bars(bars)),
        missed="\n".join(write_missed(bars)),
        losses="\n".join(tables),
        seeds="one seed" if len(seeds) == 1 else f"{len(seeds)} seeds",
    )
    (POCKET / "README.md").write_text(text, encoding="utf-8", newline="\n")


def write_checksums() -> None:
    """List the digest of each file, as `sha256sum --check` reads them."""
    shipped = sorted(p for p in POCKET.iterdir() if p.name != "SHA256SUMS" and p.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in shipped]
    (POCKET / "SHA256SUMS").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="as many as were measured")
    write_card(range(parser.parse_args().seeds))
    write_checksums()
