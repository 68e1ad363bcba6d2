"""Branches of one make side by side: each layer's weights stacked, one batched product for all.

For generation: made from the weights as they are, it learns nothing. Letters: B batch, T time,
d width, n branches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Blocks = Iterable[nn.Module]


def side_by_side(quick: Any, branches: Any, in_turn: Callable[..., Tensor]) -> Any:
    """Let `quick`, a copy of a p-gpt, run its branches at once, where that is the same.

    It is where the model's decode is the one that this stands for, `in_turn`, and the branches can
    be stacked.
    """
    own = type(quick).decode is in_turn and "decode" not in quick.__dict__
    if not (own and stackable(list(branches.values()))):
        return quick
    blocks = [_stack(same) for same in zip(*branches.values(), strict=True)]

    def decode(x: Tensor, cache: Any) -> Tensor:
        x = torch.cat(x.chunk(len(branches), dim=-1))  # (n B, T, d)
        for block in blocks:
            x = block(x, cache)
        return quick.mix(dict(zip(branches, x.chunk(len(branches)), strict=True)))  # (B, T, d)

    quick.decode = decode
    return quick


class _StackedLinear(nn.Module):
    """Linear layers of one shape, each on its own n-th of the batch (n B, T, in)."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = torch.stack([linear.weight.detach().T for linear in linears])  # (n, in, out)
        self.bias = torch.stack([linear.bias.detach() for linear in linears])[:, None]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(self.weight), -1, x.shape[-1])  # (n, B T, in)
        return torch.baddbmm(self.bias, rows, self.weight).view(*x.shape[:-1], -1)


class _StackedLayerNorm(nn.Module):
    def __init__(self, norms: Sequence[nn.LayerNorm]) -> None:
        super().__init__()
        self.eps = norms[0].eps
        self.weight = torch.stack([norm.weight.detach() for norm in norms])[:, None]  # (n, 1, d)
        self.bias = torch.stack([norm.bias.detach() for norm in norms])[:, None]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(self.weight), -1, x.shape[-1])  # (n, B T, d)
        normal = F.layer_norm(rows, rows.shape[-1:], eps=self.eps)
        return torch.addcmul(self.bias, normal, self.weight).view_as(x)


def stackable(branches: Sequence[Blocks]) -> bool:
    """Say whether branches are of one make, of layers that `_stack` knows."""
    parts = [list(blocks) for blocks in branches]
    return len(parts) > 1 and all(
        len(blocks) == len(parts[0]) and all(map(_alike, blocks, parts[0])) for blocks in parts
    )


def _alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or one._modules.keys() != other._modules.keys():
        return False
    for module in (one, other):
        if "forward" in module.__dict__ or module._forward_hooks or module._forward_pre_hooks:
            return False
    if type(one) in (nn.Linear, nn.LayerNorm):
        shapes = [[(k, v.shape) for k, v in m.named_parameters()] for m in (one, other)]
        whole = len(shapes[0]) == 2  # weight and bias
        return whole and shapes[0] == shapes[1] and repr(one) == repr(other)
    if one._parameters or one._buffers or one.__dict__.keys() != other.__dict__.keys():
        return False
    own = [key for key in one.__dict__ if not key.startswith("_") and key != "training"]
    values = [(one.__dict__[key], other.__dict__[key]) for key in own]
    return all(isinstance(a, int | float | str) and a == b for a, b in values) and all(
        _alike(part, other._modules[name]) for name, part in one._modules.items()
    )


def _stack(modules: Sequence[Any]) -> nn.Module:
    """Return one module that computes `modules`, all of one shape, each on its n-th of a batch."""
    first = modules[0]
    if isinstance(first, nn.Linear):
        return _StackedLinear(modules)
    if isinstance(first, nn.LayerNorm):
        return _StackedLayerNorm(modules)
    stacked: nn.Module = copy.copy(first)
    stacked._modules = {
        name: _stack([module._modules[name] for module in modules]) for name in first._modules
    }
    return stacked
