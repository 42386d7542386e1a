"""Names in a picture: whole, inside, and over nothing else."""

import pytest
from drawings import PICTURES, card

from caplab import plots
from caplab.measuring.compare import compare
from caplab.measuring.policy import Policy


def test_words_about_cards_are_whole(base, report):
    wordy = card([True] * 192, {"a rather long name of a capability": 192}, subject="long " * 30)
    rules = {"capitals": {"budget": 0.02, "tier": "must-keep"}, "how-to": {"budget": 0.3}}
    own = compare(base, base, policy=Policy(capability=rules))
    for picture in (plots.before_after(report), plots.before_after(own), plots.scorecard(wordy)):
        picture.draw_without_rendering()
        inside, texts = picture.bbox, [*picture.texts, *picture.axes[0].get_yticklabels()]
        texts += [text for axes in picture.axes for text in [*axes.texts, axes.xaxis.label]]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        for i, box in enumerate(boxes):
            assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
            assert inside.y0 <= box.y0 <= box.y1 <= inside.y1
            assert box.count_overlaps(boxes[:i]) == 0


@pytest.mark.parametrize("name", PICTURES)
def test_words_about_runs_are_whole(name):
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
    for i, box in enumerate(boxes):
        assert picture.bbox.x0 <= box.x0 <= box.x1 <= picture.bbox.x1
        assert picture.bbox.y0 <= box.y0 <= box.y1 <= picture.bbox.y1
        assert box.count_overlaps(boxes[:i]) == 0
