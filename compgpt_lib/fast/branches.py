"""Branches of one shape run in turn, in threads, or side by side as one batched product.

Letters: B batch, T time, d width, n what is computed at the same time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib.fast import dropout
from compgpt_lib.fast.loss import no_second_derivative

Blocks = Iterable[nn.Module]


def _through(blocks: Blocks, x: Tensor, cache: Any) -> Tensor:
    for block in blocks:
        x = block(x, cache)
    return x


def in_turn(branches: Sequence[Blocks], inputs: Sequence[Tensor], cache: Any) -> list[Tensor]:
    """Run each branch on its input, one after the other."""
    return [_through(blocks, x, cache) for blocks, x in zip(branches, inputs, strict=True)]


class _Threads(torch.autograd.Function):
    """Forward and backward of each branch in a thread, and on a core, of its own."""

    @staticmethod
    def forward(ctx: Any, branches: Sequence[Blocks], *inputs: Tensor) -> tuple[Tensor, ...]:
        device = inputs[0].device.type
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        def run(blocks: Blocks, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
            dropout.own.generator = torch.Generator("cpu").manual_seed(seed)
            with torch.enable_grad(), torch.autocast(device, dtype, enabled):
                x = x.detach().requires_grad_()
                return x, _through(blocks, x, None)

        ctx.graphs = _at_once(run, branches, inputs, [dropout.seed() for _ in inputs])
        return tuple(output.detach() for _, output in ctx.graphs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        no_second_derivative("a p-gpt in threads", "model.run = branches.in_turn")

        def run(graph: tuple[Tensor, Tensor], gradient: Tensor) -> Tensor | None:
            x, output = graph
            output.backward(gradient)
            return x.grad

        return None, *_at_once(run, ctx.graphs, gradients)


def _at_once(run: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
    threads = torch.get_num_threads()

    def alone(*given: Any) -> Any:
        torch.set_num_threads(1)
        return run(*given)

    try:
        with ThreadPoolExecutor(len(arguments[0])) as pool:  # waits, should the user interrupt
            return list(pool.map(alone, *arguments))
    finally:
        torch.set_num_threads(threads)


def in_threads(branches: Sequence[Blocks], inputs: Sequence[Tensor], cache: Any) -> list[Tensor]:
    """Run the branches at the same time, each in a thread on one core, forward and backward.

    For training on a CPU; raises ValueError for a cache.
    """
    if cache is not None:
        raise ValueError("in_threads has no cache: to generate, use model.for_generation()")
    return list(_Threads.apply(branches, *inputs))


def fitting(branches: Sequence[Blocks], inputs: Sequence[Tensor], cache: Any) -> list[Tensor]:
    """Run the branches in threads where that was measured to pay, else in turn.

    It pays in training on a CPU, in one process, with work enough to fill a core per branch.
    """
    x = inputs[0]
    if (
        len(branches) > 1
        and x.device.type == "cpu"
        and x.requires_grad
        and x.numel() >= 1_000_000  # (B, T, d): 11 windows at the paper's size
        and torch.get_num_threads() > 1
        and not (torch.distributed.is_available() and torch.distributed.is_initialized())
    ):
        return in_threads(branches, inputs, cache)
    return in_turn(branches, inputs, cache)


class SideBySide:
    """Branches of one shape as one batched product: each layer's weights stacked, n of them.

    Made from the weights as they are; it learns nothing, being for generation.
    """

    def __init__(self, branches: Sequence[Blocks]) -> None:
        self.blocks = [_stack(same) for same in zip(*branches, strict=True)]

    def __call__(
        self, branches: Sequence[Blocks], inputs: Sequence[Tensor], cache: Any
    ) -> list[Tensor]:
        """Run the branches this was made of on (B, T, d) each."""
        out = _through(self.blocks, torch.cat(tuple(inputs)), cache)  # (n B, T, d)
        return list(out.chunk(len(inputs)))


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
    """Say whether branches are of one make, of layers that `SideBySide` knows how to stack."""
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
