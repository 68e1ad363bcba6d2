"""The same mathematics, quicker: what torch leaves slow, mostly on a CPU, and branches at once.

Nothing here is needed to understand a model. `make bench` measures each part against what it
replaces. Letters: B batch, T time, d width, V vocabulary, n what is computed at the same time.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib import cores

cores.watch()
_own = threading.local()  # a thread that draws bits beside others has a generator of its own


def _seed() -> int:
    generator: torch.Generator | None = getattr(_own, "generator", None)
    return int(torch.randint(2**62, (), generator=generator, device="cpu"))


def kept(x: Tensor, p: float) -> Tensor:
    """Return whole numbers as wide as x's floats: all bits 1, or with probability p all bits 0.

    The bits are SFC64's, seeded from torch's generator; p is met to 2^-15 or better. On a CPU they
    cost a tenth of torch's, which draws a Bernoulli number for each element.
    """
    width = 8 * x.element_size()
    words = np.random.SFC64(_seed()).random_raw(-(-x.numel() * x.element_size() // 8))
    bits = torch.from_numpy(words.view(f"int{width}"))[: x.numel()].view(x.shape)
    # A signed number of width - 1 random bits, moved so that it is negative with probability p;
    # the sign, spread over all bits, is the mask.
    threshold = 2 ** (width - 2) - round(p * 2 ** (width - 1))
    return (
        bits.bitwise_right_shift_(1).add_(threshold).bitwise_right_shift_(width - 1).bitwise_not_()
    )


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, p: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.p = p
        return (x.view(mask.dtype) & mask).view(x.dtype).mul_(1 / (1 - p))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: bits have no derivative, a product has
            return gradient * (mask != 0) / (1 - ctx.p), None, None
        gradient = gradient.contiguous()
        return (
            (gradient.view(mask.dtype) & mask).view(gradient.dtype).mul_(1 / (1 - ctx.p)),
            None,
            None,
        )


class Dropout(nn.Dropout):
    """Set each number to 0 with probability p in training, and scale the others by 1 / (1 - p)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x to the same shape."""
        quick = x.device.type == "cpu" and not torch.compiler.is_compiling()
        if not (quick and self.training and self.p):
            return super().forward(x)
        x = x.contiguous()
        return _Drop.apply(x, kept(x, self.p), self.p)


def _no_second_derivative(what: str, instead: str) -> None:
    """Raise RuntimeError where one is asked for: what was saved knows no derivative of its own."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"{what} has no second derivative (create_graph): take {instead}")


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        device = x.device.type
        ctx.count = len(x)
        dx, dweight, dbias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        wide = torch.promote_types(x.dtype, torch.float32)
        loss = torch.zeros((), device=x.device, dtype=wide)
        # On a CPU the scores of so many rows stay in its cache; a GPU wants few, large products.
        rows = 1024 if device == "cpu" else max(1024, 2**24 // len(weight))
        with torch.autocast(device, enabled=False):
            for start in range(0, len(x), rows):
                part = slice(start, start + rows)
                wanted = targets[part, None]
                scores = F.linear(x[part], weight, bias)  # (rows, V)
                p = scores.log_softmax(-1, dtype=wide)
                loss -= p.gather(1, wanted).sum()
                if any(ctx.needs_input_grad):
                    p.exp_().scatter_add_(1, wanted, p.new_full(wanted.shape, -1.0))
                    dscores = p.to(scores.dtype)  # of the sum: softmax minus one-hot
                    dx[part] = dscores @ weight
                    dweight += dscores.T @ x[part]
                    dbias += dscores.sum(0, dtype=wide)
        ctx.save_for_backward(dx, dweight, dbias)
        return loss / ctx.count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _no_second_derivative("model.loss", "model(ids, targets)[1]")
        return *(saved * (gradient / ctx.count) for saved in ctx.saved_tensors), None


def linear_cross_entropy(x: Tensor, linear: nn.Linear, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of `linear(x)` against targets, keeping no scores.

    x (N, d), targets (N,), `linear` d -> V. The (N, V) scores and their fp32 copies are made and
    used up some rows at a time, the gradient with them. torch 2.13 has the same by this name,
    slower on a CPU; Colab's 2.11 does not.
    """
    return _LinearCrossEntropy.apply(x, linear.weight, linear.bias, targets)


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
            _own.generator = torch.Generator("cpu").manual_seed(seed)
            with torch.enable_grad(), torch.autocast(device, dtype, enabled):
                x = x.detach().requires_grad_()
                return x, _through(blocks, x, None)

        ctx.graphs = _at_once(run, branches, inputs, [_seed() for _ in inputs])
        return tuple(output.detach() for _, output in ctx.graphs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        _no_second_derivative("a p-gpt in threads", "model.run = kernels.in_turn")

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
