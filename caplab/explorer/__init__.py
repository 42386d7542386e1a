"""The Explorer: sliders that really train.

`state` says what a panel shows and in which words, `drawing` turns that into markup, `experiment`
trains and tells what it sees, `runner` does one job at a time, the latest, and `panel` has the
widgets.
"""

from caplab.explorer.panel import Explorer, explorer

__all__ = ["Explorer", "explorer"]
