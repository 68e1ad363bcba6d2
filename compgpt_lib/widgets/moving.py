"""A chart with sliders: what a kernel draws anew as they move, and a still where none runs."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable
from typing import Any

import ipywidgets
from IPython.display import Markdown, display

from compgpt_lib.charts import Chart, renew

WIDGET = "application/vnd.jupyter.widget-view+json"


def interact(draw: Callable[..., Any], **choices: Any) -> None:
    """Show a chart below a slider, a menu or a box for each argument of the function that draws.

    `draw` returns a chart of `compgpt_lib.charts`; a choice is what ipywidgets' `interact` takes:
    (least, most, step), a list, a text, True or False, or a widget; it begins where the argument's
    default is. Raises TypeError where no chart comes back, ValueError for a choice that is none of
    these.
    """
    begin = {name: one.default for name, one in inspect.signature(draw).parameters.items()}
    controls = {
        name: _control(name, choice, begin.get(name, inspect.Parameter.empty))
        for name, choice in choices.items()
    }

    def drawn() -> Any:
        return draw(**{name: control.value for name, control in controls.items()})

    first = drawn()
    if not isinstance(first, Chart):
        raise TypeError(
            f"draw must return a chart, as charts.bars(...), got {type(first).__name__}"
        )
    box = ipywidgets.VBox(list(controls.values()))
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    display({WIDGET: view}, raw=True)
    # Not in an Output widget, which papermill and nbval follow badly: the chart is displayed, and
    # displayed anew in the same place.
    place = display(first, display_id=True)

    def moved(_: Any) -> None:
        try:
            renew(place, drawn())
        except Exception as error:  # or nobody would see it
            what = html.escape(f"{type(error).__name__}: {error}")
            place.update(Markdown(f"Nothing could be drawn: {what}"))

    for control in controls.values():
        control.observe(moved, "value")


def _control(name: str, choice: Any, begin: Any) -> Any:
    """Return the widget of a choice, with the name of its argument and where it begins."""
    control = ipywidgets.interactive.widget_from_abbrev(choice, begin)
    if control is None:
        raise ValueError(
            f"{name} must be (least, most, step), a list, a text, True or False, got {choice!r}"
        )
    control.description = control.description or name
    control.style.description_width = "initial"
    if hasattr(control, "continuous_update"):
        control.continuous_update = False  # a chart takes longer than a move
    return control
