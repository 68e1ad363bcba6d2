"""Histories and traces to pictures, in matplotlib: the same on a page, on GitHub and in print."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import nn

from compgpt_lib.introspection import Trace
from compgpt_lib.layers import ConvCompression, DecoderBlock, LinearCompression
from compgpt_lib.measures import spectrum
from compgpt_lib.models import Decoder, ParallelGPT
from compgpt_lib.support import checks
from compgpt_lib.support.checks import checked

# Okabe and Ito's palette: told apart with any colour vision, and by line style in grey print.
STYLES = {
    "gpt": ("#000000", "-"),
    "p-gpt": ("#0072B2", "--"),
    "p-gpt-1": ("#56B4E9", ":"),
    "lc-gpt": ("#D55E00", "-."),
    "cc-gpt": ("#009E73", (0, (5, 1, 1, 1, 1, 1))),
    "gpt, 2 blocks": ("#999999", "-"),
}
_SIGNS = {"\n": "⏎", "\t": "⇥", " ": "␣"}


class Picture:
    """A figure with what it shows in words, for those who cannot see it: its `alt` text."""

    @checked
    def __init__(
        self,
        figure: Annotated[Figure, "a figure of matplotlib"],
        alt: Annotated[str, "what the figure shows, in words"],
    ) -> None:
        if not alt.strip():
            raise ValueError("alt must say what the figure shows, got nothing")
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


Histories = Annotated[Mapping[str, pd.DataFrame], "a dict from names to histories"]


@checked
def loss_curves(
    histories: Histories,
    title: str = "",
    against: str = "tokens",
    loss: str = "valid_loss",
) -> Picture:
    """Draw the losses of several runs, in nats per character, against a column of their history."""
    for history in histories.values():
        if missing := {against, loss} - set(history.columns):
            raise ValueError(f"histories must have the columns {', '.join(sorted(missing))}")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, history in histories.items():
        color, line = STYLES.get(name, (None, "-"))
        axes.plot(history[against], history[loss], color=color, linestyle=line, label=name)
    units = {"tokens": "characters seen", "seconds": "seconds of training", "step": "step"}
    axes.set(xlabel=units.get(against, against), ylabel="loss (nats per character)", title=title)
    axes.grid(alpha=0.3)
    if histories:
        axes.legend()
    runs = ", ".join(f"{name} {_way(history[loss])}" for name, history in histories.items())
    return Picture(
        figure, f"Loss in nats per character against {units.get(against, against)}: {runs}"
    )


def _way(values: pd.Series) -> str:
    return (
        f"from {values.iloc[0]:.2f} to {values.iloc[-1]:.2f}" if len(values) else "without values"
    )


class LivePlot:
    """A plot in a notebook that grows while a model trains: pass it to `train` as `watch`."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._rows = 0

    def __call__(self, history: pd.DataFrame) -> None:
        """Draw the history so far in place of the picture before; another run has its own."""
        if len(history) <= self._rows:
            self._handle = None
        self._rows = len(history)
        figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
        for column, color, line in (("train_loss", "#999999", "-"), ("valid_loss", "#000000", "-")):
            axes.plot(history["step"], history[column], line, marker=".", color=color, label=column)
        axes.set(xlabel="step", ylabel="loss (nats per character)")
        axes.grid(alpha=0.3)
        axes.legend()
        picture = Picture(
            figure,
            f"Loss in nats per character against steps: training {_way(history['train_loss'])}, "
            f"validation {_way(history['valid_loss'])}",
        )
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)


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
        figsize=(1 + 2.2 * heads, 0.6 + 2.3 * len(blocks)),
        layout="constrained",
        squeeze=False,
    )
    labels = [visible(character) for character in record.text]
    ticks = range(len(labels))
    for row, block in enumerate(blocks):
        for head in range(heads):
            axes = grid[row][head]
            axes.imshow(record.attention[block][head].numpy(), cmap="Greys", vmin=0, vmax=1)
            axes.set_title(f"{block}, head {head}", fontsize=8)
            small = len(labels) <= 24
            axes.set_xticks(ticks if small else [], labels if small else [], fontsize=6)
            axes.set_yticks(ticks if small else [], labels if small else [], fontsize=6)
    figure.suptitle(title or "row: the position that looks; column: the position it looks at")
    return Picture(
        figure,
        f"Attention maps of {len(blocks)} blocks with {heads} heads on {''.join(labels)!r}: each "
        f"row is a character that looks, each column one it looks at. {title}".rstrip(),
    )


@checked
def spectra(record: Trace, title: str = "") -> Picture:
    """Draw each stage's share of variance by principal component, on a logarithmic scale."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(record.residual)))
    strongest = []
    for color, (name, rows) in zip(colors, record.residual.items(), strict=True):
        shares = spectrum(rows)
        strongest.append(f"{name} {shares[0]:.0%}")
        axes.semilogy(
            np.arange(1, len(shares) + 1),
            shares,
            color=color,
            label=f"{name} (width {rows.shape[1]})",
        )
    axes.set(xlabel="principal component", ylabel="share of variance", ylim=(1e-6, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return Picture(
        figure,
        "Share of variance by principal component, a falling line for each stage. On the strongest "
        f"component: {', '.join(strongest)}",
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
