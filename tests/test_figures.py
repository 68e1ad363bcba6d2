import re

import numpy as np
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


def test_attention_maps_show_every_head():
    record = trace(tiny_model("p-gpt"), some_ids(1, 6)[0])
    record.text = "ab\n\t e"
    picture = figures.attention_maps(record)
    figure = picture.figure
    assert "4 blocks with 2 heads on 'ab⏎⇥␣e'" in picture.alt
    assert len(figure.axes) == 4 * 2
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    assert np.allclose(drawn, record.attention["branches.first.0"][0].numpy())
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a", "b", "⏎", "⇥", "␣", "e"]


@pytest.mark.parametrize("point", [*range(33), 0x7F, 0x85, 0xA0, 0xAD, 0x200B, 0x2028, 0xFEFF])
def test_no_label_holds_a_character_that_cannot_be_seen(point):
    label = figures.visible(chr(point))
    assert label.isprintable() and label.strip() == label != ""


def test_figures_are_shown_by_the_caller_alone():
    record = trace(tiny_model("gpt"), some_ids(1, 6)[0])
    drawn = [
        figures.attention_maps(record),
        figures.diagram(tiny_model("p-gpt")),
    ]
    assert all(isinstance(picture, figures.Picture) and picture.alt for picture in drawn)
    assert plt.get_fignums() == []


def test_a_long_text_has_maps_without_labels():
    record = trace(tiny_model("gpt", context_length=30, n_heads=1), some_ids(1, 25)[0])
    figure = figures.attention_maps(record, "A title").figure
    assert len(figure.axes) == 4 and figure.get_suptitle().startswith("A title\nrow: ")
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
