"""The attention explorer: where each head of up to two models looks, on the same text."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from compgpt_lib.introspection import part_names, trace
from compgpt_lib.measures import CLEAR, LEAST, PATTERNS, head_names, head_patterns
from compgpt_lib.models import Decoder
from compgpt_lib.support.checks import checked
from compgpt_lib.widgets.view import Answer, Models, Request, View, called, named, read, script

_ONE = 65535  # a weight of 1, as it is sent: 16 bits are more than a screen can show
_RULE = (
    "A head has the name of a pattern if it clearly gives it more than even attention would: by "
    f"{CLEAR:g} of its attention or more, with the whole 95 % interval, over {LEAST} or more "
    "characters that have such a target. The number is the share of its attention. Induction: the "
    "head looks at what came after the last three characters when they last occurred."
)


@checked
def explore_attention(models: Models, text: str) -> View:
    """Return a live view of the attention of one or two models on a text.

    Hover a character to see where it looks, click to lock, click a small map to enlarge it. Under
    each map stands the pattern after which the head is named (`head_names`: clearly more than even
    attention), and the share of its attention that it gives to it (`head_patterns`). Blocks and
    heads are counted from 1; a tooltip shows their names in code, as `part_names` has them. Raises
    ValueError or TypeError for what cannot be shown.
    """
    return AttentionView(named(models, most=2), text)


class AttentionView(View):
    """The attention explorer as a widget."""

    kind = "attention"
    _esm = script(kind)

    def __init__(self, models: dict[str, Decoder], text: str) -> None:
        self._models = models
        self._tokenizer = next(iter(models.values())).vocabulary()
        self._limit = min(model.config.context_length for model in models.values())
        super().__init__(f"attention of {' and '.join(models)}", {"text": text}, models)

    def _look(self, request: Request) -> Answer:
        reading = read(request, self._tokenizer, self._limit)
        records = {name: trace(model, reading["text"]) for name, model in self._models.items()}
        lower = np.tril_indices(len(reading["text"]))
        panels = []
        for record in records.values():
            weights = torch.cat(list(record.attention.values())).float().numpy()  # (heads, T, T)
            *scores, even = head_patterns(record).fillna(0).to_numpy()
            panels.append(
                {
                    "weights": np.rint(weights[:, *lower] * _ONE).astype("<u2").tobytes(),
                    "scores": [shares.tolist() for shares in scores],
                    "even": even.tolist(),
                    "captions": list(map(caption, head_names(record), scores)),
                }
            )
        self._records = records
        self._captions = [words for panel in panels for words in panel["captions"]]
        return {**reading, "models": panels}

    def _fix(self) -> Answer:
        models = []
        for name, record in self._records.items():
            names = part_names(self._models[name])
            blocks = [
                {
                    **called(names, block),
                    "branch": names.get(block.rpartition(".")[0], ""),
                    "width": record.residual[block].shape[-1],
                    "heads": [called(names, f"{block}.heads.{head}") for head in range(len(maps))],
                }
                for block, maps in record.attention.items()
            ]
            models.append({"name": name, "blocks": blocks})
        return {"models": models, "patterns": PATTERNS, "rule": _RULE, "limit": self._limit}

    def _draw(self) -> Figure:
        """Draw every head's map, darker is more; one row for each block."""
        blocks = [
            (about["name"], block, self._records[about["name"]].attention[block["part"]].float())
            for about in self.fixed["models"]
            for block in about["blocks"]
        ]
        heads = max(len(maps) for _, _, maps in blocks)
        captions = iter(self._captions)
        # One pair of axes for all: with a pair for each map matplotlib takes four times as long,
        # and the live view stands behind this picture in the queue.
        figure = Figure(figsize=(1.8 * (heads + 0.9), 1.95 * (len(blocks) + 0.16)))
        axes = figure.add_axes((0, 0, 1, 1))
        for row, (name, block, maps) in enumerate(blocks):
            ahead = torch.ones(maps.shape[1:], dtype=torch.bool).triu(1)
            for head, weights in enumerate(maps.masked_fill(ahead, np.nan).numpy()):
                extent = (head + 0.04, head + 0.96, row + 0.98, row + 0.2)
                axes.imshow(weights, "Greys", PowerNorm(0.5, 0, 1), aspect="auto", extent=extent)
                place = head + 0.5, row + 0.19
                words = f"{block['heads'][head]['short']}\n{next(captions)}"
                axes.text(*place, words, fontsize=9, ha="center", va="bottom")
            label = f"{name}\n{block['name']}\nwidth {block['width']}"
            axes.text(-0.05, row + 0.59, label, fontsize=9, ha="right", va="center")
        said = "row: the character that looks; column: the one it looks at; darker: more"
        axes.text(0.04, -0.08, said, fontsize=9, va="center")
        axes.set(xlim=(-0.9, heads), ylim=(len(blocks), -0.16))
        axes.axis("off")
        return figure


def caption(pattern: str, shares: np.ndarray) -> str:
    """Return the pattern after which a head is named and its share, or that none is clear."""
    return f"{pattern} {shares[PATTERNS.index(pattern)]:.2f}" if pattern else "no clear pattern"
