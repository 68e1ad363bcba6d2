"""The branch explorer: what each branch of p-gpt adds to a prediction, and what is lost without."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from compgpt_lib.introspection import part_names, parts, trace
from compgpt_lib.measures import (
    CLASSES,
    Pair,
    branch_table,
    character_classes,
    contributions,
    losses,
    pushes,
)
from compgpt_lib.models import ParallelGPT
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
    signs,
)


@checked
def explore_branches(model: Pair, text: str) -> View:
    """Return a live view of what each branch of a p-gpt contributes on a text.

    Per character: each branch's part of the logit (exact, the head is linear), who pushed harder,
    the loss with both and with one. The slider sets w, the buttons knock out branches, blocks and
    heads. These are counted from 1; a tooltip shows their names in code, as `part_names` has them.
    Raises TypeError for another model, a p-gpt of which one branch is left, or one that mixes in
    another way.
    """
    published = (ParallelGPT.mix, ParallelGPT.branch_weights)
    if (type(model).mix, type(model).branch_weights) != published:
        raise TypeError(f"model must mix as the published p-gpt does, but {model.name} does not")
    if len(model.branches) < 2:
        raise TypeError(f"model must be a p-gpt with both branches, got {model.name}")
    return BranchView(model, text)


class BranchView(View):
    """The branch explorer as a widget."""

    kind = "branches"
    _esm = script(kind)

    def __init__(self, model: ParallelGPT, text: str) -> None:
        self._model, self._tokenizer = model, model.vocabulary()
        super().__init__("branches of p-gpt", {"text": text}, {model.name: model})

    def _look(self, request: Request) -> Answer:
        reading = read(request, self._tokenizer, self._model.config.context_length)
        text, knocked = reading["text"], list(request.get("knocked", []))
        intact = trace(self._model, text)
        record = trace(self._model, text, knocked) if knocked else intact
        logits = contributions(self._model, record)
        self._record = record
        return {
            **reading,
            "ids": record.ids.tolist(),
            "classes": [CLASSES.index(name) for name in character_classes(text)],
            "first": floats(logits["first"]),
            "second": floats(logits["second"]),
            "bias": floats(self._model.head.bias),
            "w": self._model.w.item(),
            "knocked": knocked,
            "intact": losses(intact.logits, intact.ids).mean().item() if len(text) > 1 else None,
        }

    def _fix(self) -> Answer:
        names = part_names(self._model)
        return {
            "classes": CLASSES,
            "vocabulary": signs(self._tokenizer.tokens),
            "parts": [called(names, part) for part in parts(self._model)],
            "limit": self._model.config.context_length,
        }

    def _draw(self) -> Figure:
        """Draw each branch's push for each character, and the loss by class with and without it."""
        figure = Figure(figsize=(10, 5), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=[3, 2])
        came = signs(self._record.text[1:65])
        by_branch = pushes(self._model, self._record).items()
        for offset, (name, push) in zip((-0.2, 0.2), by_branch, strict=True):
            places = np.arange(len(came)) + offset
            above.bar(places, push[:64].numpy(), 0.4, color=COLORS[name], label=f"{name} branch")
        above.axhline(0, color="black", linewidth=0.5)
        above.set_xticks(np.arange(len(came)), came, fontsize=9)
        above.set_title(f"w = {self._model.w.item():.3f}", loc="left")
        above.set_ylabel("push for the\ncharacter that came")
        every = len(self._record.text) - 1
        cut = f", the first {len(came)} of {every}" if len(came) < every else ""
        above.set_xlabel(f"the character that came{cut}")
        table = branch_table(self._model, self._record)
        for offset, name in zip((-0.27, 0, 0.27), ("both", "first", "second"), strict=True):
            label = name if name == "both" else f"{name} alone"
            places = np.arange(len(table)) + offset
            below.bar(places, table[label], 0.27, color=COLORS[name], label=label)
        below.set_xticks(np.arange(len(table)), table.index)
        below.set_ylabel("loss (nats)")
        for axes in (above, below):
            axes.legend(fontsize=9, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
        return figure
