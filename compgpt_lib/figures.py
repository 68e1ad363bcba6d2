"""Models and traces to pictures, in matplotlib: the same on a page, on GitHub and in print."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import nn

from compgpt_lib.introspection import Trace
from compgpt_lib.layers import ConvCompression, DecoderBlock, LinearCompression
from compgpt_lib.models import Decoder, ParallelGPT
from compgpt_lib.support import checks
from compgpt_lib.support.checks import checked

_SIGNS = {"\n": "⏎", "\t": "⇥", " ": "␣"}


class Picture:
    """A figure with what it shows in words, for those who cannot see it: its `alt` text."""

    @checked
    def __init__(
        self,
        figure: Annotated[Figure, "a figure of matplotlib"],
        alt: Annotated[str, "what the picture shows, in words"],
    ) -> None:
        if not alt.strip():
            raise ValueError("alt must say what the picture shows, got an empty text")
        plt.close(figure)  # or the notebook would show it twice
        self.figure, self.alt = figure, alt

    def __repr__(self) -> str:
        return "Picture({:.0f} x {:.0f})".format(*(100 * self.figure.get_size_inches()))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, str], dict[str, Any]]:
        with io.BytesIO() as file:
            self.figure.savefig(file, format="png", dpi=80, bbox_inches="tight")
            picture = base64.b64encode(file.getvalue()).decode()
        data = {"text/plain": repr(self), "image/png": picture}
        return data, {"image/png": {"alt": self.alt}}


@checked
def visible(character: Annotated[str, "one character"]) -> str:
    """Return a character so that it can be seen: signs for newline, tab and space."""
    if len(character) != 1:
        raise ValueError(f"character must be one character, got {checks.short(character)}")
    if character in _SIGNS:
        return _SIGNS[character]
    return character if character.isprintable() else f"U+{ord(character):04X}"


@checked
def attention_maps(record: Trace, title: str = "") -> Picture:
    """Draw every head of every block as a map: row looks, column is looked at; darker is more."""
    if len(record.text) != len(record.ids):
        raise ValueError("record must be of a text: trace(model, text)")
    blocks = list(record.attention)
    heads = max(len(pattern) for pattern in record.attention.values())
    figure, grid = plt.subplots(
        len(blocks),
        heads,
        figsize=(1 + 2.6 * heads, 0.8 + 2.6 * len(blocks)),
        layout="constrained",
        squeeze=False,
    )
    labels = [visible(character) for character in record.text]
    ticks = range(len(labels))
    for row, block in enumerate(blocks):
        for head in range(heads):
            axes = grid[row][head]
            axes.imshow(record.attention[block][head].numpy(), cmap="Greys", vmin=0, vmax=1)
            axes.set_title(f"{record.names.get(block, block)}, head {head + 1}", fontsize=11)
            small = len(labels) <= 16
            axes.set_xticks(ticks if small else [], labels if small else [], fontsize=9)
            axes.set_yticks(ticks if small else [], labels if small else [], fontsize=9)
    said = "row: the character that looks; column: the character that it looks at; black: all of it"
    figure.suptitle(f"{title}\n{said}" if title else said, fontsize=12)
    return Picture(
        figure,
        f"Attention maps of {len(blocks)} blocks with {heads} heads on {''.join(labels)!r}: each "
        f"row is a character that looks, each column one it looks at. {title}".rstrip(),
    )


@checked
def diagram(model: Decoder) -> Picture:
    """Draw a model as it is built: a box for each layer, as tall as the layer is wide.

    Read off the model itself, so a changed model gives a changed drawing.
    """
    branches = dict(model.branches) if isinstance(model, ParallelGPT) else {"": model}
    rows = {
        name: [
            layer
            for layer in part.modules()
            if isinstance(layer, DecoderBlock | LinearCompression | ConvCompression)
        ]
        for name, part in branches.items()
    }
    widest = model.embedding.token.embedding_dim
    last = 1 + max(map(len, rows.values())) + isinstance(model, ParallelGPT)  # the head's column
    figure, axes = plt.subplots(
        figsize=(1.45 * (last + 1), 1.6 + 1.3 * len(rows)), layout="constrained"
    )
    gap, tall = 1.45, 2.0 * len(rows)
    told = [f"{model.name}, {model.parameter_count():,} parameters"]

    def box(column: int, y: float, into: int, out: int, name: str, layer: nn.Module) -> None:
        count = sum(parameter.numel() for parameter in layer.parameters())
        heights = [0.85 * tall * width / widest for width in (into, out)]
        _box(axes, column * gap, y, heights, f"{name}\n{count:,}")
        told.append(f"{name.replace(chr(10), ' ')} ({count:,})")

    box(0, 0, widest, widest, f"embedding\n{widest} wide", model.embedding)
    for index, (branch, layers) in enumerate(rows.items()):
        y = tall * ((len(rows) - 1) / 2 - index) / len(rows)
        told += [f"{branch} branch"] * bool(branch)
        for column, layer in enumerate(layers, 1):
            _arrow(axes, (column - 1) * gap + 0.5, y, column * gap - 0.5, y)
            if isinstance(layer, DecoderBlock):
                into = out = layer.norm2.normalized_shape[0]
                name = f"block\n{out} wide\n{layer.attention.n_heads} heads"
            else:
                out, into = layer.weight.shape[:2]
                kind = f"conv {layer.weight.shape[2]}" if layer.weight.ndim == 3 else "linear"
                name = f"{kind}\n{into} to {out}"
            box(column, y, into, out, name, layer)
        if isinstance(model, ParallelGPT):
            sign = {"first": "w", "second": "1 - w"}[branch]
            weight = model.branch_weights()[branch].item()
            axes.text((len(layers) + 1) * gap, y, f"× {sign}\n= {weight:.2f}", ha="center")
            told.append(f"times {sign} = {weight:.2f}")
        _arrow(axes, len(layers) * gap + 0.5, y, last * gap - 0.5, 0)
    box(
        last,
        0,
        model.head.in_features,
        model.head.in_features,
        f"head\nreads {model.head.in_features}",
        model.head,
    )
    axes.set(
        xlim=(-0.6, last * gap + 0.6),
        ylim=(-tall / 2, tall / 2),
        title=f"{model.name}: {model.parameter_count():,} parameters, "
        f"vocabulary {model.config.vocab_size}, context {model.config.context_length}",
    )
    axes.axis("off")
    return Picture(figure, "From left to right: " + ", ".join(told))


def _box(axes: Axes, x: float, y: float, heights: list[float], words: str) -> None:
    left, right = (height / 2 for height in heights)
    corners = [(x - 0.5, y - left), (x - 0.5, y + left), (x + 0.5, y + right), (x + 0.5, y - right)]
    colors = {"embedding": "#B9DDF3", "block": "#EEEEEE", "head": "#F5D08A"}
    color = colors.get(words.split()[0], "#A6DCC9")
    axes.add_patch(Polygon(corners, facecolor=color, edgecolor="black", linewidth=0.8))
    axes.text(x, y, words, ha="center", va="center", fontsize=8)


def _arrow(axes: Axes, x: float, y: float, to_x: float, to_y: float) -> None:
    axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "->", "linewidth": 0.8})
