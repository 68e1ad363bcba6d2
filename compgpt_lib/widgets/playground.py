"""The playground: up to four models complete the same prompt side by side, as one watches."""

from __future__ import annotations

import time
from statistics import median
from typing import Annotated, Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from compgpt_lib.generation import Sampling, generate
from compgpt_lib.models import Decoder
from compgpt_lib.support.checks import Real, Seed, Whole, checked
from compgpt_lib.widgets.view import (
    COLORS,
    Answer,
    Models,
    Request,
    View,
    named,
    read,
    script,
    signs,
)

MOST = 1000  # characters of one completion: a page of more of them gets slow
_CANDIDATES = 5
_TURN = 0.04  # seconds of writing between two answers: the page moves, and Stop is heard
_ACROSS = {1: 80, 2: 50, 3: 40, 4: 34}  # characters in a line, by the number of models
_CELL, _LINE = 0.092, 0.21  # inches


@checked
def playground(
    models: Models,
    prompt: str = "import pandas as pd\n",
    temperature: Annotated[float, Real(least=0)] = 0.7,
    top_p: Annotated[float, Real(above=0, most=1)] = 0.95,
    max_new: Annotated[int, Whole(1, MOST)] = 120,
    seed: Seed = 0,
) -> View:
    """Return a live view in which one to four models complete what is typed.

    Hover a character for its probability, softmax(logits / temperature) before top-p cuts (at
    temperature 0 softmax(logits)), and the likeliest others. Milliseconds a character are the
    median of a model's own steps. Raises ValueError or TypeError for what cannot be used.
    """
    settings = {"temperature": temperature, "top_p": top_p, "seed": seed}
    return PlaygroundView(named(models, most=4), {"text": prompt, **settings}, max_new)


class PlaygroundView(View):
    """The playground as a widget: the page asks for some characters more until it has them all.

    An answer carries what was written since the character that the request says the page `have`s.
    """

    kind = "playground"
    _esm = script(kind)

    def __init__(self, models: dict[str, Decoder], first: Request, max_new: int) -> None:
        self._models, self._max_new = models, max_new
        self._tokenizer = next(iter(models.values())).vocabulary()
        self._limit = min(model.config.context_length for model in models.values())
        self._writing = self._begin(first)
        self._writing.write(until=np.inf)
        super().__init__(f"playground of {', '.join(models)}", first, models)

    def _begin(self, request: Request) -> _Writing:
        settings = {name: request[name] for name in ("temperature", "top_p", "seed")}
        sampling = Sampling(self._max_new, **settings)
        try:
            reading = read(request, self._tokenizer, self._limit, end=True)
            return _Writing(self._models, reading, sampling, request)
        except ValueError as error:
            raise ValueError(f"prompt: {error}") from None

    def _look(self, request: Request) -> Answer:
        run = {name: request[name] for name in request if name not in ("number", "have", "write")}
        if run != self._writing.request:
            self._writing = self._begin(run)
        if request.get("write"):
            self._writing.write(until=time.perf_counter() + _TURN)
        return self._writing.since(request.get("have", 0))

    def _fix(self) -> Answer:
        vocabulary = signs(self._tokenizer.tokens)
        return {"models": list(self._models), "vocabulary": vocabulary, "limit": self._limit}

    def _options(self) -> Answer:
        return {"max_new": self._max_new}

    def _draw(self) -> Figure:
        """Draw each completion after the prompt; the less probable, the stronger the tint."""
        writing, sampling = self._writing, self._writing.sampling
        across, vocabulary = _ACROSS[len(self._models)], signs(self._tokenizer.tokens)
        prompt = [(character, None) for character in writing.reading["signs"]]
        pages = {
            name: _lines([*prompt, *((vocabulary[i], p) for i, p, *_ in written)], across)
            for name, written in writing.written.items()
        }
        tall = max(map(len, pages.values()))
        size = (across + 3) * _CELL * len(pages), (tall + 3.5) * _LINE
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(
            f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, seed "
            f"{sampling.seed}; the stronger the tint, the less probable",
            fontsize=9,
        )
        style: Any = dict(fontsize=9, family="monospace", ha="center", va="center")
        grid = figure.subplots(1, len(pages), squeeze=False)[0]
        for axes, (name, lines) in zip(grid, pages.items(), strict=True):
            axes.set(xlim=(0, across), ylim=(tall, 0))
            axes.set_title(name, fontsize=10, loc="left", parse_math=False)
            axes.axis("off")
            tints = np.ones((tall, across, 4))
            for row, line in enumerate(lines):
                for place, (character, p) in enumerate(line):
                    ink = "#777777" if p is None else "black"
                    if character in "␣⏎⇥":
                        ink = "#BBBBBB"
                    if p is not None:
                        tints[row, place] = to_rgba(COLORS["improbable"], 0.65 * (1 - p))
                    at = place + 0.5, row + 0.5
                    axes.text(*at, character, color=ink, parse_math=False, **style)
            axes.imshow(tints, extent=(0, across, tall, 0), aspect="auto")
        return figure


def _lines(
    characters: list[tuple[str, float | None]], across: int
) -> list[list[tuple[str, float | None]]]:
    """Return characters in lines, which end at a newline or when they are full."""
    lines: list[list[tuple[str, float | None]]] = [[]]
    for character, p in characters:
        if len(lines[-1]) == across:
            lines.append([])
        lines[-1].append((character, p))
        if character == "⏎":
            lines.append([])
    return lines


class _Writing:
    """One prompt being completed by each of the models."""

    def __init__(
        self, models: dict[str, Decoder], reading: Answer, sampling: Sampling, request: Request
    ) -> None:
        self.reading, self.sampling, self.request = reading, sampling, request
        self.steps = {
            name: generate(model, reading["text"], sampling) for name, model in models.items()
        }
        self.written: dict[str, list[list[Any]]] = {name: [] for name in models}
        self.seconds: dict[str, list[float]] = {name: [] for name in models}

    @property
    def done(self) -> bool:
        return all(len(written) == self.sampling.max_new for written in self.written.values())

    def write(self, until: float) -> None:
        """Let the models write a character each in turn, until that time or the end."""
        while not self.done:
            for name, steps in self.steps.items():
                began = time.perf_counter()
                drawn, logits = next(steps)
                self.seconds[name].append(time.perf_counter() - began)
                self.written[name].append(self._told(drawn, logits))
            if time.perf_counter() >= until:
                break

    def _told(self, drawn: int, logits: Tensor) -> list[Any]:
        """Return a drawn id, its probability, the likeliest and how many of them top-p keeps."""
        temperature, top_p = self.sampling.temperature, self.sampling.top_p or 1.0
        p = ((logits - logits.max()).float() / (temperature or 1.0)).softmax(-1)  # (V,)
        likeliest, ids = p.topk(min(_CANDIDATES, len(p)))
        before = likeliest.cumsum(-1) - likeliest
        kept = int((before < top_p).sum()) if temperature else 1
        shares = [round(share, 5) for share in likeliest.tolist()]
        return [drawn, round(float(p[drawn]), 5), ids.tolist(), shares, kept]

    def since(self, have: int) -> Answer:
        """Return what was written since a character; from the start on, also what was read."""
        start = min(have, *map(len, self.written.values()))
        runs = [
            {"written": written[start:], "ms": round(1000 * median(self.seconds[name] or [0]), 3)}
            for name, written in self.written.items()
        ]
        run = {"run": self.request.get("run", ""), "from": start, "runs": runs, "done": self.done}
        return run if start else {**self.reading, **run}
