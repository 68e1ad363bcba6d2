"""One trace of one forward pass: where each head looked, and what each stage passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compgpt_lib import checks
from compgpt_lib.layers import (
    CausalAttention,
    ConvCompression,
    DecoderBlock,
    Embedding,
    LinearCompression,
)
from compgpt_lib.models import Decoder, ParallelGPT, is_model


@dataclass
class Trace:
    """What one forward pass of one text computed, as plain tensors on the CPU.

    `attention` maps a block's name to its patterns (h, T, T); `residual` maps each stage's name
    (embedding, blocks, compressions, in order) to what it passed on (T, width); `branches`, for
    p-gpt, maps a branch to its weighted output (T, d), which sum to what the head reads;
    `logits` is (T, V).
    """

    ids: Tensor
    logits: Tensor
    attention: dict[str, Tensor] = field(default_factory=dict)
    residual: dict[str, Tensor] = field(default_factory=dict)
    branches: dict[str, Tensor] = field(default_factory=dict)


def parts(model: Decoder) -> list[str]:
    """Return the names of what `trace` can knock out: p-gpt's branches, every block, every head."""
    is_model(model)
    names = []
    for name, layer in model.named_modules():
        if isinstance(layer, DecoderBlock):
            names += [name, *(f"{name}.heads.{head}" for head in range(layer.attention.n_heads))]
    branches = model.branches if isinstance(model, ParallelGPT) else ()
    return [f"branches.{branch}" for branch in branches] + names


def _knock_out(model: Decoder, part: str) -> torch.utils.hooks.RemovableHandle:
    """Silence a part: a branch or a head gives zeros, a block passes on what it was given."""
    path, _, head = part.partition(".heads.")
    layer: Any = model.get_submodule(path)
    if head:
        size = layer.attention.output.in_features // layer.attention.n_heads
        own = slice(int(head) * size, (int(head) + 1) * size)

        def silence(layer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
            mixed = inputs[0].clone()  # (B, T, d), the heads side by side
            mixed[..., own] = 0
            return mixed

        return layer.attention.output.register_forward_pre_hook(silence)
    if isinstance(layer, nn.ModuleList):
        return layer[-1].register_forward_hook(lambda block, inputs, output: output * 0)
    return layer.register_forward_hook(lambda block, inputs, output: inputs[0])


@torch.no_grad()
def trace(model: Decoder, ids: Tensor, knocked: Sequence[str] = ()) -> Trace:
    """Run a model on ids (T,) and return what happened inside; the model is left as it was.

    `knocked` names the parts that are silenced meanwhile, as `parts` lists them: a branch or a head
    gives zeros, a block passes on what it was given. Raises ValueError for ids that are not (T,),
    or a part that the model has not.
    """
    is_model(model)
    model.check_text(ids)
    checks.of_kind("knocked", knocked, (list, tuple), "a list of parts, as parts(model)")
    there = parts(model) if knocked else []
    for part in knocked:
        checks.one_of("knocked", part, there)
    if len(ids) > model.config.context_length:
        raise ValueError(
            f"ids must be at most context_length={model.config.context_length} characters, got "
            f"{len(ids)}: ids[-{model.config.context_length}:]"
        )
    seen = Trace(ids=ids.cpu(), logits=torch.empty(0))

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(layer, CausalAttention):
                q, k, _ = layer.split_heads(inputs[0])
                seen.attention[name.removesuffix(".attention")] = layer.pattern(q, k)[0].cpu()
            else:
                seen.residual[name] = output[0].cpu()

        return layer.register_forward_hook(hook)

    watched = (CausalAttention, Embedding, DecoderBlock, LinearCompression, ConvCompression)
    # Silenced first: what is watched is what was passed on.
    handles = [_knock_out(model, part) for part in knocked]
    handles += [
        watch(name, layer) for name, layer in model.named_modules() if isinstance(layer, watched)
    ]
    was_training = model.training
    model.eval()
    try:
        seen.logits = model(ids[None].to(model.device))[0].cpu()
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    if isinstance(model, ParallelGPT):
        weight = model.branch_weights()
        for branch, blocks in model.branches.items():
            last = f"branches.{branch}.{len(blocks) - 1}"  # type: ignore[arg-type]
            seen.branches[branch] = weight[branch].cpu() * seen.residual[last]
    return seen
