"""Inputs on which answers are tried: the same in each run."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def random_numbers(*shape: int, seed: int = 1) -> Tensor:
    """Return normally distributed numbers of a shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_ids(*shape: int, below: int = 11) -> Tensor:
    """Return ids of a shape, each below a number."""
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(4))


def shaken(part: nn.Module) -> nn.Module:
    """Return a module with random numbers for all its weights: none is 0 or 1 by its init."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in part.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5)
    return part.eval()
