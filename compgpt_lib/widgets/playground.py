"""The playground: up to four models complete the same prompt side by side, as one watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from compgpt_lib.generation import draws, fits
from compgpt_lib.models import Decoder
from compgpt_lib.support import checks
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.widgets.view import Reading, State, View, named, read, script, sign

MOST = 1000  # characters of one completion: a page of more of them gets slow
_SETTINGS = ("temperature", "top_p", "seed")
_CANDIDATES = 5
_TURN = 0.04  # seconds of writing between two answers: the page moves, and Stop is heard


class PlaygroundView(View):
    """The playground as a widget: the page asks for some characters more until it has them all."""

    _esm = script("playground")


def playground(
    models: Decoder | dict[str, Decoder],
    tokenizer: CharTokenizer,
    prompt: str = "import pandas as pd\n",
    temperature: float = 0.7,
    top_p: float = 0.95,
    max_new: int = 120,
    seed: int = 0,
) -> View:
    """Return a live view in which one to four models complete what is typed.

    Hover a character for its probability, softmax(logits / temperature) before top-p cuts (at
    temperature 0 softmax(logits)), and the likeliest others. Milliseconds a character are the
    median of a model's own steps. Raises ValueError or TypeError for what cannot be used.
    """
    shown = named(models, most=4)
    for model in shown.values():
        fits(model, tokenizer)
    checks.of_kind("prompt", prompt, str, "a text")
    temperature, top_p = checks.number("temperature", temperature), checks.number("top_p", top_p)
    seed = checks.seed(seed)
    max_new = checks.whole("max_new", max_new, least=1)
    if max_new > MOST:
        raise ValueError(f"max_new must be at most {MOST}, got {max_new}")
    limit = min(model.config.context_length for model in shown.values())
    vocabulary = [sign(character) for character in tokenizer.tokens]
    first = {"text": prompt, "temperature": temperature, "top_p": top_p, "seed": seed}
    writing: _Writing | None = None

    def look(state: State) -> dict[str, Any]:
        nonlocal writing
        asked = {name: value for name, value in state.items() if name != "number"}
        until = time.perf_counter() + _TURN if writing else np.inf
        if writing is None or asked != writing.asked:
            try:
                reading = read(asked, tokenizer, limit, end=True)
            except ValueError as error:
                raise ValueError(f"prompt: {error}") from None
            settings = {name: asked.get(name, first[name]) for name in _SETTINGS}
            writing = _Writing(shown, reading, max_new, settings, asked)
        writing.write(until)
        return {**writing.answer(), "vocabulary": vocabulary, "limit": limit}

    return PlaygroundView(f"playground of {', '.join(shown)}", look, _draw, first)


class _Writing:
    """One prompt being completed by each of the models."""

    def __init__(
        self,
        models: dict[str, Decoder],
        reading: Reading,
        max_new: int,
        settings: dict[str, Any],
        asked: State,
    ) -> None:
        self.models, self.reading, self.max_new = models, reading, max_new
        self.settings, self.asked = settings, asked
        self.steps: dict[str, Iterator[tuple[int, Tensor]]] = {
            name: draws(model, reading.ids, max_new, **settings) for name, model in models.items()
        }
        self.written: dict[str, list[Any]] = {name: [] for name in models}
        self.seconds: dict[str, list[float]] = {name: [] for name in models}

    @property
    def done(self) -> bool:
        return all(len(written) == self.max_new for written in self.written.values())

    def write(self, until: float) -> None:
        """Let the models write a character each in turn, until that time or the end."""
        while not self.done:
            for name, steps in self.steps.items():
                began = time.perf_counter()
                drawn, logits = next(steps)
                self.seconds[name].append(time.perf_counter() - began)
                self.written[name].append(self._seen(drawn, logits))
            if time.perf_counter() >= until:
                break

    def _seen(self, drawn: int, logits: Tensor) -> list[Any]:
        """Return a drawn id, its probability, the likeliest and whether top-p keeps each."""
        temperature, top_p = self.settings["temperature"], self.settings["top_p"]
        p = ((logits - logits.max()).float() / (temperature or 1.0)).softmax(-1)  # (V,)
        likeliest, ids = p.topk(min(_CANDIDATES, len(p)))
        before = likeliest.cumsum(-1) - likeliest
        kept = before < (top_p if temperature else 1e-9)
        rows = zip(ids.tolist(), likeliest.tolist(), kept.tolist(), strict=True)
        return [drawn, round(float(p[drawn]), 5), [[i, round(q, 5), k] for i, q, k in rows]]

    def answer(self) -> dict[str, Any]:
        runs = [
            {
                "name": name,
                "written": list(written),
                "ms": round(1000 * median(self.seconds[name]), 3),
            }
            for name, written in self.written.items()
        ]
        return {
            **self.reading.payload(),
            "run": self.asked.get("run", ""),
            "runs": runs,
            "settings": self.settings,
            "done": self.done,
        }


_ACROSS = {1: 80, 2: 50, 3: 40, 4: 34}  # characters in a line, by the number of models
_CELL, _LINE = 0.082, 0.19  # inches
_TINT = "#D55E00"


def _draw(answer: State) -> Figure:
    """Draw each model's completion after the prompt; the less probable, the stronger the tint."""
    runs, settings = answer["runs"], answer["settings"]
    across = _ACROSS[len(runs)]
    given = [(shown, None) for shown in answer["signs"]]
    columns = [
        _placed([*given, *((answer["vocabulary"][i], p) for i, p, _ in run["written"])], across)
        for run in runs
    ]
    lines = 1 + max(row for column in columns for row, *_ in column)
    figure = Figure(
        figsize=((across + 3) * _CELL * len(runs), (lines + 3.5) * _LINE), layout="constrained"
    )
    said = (
        f"temperature {settings['temperature']:g}, top-p {settings['top_p']:g}, seed "
        f"{settings['seed']}; the stronger the tint, the less probable"
    )
    figure.suptitle(said, fontsize=8)
    grid = figure.subplots(1, len(runs), squeeze=False)[0]
    for axes, run, column in zip(grid, runs, columns, strict=True):
        axes.set(xlim=(0, across), ylim=(lines, 0))
        axes.set_title(run["name"], fontsize=10, loc="left", parse_math=False)
        axes.axis("off")
        tints = np.ones((lines, across, 4))
        for row, place, shown, p in column:
            if p is not None:
                tints[row, place] = to_rgba(_TINT, 0.65 * (1 - p))
            pale = shown in "␣⏎⇥"
            axes.text(
                place + 0.5,
                row + 0.5,
                shown,
                color="#BBBBBB" if pale else "#777777" if p is None else "black",
                fontsize=8,
                family="monospace",
                ha="center",
                va="center",
                parse_math=False,
            )
        axes.imshow(tints, extent=(0, across, lines, 0), aspect="auto")
    return figure


def _placed(
    signs: list[tuple[str, float | None]], across: int
) -> list[tuple[int, int, str, float | None]]:
    """Return each sign with its line and its place in the line."""
    placed, row, place = [], 0, 0
    for shown, p in signs:
        if place == across:
            row, place = row + 1, 0
        placed.append((row, place, shown, p))
        place += 1
        if shown == "⏎":
            row, place = row + 1, 0
    return placed
