"""Histories and traces to pictures, in matplotlib: the same on a page, on GitHub and in print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from compgpt_lib import checks
from compgpt_lib.introspection import Trace
from compgpt_lib.measures import spectrum

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


def visible(character: str) -> str:
    """Return a character so that it can be seen: signs for newline, tab and space."""
    checks.of_kind("character", character, str, "one character")
    if len(character) != 1:
        raise ValueError(f"character must be one character, got {checks.short(character)}")
    if character in _SIGNS:
        return _SIGNS[character]
    return character if character.isprintable() else f"U+{ord(character):04X}"


def loss_curves(
    histories: Mapping[str, pd.DataFrame],
    title: str = "",
    against: str = "tokens",
    loss: str = "valid_loss",
) -> Figure:
    """Draw the losses of several runs, in nats per character, against a column of their history."""
    checks.of_kind("histories", histories, Mapping, "a dict from names to histories")
    for history in histories.values():
        checks.of_kind("histories", history, pd.DataFrame, "a dict from names to histories")
        if missing := {against, loss} - set(history.columns):
            raise ValueError(f"histories must have the columns {', '.join(sorted(missing))}")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, history in histories.items():
        color, line = STYLES.get(name, (None, "-"))
        axes.plot(history[against], history[loss], color=color, linestyle=line, label=name)
    units = {"tokens": "characters seen", "seconds": "seconds of training", "step": "step"}
    axes.set(xlabel=units.get(against, against), ylabel="loss (nats per character)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    plt.close(figure)  # the caller shows it, once
    return figure


class LivePlot:
    """A plot in a notebook that grows while a model trains: pass it to `train` as `watch`."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, history: pd.DataFrame) -> None:
        """Draw the history so far in place of the picture before."""
        figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
        for column, color, line in (("train_loss", "#999999", "-"), ("valid_loss", "#000000", "-")):
            axes.plot(history["step"], history[column], line, marker=".", color=color, label=column)
        axes.set(xlabel="step", ylabel="loss (nats per character)")
        axes.grid(alpha=0.3)
        axes.legend()
        plt.close(figure)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)


def attention_maps(seen: Trace, characters: list[str], title: str = "") -> Figure:
    """Draw every head of every block as a map: row looks, column is looked at; darker is more."""
    checks.of_kind("seen", seen, Trace, "what trace(model, ids) returned")
    checks.of_kind("characters", characters, (list, tuple), "a list of characters")
    for character in characters:
        checks.of_kind("characters", character, str, "a list of characters")
    if len(characters) != len(seen.ids):
        raise ValueError(
            f"characters must be those that were traced, {len(seen.ids)}, got {len(characters)}"
        )
    blocks = list(seen.attention)
    heads = max(len(pattern) for pattern in seen.attention.values())
    figure, grid = plt.subplots(
        len(blocks),
        heads,
        figsize=(1 + 2.2 * heads, 0.6 + 2.3 * len(blocks)),
        layout="constrained",
        squeeze=False,
    )
    ticks = range(len(characters))
    labels = [visible(character) for character in characters]
    for row, block in enumerate(blocks):
        for head in range(heads):
            axes = grid[row][head]
            axes.imshow(seen.attention[block][head].numpy(), cmap="Greys", vmin=0, vmax=1)
            axes.set_title(f"{block}, head {head}", fontsize=8)
            small = len(characters) <= 24
            axes.set_xticks(ticks if small else [], labels if small else [], fontsize=6)
            axes.set_yticks(ticks if small else [], labels if small else [], fontsize=6)
    figure.suptitle(title or "row: the position that looks; column: the position it looks at")
    plt.close(figure)
    return figure


def spectra(seen: Trace, title: str = "") -> Figure:
    """Draw each stage's share of variance by principal component, on a logarithmic scale."""
    checks.of_kind("seen", seen, Trace, "what trace(model, ids) returned")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(seen.residual)))
    for color, (name, rows) in zip(colors, seen.residual.items(), strict=True):
        shares = spectrum(rows)
        axes.semilogy(
            np.arange(1, len(shares) + 1),
            shares,
            color=color,
            label=f"{name} (width {rows.shape[1]})",
        )
    axes.set(xlabel="principal component", ylabel="share of variance", ylim=(1e-6, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    plt.close(figure)
    return figure
