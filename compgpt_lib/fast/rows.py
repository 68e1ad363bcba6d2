"""Products with a single row, as in generation, on all cores."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _SharedOut(nn.Module):
    """A linear layer whose product with a single row every core computes a part of.

    torch leaves a product of one row to one core. The parts are copies laid out for it, made in
    milliseconds.
    """

    LEAST = 200_000  # weights from which on it pays

    def __init__(self, linear: nn.Linear, cores: int) -> None:
        super().__init__()
        self.linear = linear
        cores = min(cores, linear.out_features)
        each = linear.out_features // cores
        cut = each * cores
        weight, bias = linear.weight.detach(), linear.bias.detach()
        self.parts = weight[:cut].view(cores, each, -1).transpose(1, 2).contiguous()
        self.part_biases = bias[:cut].view(cores, 1, each)
        self.rest, self.rest_bias = weight[cut:], bias[cut:]

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > x.shape[-1]:
            return self.linear(x)
        row = x.view(1, -1)  # (1, in)
        out = torch.baddbmm(self.part_biases, row.expand(len(self.parts), 1, -1), self.parts)
        out = out.view(1, -1)
        if len(self.rest):
            out = torch.cat((out, F.linear(row, self.rest, self.rest_bias)), dim=-1)
        return out.view(*x.shape[:-1], -1)


def share_out(module: Any) -> Any:
    """Return a copy of a module whose large linear layers use all cores for a single row.

    On another device than the CPU, or with one thread, the module itself.
    """
    cores = torch.get_num_threads()
    if cores == 1 or any(weight.device.type != "cpu" for weight in module.parameters()):
        return module
    touched = module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__
    if type(module) is nn.Linear and module.weight.numel() >= _SharedOut.LEAST and not touched:
        return _SharedOut(module, cores)
    shared = copy.copy(module)
    shared._modules = {name: share_out(part) for name, part in module._modules.items()}
    return shared
