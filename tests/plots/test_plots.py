import io
import math
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from matplotlib import colors, rc_context, style
from matplotlib.text import Text
from nbclient import NotebookClient
from PIL import Image

from caplab import plots
from caplab.measuring.compare import compare
from caplab.measuring.scorecard import Scorecard
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe
from caplab.training.run import Point, Run

SIZES = {"capitals": 60, "arithmetic": 60, "how-to": 40, "sounds": 32}


def card(right, sizes=SIZES, subject="pocket", choices=4):
    """Make a scorecard from right and wrong answers; every third answer is less sure."""
    names = tuple(name for name, n in sizes.items() for _ in range(n))
    rows = []
    for place, ok in enumerate(right):
        sure = 1.0 if place % 3 else 0.2
        rows.append((0.0 if ok else -2 - sure, *([-sure] * (choices - 1))))
    sizes_of_choices = ((5,) * choices,) * len(rows)
    return Scorecard(
        subject, "classics", "f00d", names, (0,) * len(rows), tuple(rows), sizes_of_choices
    )


@pytest.fixture
def base():
    return card([place % 30 > 0 for place in range(192)])


@pytest.fixture
def report(base):
    return compare(base, card([place % 30 > 0 and place % 3 > 0 for place in range(192)]))


def a_run(classics=(1.0, 0.9, 0.75), task=(0.25, 0.5, 0.95), kl=1.0, steps=60, **changes):
    """Make a run from its two curves; the whole exam agrees with the last point."""
    recipe = changes.pop("recipe", None) or Recipe(steps=60, **changes)
    at = np.linspace(0, steps, len(classics)).round().astype(int).tolist()
    share = dict(zip(SIZES, (1.0, 0.5, 1.0, 1.0), strict=True))
    points = [
        Point(
            step=step,
            task_loss=None,
            task_accuracy=new,
            classics_accuracy=old,
            by_capability={name: old * part for name, part in share.items()},
            smooth=old,
            language_loss=None,
            kl=kl * step / steps,
            learning_rate=1e-3,
            elapsed=0.0,
        )
        for step, old, new in zip(at, classics, task, strict=True)
    ]
    levels = {"before": classics[0], "final": classics[-1]}
    levels |= {"before_task": task[0], "final_task": task[-1]} if task[0] is not None else {}
    cards = {
        name: card([place < round(192 * level) for place in range(192)])
        for name, level in levels.items()
    }
    return Run(
        recipe=recipe,
        points=points,
        cards=cards,
        subject=None,
        base="pocket",
        steps=steps,
        stopped=steps < recipe.steps,
    )


def a_guard(crossed=40, back=None, action="stop", budget=0.05):
    """Make what a guard leaves behind."""
    return SimpleNamespace(
        crossed_at=crossed, restored_step=back, action=action, budget=budget, checks=["looked"]
    )


CROWD = [
    a_run(
        (1.0, 0.99 - 0.01 * i - 0.002 * seed), (0.25, 0.9 + 0.008 * i), seed=seed, learning_rate=r
    )
    for i, r in enumerate([1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3])
    for seed in (0, 1)
]
MANY = [
    a_run((1.0, 1 - lost), (0.25, 0.9), kl=kl, learning_rate=rate, method=method)
    for method, rate, kl, lost in [
        ("full", 1e-4, 0.5, 0.03),
        ("full", 1e-3, 1.0, 0.11),
        ("lora", 1e-3, 2.0, 0.19),
        ("lora", 1e-2, 3.0, 0.32),
    ]
]
PICTURES = {
    "run": lambda: plots.run(a_run()),
    "run with its capabilities": lambda: plots.run(a_run(), capabilities=True),
    "run with ends in one place": lambda: plots.run(a_run((1.0, 0.99), (0.2, 0.98))),
    "run with a guard": lambda: plots.run(a_run(), guard=a_guard()),
    "run rolled back": lambda: plots.run(a_run(), guard=a_guard(back=20, action="rollback")),
    "crowd": lambda: plots.trade_off(CROWD),
    "kl": lambda: plots.kl(MANY),
}


def other_exam():
    """A run on an exam that no other run was asked."""
    run = a_run()
    return replace(run, cards={name: replace(c, fingerprint="x") for name, c in run.cards.items()})


def curve(axes, colour, style="-"):
    """The heights of the line of one colour."""
    (line,) = [
        each for each in axes.lines if each.get_color() == colour and each.get_linestyle() == style
    ]
    return list(line.get_ydata())


def words(picture):
    """All text that the picture shows."""
    drawn = picture.findobj(lambda artist: hasattr(artist, "get_text"))
    return [artist.get_text() for artist in drawn if artist.get_text()]


def test_a_scorecard_shows_every_capability_with_its_accuracy_and_chance(base):
    picture = plots.scorecard(base)
    assert picture.finding == "pocket answers .96 of classics right; weakest: how-to, .95"
    shown = words(picture)
    assert {"capitals (60)", "overall (192)", "chance", ".96"} <= set(shown)
    (axes,) = picture.axes
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert means == pytest.approx([*base.by_capability.values(), base.accuracy])


def test_chance_follows_the_number_of_choices():
    two = plots.scorecard(card([True] * 192, choices=2))
    segments = two.axes[0].collections[0].get_segments()
    assert segments[0][0][0] == 0.5


def test_a_picture_of_equals_names_no_weakest():
    assert plots.scorecard(card([True] * 192)).finding == "pocket answers 1.00 of classics right"


def test_before_and_after_draws_levels_changes_intervals_and_the_budget(report):
    left, right = plots.before_after(report).axes
    dots = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "o"]
    assert dots == [level for row in report.rows for level in (row.before, row.after)]
    intervals = [tuple(line.get_xdata()) for line in right.lines if len(line.get_xdata()) == 2]
    assert {(row.low, row.high) for row in report.rows} <= set(intervals)
    assert (-report.budget, -report.budget) in intervals


def test_titles_are_computed_from_the_data(base, report):
    some = card([place % 30 > 0 and place > 50 for place in range(192)])
    copy, lost, small = compare(base, base), compare(base, some), card([True] * 10, {"a": 10})
    few = compare(small, card([True] * 9 + [False], {"a": 10}))
    assert plots.before_after(copy).finding == "classics .96, was .96: HELD"
    assert plots.before_after(lost).finding == "classics .71, was .96: REGRESSED in capitals"
    assert plots.before_after(report).finding.endswith("REGRESSED in 4 of 4 capabilities")
    assert plots.before_after(few).finding.endswith("UNDERPOWERED, too few items to tell")


def test_a_verdict_that_the_interval_did_not_decide_wears_a_star_and_a_footnote(base):
    shown = words(plots.before_after(compare(base, base)))
    assert "HELD*" in shown
    assert any(text.startswith("* nothing moved") for text in shown)
    assert not any(
        "*" in text for text in words(plots.before_after(compare(base, card([False] * 192))))
    )


def test_pictures_look_the_same_under_any_style_of_the_notebook(report):
    plain = plots.before_after(report).png()
    with rc_context():
        style.use("dark_background")
        assert plots.before_after(report).png() == plain


def luminance(colour):
    parts = [
        part / 12.92 if part <= 0.04 else ((part + 0.055) / 1.055) ** 2.4
        for part in colors.to_rgb(colour)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_all_words_are_readable_on_the_paper(report, base):
    """WCAG's contrast of 4.5 for every colour that writes."""
    drawn = [draw() for draw in PICTURES.values()]
    for picture in (plots.before_after(report), plots.scorecard(base), *drawn):
        for text in picture.findobj(Text):
            contrast = (luminance(plots.PAPER) + 0.05) / (luminance(text.get_color()) + 0.05)
            assert contrast >= 4.5 or not text.get_text()


def test_nothing_that_is_written_is_cut_off_or_written_over(report):
    wordy = card([True] * 192, {"a rather long name of a capability": 192}, subject="long " * 30)
    for picture in (plots.before_after(report), plots.scorecard(wordy)):
        picture.draw_without_rendering()
        inside, texts = picture.bbox, [*picture.texts, *picture.axes[0].get_yticklabels()]
        texts += [text for axes in picture.axes for text in [*axes.texts, axes.xaxis.label]]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        for place, box in enumerate(boxes):
            assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
            assert inside.y0 <= box.y0 <= box.y1 <= inside.y1
            assert box.count_overlaps(boxes[:place]) == 0


@pytest.mark.parametrize("name", PICTURES)
def test_every_word_about_runs_is_whole_and_free(name):
    picture = PICTURES[name]()
    picture.draw_without_rendering()
    texts = [*picture.texts]
    for axes in picture.axes:
        texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            texts += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    boxes = [t.get_window_extent() for t in texts if t.get_text() and t.get_visible()]
    boxes = [box for box in boxes if box.width]
    for place, box in enumerate(boxes):
        assert picture.bbox.x0 <= box.x0 <= box.x1 <= picture.bbox.x1
        assert picture.bbox.y0 <= box.y0 <= box.y1 <= picture.bbox.y1
        assert box.count_overlaps(boxes[:place]) == 0


def test_png_is_sharp_and_small(report):
    picture = plots.before_after(report)
    image = Image.open(io.BytesIO(picture.png()))
    assert image.width == math.floor(2 * picture.get_figwidth() * plots.DOTS)
    assert len(picture.png()) < 80_000


def test_odd_names_are_drawn_as_they_are():
    odd = card([True] * 192, {"$x_1": 60, "a^b$": 60, "<b>" * 30: 72}, subject="$\\frac{")
    assert plots.scorecard(odd).png()
    assert plots.before_after(compare(odd, odd)).png()


def test_pictures_and_reports_show_themselves_in_a_notebook(report, tmp_path):
    """Pictures with and without the inline backend, which would draw them by its own rules."""
    report.save(tmp_path / "report.json")
    cells = [
        "from caplab.plots import Picture\nPicture('seen', 1, 0.5)",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "Picture('seen', 1, 0.5)",
        f"from caplab.stats import Report\nReport.load({str(tmp_path / 'report.json')!r}).show()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    for cell in (notebook.cells[0], notebook.cells[2]):
        (output,) = cell.outputs
        assert set(output.data) == {"image/png", "text/plain"}
        assert output.metadata["image/png"] == {"width": 96, "height": 48}
        assert output.data["text/plain"] == "<Picture: seen>"
    (output,) = notebook.cells[3].outputs
    assert output.data["text/plain"] == repr(report)
    assert output.data["text/html"] == report._repr_html_()


# ---------------------------------------------------------------- one run


def test_a_run_shows_both_curves_and_the_budget_below_the_start():
    picture = plots.run(a_run(), budget=0.05)
    (axes,) = picture.axes
    assert curve(axes, plots.OLD) == [1.0, 0.9, 0.75]
    assert curve(axes, plots.NEW) == [0.25, 0.5, 0.95]
    assert set(curve(axes, plots.BUDGET, "--")) == {0.95}
    assert {"classics .75", "task .95", "budget −.05"} <= set(words(picture))


@pytest.mark.parametrize(
    ("classics", "said"),
    [
        ((1.0, 0.9, 0.75), "beyond the budget of .02 from step 30 on"),
        ((1.0, 0.99, 0.75), "beyond the budget of .02 from step 60 on"),
        ((1.0, 0.5, 0.98), "back within the budget of .02"),
        ((1.0, 1.0, 0.98), "within the budget of .02"),
    ],
)
def test_the_title_says_from_when_on_the_budget_was_exceeded(classics, said):
    levels = f"task .25 → .95, classics 1.00 → {plots.number(classics[-1])}"
    assert plots.run(a_run(classics)).finding == f"{levels}: {said}"


def test_the_whole_exam_has_the_last_word_below_the_picture():
    shown = words(plots.run(a_run()))
    assert any("all 192 questions: classics .75, was 1.00: REGRESSED" in text for text in shown)


def test_a_task_without_questions_leaves_its_curve_out():
    picture = plots.run(a_run(task=(None, None, None)))
    assert picture.finding.startswith("classics 1.00 → .75:")
    assert not any(text.startswith("task") for text in words(picture))


def test_the_guards_moment_is_marked_and_its_budget_drawn():
    picture = plots.run(a_run(), guard=a_guard())
    (axes,) = picture.axes
    marks = [line for line in axes.lines if line.get_color() == plots.GUARD]
    assert [list(line.get_xdata()) for line in marks] == [[40, 40]]
    assert set(curve(axes, plots.BUDGET, "--")) == {0.95}
    assert picture.finding.endswith(
        "the guard saw the budget crossed at step 40 and stopped at step 60"
    )


def test_a_rollback_shows_where_the_weights_come_from():
    picture = plots.run(a_run(), guard=a_guard(back=20, action="rollback"))
    marks = [line for line in picture.axes[0].lines if line.get_color() == plots.GUARD]
    assert [20] in [list(line.get_xdata()) for line in marks]
    assert picture.finding.endswith("at step 40 and went back to step 20")


def looks_of(levels, budget=0.05, crossed=None, back=None):
    """Make what a guard leaves behind that found these changes."""
    import pandas as pd

    rows = [
        {"step": 10 * i, "change": -x, "low": -x - 0.1, "high": -x + 0.1, "verdict": verdict}
        for i, (x, verdict) in enumerate(levels)
    ]
    left = {"checks": rows, "budget": budget, "crossed_at": crossed, "restored_step": back}
    return SimpleNamespace(to_pandas=lambda: pd.DataFrame(rows), **left)


def test_a_guards_looks_are_drawn_with_their_intervals_and_verdicts():
    guard = looks_of([(0.0, "HELD"), (0.3, "REGRESSED"), (0.4, "REGRESSED")], crossed=10, back=0)
    picture = plots.looks(guard)
    (axes,) = picture.axes
    assert picture.finding == (
        "The guard looked 3 times, saw the budget crossed at step 10 and went back to step 0"
    )
    marks = {line.get_color(): list(line.get_ydata()) for line in axes.lines}
    assert marks[plots.VERDICTS["REGRESSED"]] == [-0.3, -0.4]
    assert marks[plots.BUDGET] == [-0.05, -0.05]
    ends = axes.collections[0].get_segments()
    assert np.allclose([end[:, 1] for end in ends], [[-0.1, 0.1], [-0.4, -0.2], [-0.5, -0.3]])


def test_a_guard_that_saw_nothing_says_so():
    assert (
        plots.looks(looks_of([(0.0, "HELD")] * 2)).finding
        == "The guard looked 2 times and saw no crossing"
    )


def test_a_guard_that_only_warned_stopped_nothing():
    warned = plots.run(a_run(), guard=a_guard(action="warn")).finding
    assert warned.endswith("the guard saw the budget crossed at step 40")
    calm = plots.run(a_run(), guard=a_guard(crossed=None))
    assert calm.finding.endswith("the guard saw no crossing")
    assert plots.GUARD not in [line.get_color() for line in calm.axes[0].lines]


def test_each_capability_has_a_panel_of_its_own():
    main, *panels = plots.run(a_run(), capabilities=True).axes
    assert [panel.get_title("left") for panel in panels] == [
        "capitals .75",
        "arithmetic .38",
        "how-to .75",
        "sounds .75",
    ]
    drawn = [[list(line.get_ydata()) for line in panel.lines] for panel in panels]
    assert [0.5, 0.45, 0.375] in drawn[1]
    assert panels[1].get_ylim() == main.get_ylim()


def test_a_failed_run_is_drawn_as_far_as_it_came():
    failed = replace(a_run(), trouble="Diverged: NaN.", cards={})
    picture = plots.run(failed)
    assert picture.finding.endswith(", then the run failed")
    assert any("Diverged: NaN." in text for text in words(picture))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: plots.run(replace(a_run(), points=[])), "no points"),
        (lambda: plots.run("pocket"), "Give a Run.*'pocket'"),
        (lambda: plots.run(a_run(), budget=-1), "budget is -1"),
        (lambda: plots.run(a_run(), guard=SimpleNamespace(checks=[])), "has not looked"),
        (lambda: plots.trade_off([]), "no run to draw"),
        (lambda: plots.kl(iter([])), "no run to draw"),
        (lambda: plots.trade_off(None), "Give a Run"),
        (lambda: plots.trade_off([a_run(task=(None,) * 3)]), "task_exam"),
        (lambda: plots.kl([replace(a_run(), trouble="NaN")]), "failed in training"),
        (lambda: plots.kl([a_run()] * 2), "three runs"),
        (lambda: plots.kl([a_run()] * 3), "moved differently"),
        (
            lambda: plots.kl([a_run(), other_exam()]),
            r"different exams",
        ),
    ],
)
def test_what_cannot_be_drawn_says_why(wrong, said):
    with pytest.raises(BadInput, match=said):
        wrong()


# ---------------------------------------------------------------- many runs


def dots(axes, marker="o"):
    """The places of the large dots."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_marker() == marker and line.get_markersize() > 6
    ]


def test_seeds_of_one_recipe_are_one_dot_at_their_mean():
    runs = [a_run((1.0, 0.75), (0.25, 0.8125), seed=0), a_run((1.0, 0.5), (0.25, 0.9375), seed=1)]
    picture = plots.trade_off(runs)
    (axes,) = picture.axes
    assert dots(axes) == [(0.25, 1.0), pytest.approx((0.875, 0.625))]
    small = [line for line in axes.lines if line.get_markersize() == 4]
    assert [tuple(line.get_xydata()[0]) for line in small] == [(0.8125, 0.75), (0.9375, 0.5)]
    assert picture.finding == "full 1e-3: task .25 → .88, classics 1.00 → .62"


def test_the_frontier_joins_what_nothing_surpasses():
    runs = [
        a_run((1.0, 0.75), (0.25, 0.5), learning_rate=1e-4),
        a_run((1.0, 0.5), (0.25, 0.9375), learning_rate=1e-3),
        a_run((1.0, 0.25), (0.25, 0.75), method="lora", learning_rate=1e-3),
    ]
    picture = plots.trade_off(runs)
    (axes,) = picture.axes
    assert [tuple(place) for place in axes.lines[0].get_xydata()] == [
        (0.25, 1.0),
        (0.5, 0.75),
        (0.9375, 0.5),
    ]
    assert picture.finding == (
        "2 of 3 recipes on the frontier; full 1e-3 learns most: task .94, classics .50"
    )
    assert {"base", "full 1e-4", "full 1e-3", "LoRA 1e-3"} <= set(words(picture))
    assert dots(axes, "D") == [(0.75, 0.25)]


def test_recipes_are_named_by_what_sets_them_apart():
    def names(*recipes):
        return plots._labels([("pocket", recipe, recipe.steps) for recipe in recipes])

    plain = Recipe()
    assert names(plain) == ["full 1e-3"]
    assert names(plain, plain.change(replay=0.05)) == ["no replay", "5 % replay"]
    own = plain.change(replay=0.1, replay_source="self")
    assert names(plain, own) == ["no replay", "10 % self-replay"]
    lora = plain.change(method="lora", learning_rate=2.5e-4)
    assert names(lora, lora.change(rank=2)) == ["rank 8", "rank 2"]
    assert names(plain, lora.change(rank=2)) == ["full 1e-3", "LoRA 2.5e-4, rank 2"]
    assert plots.spoken_rate(0) == "0"


def test_a_run_that_was_stopped_is_not_averaged_with_one_that_went_on():
    picture = plots.trade_off([a_run(), a_run(seed=1, steps=20)])
    assert {"full 1e-3", "full 1e-3, stopped at 20"} <= set(words(picture))


def test_failed_runs_are_counted_and_left_out():
    runs = [*MANY, replace(a_run(), trouble="NaN")]
    for picture in (plots.trade_off(runs), plots.kl(runs)):
        assert any("1 that failed in training: not drawn" in text for text in words(picture))


def test_the_kl_picture_states_the_r_squared_of_its_line():
    picture = plots.kl(MANY)
    moved, lost = (
        [run.points[-1].kl for run in MANY],
        [run.before.accuracy - run.final.accuracy for run in MANY],
    )
    slope, start = np.polyfit(moved, lost, 1)
    r_squared = np.corrcoef(moved, lost)[0, 1] ** 2
    assert picture.finding == (
        f"KL to the base on the new task predicts what is lost: "
        f"R² {plots.number(r_squared)} over 4 runs"
    )
    line = picture.axes[0].lines[0]
    assert list(line.get_ydata()) == pytest.approx([start + slope * 0.5, start + slope * 3.0])


def test_ticks_say_where_they_are():
    """A tick at .925 that said .93 would move every dot beside it."""
    assert [plots.tick(value, 0) for value in (0.925, -0.05, 1.0, 0.30000000004, -0.0)] == [
        ".925",
        "−.05",
        "1",
        ".3",
        "0",
    ]


def test_the_base_is_seen_around_a_recipe_that_did_not_move():
    (axes,) = plots.trade_off([a_run((1.0, 1.0), (0.25, 0.25))]).axes
    base, still = [line for line in axes.lines if line.get_marker() == "o"]
    assert base.get_markersize() > still.get_markersize()
    assert base.get_zorder() < still.get_zorder()


def test_a_wide_range_of_kl_gets_a_logarithmic_axis():
    wide = [a_run((1.0, 1 - 0.1 * at), (0.25, 0.9), kl=10.0**at) for at in range(4)]
    picture = plots.kl(wide)
    assert picture.axes[0].get_xscale() == "log"
    picture.draw_without_rendering()
    assert {"1", "10", "100"} <= set(words(picture))
    assert "R² 1.00" in picture.finding or "R² .99" in picture.finding
    assert plots.kl(MANY).axes[0].get_xscale() == "linear"


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ((0.0, 0.3, 0.0, 0.3), "hardly predicts"),
        ((0.1, 0.0, 0.2, 0.3), "partly predicts"),
        ((0.3, 0.2, 0.1, 0.0), "does not predict"),
        ((0.1, 0.1, 0.1, 0.1), "does not predict"),
    ],
)
def test_the_kl_picture_claims_no_more_than_it_shows(lost, said):
    runs = [a_run((1.0, 1 - each), (0.25, 0.9), kl=1.0 + at) for at, each in enumerate(lost)]
    assert said in plots.kl(runs).finding


def test_replay_wears_the_colour_of_the_old_and_is_counted_apart():
    odd = a_run((1.0, 1.0), (0.25, 0.9), kl=3.0, replay=0.1)
    picture = plots.kl([*MANY, odd])
    assert any("the 4 runs without replay alone: R²" in text for text in words(picture))
    assert {"full", "LoRA", "full, replay"} <= set(words(picture))
    assert plots.OLD in [line.get_color() for line in picture.axes[0].lines]
