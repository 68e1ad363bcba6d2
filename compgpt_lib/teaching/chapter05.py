"""The exercises of chapter 05: p-gpt."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

import torch
from torch import Tensor

from compgpt_lib.teaching.exercise import Exercise


def mix(o1: Tensor, o2: Tensor, w: float) -> Tensor:
    return w * o1 + (1 - w) * o2


def lone_branch(o1: Tensor, o2: Tensor, w: float) -> Tensor:
    return w * o1 if w >= 0.5 else (1 - w) * o2


EXERCISES: dict[str, Exercise] = {
    "mix": Exercise(
        "The output of p-gpt from its branches' outputs and the weight w.",
        "easy",
        5,
        mix,
        [(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), w) for w in (0.5, 0.8, 0.25)],
        {
            "The branches are added without weights: w has no effect.": lambda a, b, w: a + b,
            "Swapped: w belongs to the first branch.": lambda a, b, w: (1 - w) * a + w * b,
            "Both branches have the weight w: the second has what the first leaves, 1 - w.": (
                lambda a, b, w: w * (a + b)
            ),
            "The second branch has no weight.": lambda a, b, w: w * a + b,
        },
    ),
    "lone_branch": Exercise(
        "What p-gpt-1's head reads: the branch with the larger weight, as it stands in the pair.",
        "easy",
        5,
        lone_branch,
        [(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 30.0]), w) for w in (0.8, 0.3, 0.5, 1.2)],
        {
            "The weight is missing: the head was trained on w * o1, not on o1.": lambda a, b, w: (
                a if w >= 0.5 else b
            ),
            "That is the lighter branch.": lambda a, b, w: (1 - w) * b if w >= 0.5 else w * a,
            "That is the pair; one branch is neither run nor counted.": mix,
            "At w = 0.5 the two are equally heavy, and the paper takes the first: >=.": (
                lambda a, b, w: w * a if w > 0.5 else (1 - w) * b
            ),
            "The second branch's weight is 1 - w.": lambda a, b, w: w * (a if w >= 0.5 else b),
            "Always the first: where w is below 0.5 the second is the heavier.": lambda a, b, w: (
                w * a
            ),
        },
    ),
}
