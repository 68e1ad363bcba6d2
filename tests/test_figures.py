import re

import numpy as np
import pandas as pd
import pytest
from conftest import NAMES, some_ids, tiny_model
from matplotlib import pyplot as plt

from compgpt_lib import figures
from compgpt_lib.introspection import trace
from compgpt_lib.layers import DecoderBlock


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
    picture = figures.loss_curves({"gpt": history(), "other": history(5)})
    assert picture.alt.endswith("gpt from 1.00 to 1.00, other from 1.00 to 1.00")
    (axes,) = picture.figure.axes
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
    assert [len(shot.figure.axes[0].lines[1].get_xdata()) for shot in shown] == [2, 3]


def test_attention_maps_show_every_head():
    seen = trace(tiny_model("p-gpt"), some_ids(1, 6)[0])
    seen.text = "ab\n\t e"
    picture = figures.attention_maps(seen)
    figure = picture.figure
    assert "4 blocks with 2 heads on 'ab⏎⇥␣e'" in picture.alt
    assert len(figure.axes) == 4 * 2
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    assert np.allclose(drawn, seen.attention["branches.first.0"][0].numpy())
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a", "b", "⏎", "⇥", "␣", "e"]


def test_spectra_are_shares_of_variance():
    seen = trace(tiny_model("lc-gpt"), some_ids(1, 16)[0])
    (axes,) = figures.spectra(seen).figure.axes
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
    (axes,) = figures.loss_curves(runs, "A title", "seconds", "train_loss").figure.axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1.0, 2.0, 4.0] and list(line.get_ydata()) == [2.0] * 3
    assert axes.get_xlabel() == "seconds of training" and axes.get_title() == "A title"


def test_models_are_told_apart_without_colour():
    figure = figures.loss_curves({name: history() for name in figures.STYLES}).figure
    lines = figure.axes[0].lines
    models = [line for line in lines if line.get_label() in (*NAMES, "p-gpt-1")]
    assert len({str(line._dash_pattern) for line in models}) == len(models) == 5
    assert len({line.get_color() for line in lines}) == len(lines)


def test_figures_are_shown_by_the_caller_alone():
    seen = trace(tiny_model("gpt"), some_ids(1, 6)[0])
    drawn = [
        figures.loss_curves({"gpt": history()}),
        figures.attention_maps(seen),
        figures.spectra(seen),
        figures.diagram(tiny_model("p-gpt")),
    ]
    assert all(isinstance(picture, figures.Picture) and picture.alt for picture in drawn)
    assert plt.get_fignums() == []


def test_a_long_text_has_maps_without_labels():
    seen = trace(tiny_model("gpt", context_length=30, n_heads=1), some_ids(1, 25)[0])
    figure = figures.attention_maps(seen, "A title").figure
    assert len(figure.axes) == 4 and figure.get_suptitle() == "A title"
    assert all(len(axes.get_xticks()) == 0 for axes in figure.axes)


def test_a_picture_carries_what_it_shows_in_words():
    figure, _ = plt.subplots(figsize=(3, 2))
    picture = figures.Picture(figure, "nothing at all")
    data, metadata = picture._repr_mimebundle_()
    assert data["text/plain"] == repr(picture) == "Picture(300 x 200)" and data["image/png"]
    assert metadata == {"image/png": {"alt": "nothing at all"}}
    with pytest.raises(ValueError, match="alt must say"):
        figures.Picture(figure, " ")
    with pytest.raises(TypeError, match="figure must be"):
        figures.Picture("figure", "words")


@pytest.mark.parametrize("name", NAMES)
def test_a_diagram_has_a_box_for_each_layer_and_all_parameters(name):
    model = tiny_model(name)
    picture = figures.diagram(model)
    (axes,) = picture.figure.axes
    counts = [int(count.replace(",", "")) for count in re.findall(r"\(([\d,]+)\)", picture.alt)]
    extra = 1 if name == "p-gpt" else 0  # w
    assert sum(counts) + extra == model.parameter_count()
    assert len(axes.patches) == len(counts)
    heights = [np.ptp(patch.get_xy()[:, 1]) for patch in axes.patches]
    widths = [layer.norm2.normalized_shape[0] for layer in blocks(model)]
    words = [text.get_text() for text in axes.texts if text.get_text()]
    boxes = [word for word in words if not word.startswith("×")]
    drawn = [h for h, word in zip(heights, boxes, strict=True) if word.startswith("block")]
    assert np.allclose(np.array(drawn) / drawn[0], np.array(widths) / widths[0])
    if name == "p-gpt":
        assert "times w = 0.50" in picture.alt and "times 1 - w = 0.50" in picture.alt
    if name == "cc-gpt":
        assert "conv 1" in picture.alt


def blocks(model):
    return [layer for layer in model.modules() if isinstance(layer, DecoderBlock)]


def test_a_changed_model_gives_a_changed_diagram():
    assert "conv 3" in figures.diagram(tiny_model("cc-gpt", kernel_size=3)).alt
    alone = figures.diagram(tiny_model("p-gpt").only("second"))
    assert "first branch" not in alone.alt and "second branch" in alone.alt


def test_one_live_plot_for_two_runs_draws_each_where_it_is(monkeypatch):
    shown = []

    class Handle:
        def update(self, picture):
            shown.append("updated")

    monkeypatch.setattr(figures, "display", lambda *_, **__: shown.append("new") or Handle())
    history = pd.DataFrame({"step": [1, 2], "train_loss": [2.0, 1.0], "valid_loss": [2.0, 1.0]})
    plot = figures.LivePlot()
    for _ in range(2):
        plot(history[:1])
        plot(history)
    assert shown == ["new", "updated"] * 2
