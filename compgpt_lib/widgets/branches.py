"""The branch explorer: what each branch of p-gpt adds to a prediction, and what is lost without."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from compgpt_lib.generation import fits
from compgpt_lib.introspection import parts, trace
from compgpt_lib.measures import CLASSES, character_classes, contributions, losses
from compgpt_lib.models import ParallelGPT
from compgpt_lib.support import checks
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.widgets.view import State, View, floats, from_floats, read, script, sign

COLORS = {"first": "#0072B2", "second": "#D55E00", "both": "#777777"}


class BranchView(View):
    """The branch explorer as a widget."""

    _esm = script("branches")


def explore_branches(model: ParallelGPT, tokenizer: CharTokenizer, text: str) -> View:
    """Return a live view of what each branch of a p-gpt contributes on a text.

    Per character: each branch's part of the logit (exact, the head is linear), who pushed harder,
    the loss with both and with one. The slider sets w, the buttons knock out branches, blocks and
    heads. Raises TypeError for another model, or for a p-gpt of which one branch is left.
    """
    checks.of_kind("model", model, ParallelGPT, 'a p-gpt, as load_pretrained("p-gpt")[0]')
    if len(model.branches) < 2:
        raise TypeError("model must be a p-gpt with both branches, got p-gpt-1")
    fits(model, tokenizer)
    there = parts(model)
    vocabulary = [sign(character) for character in tokenizer.tokens]

    def look(state: State) -> dict[str, Any]:
        reading = read(state, tokenizer, model.config.context_length)
        knocked = list(state.get("knocked", []))
        intact = trace(model, reading.ids)
        seen = trace(model, reading.ids, knocked) if knocked else intact
        found = contributions(model, seen)
        several = len(reading.ids) > 1
        return {
            **reading.payload(),
            "classes": character_classes(reading.text),
            "class names": CLASSES,
            "first": floats(found["first"]),
            "second": floats(found["second"]),
            "bias": floats(model.head.bias),
            "vocabulary": vocabulary,
            "w": float(model.w.detach()),
            "parts": there,
            "knocked": knocked,
            "intact": float(losses(intact.logits, reading.ids).mean()) if several else None,
            "limit": model.config.context_length,
        }

    return BranchView("branches of p-gpt", look, _draw, {"text": text})


def _draw(answer: State) -> Figure:
    """Draw each branch's push for each character, and the loss by class with and without it."""
    ids, signs, w = answer["ids"], answer["signs"], answer["w"]
    V = len(answer["vocabulary"])
    part = {
        "first": w * from_floats(answer["first"], len(ids), V),
        "second": (1 - w) * from_floats(answer["second"], len(ids), V),
    }
    bias = from_floats(answer["bias"], V)
    rows, came = np.arange(len(ids) - 1), np.array(ids[1:], dtype=int)
    figure = Figure(figsize=(10, 5), layout="constrained")
    top, below = figure.subplots(2, 1, height_ratios=[3, 2])
    shown = slice(0, 64)
    for offset, (name, logits) in zip((-0.2, 0.2), part.items(), strict=True):
        push = (logits[rows, came] - logits[:-1].mean(-1))[shown]
        places = np.arange(len(push)) + offset
        top.bar(places, push, 0.4, color=COLORS[name], label=f"{name} branch")
    top.axhline(0, color="black", linewidth=0.5)
    top.set_xticks(np.arange(len(came[shown])), signs[1:][shown], fontsize=8)
    top.set(ylabel="push for the\ncharacter that came", title=f"w = {w:.3f}")
    top.legend(fontsize=8)

    def loss(logits: np.ndarray) -> np.ndarray:
        wanted = torch.from_numpy(np.array(ids))
        return np.asarray(losses(torch.from_numpy(logits), wanted))

    by = {
        "both": loss(part["first"] + part["second"] + bias),
        "first": loss(part["first"] + bias),
        "second": loss(part["second"] + bias),
    }
    classes = np.array(answer["classes"][1:])
    kinds = [name for name in CLASSES if name in classes]
    for offset, (name, values) in zip((-0.27, 0, 0.27), by.items(), strict=True):
        means = [values[classes == kind].mean() for kind in kinds]
        label = name if name == "both" else f"{name} alone"
        below.bar(np.arange(len(kinds)) + offset, means, 0.27, color=COLORS[name], label=label)
    below.set_xticks(np.arange(len(kinds)), kinds)
    below.set(ylabel="loss (nats)")
    below.legend(fontsize=8)
    return figure
