"""A task that asks only to copy, and small models of nothing but attention that learn it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LETTERS, TIME = 12, 24


def repeated_strings(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return ids (count, TIME), and which of them (count, TIME) can be known from those before.

    Each string has 5 to 12 different letters in random order, and then the same again and again. A
    letter can be known where the one before it has stood earlier.
    """
    period = torch.randint(5, LETTERS + 1, (count, 1), generator=generator)
    order = torch.rand(count, LETTERS, generator=generator).argsort(1)
    places = torch.arange(TIME)
    return order.gather(1, places % period), places > period


class Added(nn.Module):
    """A layer whose work is added to what came in."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Add the layer's work to x."""
        return x + self.layer(x)


def attention_only(
    embedding: Callable[..., nn.Module],
    attention: Callable[..., nn.Module],
    n_layers: int,
    width: int,
) -> nn.Sequential:
    """Return a model that has nothing but an embedding, layers of attention and a linear head."""
    layers = [Added(attention(width, 2)) for _ in range(n_layers)]
    return nn.Sequential(embedding(LETTERS, TIME, width), *layers, nn.Linear(width, LETTERS))


def trained_share(model: nn.Module, steps: int, seed: int) -> float:
    """Train a model to copy; return the share of new strings' letters that it then gets right."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    for _ in range(steps):
        ids, known = repeated_strings(64, generator)
        loss = F.cross_entropy(model(ids[:, :-1])[known[:, 1:]], ids[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ids, known = repeated_strings(512, generator)
    with torch.no_grad():
        said = model(ids[:, :-1]).argmax(-1)
    return float((said == ids[:, 1:])[known[:, 1:]].float().mean())
