"""The dimension explorer: the residual stream stage by stage, and what each stage still knows."""

from __future__ import annotations

from textwrap import fill
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from compgpt_lib.introspection import part_names, trace
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
from compgpt_lib.models import Decoder
from compgpt_lib.support.checks import checked
from compgpt_lib.widgets.view import COLORS, Answer, Request, View, floats, read, script, signs

_EACH = 60  # characters of each class on the map
_LEAST, _MOST = 8, 64  # windows of a sample: to fit the probes on, and not to wait for
_PROBES = ["next", *(f"{k} back" if k else "current" for k in BACK)]
MARKERS = dict(zip(CLASSES, "os^DPv<X", strict=True))  # told apart without colour as well


@checked
def explore_dimensions(
    model: Decoder, sample: Annotated[str | Tensor, "a long text, or ids (W, T)"], text: str
) -> View:
    """Return a live view of the width of a gpt, lc-gpt or cc-gpt, stage by stage.

    Maps, spectra and probes are computed on `sample`: a long text, of which the first 64 windows of
    context_length characters are taken, or windows (W, T) of ids, as `corpus.windows` gives them;
    eight or more. The logit lens reads `text`. Stages are counted from 1; a tooltip shows their
    names in code, as `part_names` has them. Raises TypeError for p-gpt, ValueError for what
    cannot be shown.
    """
    return DimensionView(model, _windows(model, sample), text)


def _windows(model: Decoder, sample: str | Tensor) -> Tensor:
    """Return a sample as windows (W, T) of ids."""
    time = model.config.context_length
    windows: list[Any] = list(sample) if isinstance(sample, Tensor) and sample.ndim == 2 else []
    if isinstance(sample, str):
        starts = range(0, len(sample) - time + 1, time)[:_MOST]
        windows = [sample[start : start + time] for start in starts]
    if len(windows) < _LEAST or not 1 <= len(windows[0]) <= time:
        raise ValueError(
            f"sample must be a text of {_LEAST} * {time} characters or more, or ids (W, T): "
            f"{_LEAST} windows or more, each of at most {time} (context_length), got "
            f"{len(sample) if isinstance(sample, str) else tuple(sample.shape)}"
        )
    try:
        return torch.stack([model.ids_of(window) for window in windows]).cpu()
    except (TypeError, ValueError) as error:
        raise type(error)(f"sample: {error}") from None


class DimensionView(View):
    """The dimension explorer as a widget."""

    kind = "dimensions"
    _esm = script(kind)

    def __init__(self, model: Decoder, windows: Tensor, text: str) -> None:
        self._model, self._windows, self._tokenizer = model, windows, model.vocabulary()
        super().__init__(f"stages of {model.name}", {"text": text}, {model.name: model})

    def _look(self, request: Request) -> Answer:
        reading = read(request, self._tokenizer, self._model.config.context_length)
        record = trace(self._model, reading["text"])
        p = torch.stack(list(logit_lens(self._model, record).values())).softmax(-1)  # (S, T, V)
        top = p.max(-1)
        came = record.ids[1:, None].expand(len(p), -1, 1)  # (S, T - 1, 1)
        return {
            **reading,
            "ids": record.ids.tolist(),
            "top": top.indices.numpy().astype("<u4").tobytes(),
            "p": floats(top.values),
            "came": floats(p[:, :-1].gather(-1, came)),
        }

    def _fix(self) -> Answer:
        """Compute maps, spectra and probes."""
        windows, tokenizer, names = self._windows, self._tokenizer, part_names(self._model)
        rows = stage_rows(self._model, windows)
        streams = [stage.flatten(0, 1) for stage in rows.values()]  # (N, width) each
        table = stage_table(rows, windows).reset_index().astype(object)
        *stages, commonest = table.where(table.notna(), None).to_dict("records")  # no nan in JSON
        for stage, stream in zip(stages, streams, strict=True):
            stage["name"] = names[stage["stage"]]
            stage["spectrum"] = [float(f"{share:.3g}") for share in spectrum(stream)]
        texts = [tokenizer.decode(window) for window in windows]
        kinds = np.array([CLASSES.index(k) for text in texts for k in character_classes(text)])
        places = _some_of_each(kinds)
        points = []
        for window, place in zip(*np.divmod(places, windows.shape[1]), strict=True):
            *before, character = signs(texts[window][max(0, place - 16) : place + 1])
            points.append({"sign": character, "before": "".join(before)})
        self._stages, self._commonest, self._kinds = stages, commonest, kinds[places]
        self._maps = torch.stack([plane[places] for plane in planes(streams)])  # (S, points, 2)
        return {
            "stages": stages,
            "commonest": commonest,
            "probes": _PROBES,
            "maps": floats(self._maps),
            "points": points,
            "kinds": self._kinds.tolist(),
            "classes": [{"name": name, "marker": marker} for name, marker in MARKERS.items()],
            "vocabulary": signs(tokenizer.tokens),
            "characters": windows.numel(),
            "limit": self._model.config.context_length,
        }

    def _options(self) -> Answer:
        return {"sample": [self._tokenizer.decode(window) for window in self._windows]}

    def _draw(self) -> Figure:
        """Draw the map of every stage, the spectra, and what linear probes find."""
        count = len(self._stages)
        figure = Figure(figsize=(11.5, 6.2), layout="constrained")
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.3])[:, 0]
        grid = above.subplots(1, count, squeeze=False)[0]
        left, right = below.subplots(1, 2)
        across = max(11, 150 // count)  # characters in a line over a map
        for index, (axes, stage) in enumerate(zip(grid, self._stages, strict=True)):
            name, width, shade = stage["name"], stage["width"], str(0.75 * (1 - index / count))
            for kind, its_name in enumerate(CLASSES):
                scatter(axes, self._maps[index].numpy()[self._kinds == kind], its_name)
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{fill(name, across)}\nwidth {width:.0f}", fontsize=9)
            shares = stage["spectrum"]
            label = f"{name}: {stage['effective rank']:.0f} of {width:.0f}"
            left.semilogy(np.arange(1, len(shares) + 1), shares, color=shade, label=label)
        left.set(xlabel="principal component", ylabel="share of variance", ylim=(1e-5, 1))
        beside = {"loc": "upper left", "bbox_to_anchor": (1, 1), "fontsize": 9}
        left.legend(title="effective rank", title_fontsize=9, **beside)
        named = [*self._stages, self._commonest]
        shares = np.array([[stage[name] for name in _PROBES] for stage in named], dtype=float)
        right.imshow(shares, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 0.5 else "black"
            right.text(column, row, f"{share:.2f}", ha="center", va="center", size=9, color=color)
        asked = [name.replace(" ", "\n") for name in _PROBES]
        right.set_xticks(range(len(_PROBES)), asked, fontsize=9)
        names = [stage.get("name", stage["stage"]) for stage in named]
        right.set_yticks(range(len(named)), [fill(name, 17) for name in names], fontsize=9)
        right.set_title("how often a linear probe is right", fontsize=10)
        handles = [
            Line2D([], [], ls="", c=COLORS[name], marker=marker, label=name)
            for name, marker in MARKERS.items()
        ]
        above.legend(handles=handles, ncols=len(CLASSES), loc="outside lower center", fontsize=9)
        return figure


def _some_of_each(kinds: np.ndarray) -> np.ndarray:
    """Return the places of up to `_EACH` characters of every class, evenly spread, in order."""
    places = [(kinds == kind).nonzero()[0] for kind in np.unique(kinds)]
    spread = [np.linspace(0, len(of) - 1, min(_EACH, len(of))).astype(int) for of in places]
    return np.sort(np.concatenate([of[which] for of, which in zip(places, spread, strict=True)]))


def scatter(axes: Axes, points: np.ndarray, name: str) -> None:
    """Draw the points of a class; smaller and without an edge a plus would fall between pixels."""
    color, (x, y) = COLORS[name], points.T
    axes.scatter(x, y, s=10, c=color, marker=MARKERS[name], edgecolors=color, linewidths=0.4)
