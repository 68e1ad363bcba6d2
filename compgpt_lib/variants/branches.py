"""p-gpt again, with branches that specialise: other losses, other mixtures, other texts.

Letters: B batch, T time, d width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib.config import ModelConfig
from compgpt_lib.models import Branch, ParallelGPT
from compgpt_lib.tokenizer import CharTokenizer

BRANCHES: tuple[Branch, ...] = ("first", "second")


class OwnLosses(ParallelGPT):
    """p-gpt whose branches each learn to predict alone; what they say is averaged."""

    name = "p-gpt, own losses"
    share = 1.0  # of the branches' own losses; the rest is the pair's

    def branch_weights(self) -> dict[str, Tensor]:
        """Return the same weight for each branch that is there: one alone has all."""
        return {name: self.w.new_tensor(1 / len(self.branches)) for name in self.branches}

    def training_loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of the branches' own losses, with a share of the pair's."""
        alone = [self.only(branch).loss(ids, targets) for branch in BRANCHES]
        own = torch.stack(alone).mean()
        return own if self.share == 1 else torch.lerp(self.loss(ids, targets), own, self.share)


class HalfOwnLosses(OwnLosses):
    """Half the branches' own losses, half the pair's."""

    name = "p-gpt, half own losses"
    share = 0.5


class BranchDropout(ParallelGPT):
    """p-gpt that learns with one branch alone in half of the texts, drawn anew at each step."""

    name = "p-gpt, a branch dropped"

    def branch_weights(self) -> dict[str, Tensor]:
        """Return the learned weights; of a branch alone, 1."""
        weights = super().branch_weights()
        return weights if len(self.branches) > 1 else {name: torch.ones(()) for name in weights}

    def mix(self, outputs: dict[str, Tensor]) -> Tensor:
        """Mix, while it learns, with a branch left out of half of the texts."""
        mixed = super().mix(outputs)  # (B, T, d)
        if not self.training or len(outputs) == 1:
            return mixed
        drawn = torch.randint(4, (len(mixed), 1, 1), device=mixed.device)
        only_second = torch.where(drawn == 1, outputs["second"], mixed)
        return torch.where(drawn == 0, outputs["first"], only_second)


class Gate(ParallelGPT):
    """p-gpt with a weight for each character instead of one for all, read off both branches."""

    name = "p-gpt, a weight per character"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.gate = nn.Linear(2 * config.d_model, 1)

    def weight(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the first branch's weight at each character, (B, T, 1)."""
        return self.gate(torch.cat(list(outputs.values()), dim=-1)).sigmoid()

    def mix(self, outputs: dict[str, Tensor]) -> Tensor:
        """Mix by a weight for each character; a branch alone is passed on as it is."""
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        weight = self.weight(outputs)
        return weight * outputs["first"] + (1 - weight) * outputs["second"]  # (B, T, d)


class GateOwnLosses(Gate):
    """A weight for each character, and a loss for each branch beside the pair's."""

    name = "p-gpt, weight per character, own losses"
    training_loss = OwnLosses.training_loss
    share = 0.5


class ByPerformance(OwnLosses):
    """Own losses; each branch weighs by how well it predicted in the last hundred steps or so."""

    name = "p-gpt, weight by performance"

    running: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.register_buffer("running", torch.zeros(2))

    def branch_weights(self) -> dict[str, Tensor]:
        """Return weights that sum to 1; 0.1 nats less of loss is 2.7 times the weight."""
        there = [BRANCHES.index(cast(Branch, name)) for name in self.branches]
        return dict(zip(self.branches, F.softmax(-10 * self.running[there], dim=0), strict=True))

    def training_loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of the own losses, and remember them."""
        alone = [self.only(branch).loss(ids, targets) for branch in BRANCHES]
        losses = torch.stack(alone)
        self.running.lerp_(losses.detach().to(self.running.dtype), 0.01)
        return losses.mean()


class OwnTexts(GateOwnLosses):
    """The first branch learns code by its own loss, the second prose; a gate mixes."""

    name = "p-gpt, own texts"

    def training_loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return half the pair's loss, half the branches' on the characters that are theirs."""
        prose = is_prose(targets, self.vocabulary())  # (B, T)
        theirs = {"first": ~prose, "second": prose}
        alone = torch.zeros((), device=ids.device)
        for branch, chosen in theirs.items():
            logits = self.only(cast(Branch, branch))(ids)  # (B, T, V)
            losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
            alone = alone + (losses * chosen).sum() / chosen.sum().clamp_min(1) / 2
        return torch.lerp(self.loss(ids, targets), alone, 0.5)


class OwnRates(OwnLosses):
    """Own losses; the second branch learns at half the rate, with ten times the weight decay."""

    name = "p-gpt, own rates"

    def groups(self) -> list[dict[str, Any]]:
        """Return the second branch's parameters apart from the others."""
        second = list(self.branches["second"].parameters())
        theirs = {id(parameter) for parameter in second}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in theirs]
        return [{"params": rest}, {"params": second, "scale": 0.5, "weight_decay": 0.01}]


def is_prose(ids: Tensor, tokenizer: CharTokenizer) -> Tensor:
    """Say of each character of ids (B, T) whether its line, as far as it is there, reads as prose.

    It does after a "#", and where fewer than one in twenty characters is a sign of code.
    """
    code = torch.tensor([c in "=()[]{}_.,:+*/<>@%'\"|&0123456789" for c in tokenizer.tokens])
    place = {c: tokenizer.tokens.index(c) for c in "#\n" if c in tokenizer.tokens}
    newline = (ids == place.get("\n", -1)).long()
    line = newline.cumsum(1) - newline  # (B, T), counted from 0; its newline belongs to it
    ones = torch.ones_like(ids)
    size, signs, hashed = (
        torch.zeros_like(ids).scatter_add(1, line, part.long()).gather(1, line)
        for part in (ones, code.to(ids.device)[ids], ids == place.get("#", -1))
    )
    blank = size < 8
    return ((hashed > 0) | (20 * signs < size)) & ~blank  # (B, T)
