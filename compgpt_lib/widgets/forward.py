"""The forward pass explorer: one character followed through a model, from its id to the next one.

Every number is the library's own: `trace` and `trace_block` computed it.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from compgpt_lib.introspection import part_names, trace, trace_block
from compgpt_lib.measures import head_names
from compgpt_lib.models import Decoder
from compgpt_lib.support import checks
from compgpt_lib.support.checks import checked
from compgpt_lib.widgets.view import (
    COLORS,
    Answer,
    Request,
    View,
    called,
    floats,
    read,
    script,
    sign,
    signs,
)

_CANDIDATES = 10
_KEYS = 8  # of the characters looked at, so many in the still picture
_SIGNED = LinearSegmentedColormap.from_list("", [COLORS["minus"], "white", COLORS["plus"]])


@checked
def explore_forward(model: Decoder, text: str) -> View:
    """Return a live view that follows one character of a text through a model.

    Shown are its embedding and position, the residual stream after each part, a head's query
    against each key, the weights, what the values carry to the output, the rest of the block, the
    logits and the probabilities of the next character. Click a character to follow it, a head to
    look into it, a candidate to add it to the text. Blocks and heads are counted from 1; a tooltip
    shows their names in code, as `part_names` has them. Raises ValueError or TypeError for what
    cannot be shown.
    """
    return ForwardView(model, text)


class ForwardView(View):
    """The forward pass explorer as a widget."""

    kind = "forward"
    _esm = script(kind)

    def __init__(self, model: Decoder, text: str) -> None:
        self._model, self._tokenizer = model, model.vocabulary()
        self._names = part_names(model)
        super().__init__(f"forward pass of {model.name}", {"text": text}, {model.name: model})

    def _look(self, request: Request) -> Answer:
        reading = read(request, self._tokenizer, self._model.config.context_length)
        text = reading["text"]
        record = trace(self._model, text)
        heads = {
            f"{block}.heads.{head}": (block, head)
            for block, maps in record.attention.items()
            for head in range(len(maps))
        }
        patterns = dict(zip(heads, head_names(record), strict=True))
        at = request.get("at", len(text) - 1)
        checks.require_kind("at", at, int, "the place of a character")
        at = min(max(at, 0), len(text) - 1)
        part = request.get("head") or next((part for part in heads if patterns[part]), [*heads][0])
        checks.require_one_of("head", part, heads)
        block, head = heads[part]
        steps = trace_block(self._model, text, block)
        embedding = self._model.embedding
        logits = record.logits[at].double()
        top = logits.topk(min(_CANDIDATES, len(logits)))
        self._record = record
        answer: Answer = {
            **reading,
            "at": at,
            "head": part,
            "patterns": patterns,
            "id": int(record.ids[at]),
            "token": floats(embedding.token.weight[record.ids[at]]),
            "position": floats(embedding.position.weight[at]),
            "stream": [floats(rows[at]) for rows in record.residual.values()],
            "given": floats(steps.x[at]),
            "query": floats(steps.q[head, at]),
            "keys": floats(steps.k[head, : at + 1]),
            "values": floats(steps.v[head, : at + 1]),
            "scores": floats(steps.scores[head, at, : at + 1]),
            "weights": floats(steps.weights[head, at, : at + 1]),
            "carried": floats(steps.carried[head, at, : at + 1]),
            "mixed": floats(steps.mixed[head, at]),
            "adds": floats(steps.adds[head, at]),
            "lengths": floats(steps.adds[:, at].norm(dim=-1)),
            "attention": floats(steps.attention[at]),
            "a": floats(steps.a[at]),
            "feed_forward": floats(steps.feed_forward[at]),
            "out": floats(steps.out[at]),
            "final": floats(record.final[at]),
            "candidates": top.indices.tolist(),
            "logits": top.values.tolist(),
            "p": logits.softmax(-1)[top.indices].tolist(),
            "total": logits.exp().sum().item(),
        }
        self._shown = answer
        return answer

    def _fix(self) -> Answer:
        mixed = len(self._record.branches) > 1
        stages = [
            {
                **called(self._names, stage),
                "heads": [
                    called(self._names, f"{stage}.heads.{head}")
                    for head in range(len(self._record.attention.get(stage, ())))
                ],
            }
            for stage in self._record.residual
        ]
        return {
            "stages": stages,
            "reads": "the mixture of both branches" if mixed else "what the model's head reads",
            "vocabulary": signs(self._tokenizer.tokens),
            "tokens": list(self._tokenizer.tokens),
            "limit": self._model.config.context_length,
        }

    def _draw(self) -> Figure:
        """Draw the steps as strips: the stream, the chosen head's keys and values, the logits."""
        shown, at = self._shown, self._shown["at"]
        numbers = {name: np.frombuffer(shown[name], "<f4") for name in ("weights", "carried")}
        most = np.argsort(-numbers["weights"], kind="stable")[:_KEYS]
        looked = np.sort(most)[::-1]
        what = f"{shown['signs'][at]} at {at}"
        width = len(np.frombuffer(shown["query"], "<f4"))
        keys, values = (
            np.frombuffer(shown[name], "<f4").reshape(-1, width) for name in ("keys", "values")
        )
        stages = [stage["name"] for stage in self.fixed["stages"]]
        stream = [
            ("token", shown["token"]),
            ("position", shown["position"]),
            *zip(stages, shown["stream"], strict=True),
        ]
        figure = Figure(figsize=(10, 0.26 * len(stream) + 0.26 * len(looked) + 4.2))
        rows = figure.add_gridspec(
            3, 1, left=0.2, right=0.98, top=0.96, bottom=0.06, hspace=0.35,
            height_ratios=[len(stream), len(looked) + 1.5, 7],
        )  # fmt: skip
        above = figure.add_subplot(rows[0])
        _strips(above, [np.frombuffer(values, "<f4") for _, values in stream])
        above.set_yticks(range(len(stream)), [name for name, _ in stream], fontsize=9)
        above.set_title(f"{what}: the residual stream", loc="left", fontsize=10)
        middle = rows[1].subgridspec(1, 3, wspace=0.5, width_ratios=[3, 2, 3])
        left, bars, right = (figure.add_subplot(middle[column]) for column in range(3))
        query = np.frombuffer(shown["query"], "<f4")
        _strips(left, [query, *keys[looked]])
        names = [f"key {shown['signs'][place]} at {place}" for place in looked]
        left.set_yticks(range(len(names) + 1), ["query", *names], fontsize=9)
        head = self._names[shown["head"]]
        left.set_title(f"{head}: query and keys", loc="left", fontsize=10)
        bars.barh(range(1, len(looked) + 1), numbers["weights"][looked], color=COLORS["weight"])
        for row, place in enumerate(looked, 1):
            bars.text(0, row, f" {numbers['weights'][place]:.2f}", fontsize=9, va="center")
        bars.set(xlim=(0, 1), ylim=(len(looked) + 0.5, -0.5), yticks=[])
        bars.set_title("weights", loc="left", fontsize=10)
        mixed = np.frombuffer(shown["mixed"], "<f4")
        _strips(right, [mixed, *values[looked] * numbers["weights"][looked, None]], alike=True)
        carried = [f"carries {numbers['carried'][place]:.2f}" for place in looked]
        right.set_yticks(range(len(carried) + 1), ["sum", *carried], fontsize=9)
        right.set_title("weighted values: sum and parts", loc="left", fontsize=10)
        below = figure.add_subplot(rows[2])
        places = range(len(shown["p"]))
        below.barh(places, shown["p"], color=COLORS["share"])
        words = [sign(self._tokenizer.tokens[token]) for token in shown["candidates"]]
        below.set_yticks(places, words, fontsize=9)
        below.invert_yaxis()
        below.set_title("probability of the next character", loc="left", fontsize=10)
        return figure


def _strips(axes: Axes, rows: list[np.ndarray], alike: bool = False) -> None:
    """Draw vectors as rows of coloured cells, each to its own strongest number, or all `alike`."""
    strongest = max(float(np.abs(values).max()) for values in rows)
    for row, values in enumerate(rows):
        most = (strongest if alike else float(np.abs(values).max())) or 1.0
        axes.imshow(
            values[None], _SIGNED, vmin=-most, vmax=most, aspect="auto", interpolation="nearest",
            extent=(0, len(values), row + 0.4, row - 0.4),
        )  # fmt: skip
    axes.set(xlim=(0, max(map(len, rows))), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    axes.spines[:].set_visible(False)
