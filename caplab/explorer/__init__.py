"""The Explorer: sliders that really train.

`state` holds what a panel shows, `words` says it, `drawing` and `style` turn it into markup,
`outlook` looks things up in the atlas, `experiment` trains and tells what it sees, `runner` does
one job at a time, the latest, and `panel` has the widgets.
"""

from caplab.explorer.panel import Explorer, explorer

__all__ = ["Explorer", "explorer"]
