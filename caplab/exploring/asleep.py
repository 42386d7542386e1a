"""Show a panel, and behind it what a page without its kernel shows: the last state, and a way back.

A saved notebook keeps no widgets. Opened again, it shows "model not found" in their place; after a
restart of the kernel they look alive and do nothing. So each panel is followed by an output that is
hidden while the panel lives, and that says what to do when it does not.
"""

from collections.abc import Callable
from typing import Any

from caplab.exploring.runner import threads_show

__all__ = ["LIVE_CLASS", "show_panel"]

LIVE_CLASS = "cl-live"  # of a panel's outermost widget
_VIEW = "application/vnd.jupyter.widget-view+json"
_WAKE = "This panel is asleep. To wake it, run the cells above it, then its own (Shift + Enter)."

_OUTPUT = ".jp-OutputArea-child"
_STYLE = f"""<style>
{_OUTPUT}:has(.{LIVE_CLASS}) + {_OUTPUT}:has(.cl-saved),
{_OUTPUT}:not(:has(.{LIVE_CLASS})):has(+ {_OUTPUT} .cl-saved) {{ display: none; }}
.{LIVE_CLASS} .jupyter-widgets-disconnected::before {{ display: none; }}
.{LIVE_CLASS}.jupyter-widgets-disconnected::before {{ content: "{_WAKE}"; font: bold 15px/1.4
  var(--jp-content-font-family, system-ui, sans-serif); color: inherit; padding: 4px 2px; }}
.{LIVE_CLASS}.jupyter-widgets-disconnected .jupyter-button,
.{LIVE_CLASS}.jupyter-widgets-disconnected .slider-container {{
  opacity: .5; pointer-events: none; }}
.{LIVE_CLASS} .jupyter-button {{ width: auto; height: auto; white-space: normal;
  min-width: 3.6em; min-height: var(--jp-widgets-inline-height); }}
.{LIVE_CLASS} {{ overflow: visible; }}
</style>"""

# What ipywidgets leaves unsaid: the name of a slider, its value as it is written beside it, which
# button of a row is pressed, and the whole answer that a letter stands for.
_SPOKEN = f"""<script>
if (!window.caplabSpoken) {{
  window.caplabSpoken = true;
  const panels = ".{LIVE_CLASS} ";
  const say = (element, name, words) => {{
    if (words && element.getAttribute(name) !== words) element.setAttribute(name, words);
  }};
  const speak = () => {{
    document.querySelectorAll(panels + ".widget-hslider").forEach((row) => {{
      const handle = row.querySelector("[role=slider]");
      if (!handle) return;
      say(handle, "aria-label", row.querySelector(".widget-label")?.textContent);
      say(handle, "aria-valuetext", row.querySelector(".widget-readout")?.textContent);
    }});
    document.querySelectorAll(panels + ".widget-toggle-button").forEach((button) => {{
      say(button, "aria-pressed", String(button.classList.contains("mod-active")));
      const whole = button.closest(".widget-toggle-buttons") && button.title;
      if (whole) say(button, "aria-label", whole);
    }});
  }};
  let waiting = false;
  new MutationObserver(() => {{
    if (!waiting) setTimeout(() => {{ waiting = false; speak(); }}, 50);
    waiting = true;
  }}).observe(document.body, {{
    subtree: true, childList: true, attributes: true, attributeFilter: ["class", "aria-valuenow"],
  }});
  speak();
}}
</script>"""


def show_panel(panel: Any, plain: str, saved: Callable[[], dict[str, str]]) -> Callable[[], None]:
    """Show a panel and, hidden, what `saved` returns; return what brings the second up to date.

    `saved` gives its state by MIME types, `text/html` among them.
    """
    from IPython.display import display

    panel.add_class(LIVE_CLASS)
    view = {"version_major": 2, "version_minor": 0, "model_id": panel.model_id}
    display({_VIEW: view, "text/plain": plain}, raw=True)  # type: ignore[no-untyped-call]
    if not threads_show():  # in Colab, where nothing would hide the second output
        return lambda: None

    def output() -> dict[str, str]:
        state = saved()
        inside = f'<div class="cl-saved">{state["text/html"]}<p><i>{_WAKE}</i></p></div>'
        return state | {"text/html": inside + _STYLE + _SPOKEN}

    shown: Any = display(output(), raw=True, display_id=True)  # type: ignore[no-untyped-call]
    # Outside a notebook nothing is shown, and there is nothing to bring up to date.
    return lambda: shown and shown.update(output(), raw=True)
