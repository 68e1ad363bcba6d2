import numpy as np
import pandas as pd
import pytest
from conftest import NAMES, some_ids, tiny_model
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from compgpt_lib import figures
from compgpt_lib.introspection import trace


@pytest.mark.parametrize(
    ("character", "sign"),
    [("\n", "⏎"), ("\t", "⇥"), (" ", "␣"), ("a", "a"), ("\x00", "U+0000"), ("\u202e", "U+202E")],
)
def test_invisible_characters_get_signs(character, sign):
    assert figures.visible(character) == sign


def history(n=3):
    return pd.DataFrame(
        {"step": range(n), "tokens": range(n), "train_loss": 2.0, "valid_loss": 1.0}
    )


def test_loss_curves_draw_each_run():
    figure = figures.loss_curves({"gpt": history(), "other": history(5)})
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["gpt", "other"]
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 5]
    assert axes.get_xlabel() == "characters seen" and "nats" in axes.get_ylabel()


def test_a_live_plot_is_shown_once_and_then_renewed(monkeypatch):
    shown = []

    class Handle:
        def update(self, figure):
            shown.append(figure)

    monkeypatch.setattr(figures, "display", lambda figure, display_id: Handle())
    plot = figures.LivePlot()
    for n in (1, 2, 3):
        plot(history(n))
    assert [len(figure.axes[0].lines[1].get_xdata()) for figure in shown] == [2, 3]


def test_attention_maps_show_every_head():
    seen = trace(tiny_model("p-gpt"), some_ids(1, 6)[0])
    figure = figures.attention_maps(seen, list("ab\n\t e"))
    assert len(figure.axes) == 4 * 2
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    assert np.allclose(drawn, seen.attention["branches.first.0"][0].numpy())
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a", "b", "⏎", "⇥", "␣", "e"]


def test_spectra_are_shares_of_variance():
    seen = trace(tiny_model("lc-gpt"), some_ids(1, 16)[0])
    (axes,) = figures.spectra(seen).axes
    assert len(axes.lines) == len(seen.residual) == 7
    for line in axes.lines:
        values = np.asarray(line.get_ydata())
        assert np.isclose(values.sum(), 1) and (np.diff(values) <= 1e-9).all()


@pytest.mark.parametrize("point", [*range(33), 0x7F, 0x85, 0xA0, 0xAD, 0x200B, 0x2028, 0xFEFF])
def test_no_label_holds_a_character_that_cannot_be_seen(point):
    label = figures.visible(chr(point))
    assert label.isprintable() and label.strip() == label != ""


def test_loss_curves_against_another_column():
    runs = {"gpt": history().assign(seconds=[1.0, 2.0, 4.0])}
    (axes,) = figures.loss_curves(runs, "A title", "seconds", "train_loss").axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1.0, 2.0, 4.0] and list(line.get_ydata()) == [2.0] * 3
    assert axes.get_xlabel() == "seconds of training" and axes.get_title() == "A title"


def test_models_are_told_apart_without_colour():
    figure = figures.loss_curves({name: history() for name in figures.STYLES})
    lines = figure.axes[0].lines
    models = [line for line in lines if line.get_label() in (*NAMES, "p-gpt-1")]
    assert len({str(line._dash_pattern) for line in models}) == len(models) == 5
    assert len({line.get_color() for line in lines}) == len(lines)


def test_figures_are_shown_by_the_caller_alone():
    seen = trace(tiny_model("gpt"), some_ids(1, 6)[0])
    drawn = [
        figures.loss_curves({"gpt": history()}),
        figures.attention_maps(seen, list("abcdef")),
        figures.spectra(seen),
    ]
    assert all(isinstance(figure, Figure) for figure in drawn)
    assert plt.get_fignums() == []


def test_a_long_text_has_maps_without_labels():
    seen = trace(tiny_model("gpt", context_length=30, n_heads=1), some_ids(1, 25)[0])
    figure = figures.attention_maps(seen, list("x" * 25), "A title")
    assert len(figure.axes) == 4 and figure.get_suptitle() == "A title"
    assert all(len(axes.get_xticks()) == 0 for axes in figure.axes)
