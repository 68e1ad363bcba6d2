"""The exercises of chapter 09: own losses, averages of two models, choices of a gate."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compgpt_lib.teaching.exercise import Exercise, Slip


def my_own_losses(first, second, targets, share):
    alone = (F.cross_entropy(first, targets) + F.cross_entropy(second, targets)) / 2
    pair = F.cross_entropy((first + second) / 2, targets)
    return share * alone + (1 - share) * pair


def my_averaged_loss(logits, targets):
    of_logits = F.cross_entropy(logits.mean(dim=0), targets)
    p = logits.softmax(dim=-1).mean(dim=0)  # (T, V)
    right = p[torch.arange(len(targets)), targets]  # (T,)
    return of_logits, -right.log().mean()


def my_choices(first, second, weight):
    always = min(first.mean(), second.mean())
    chosen = torch.where(weight >= 0.5, first, second)  # (T,)
    gate = chosen.mean()
    best = torch.minimum(first, second).mean()
    return float(always), float(gate), float(best)


def _logits(T: int, V: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = 2 * torch.randn(2, T, V, generator=generator)
    return first, second, torch.randint(V, (T,), generator=generator)


def _models(M: int, T: int, V: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(M, T, V, generator=generator)
    return logits, torch.randint(V, (T,), generator=generator)


def _losses(T: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second, weight = torch.rand(3, T, generator=generator)
    return 3 * first, 2 * second, weight


_ALONE = "(F.cross_entropy(first, targets) + F.cross_entropy(second, targets)) / 2"
_EACH = (
    "F.cross_entropy(first, targets, reduction='none'), "
    "F.cross_entropy(second, targets, reduction='none')"
)


def _own(new: str) -> Slip:
    return Slip(my_own_losses, _ALONE, new)


def _averaged(*changes: str) -> Slip:
    return Slip(my_averaged_loss, *changes)


def _chosen(*changes: str) -> Slip:
    return Slip(my_choices, *changes)


_GIVEN: list[tuple[Any, ...]] = [
    (*_logits(6, 5, 0), 1.0),
    (*_logits(1, 3, 1), 0.0),
    (*_logits(9, 4, 2), 0.25),
]

EXERCISES: dict[str, Exercise] = {
    "own_losses": Exercise(
        "A loss that asks each branch to predict alone, and the pair to predict together.",
        "medium",
        10,
        my_own_losses,
        _GIVEN,
        {
            "The pair's part is missing: (1 - share) of its loss is added.": Slip(
                my_own_losses, "share * alone + (1 - share) * pair", "share * alone"
            ),
            "The shares are exchanged: share belongs to the branches' own losses.": Slip(
                my_own_losses,
                "share * alone + (1 - share) * pair",
                "(1 - share) * alone + share * pair",
            ),
            "For the pair you add the logits of both branches; it is their mean.": Slip(
                my_own_losses, "(first + second) / 2", "first + second"
            ),
            "The pair's loss is the loss of the mean logits, not the mean of both losses again.": (
                Slip(my_own_losses, "F.cross_entropy((first + second) / 2, targets)", "alone")
            ),
            "For the own losses you add both; it is their mean. The sum has twice the gradient.": (
                _own("F.cross_entropy(first, targets) + F.cross_entropy(second, targets)")
            ),
            "Only the better branch is asked, so the other one learns nothing.": _own(
                "torch.minimum(F.cross_entropy(first, targets), F.cross_entropy(second, targets))"
            ),
            "At each character only the better branch is asked, so no branch has to predict them "
            "all.": _own(f"torch.minimum({_EACH}).mean()"),
            "Only the first branch is asked, so the second learns nothing alone.": _own(
                "F.cross_entropy(first, targets)"
            ),
        },
        importance=5,
        idea="Three calls of F.cross_entropy: for the first branch, for the second, and for the "
        "mean of their logits.",
        steps="""
            alone = the mean of the two branches' losses
            pair = the loss of the mean of the two branches' logits
            return share of alone, and the rest of pair
        """,
    ),
    "averaged_loss": Exercise(
        "The losses of an ensemble: with averaged logits, and with averaged probabilities.",
        "medium",
        10,
        my_averaged_loss,
        [_models(2, 6, 5, 3), _models(3, 1, 3, 4), _models(2, 9, 4, 5)],
        {
            "The order is exchanged: averaged logits first, then averaged probabilities.": (
                _averaged("of_logits, -right.log().mean()", "-right.log().mean(), of_logits")
            ),
            "Your second loss averages logits, too: softmax comes before the mean.": _averaged(
                "logits.softmax(dim=-1).mean(dim=0)", "logits.mean(dim=0).softmax(dim=-1)"
            ),
            "Your second loss is the mean of the models' losses. Average the probabilities before "
            "you take the logarithm.": _averaged(
                "logits.softmax(dim=-1).mean(dim=0)",
                "logits.log_softmax(dim=-1).mean(dim=0)",
                "-right.log().mean()",
                "-right.mean()",
            ),
            "The probabilities are added and not divided: they sum to the number of models.": (
                _averaged("softmax(dim=-1).mean(dim=0)", "softmax(dim=-1).sum(dim=0)")
            ),
            "F.cross_entropy takes logits. Of probabilities it makes a second softmax.": (
                _averaged("-right.log().mean()", "F.cross_entropy(p, targets)")
            ),
            "Softmax must run over the V logits of one character, the last axis.": _averaged(
                "softmax(dim=-1)", "softmax(dim=1)"
            ),
            "Your second loss is a sum over the characters; a loss is their mean.": _averaged(
                "right.log().mean()", "right.log().sum()"
            ),
            "The logarithm comes before the mean over characters, not after.": _averaged(
                "right.log().mean()", "right.mean().log()"
            ),
        },
        importance=3,
        idea="dim=0 is the axis of the models. The two losses differ in one thing: whether the "
        "softmax comes before the mean over models or after.",
        steps="""
            first loss: the mean of the logits over models, then F.cross_entropy
            p = softmax of the logits, then the mean over models
            take from each row of p the probability of its target
            second loss: minus the mean of their logarithms
            return both
        """,
    ),
    "choices": Exercise(
        "The loss of the better branch, of a gate's choices, and of the best choices there are.",
        "medium",
        10,
        my_choices,
        [_losses(8, 0), _losses(5, 1), _losses(12, 2), _losses(12, 3)],
        {
            "The first and the last are exchanged. The first is the better of two means, the last "
            "the mean of the better ones.": _chosen(
                "float(always), float(gate), float(best)",
                "float(best), float(gate), float(always)",
            ),
            "You mix the two losses by the gate's weight. It must choose: at 0.6 the first branch "
            "speaks alone.": _chosen(
                "torch.where(weight >= 0.5, first, second)",
                "weight * first + (1 - weight) * second",
            ),
            "The gate's choice is the wrong way round: from 0.5 on take the first branch.": _chosen(
                "weight >= 0.5, first, second", "weight >= 0.5, second, first"
            ),
            "The last is the smallest loss of all characters; the mean is missing.": _chosen(
                "torch.minimum(first, second).mean()", "torch.minimum(first, second).min()"
            ),
            "You make one choice for the whole text. A gate chooses at each character.": _chosen(
                "weight >= 0.5", "weight.mean() >= 0.5"
            ),
            "The first is the larger of the two means; the better branch has the smaller loss.": (
                _chosen("min(first.mean()", "max(first.mean()")
            ),
        },
        importance=3,
        idea="torch.where(condition, a, b) takes a where the condition holds, and b elsewhere. "
        "torch.minimum takes the smaller of two at each place.",
        steps="""
            always: the smaller of the two means
            gate: at each character the loss of the chosen branch, then the mean
            best: at each character the smaller loss, then the mean
        """,
    ),
}
