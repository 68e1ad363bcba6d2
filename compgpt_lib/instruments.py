"""What a model is good at: its loss on chosen characters, each choice with a control beside it.

An instrument takes a model and its corpus, and returns losses in nats by the part that they are of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib.corpus import Corpus
from compgpt_lib.measures import character_classes
from compgpt_lib.models import Branch, Decoder, ParallelGPT
from compgpt_lib.support.checks import checked
from compgpt_lib.training import mean_loss
from compgpt_lib.variants.branches import Gate, is_prose

Parts = dict[str, float]
Instrument = Callable[[Decoder, Corpus], Parts]
WINDOWS = 2048
PLACES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # how many characters a prediction may see
DISTANCES = (1, 4, 16, 64)  # of a closing bracket from its opening one
LINES_BACK = (0, 1, 2, 3)


@torch.no_grad()
@checked
def token_losses(model: Decoder, ids: Tensor, targets: Tensor, batch_size: int = 64) -> Tensor:
    """Return the loss in nats of each prediction, (W, T), for windows of ids (W, T)."""
    own = model.for_evaluation()
    losses = []
    for x, y in zip(ids.split(batch_size), targets.split(batch_size), strict=True):
        logits = own(x.to(model.device)).float()  # (B, T, V)
        losses.append(F.cross_entropy(logits.mT, y.to(model.device), reduction="none").cpu())
    return torch.cat(losses)


def by_place(model: Decoder, corpus: Corpus) -> Parts:
    """Return the loss by how many characters a prediction saw: what is the far past worth?"""
    x, y = corpus.windows("valid", WINDOWS, model.config.context_length)
    losses = token_losses(model, x, y).mean(0)  # (T,), after 1 to T characters
    return {
        f"after {low} to {high - 1}": float(losses[low - 1 : high - 1].mean())
        for low, high in zip(PLACES, PLACES[1:], strict=False)
        if high <= len(losses) + 1
    } | {"after all": float(losses[-1])}


def by_repeat(model: Decoder, corpus: Corpus) -> Parts:
    """Return the loss on random letters, and on the same letters once more.

    The first time is the control: nothing can tell what comes. All that is gained the second time
    is gained by looking it up.
    """
    tokens = corpus.tokenizer.tokens
    letters = torch.tensor([tokens.index(c) for c in "abcdefghijklmnopqrstuvwxyz"])
    half = model.config.context_length // 2
    rng = np.random.default_rng(0)
    once = letters[torch.from_numpy(rng.integers(26, size=(256, half)))]  # (W, T / 2)
    ids = torch.cat((once, once), dim=1)
    losses = token_losses(model, ids[:, :-1], ids[:, 1:])
    return {
        "random letters": float(losses[:, 8 : half - 1].mean()),
        "random letters, repeated": float(losses[:, half + 7 :].mean()),
    }


def by_name(model: Decoder, corpus: Corpus) -> Parts:
    """Return the loss on the end of a made-up name, by how many lines before it was used.

    Its first three letters are given, the loss is of the five after them. The control, "never",
    has another name in its place.
    """
    rng = np.random.default_rng(0)
    lines = [line for line in corpus.text("valid", 0, 400_000).split("\n") if 8 < len(line) < 24]

    def name() -> str:
        sounds = zip(
            rng.choice(list("bdfgklmnprstvz"), 4), rng.choice(list("aeiou"), 4), strict=True
        )
        return "".join(a + b for a, b in sounds)

    texts: dict[str, list[Tensor]] = {}
    for _ in range(300):
        chosen, other = name(), name()
        between = [str(line) for line in rng.choice(lines, max(LINES_BACK))]
        cases = {f"name, {back} lines between": (chosen, back) for back in LINES_BACK}
        for label, (told, back) in (cases | {"name, never": (other, 0)}).items():
            text = "\n".join([f"{told} = 1", *between[:back], chosen])
            ids = corpus.tokenizer.encode(text)[-model.config.context_length :]
            texts.setdefault(label, []).append(ids)
    parts = {}
    for label, each in texts.items():
        ids = nn.utils.rnn.pad_sequence(each, batch_first=True)  # what comes after changes nothing
        losses = token_losses(model, ids[:, :-1], ids[:, 1:])
        ends = torch.tensor([len(text) for text in each])[:, None] - torch.arange(2, 7)
        parts[label] = float(losses.gather(1, ends).mean())
    return parts


def by_bracket(model: Decoder, corpus: Corpus) -> Parts:
    """Return the loss on closing brackets, by the distance of the opening one, and on indents.

    The control is the loss on all characters of the same windows.
    """
    x, y = corpus.windows("valid", WINDOWS // 4, model.config.context_length)
    losses = token_losses(model, x, y).numpy()  # (W, T)
    found: dict[str, list[float]] = {}
    for row, ids in zip(losses, y, strict=True):
        text = corpus.tokenizer.decode(ids)
        opened: list[int] = []
        for place, (kind, character) in enumerate(zip(character_classes(text), text, strict=True)):
            if character in "([{":
                opened.append(place)
            elif character in ")]}" and opened:
                apart = place - opened.pop()
                low = max((low for low in DISTANCES if low <= apart), default=1)
                found.setdefault(f"closing bracket, {low} or more after", []).append(row[place])
            elif kind == "indent" and place:
                found.setdefault("indent", []).append(row[place])
    found["all characters"] = losses.ravel().tolist()
    return {part: float(np.mean(values)) for part, values in found.items()}


def by_answer(model: Decoder, corpus: Corpus) -> Parts:
    """Return the loss on the digits that a line of `corpora.recall` asks for, and on those told.

    The digits that are told first are the control: ln 10 = 2.30 is all that can be known of them.
    """
    x, y = corpus.windows("valid", 512, model.config.context_length)
    losses = token_losses(model, x, y).numpy()
    told, asked = [], []
    for row, ids in zip(losses, y, strict=True):
        text = corpus.tokenizer.decode(ids)
        begun = text.find("\n")
        for line_start in [i + 1 for i, c in enumerate(text) if c == "\n"]:
            line = text[line_start:].split("\n")[0]
            half = line.find("?")
            if half < 0 or len(line) < 2 * half + 1 or begun < 0:
                continue
            told += list(row[line_start + 1 : line_start + half : 2])
            asked += list(row[line_start + half + 2 : line_start + len(line) : 2])
    return {"digits told": float(np.mean(told)), "digits asked for": float(np.mean(asked))}


def by_branch(model: Decoder, corpus: Corpus) -> Parts:
    """Return for each branch alone its loss on prose and on code, and what choosing could gain.

    "the better branch, always" chooses once; "the better, each character" knows the answer, so that
    no gate can do better by choosing; "the gate's choice" lets only the branch speak that a gate
    gives more weight.
    """
    if not isinstance(model, ParallelGPT):
        return {}
    x, y = corpus.windows("valid", WINDOWS // 4, model.config.context_length)
    prose = is_prose(y, corpus.tokenizer)
    branches = {"pair": model} | {name: model.only(cast(Branch, name)) for name in model.branches}
    losses = {name: token_losses(branch, x, y) for name, branch in branches.items()}
    parts = {}
    for name, values in losses.items():
        parts[f"{name}: prose"] = float(values[prose].mean())
        parts[f"{name}: code"] = float(values[~prose].mean())
    first, second = losses["first"], losses["second"]
    parts["the better branch, always"] = min(float(first.mean()), float(second.mean()))
    parts["the better, each character"] = float(torch.minimum(first, second).mean())
    if isinstance(model, Gate):
        weight = _gate_weights(model, x)
        parts["the gate's choice"] = float(torch.where(weight >= 0.5, first, second).mean())
    return parts


@torch.no_grad()
def _gate_weights(model: Gate, ids: Tensor) -> Tensor:
    """Return the weight of the first branch at each character of ids (W, T)."""
    own = model.for_evaluation()
    weights: list[Tensor] = []
    own.gate.register_forward_hook(lambda *call: weights.append(call[2].sigmoid()[..., 0].cpu()))
    for part in ids.split(64):
        own(part.to(model.device))
    return torch.cat(weights)


def branches_alone(model: Decoder, corpus: Corpus, windows: int) -> Parts:
    """Return the loss of each branch of a p-gpt alone, on the windows that training evaluates."""
    if not isinstance(model, ParallelGPT):
        return {}
    return {
        name: mean_loss(model.only(cast(Branch, name)), corpus, "valid", windows)
        for name in model.branches
    }


def per_character(model: Decoder, corpus: Corpus) -> Parts:
    """Return the loss in nats for each character, whatever the tokens are, on 512 windows."""
    x, y = corpus.windows("valid", 512, model.config.context_length)
    losses = token_losses(model, x, y)
    characters = sum(len(corpus.tokenizer.decode(ids)) for ids in y)
    return {"per character": float(losses.sum()) / characters}


INSTRUMENTS: dict[str, Instrument] = {
    "place": by_place,
    "repeat": by_repeat,
    "name": by_name,
    "bracket": by_bracket,
    "answer": by_answer,
    "branch": by_branch,
    "per character": per_character,
}
