"""The exercises of chapter 07: cc-gpt."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from compgpt_lib.teaching.exercise import Exercise


def pad_for(x: Tensor, kernel_size: int) -> Tensor:
    return F.pad(x, (kernel_size - 1, 0))


def receptive_field(kernel_sizes: list[int]) -> int:
    return 1 + sum(k - 1 for k in kernel_sizes)


def _scores(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


EXERCISES: dict[str, Exercise] = {
    "pad_for": Exercise(
        "Pad x (B, d, T) so that a convolution keeps T positions and never sees the future.",
        "medium",
        10,
        pad_for,
        [(_scores(1, 2, 5), k) for k in (1, 2, 3)],
        {
            "Padded on both sides: each position then sees (k - 1) / 2 characters of the future.": (
                lambda x, k: F.pad(x, ((k - 1) // 2, k - 1 - (k - 1) // 2))
            ),
            "Padded by k // 2 on both sides, as images are: each position then sees half of the "
            "kernel's reach of the future.": lambda x, k: F.pad(x, (k // 2, k // 2)),
            "Padded by k - 1 on both sides: the output is longer than the input, and its positions "
            "see the future.": lambda x, k: F.pad(x, (k - 1, k - 1)),
            "Padded on the right: position t then sees the k - 1 characters after it.": (
                lambda x, k: F.pad(x, (0, k - 1))
            ),
            "One zero too many: a kernel of k needs k - 1, or the output is one longer.": (
                lambda x, k: F.pad(x, (k, 0))
            ),
            "You padded the channels; the last axis of (B, d, T) is time.": lambda x, k: F.pad(
                x, (0, 0, k - 1, 0)
            ),
        },
    ),
    "receptive_field": Exercise(
        "How many characters a position sees through stacked convolutions of these sizes.",
        "medium",
        10,
        receptive_field,
        [([1],), ([3],), ([3, 3],), ([2, 5, 3],), ([],)],
        {
            "A position is counted once for every layer: each layer adds k - 1.": (
                lambda ks: sum(ks)
            ),
            "The sizes don't multiply: no layer skips a position.": lambda ks: math.prod(ks),
            "That is the widest layer alone; the next one looks at what it has gathered.": (
                lambda ks: max(ks, default=1)
            ),
            "Only the others are counted: a position sees itself, too.": lambda ks: sum(
                k - 1 for k in ks
            ),
        },
    ),
}
