"""Charts with sliders: drawn anew as they move, a chart where no kernel runs."""

import ipywidgets
import pandas as pd
import pytest

from compgpt_lib import charts
from compgpt_lib.widgets import interact, moving


class Page:
    """What was displayed, and what stands in its place now."""

    def __init__(self):
        self.shown = []

    def display(self, thing, display_id=False, raw=False):
        self.shown.append(thing)
        return self if display_id else None

    def update(self, thing, raw=False):
        self.shown[-1] = thing


@pytest.fixture
def page(monkeypatch):
    page = Page()
    monkeypatch.setattr(moving, "display", page.display)
    return page


def drawn(a: float, b: int):
    if a > 1.5:
        raise ValueError("a <b> is too large")
    return charts.points(pd.DataFrame({"r": [a, 3.0], "s": [b, 2]}, index=["p", "q"]), "r", "s")


def first(page) -> float:
    return page.shown[1].figure.data[0].x[0]


def test_a_slider_draws_the_chart_anew(page):
    slider = ipywidgets.FloatSlider(1.0, min=0, max=2)
    assert interact(drawn, a=slider, b=(1, 4)) is None
    controls, chart = page.shown
    assert list(controls) == ["application/vnd.jupyter.widget-view+json"]  # no text for nbval
    assert isinstance(chart, charts.Chart) and first(page) == 1.0
    assert slider.description == "a" and not slider.continuous_update
    slider.value = 0.5
    assert first(page) == 0.5
    slider.value = 2.0
    assert page.shown[1].data == "Nothing could be drawn: ValueError: a &lt;b&gt; is too large"
    slider.value = 1.25
    assert first(page) == 1.25


def test_a_slider_begins_where_the_default_is(page):
    interact(lambda a, b=4: drawn(a, b), a=(0.0, 1.0, 0.25), b=(1, 9))
    assert first(page) == 0.5 and page.shown[1].figure.data[0].y[0] == 4


def test_what_draws_no_chart_and_what_is_no_choice_are_refused(page):
    with pytest.raises(TypeError, match="draw must return a chart, .* got NoneType"):
        interact(lambda a: None, a=(0, 3))
    with pytest.raises(ValueError, match="a must be .* got None"):
        interact(drawn, a=None, b=(1, 4))
    assert not page.shown
