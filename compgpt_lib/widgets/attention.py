"""The attention explorer: where each head of up to two models looks, on the same text."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from compgpt_lib.generation import fits
from compgpt_lib.introspection import trace
from compgpt_lib.measures import PATTERNS, head_patterns
from compgpt_lib.models import Decoder
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.widgets.view import State, View, named, read, script

_ONE = 65535  # a weight of 1, as it is sent: 16 bits are more than a screen can show


class AttentionView(View):
    """The attention explorer as a widget."""

    _esm = script("attention")


def explore_attention(
    models: Decoder | dict[str, Decoder], tokenizer: CharTokenizer, text: str
) -> View:
    """Return a live view of the attention of one or two models on a text.

    Hover a character to see where it looks, click to lock, click a small map to enlarge it. Under
    each map stands the pattern (`head_patterns`) on which the head exceeds even attention most, if
    by a tenth or more, and the share of its attention that it gives to it. Raises ValueError or
    TypeError for what cannot be shown.
    """
    shown = named(models, most=2)
    for model in shown.values():
        fits(model, tokenizer)
    limit = min(model.config.context_length for model in shown.values())

    def look(state: State) -> dict[str, Any]:
        reading = read(state, tokenizer, limit)
        panels = [_panel(name, model, reading.text, reading.ids) for name, model in shown.items()]
        return {**reading.payload(), "models": panels, "patterns": PATTERNS, "limit": limit}

    return AttentionView(f"attention of {' and '.join(shown)}", look, _draw, {"text": text})


def _panel(name: str, model: Decoder, text: str, ids: torch.Tensor) -> dict[str, Any]:
    seen = trace(model, ids)
    *scores, even = head_patterns(seen, text).fillna(0).to_numpy()
    lower = np.tril_indices(len(ids))
    blocks: list[dict[str, Any]] = []
    for block, maps in seen.attention.items():
        branch = block.split(".")[1] if block.startswith("branches") else ""
        shares, scores = scores[: len(maps)], scores[len(maps) :]
        weights = np.rint(maps.float().numpy()[:, lower[0], lower[1]] * _ONE).astype("<u2")
        blocks.append(
            {
                "name": block,
                "branch": branch,
                "width": seen.residual[block].shape[-1],
                "heads": len(maps),
                "weights": weights.tobytes(),
                "scores": [share.tolist() for share in shares],
                "captions": [caption(share, even) for share in shares],
            }
        )
    return {"name": name, "blocks": blocks, "even": even.tolist()}


def _draw(answer: State) -> Figure:
    """Draw every head's map, darker is more; one row for each block."""
    time = len(answer["signs"])
    lower = np.tril_indices(time)
    rows = [(panel["name"], block) for panel in answer["models"] for block in panel["blocks"]]
    heads = max(block["heads"] for _, block in rows)
    # One pair of axes for all: with a pair for each map matplotlib takes four times as long, and
    # the live view stands behind this picture in the queue.
    figure = Figure(figsize=(1.5 * (heads + 0.9), 1.65 * len(rows)))
    axes = figure.add_axes((0, 0, 1, 1))
    for row, (name, block) in enumerate(rows):
        weights = np.frombuffer(block["weights"], dtype="<u2").reshape(block["heads"], -1)
        for head in range(block["heads"]):
            picture = np.full((time, time), np.nan)
            picture[lower] = weights[head] / _ONE
            extent = (head + 0.04, head + 0.96, row + 0.98, row + 0.14)
            axes.imshow(picture, "Greys", PowerNorm(0.5, 0, 1), aspect="auto", extent=extent)
            said = block["captions"][head]
            axes.text(head + 0.5, row + 0.12, said, fontsize=7, ha="center", va="bottom")
        label = f"{name}\n{block['name']}\nwidth {block['width']}"
        axes.text(-0.05, row + 0.56, label, fontsize=7, ha="right", va="center")
    axes.set(xlim=(-0.9, heads), ylim=(len(rows), 0))
    axes.axis("off")
    return figure


def caption(shares: np.ndarray, even: np.ndarray) -> str:
    """Return the pattern on which a head exceeds even attention by most, and its share."""
    best = int(np.argmax(shares - even))
    return (
        f"{PATTERNS[best]} {shares[best]:.2f}" if shares[best] - even[best] >= 0.1 else "no pattern"
    )
