"""The dimension explorer: the residual stream stage by stage, and what each stage still knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from compgpt_lib.generation import fits
from compgpt_lib.introspection import trace
from compgpt_lib.measures import (
    BACK,
    CLASSES,
    character_classes,
    logit_lens,
    planes,
    spectrum,
    stage_rows,
    stage_table,
)
from compgpt_lib.models import Decoder, is_model
from compgpt_lib.support import checks
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.widgets.view import State, View, floats, from_floats, read, script, sign

_EACH = 60  # characters of each class on the map
_PROBES = ["next", *(f"{k} back" if k else "current" for k in BACK)]
# Okabe and Ito's colours, and a shape each: told apart without colour as well.
_MARKS = dict(
    zip(
        CLASSES,
        [
            ("#0072B2", "o"),
            ("#E69F00", "s"),
            ("#D55E00", "^"),
            ("#CC79A7", "D"),
            ("#009E73", "P"),
            ("#56B4E9", "v"),
            ("#999999", "<"),
            ("#000000", "X"),
        ],
        strict=True,
    )
)


class DimensionView(View):
    """The dimension explorer as a widget."""

    _esm = script("dimensions")


def explore_dimensions(
    model: Decoder, tokenizer: CharTokenizer, windows: Tensor, text: str
) -> View:
    """Return a live view of the width of a gpt, lc-gpt or cc-gpt, stage by stage.

    `windows` (W, T) of ids, eight or more, are what maps, spectra and probes are computed on; the
    logit lens reads `text`. Raises TypeError for p-gpt, ValueError for what cannot be shown.
    """
    is_model(model)
    fits(model, tokenizer)
    checks.of_kind("windows", windows, Tensor, "a torch tensor (W, T) of ids")
    if windows.ndim != 2 or len(windows) < 8:
        raise ValueError(
            f"windows must have shape (W, T) with W of 8 or more, got {tuple(windows.shape)}"
        )
    windows = windows.long()
    logit_lens(model, trace(model, windows[0]))  # refuses p-gpt before anything is computed
    still = _stages(model, tokenizer, windows)

    def look(state: State) -> dict[str, Any]:
        reading = read(state, tokenizer, model.config.context_length)
        lens = {}
        for name, logits in logit_lens(model, trace(model, reading.ids)).items():
            p = logits.softmax(-1)
            top = p.max(-1)
            came = p[:-1].gather(-1, reading.ids[1:, None])[:, 0]
            lens[name] = {
                "top": top.indices.tolist(),
                "p": floats(top.values),
                "came": floats(came),
            }
        return {
            **reading.payload(),
            **still,
            "lens": [lens[stage["name"]] for stage in still["stages"]],
            "limit": model.config.context_length,
        }

    return DimensionView(f"stages of {model.name}", look, _draw, {"text": text})


def _stages(model: Decoder, tokenizer: CharTokenizer, windows: Tensor) -> dict[str, Any]:
    """Return what does not depend on the text: maps, spectra, probes."""
    rows = stage_rows(model, windows)
    table = stage_table(rows, windows).to_dict("index")
    texts = [tokenizer.decode(window) for window in windows]
    classes = np.array([CLASSES.index(kind) for text in texts for kind in character_classes(text)])
    chosen = np.sort(
        np.concatenate(
            [
                found[np.linspace(0, len(found) - 1, min(_EACH, len(found))).astype(int)]
                for kind in range(len(CLASSES))
                if len(found := (classes == kind).nonzero()[0])
            ]
        )
    )
    maps = planes([stage.flatten(0, 1) for stage in rows.values()])
    time = windows.shape[1]
    stages = []
    for name, stage in rows.items():
        row = table[name]
        shares = spectrum(stage.flatten(0, 1))
        stages.append(
            {
                "name": name,
                "width": stage.shape[-1],
                "rank": row["effective rank"],
                "kept": _or_none(row["variance kept"]),
                "cka": _or_none(row["cka"]),
                "probes": [row[name] for name in _PROBES],
                "spectrum": [float(f"{share:.3g}") for share in shares],
            }
        )
    signs = [[sign(character) for character in text] for text in texts]
    places = [divmod(int(place), time) for place in chosen]
    return {
        "stages": stages,
        "probes": _PROBES,
        "commonest": [table["always the commonest"][name] for name in _PROBES],
        "maps": floats(torch.stack([plane[chosen] for plane in maps])),
        "points": [
            {"sign": signs[w][t], "before": "".join(signs[w][max(0, t - 16) : t])}
            for w, t in places
        ],
        "kinds": classes[chosen].tolist(),
        "class names": list(CLASSES),
        "vocabulary": [sign(character) for character in tokenizer.tokens],
        "characters": windows.numel(),
    }


def _or_none(value: float) -> float | None:
    """Return a number as JSON can say it."""
    return None if np.isnan(value) else value


def _draw(answer: State) -> Figure:
    """Draw the map of every stage, the spectra, and what linear probes find."""
    stages, kinds = answer["stages"], np.array(answer["kinds"])
    maps = from_floats(answer["maps"], len(stages), len(kinds), 2)
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.3])[:, 0]
    for axes, stage, points in zip(
        above.subplots(1, len(stages), squeeze=False)[0], stages, maps, strict=True
    ):
        for kind, name in enumerate(CLASSES):
            _scatter(axes, points[kinds == kind], name)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(f"{stage['name']}\nwidth {stage['width']}", fontsize=8)
    left, right = below.subplots(1, 2)
    shades = [str(0.75 * (1 - place / max(1, len(stages) - 1))) for place in range(len(stages))]
    for shade, stage in zip(shades, stages, strict=True):
        shares = np.array(stage["spectrum"])
        label = f"{stage['name']}: effective rank {stage['rank']:.0f} of {stage['width']}"
        left.semilogy(np.arange(1, len(shares) + 1), shares, color=shade, label=label)
        right.plot(stage["probes"], color=shade, marker=".")
    left.set(xlabel="principal component", ylabel="share of variance", ylim=(1e-5, 1))
    left.legend(fontsize=7)
    right.plot(answer["commonest"], "--", color="#D55E00", label="always the commonest")
    right.set_xticks(range(len(_PROBES)), _PROBES, fontsize=8)
    right.set(ylabel="a linear probe is right", ylim=(0, 1))
    right.legend(fontsize=8)
    handles = [Line2D([], [], ls="", c=c, marker=m, label=n) for n, (c, m) in _MARKS.items()]
    above.legend(handles=handles, ncols=len(CLASSES), loc="outside lower center", fontsize=8)
    return figure


def _scatter(axes: Axes, points: np.ndarray, name: str) -> None:
    """Draw the points of a class; smaller and without an edge a plus would fall between pixels."""
    color, marker = _MARKS[name]
    x, y = points.T
    axes.scatter(x, y, s=10, c=color, marker=marker, edgecolors=color, linewidths=0.4)
