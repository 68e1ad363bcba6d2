"""The exercises of chapter 09: own losses, averages of two models, choices of a gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compgpt_lib.teaching.exercise import Exercise


def own_losses(first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
    return (F.cross_entropy(first, targets) + F.cross_entropy(second, targets)) / 2


def averaged_loss(first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
    p = (first.softmax(-1) + second.softmax(-1)) / 2  # (T, V)
    return -p.log().gather(-1, targets[:, None]).mean()


def choices(first: Tensor, second: Tensor, weight: Tensor) -> tuple[float, float, float]:
    always = min(first.mean(), second.mean())
    gate = torch.where(weight >= 0.5, first, second).mean()
    best = torch.minimum(first, second).mean()
    return float(always), float(gate), float(best)


def _logits(T: int, V: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = 2 * torch.randn(2, T, V, generator=generator)
    return first, second, torch.randint(V, (T,), generator=generator)


def _losses(T: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second, weight = torch.rand(3, T, generator=generator)
    return 3 * first, 2 * second, weight


EXERCISES: dict[str, Exercise] = {
    "own_losses": Exercise(
        "The mean of the losses that each branch has when it predicts alone.",
        "easy",
        5,
        own_losses,
        [_logits(6, 5, 0), _logits(1, 3, 1), _logits(9, 4, 2)],
        {
            "That is the loss of the mixture, the published one: the sum of both must be right, "
            "and neither branch has to be.": lambda a, b, y: F.cross_entropy((a + b) / 2, y),
            "That is the loss of the sum of both: neither branch has to be right alone.": (
                lambda a, b, y: F.cross_entropy(a + b, y)
            ),
            "The sum of both losses, not their mean: twice the gradient, so that clipping and the "
            "comparison with other losses are off.": (
                lambda a, b, y: F.cross_entropy(a, y) + F.cross_entropy(b, y)
            ),
            "Only the better branch is asked: the other one would never learn.": (
                lambda a, b, y: torch.minimum(F.cross_entropy(a, y), F.cross_entropy(b, y))
            ),
            "The better branch of each character is asked: neither has to predict them all.": (
                lambda a, b, y: torch.minimum(
                    F.cross_entropy(a, y, reduction="none"), F.cross_entropy(b, y, reduction="none")
                ).mean()
            ),
            "The first branch alone: the second would learn nothing.": (
                lambda a, b, y: F.cross_entropy(a, y)
            ),
        },
    ),
    "averaged_loss": Exercise(
        "The loss of two models whose probabilities are averaged.",
        "medium",
        10,
        averaged_loss,
        [_logits(6, 5, 3), _logits(1, 3, 4), _logits(9, 4, 5)],
        {
            "Here the logits are averaged, and softmax comes after: another average.": (
                lambda a, b, y: F.cross_entropy((a + b) / 2, y)
            ),
            "That is the mean of the two losses: nothing of the models is averaged. The loss of an "
            "average is never above it.": (
                lambda a, b, y: (F.cross_entropy(a, y) + F.cross_entropy(b, y)) / 2
            ),
            "The probabilities are added and not halved: they sum to 2.": (
                lambda a, b, y: -(a.softmax(-1) + b.softmax(-1)).log().gather(-1, y[:, None]).mean()
            ),
            "F.cross_entropy takes logits: it makes a second softmax of the probabilities.": (
                lambda a, b, y: F.cross_entropy((a.softmax(-1) + b.softmax(-1)) / 2, y)
            ),
            "Softmax must run over the V scores of one character, the last axis.": (
                lambda a, b, y: (
                    -((a.softmax(0) + b.softmax(0)) / 2).log().gather(-1, y[:, None]).mean()
                )
            ),
            "The sum over the characters: a loss is their mean.": (
                lambda a, b, y: averaged_loss(a, b, y) * len(y)
            ),
        },
    ),
    "choices": Exercise(
        "The loss of the better branch, of a gate's choices, and of the best choices there are.",
        "medium",
        10,
        choices,
        [_losses(8, 0), _losses(5, 1), _losses(12, 2), _losses(12, 3)],
        {
            "First and last are exchanged: the better of two means, and the mean of the better "
            "ones of each character.": lambda a, b, w: choices(a, b, w)[::-1],
            "The gate's choice is mixed, not chosen: at 0.6 the first branch has all the say.": (
                lambda a, b, w: (
                    choices(a, b, w)[0],
                    float((w * a + (1 - w) * b).mean()),
                    choices(a, b, w)[2],
                )
            ),
            "The gate's choice is the wrong way round: above 0.5 it is the first branch.": (
                lambda a, b, w: choices(a, b, 1 - w)
            ),
            "The last is the smallest loss of all characters: the mean is missing.": (
                lambda a, b, w: (*choices(a, b, w)[:2], float(torch.minimum(a, b).min()))
            ),
            "One choice for the whole text: a gate chooses at each character.": (
                lambda a, b, w: (
                    choices(a, b, w)[0],
                    float(a.mean() if w.mean() >= 0.5 else b.mean()),
                    choices(a, b, w)[2],
                )
            ),
        },
    ),
}
